"""What a study settles once, when it starts: steps of a trial, rungs, limits, and time per trial."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from autopeft.budget import Budget, parse_bytes, parse_parameters
from autopeft.errors import SpecError
from autopeft.spec import StudySpec
from autopeft.trial import Trial, TrialState

SHARE_FOR_TRIALS = 0.6
"""Of the time budget; the rest is for start-up, suggestions and replicates."""
TRIALS_IN_A_TIME_BUDGET = 20
"""How many full trials a budget in time alone must hold."""
FEWEST_STEPS, FEWEST_TRIALS = 20, 3
LONG_RUN = 500
"""Steps from which on the first rung stands at a third; below, a third is too close to the start."""


@dataclass(frozen=True)
class Limits:
    """Constraints in numbers; None is without limit."""

    maximum_parameters: int | None = None
    maximum_memory_bytes: int | None = None

    def problem(self, parameters: float, memory_bytes: float) -> str:
        """Which limit a configuration exceeds, in words; empty where none."""
        if self.maximum_parameters is not None and parameters > self.maximum_parameters:
            return f"{parameters:,.0f} trainable parameters, the limit is {self.maximum_parameters:,}"
        if self.maximum_memory_bytes is not None and memory_bytes > self.maximum_memory_bytes:
            return f"predicted peak memory of {memory_bytes / 2**20:,.0f} MiB, the limit is {self.maximum_memory_bytes / 2**20:,.0f} MiB"
        return ""


def find_limits(spec: StudySpec, base_parameters: int) -> Limits:
    parameters, memory = spec.constraints.maximum_parameters, spec.constraints.maximum_memory
    return Limits(
        None if parameters is None else parse_parameters(parameters, base_parameters),
        None if memory is None else parse_bytes(memory),
    )


def find_total_steps(
    spec: StudySpec, budget: Budget, examples: int, seconds_per_step: float, evaluation_seconds: float, workers: int = 1
) -> int:
    """Optimiser steps of a full trial.

    `steps: auto` takes `epochs` passes over the data, or fewer, but not below 20 steps, where the time
    budget would otherwise not hold its trials. workers: trials at once. Raises SpecError where not even
    three trials fit.
    """
    in_epochs = max(1, math.ceil(spec.fidelity.epochs * math.ceil(examples / spec.training.batch_size)))
    if spec.fidelity.steps != "auto":
        return spec.fidelity.steps
    if budget.seconds is None:
        return in_epochs
    seconds_each = budget.seconds * SHARE_FOR_TRIALS * workers / (budget.trials or TRIALS_IN_A_TIME_BUDGET)
    fitting = int((seconds_each - 3 * evaluation_seconds) / seconds_per_step)
    steps = min(in_epochs, max(fitting, FEWEST_STEPS))
    rounds = math.ceil(min(FEWEST_TRIALS, budget.trials or FEWEST_TRIALS) / workers)
    least = rounds * (steps * seconds_per_step + 3 * evaluation_seconds)
    if least > budget.seconds:
        raise SpecError(
            f"budget {budget} is too short for {FEWEST_TRIALS} trials of {steps} steps, which need about {least / 60:.1f} min here "
            f"({seconds_per_step:.2g} s a step, {evaluation_seconds:.2g} s an evaluation); give more time or set fidelity.steps"
        )
    return steps


def find_rungs(spec: StudySpec, total_steps: int) -> tuple[int, ...]:
    """Steps after which a trial is measured; the last is the end."""
    shares = spec.fidelity.rungs
    if shares == "auto":
        shares = [1 / 3] if total_steps >= LONG_RUN else [1 / 2]
    steps = sorted({round(share * total_steps) for share in shares} - {0, total_steps})
    return (*steps, total_steps)


def seconds_per_trial(trials: Sequence[Trial], calibrated: float) -> float:
    """What a full trial takes: the median of those that ran to the end, else the calibration."""
    seconds = [t.seconds for t in trials if t.state is TrialState.COMPLETE and len(t.replicates()) == 1]
    return median(seconds) if len(seconds) >= 3 else max([calibrated, *seconds])
