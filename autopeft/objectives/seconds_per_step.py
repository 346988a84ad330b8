"""Time of an optimiser step: the median, so that neither the first step nor evaluations count."""

from __future__ import annotations

from itertools import pairwise
from statistics import median

from autopeft.objectives import Measured, Run, register


@register
class SecondsPerStep(Measured):
    name = "seconds_per_step"
    direction = "minimize"
    unit = "s"

    def measure(self, run: Run) -> float | None:
        gaps = [later - earlier for earlier, later in pairwise(run.step_ends)]
        return median(gaps) if gaps else None
