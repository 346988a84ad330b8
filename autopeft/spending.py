"""What a study has used of its budget, and whether it holds another trial."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from autopeft.budget import Budget
from autopeft.plan import seconds_per_trial
from autopeft.trial import Trial

SLACK_SHARE, SLACK_SECONDS = 0.05, 60.0
"""A time budget may be overrun by this share or by this many seconds, whichever is more."""
SHARE_FOR_REPLICATES = 0.25


def gpus_each(environment: Mapping[str, Any]) -> float:
    """The share of a GPU that a worker of a study holds; 0 where it runs on none."""
    return float(environment.get("gpus_each", 1.0)) if environment["recipe"]["device_type"] == "cuda" else 0.0


def gpu_hours(trials: Sequence[Trial], environment: Mapping[str, Any]) -> float:
    """That trials of a study took."""
    return gpus_each(environment) * sum(t.seconds for t in trials) / 3600


class Spending:
    """start: `time.monotonic()` when this run of the search began. environment: the study's; its `room` is how many trials
    share a device in one model, and then the seconds of a trial are its share of the device's; its `gpus_each` the share of a GPU that a
    worker holds.
    devices: trials at once, on all devices."""

    def __init__(self, budget: Budget, environment: Mapping[str, Any], replicates: int, devices: int, start: float) -> None:
        self.budget = budget
        self._start, self._before = start, float(environment["seconds_used"])
        self._steps, self._seconds_per_step = environment["total_steps"], environment["seconds_per_step"]
        self._evaluation_seconds = environment["evaluation_seconds"]
        self._gpus_each, self._environment = gpus_each(environment), environment
        self._replicates, self._devices, self._room = replicates, devices, int(environment.get("room", 1))

    @property
    def seconds(self) -> float:
        """Wall time of this and earlier runs of the study."""
        return self._before + time.monotonic() - self._start

    def gpu_hours(self, trials: Sequence[Trial]) -> float:
        return gpu_hours(trials, self._environment)

    def seconds_each(self, trials: Sequence[Trial]) -> float:
        """Expected wall time of a full trial."""
        return self._room * seconds_per_trial(trials, self._steps * self._seconds_per_step + 3 * self._evaluation_seconds)

    def allows_another(self, trials: Sequence[Trial], running: int) -> bool:
        """Whether a new trial, and the replicates after it, fit beside those that run."""
        if self.budget.trials is not None and len(trials) >= self.budget.trials:
            return False
        each = self.seconds_each(trials)
        if self._beyond_gpu_hours(trials, (running + 1) * each):
            return False
        if self.budget.seconds is None:
            return True
        replicates = min(SHARE_FOR_REPLICATES * self.budget.seconds, 3 * self._replicates * each / self._devices)
        return self.seconds + each + replicates <= self.budget.seconds

    def allows_replicate(self, trials: Sequence[Trial]) -> bool:
        each = self.seconds_each(trials)
        if self._beyond_gpu_hours(trials, each):
            return False
        return self.budget.seconds is None or self.seconds + each <= self.budget.seconds

    def _beyond_gpu_hours(self, trials: Sequence[Trial], seconds: float) -> bool:
        """Whether so much more wall time of trials would take more hours of GPUs than there are."""
        hours = self.budget.gpu_hours
        return hours is not None and self.gpu_hours(trials) + self._gpus_each * seconds / self._room / 3600 > hours

    @property
    def overdrawn(self) -> bool:
        """Whether what runs has to be cut off to keep the time budget within its slack."""
        if self.budget.seconds is None:
            return False
        return self.seconds > self.budget.seconds + 0.8 * max(SLACK_SHARE * self.budget.seconds, SLACK_SECONDS)

    def remaining(self, trials: Sequence[Trial]) -> float | None:
        """Expected seconds until the search ends, replicates included; None where the budget does not tell."""
        known = [] if self.budget.seconds is None else [self.budget.seconds - self.seconds]
        if self.budget.gpu_hours is not None and self._gpus_each:
            known.append(3600 * (self.budget.gpu_hours - self.gpu_hours(trials)) * self._room / (self._devices * self._gpus_each))
        if self.budget.trials is not None:
            unfinished = self.budget.trials - sum(t.state.finished for t in trials)
            replicates = 0 if any(len(t.replicates()) > 1 for t in trials) else 3 * self._replicates
            known.append((unfinished + replicates) * self.seconds_each(trials) / self._devices)
        return max(0.0, min(known)) if known else None
