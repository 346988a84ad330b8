"""How many trials train side by side, and which of them fit together."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from autopeft.device import free_bytes
from autopeft.execute.pack_bench import PackBench
from autopeft.execute.workbench import Workbench
from autopeft.memory import MemoryPredictor
from autopeft.meters import storage_bytes
from autopeft.packing.passes import tokens_per_pass
from autopeft.trial import TrialSpec
from autopeft_searchspace.configuration import QUANTISATIONS, Configuration
from autopeft_searchspace.settings import build_space

MOST_MEMBERS = 16
SHARE_OF_MEMORY = 0.8
"""Of what is free once the model is loaded, at most."""
LEAST_GAIN = 1.1
"""Twice the members must bring this much more work per second to be worth their memory."""
PROBE_STEPS = 3
WARM_STEPS = {"cpu": 1, "cuda": 8}
"""On a GPU the steps after which kernels are compiled and the rest are replayed (`packing.graphs`)."""


class Room:
    """Memory of one worker's device, by the predictions for its study, which are made when first asked for.

    tokens_per_pass: of this model on this device (`packing.passes`), infinite until `find_count` has timed it."""

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        self._base_bytes = storage_bytes([*bench.model.backbone.parameters(), *bench.model.backbone.buffers()])
        self._most_bytes = self._base_bytes + SHARE_OF_MEMORY * free_bytes(bench.device)
        self._memory: MemoryPredictor | None = None
        self.tokens_per_pass = float("inf")

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
        doubling their number still brings more steps per second; by the first two rates `tokens_per_pass` is settled."""
        bench = self._bench
        if wanted == 1 or bench.usual != QUANTISATIONS[0]:
            return wanted if wanted != "auto" else 1
        configuration = bench.typical()
        count, rate = 1, steps_per_second(bench, configuration, 1)
        while 2 * count <= MOST_MEMBERS and self.fits([configuration] * 2 * count):
            faster = steps_per_second(bench, configuration, 2 * count)
            if count == 1 and rate and faster:
                self.tokens_per_pass = tokens_per_pass(1 / rate, 2 / faster, bench.batch(timed_batch(bench))["input_ids"].numel())
            if wanted != "auto":
                return wanted
            if faster < LEAST_GAIN * rate:
                break
            count, rate = 2 * count, faster
        return count if wanted == "auto" else wanted


def timed_batch(bench: Workbench) -> list[int]:
    """Examples that steps are timed with."""
    return bench.batches(bench.recipe(1), seed=0)[0]


def steps_per_second(bench: Workbench, configuration: Configuration, count: int) -> float:
    """Steps of all members together, on one batch, after some that warm up."""
    ended: list[float] = []
    warm = WARM_STEPS[bench.device.type]
    pack = PackBench(bench, lambda *_: None, lambda *_: ended.append(time.perf_counter()), lambda *_: None)
    for number in range(count):
        pack.add(TrialSpec(number, configuration, 0, (10 * (warm + PROBE_STEPS),)))
    pack.repeat(timed_batch(bench))
    for _ in range(warm + PROBE_STEPS):
        pack.step()
    if len(ended) < count * (warm + PROBE_STEPS):  # memory ran out
        return 0.0
    return count * PROBE_STEPS / (ended[-1] - ended[count * warm - 1])
