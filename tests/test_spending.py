"""Budgets are kept however wrong the calibration was: the coordinator's loop with made-up trials on a made-up clock."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import made_up
import pytest

from autopeft.budget import Budget
from autopeft.spending import SLACK_SECONDS, SLACK_SHARE, Spending
from autopeft.trial import Trial, TrialState

POLL_SECONDS = 1.0
EXPECTED_SECONDS = 11.5
COMPLETE = made_up.trial(0, 0.8, 10)
UNFINISHED = made_up.trial(0, None, 10, state=TrialState.RUNNING)


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("autopeft.spending.time.monotonic", lambda: self.now)


def spend(clock: Clock, budget: Budget, devices: int, takes: Callable[[], float], kind: str = "cpu") -> tuple[float, list[Trial], Spending]:
    """Seconds, trials that ended and the books of a search whose trials take so long; of these, what was cut off is none."""
    start = clock.now
    spending = Spending(budget, made_up.calibrated(kind, 10), 0, devices, start)
    ended: list[Trial] = []
    running: list[tuple[float, float]] = []
    while not spending.overdrawn:
        while len(running) < devices and spending.allows_another([*ended, *[UNFINISHED] * len(running)], len(running)):
            seconds = takes()
            running.append((clock.now + seconds, seconds))
        if not running:
            break
        clock.now = min(clock.now + POLL_SECONDS, *(end for end, _ in running))
        ended += [replace(COMPLETE, seconds=seconds) for end, seconds in running if end <= clock.now]
        running = [(end, seconds) for end, seconds in running if end > clock.now]
    return clock.now - start, ended, spending


@pytest.mark.parametrize("minutes", [1, 10, 60])
@pytest.mark.parametrize("devices", [1, 3])
@pytest.mark.parametrize("slower", [0.5, 1, 8, 100])
def test_wall_time_is_overrun_by_the_stated_slack_at_most(
    minutes: int, devices: int, slower: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(minutes * devices)
    seconds, ended, _ = spend(
        Clock(monkeypatch), Budget(seconds=60.0 * minutes), devices, lambda: slower * EXPECTED_SECONDS * chance.lognormvariate(0, 0.5)
    )
    assert seconds <= 60 * minutes + max(SLACK_SHARE * 60 * minutes, SLACK_SECONDS)
    assert ended or slower > 1  # a trial that takes longer than the whole budget is cut off


@pytest.mark.parametrize("devices", [1, 3])
def test_trials_are_never_more_than_the_budget(devices: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _, ended, spending = spend(Clock(monkeypatch), Budget(trials=17), devices, lambda: EXPECTED_SECONDS)
    assert len(ended) == 17
    assert spending.remaining(ended) == 0


@pytest.mark.parametrize("devices", [1, 4])
@pytest.mark.parametrize("slower", [0.5, 1, 3])
def test_gpu_hours_are_overrun_by_what_running_trials_take_longer_than_expected(
    devices: int, slower: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = Budget(gpu_hours=0.5)
    _, ended, spending = spend(Clock(monkeypatch), budget, devices, lambda: slower * EXPECTED_SECONDS, "cuda")
    assert budget.gpu_hours is not None
    assert spending.gpu_hours(ended) <= budget.gpu_hours + devices * max(0.0, slower - 1) * EXPECTED_SECONDS / 3600
    assert spending.gpu_hours(ended) > budget.gpu_hours / 2


def test_what_is_left_is_told_and_shrinks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Predicted from the calibration first, from what trials took once three have ended."""
    clock = Clock(monkeypatch)
    environment = made_up.calibrated("cuda", 10)
    spending = Spending(Budget(trials=10, seconds=1000, gpu_hours=1), environment, 0, 1, clock.now)
    trials = [replace(made_up.trial(i, 0.8, 10), seconds=20.0) for i in range(10)]
    assert spending.remaining(()) == pytest.approx(10 * EXPECTED_SECONDS)
    assert spending.remaining(trials[:4]) == pytest.approx(6 * 20.0)
    assert spending.remaining(trials[:9]) == pytest.approx(20.0)
    clock.now += 995
    assert spending.remaining(trials[:9]) == pytest.approx(5.0)  # the time budget ends before
    assert spending.remaining(trials) == 0
