"""How many trials train side by side, and which of them fit together."""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from autopeft.device import free_bytes
from autopeft.execute.pack_bench import PackBench
from autopeft.execute.workbench import Workbench
from autopeft.memory import MemoryPredictor
from autopeft.meters import storage_bytes
from autopeft.packing.passes import cost_of_pass
from autopeft.trial import TrialSpec
from autopeft_searchspace.configuration import QUANTISATIONS, Configuration
from autopeft_searchspace.settings import build_space

MOST_MEMBERS = 16
SHARE_OF_MEMORY = 0.8
"""Of what is free once the model is loaded, at most."""
LEAST_GAIN = 1.1
"""Twice the members must bring this much more work per second to be worth their memory."""
PROBED = 3
"""Steps that are timed."""
STEPS = {"cpu": 1 + PROBED, "cuda": 1 + PROBED + 4 + PROBED}
"""On a GPU the first four are run as they come, and all after the eighth are replayed."""


class Room:
    """Memory of one worker's device, by the predictions for its study, which are made when first asked for.

    pass_cost: of this model on this device (`packing.passes`), infinite until `find_count` has timed it."""

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        self._base_bytes = storage_bytes([*bench.model.backbone.parameters(), *bench.model.backbone.buffers()])
        self._most_bytes = self._base_bytes + SHARE_OF_MEMORY * free_bytes(bench.device)
        self._memory: MemoryPredictor | None = None
        self.pass_cost = float("inf")

    def predicted_bytes(self, configurations: Sequence[Configuration]) -> float:
        """Peak memory of a pack of these."""
        if self._memory is None:
            bench = self._bench
            space = build_space(bench.spec.space.preset, bench.shape, bench.spec.space.change)
            with tempfile.TemporaryDirectory() as cache:
                self._memory = MemoryPredictor(bench.spec, space, bench.recipe(0), bench.splits.labels, Path(cache), bench.folder)
                self._memory.model  # noqa: B018 - fitted while its folder is there
        return self._memory.pack(configurations, self._base_bytes)

    def fits(self, configurations: Sequence[Configuration]) -> bool:
        """Whether a pack of these stays within its share of the memory."""
        return self.predicted_bytes(configurations) <= self._most_bytes

    def find_count(self, wanted: int | Literal["auto"]) -> int:
        """How many trials to train side by side. Where it is not given, as many of a common configuration as fit, and as long as
        doubling their number still brings more steps per second; steps of one and two settle `pass_cost`."""
        bench = self._bench
        if wanted == 1 or bench.usual != QUANTISATIONS[0]:
            return 1 if wanted == "auto" else wanted
        configuration = bench.typical()
        one = time_steps(bench, configuration, 1)
        if wanted == "auto" and not self.fits([configuration] * 2):
            return 1
        two = time_steps(bench, configuration, 2)
        if one and two:
            tokens = bench.batch(timed_batch(bench))["input_ids"].numel()
            self.pass_cost = cost_of_pass(one.first, two.first, tokens)
        if wanted != "auto":
            return wanted
        count, now, doubled = 1, one, two
        while now and doubled and doubled.later * LEAST_GAIN <= 2 * now.later:
            count, now, doubled = 2 * count, doubled, None
            if 2 * count <= MOST_MEMBERS and self.fits([configuration] * 2 * count):
                doubled = time_steps(bench, configuration, 2 * count)
        return count


@dataclass(frozen=True)
class Seconds:
    """Of a step of all members: first, as it comes; later, where a GPU replays it (`packing.graphs`)."""

    first: float
    later: float


def timed_batch(bench: Workbench) -> list[int]:
    """Examples that steps are timed with."""
    return bench.batches(bench.recipe(1), seed=0)[0]


def time_steps(bench: Workbench, configuration: Configuration, count: int) -> Seconds | None:
    """Of a pack of so many, all on one batch, after a step that warms up; None where memory runs out."""
    ended: list[float] = []
    steps = STEPS[bench.device.type]
    pack = PackBench(bench, lambda *_: None, lambda *_: ended.append(time.perf_counter()), lambda *_: None)
    for number in range(count):
        pack.add(TrialSpec(number, configuration, 0, (10 * steps,)))
    pack.repeat(timed_batch(bench))
    for _ in range(steps):
        pack.step()
    for number in range(count):
        pack.stop(number)
    del pack
    gc.collect()
    ends = ended[count - 1 :: count]
    if len(ended) < count * steps:
        return None
    return Seconds((ends[PROBED] - ends[0]) / PROBED, (ends[-1] - ends[-1 - PROBED]) / PROBED)
