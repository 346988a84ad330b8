"""What a search would cost, before it starts: parameters, predicted memory, time."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autopeft.baselines import baselines
from autopeft.budget import Budget
from autopeft.checks import require_study
from autopeft.device import find_devices, find_slots
from autopeft.errors import NothingFits
from autopeft.memory import MemoryPredictor
from autopeft.plan import find_limits, find_total_steps
from autopeft.spec import StudySpec
from autopeft_searchspace.configuration import Configuration
from autopeft_searchspace.rules import trainable_parameters
from autopeft_searchspace.settings import build_space

SAMPLES = 200


@dataclass(frozen=True)
class Row:
    """One configuration's cost. seconds: of a full trial."""

    name: str
    parameters: int
    memory_bytes: int
    fits: bool


@dataclass(frozen=True)
class Estimate:
    """configurations: size of the space. parameters, memory_bytes: (least, middle, most) of the space,
    from random configurations. trials: that the budget holds, None where it has no end in time and
    trials. share_within: of the space's random configurations, within the limits."""

    device: str
    base_parameters: int
    configurations: float
    rows: tuple[Row, ...]
    parameters: tuple[int, int, int]
    memory_bytes: tuple[int, int, int]
    full_memory_bytes: int
    share_within: float
    total_steps: int
    seconds_per_step: float
    seconds_per_trial: float
    trials: int | None
    seconds: float | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def in_words(self) -> str:
        mib = 2**20
        lines = [
            f"device      {self.device}",
            f"base model  {self.base_parameters:,} parameters; full fine-tuning would peak at {self.full_memory_bytes / mib:,.0f} MiB",
            f"space       {self.configurations:.3g} configurations, {self.share_within:.0%} within the limits",
            "            {:,} to {:,} trainable parameters, half below {:,}".format(*(self.parameters[i] for i in (0, 2, 1))),
            "            {:,.0f} to {:,.0f} MiB of peak training memory, half below {:,.0f}".format(
                *(self.memory_bytes[i] / mib for i in (0, 2, 1))
            ),
            f"trial       {self.total_steps} steps of {self.seconds_per_step:.2g} s: about {self.seconds_per_trial:.0f} s, -50 % to +50 %",
        ]
        if self.trials is not None and self.seconds is not None:
            lines.append(f"search      {self.trials} trials, about {self.seconds / 60:.0f} min, -50 % to +50 %")
        lines.append("")
        for row in self.rows:
            above = "" if row.fits else "   above the limits"
            lines.append(f"{row.name:<40} {row.parameters:>12,} parameters {row.memory_bytes / mib:>8,.0f} MiB{above}")
        return "\n".join(lines)


def estimate(spec: StudySpec, folder: Path) -> Estimate:
    """Trace memory, count parameters and time a few training steps; nothing is kept.

    Raises NothingFits where no configuration looked at is within the limits.
    """
    from autopeft.execute.workbench import Workbench

    base = require_study(spec, folder).total_parameters
    devices = find_devices(spec.device)
    slots = find_slots(spec.workers, devices[0], base)
    workers = slots.count * len(devices)
    bench = Workbench(spec, folder, devices[0])
    prepared = bench.prepare(slots.threads or None, calibrate=True)
    space = build_space(spec.space.preset, bench.shape, spec.space.change)
    budget, limits = Budget.parse(spec.budget), find_limits(spec, bench.shape.total_parameters)
    with tempfile.TemporaryDirectory() as cache:
        memory = MemoryPredictor(spec, space, bench.recipe(0), bench.task.labels, Path(cache), folder)
        full = memory.full().peak
        rows = []
        for name, configuration in baselines(bench.shape, 0, bench.usual):
            parameters, peak = trainable_parameters(configuration, bench.shape), memory.exact(configuration).peak
            rows.append(Row(name, parameters, peak, not limits.problem(parameters, peak)))
        rng = np.random.default_rng(0)
        drawn: list[Configuration] = [space.configuration(space.sample(rng)) for _ in range(SAMPLES)]
        counts = np.array([trainable_parameters(c, bench.shape) for c in drawn])
        peaks = np.array([memory.fast(c) for c in drawn])
    within = float(np.mean([not limits.problem(p, m) for p, m in zip(counts, peaks, strict=True)]))
    if within == 0 and not any(row.fits for row in rows):
        least = min(rows, key=lambda row: row.memory_bytes)
        raise NothingFits(f"nothing fits: {least.name} needs {limits.problem(least.parameters, least.memory_bytes)}")
    step, evaluation = prepared["seconds_per_step"], prepared["evaluation_seconds"]
    steps = find_total_steps(spec, budget, len(bench.train_set), step, evaluation, workers)
    each = steps * step + 3 * evaluation
    within_time = None if budget.seconds is None else int(workers * budget.seconds / each)
    trials = min((count for count in (budget.trials, within_time) if count is not None), default=None)
    seconds = None if trials is None else trials * each / workers
    return Estimate(
        device=prepared["environment"]["device_name"],
        base_parameters=bench.shape.total_parameters,
        configurations=float(space.cardinality),
        rows=tuple(rows),
        parameters=_three(counts),
        memory_bytes=_three(peaks),
        full_memory_bytes=full,
        share_within=within,
        total_steps=steps,
        seconds_per_step=step,
        seconds_per_trial=each,
        trials=trials,
        seconds=seconds,
    )


def _three(values: np.ndarray[Any, Any]) -> tuple[int, int, int]:
    """(least, median, most)."""
    return int(values.min()), int(np.median(values)), int(values.max())
