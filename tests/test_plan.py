"""Steps, rungs and limits of a study."""

from __future__ import annotations

from dataclasses import replace

import made_up
import pytest

from autopeft.budget import Budget
from autopeft.errors import SpecError
from autopeft.plan import Limits, find_limits, find_rungs, find_total_steps
from autopeft.spec import StudySpec
from autopeft.spending import Spending
from autopeft.trial import Trial


def spec(**settings: object) -> StudySpec:
    return StudySpec.model_validate(
        {"name": "s", "model": {"base": "b"}, "task": {"kind": "classification"}, "data": {"source": "d"}, **settings}
    )


def test_auto_steps_are_the_epochs_where_the_time_budget_allows() -> None:
    assert find_total_steps(spec(), Budget(trials=40), 2400, 0.1, 1.0) == 75
    assert find_total_steps(spec(), Budget(trials=20, seconds=3600), 2400, 0.1, 1.0) == 75


def test_auto_steps_shrink_with_the_time_budget() -> None:
    # 20 trials in 400 s: 12 s each for trials, of which 3 s for three evaluations, at 0.25 s a step
    assert find_total_steps(spec(), Budget(trials=20, seconds=400), 2400, 0.25, 1.0) == 36


def test_trials_at_once_leave_more_time_to_each() -> None:
    assert find_total_steps(spec(), Budget(trials=20, seconds=400), 2400, 0.5, 1.0, workers=2) == 42
    assert find_total_steps(spec(), Budget(trials=40, seconds=50), 2400, 0.34, 5.4, workers=2) == 20


def test_a_slow_machine_gets_the_fewest_steps_and_fewer_trials() -> None:
    assert find_total_steps(spec(), Budget(trials=24, seconds=480), 2400, 0.34, 5.4) == 20


def test_a_budget_too_short_for_three_trials_says_what_would_do() -> None:
    with pytest.raises(SpecError, match=r"too short for 3 trials of 20 steps, which need about 1\.2 min"):
        find_total_steps(spec(), Budget(trials=40, seconds=50), 2400, 0.34, 5.4)


def test_given_steps_are_taken() -> None:
    assert find_total_steps(spec(fidelity={"steps": 7}), Budget(trials=40, seconds=1), 2400, 0.25, 1.0) == 7


def test_rungs_stand_at_a_half_in_short_runs_and_at_a_third_in_long_ones() -> None:
    assert find_rungs(spec(), 75) == (38, 75)
    assert find_rungs(spec(), 600) == (200, 600)
    assert find_rungs(spec(fidelity={"rungs": []}), 600) == (600,)
    assert find_rungs(spec(fidelity={"rungs": [0.25, 0.5]}), 8) == (2, 4, 8)


def test_limits_say_what_they_forbid() -> None:
    limits = find_limits(spec(constraints={"maximum_parameters": "1%", "maximum_memory": "1GB"}), 20_000_000)
    assert limits == Limits(200_000, 10**9)
    assert not limits.problem(200_000, 10**9)
    assert "200,001 trainable parameters" in limits.problem(200_001, 1)
    assert "954 MiB" in limits.problem(1, 2 * 10**9)


def test_spending_keeps_time_for_the_replicates(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = made_up.calibrated("cpu", 8, 50.0)
    monkeypatch.setattr("autopeft.spending.time.monotonic", lambda: 100.0)
    trials: tuple[Trial, ...] = ()
    each = 9.5
    enough = 50 + each + 6 * each
    assert Spending(Budget(seconds=enough * 1.5), environment, 2, 1, 100.0).allows_another(trials, 0)
    assert not Spending(Budget(seconds=50 + each), environment, 2, 1, 100.0).allows_another(trials, 0)
    assert Spending(Budget(seconds=50 + each), environment, 0, 1, 100.0).allows_another(trials, 0)
    assert not Spending(Budget(seconds=50 + each - 1), environment, 0, 1, 100.0).allows_another(trials, 0)
    assert Spending(Budget(trials=3), environment, 2, 1, 100.0).remaining(trials) == pytest.approx((3 + 3 * 2) * each)
    assert Spending(Budget(trials=8), environment, 0, 2, 100.0).remaining(trials) == pytest.approx(4 * each)
    assert Spending(Budget(gpu_hours=1.0), environment, 2, 1, 100.0).remaining(trials) is None
    assert Spending(Budget(seconds=1.0), environment, 2, 1, 100.0).overdrawn


def test_hours_of_gpus_are_shared_by_those_that_share_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers on one GPU, 3600 s each: one hour, of two hours one is left. In packs seconds are shares already."""
    monkeypatch.setattr("autopeft.spending.time.monotonic", lambda: 100.0)
    trials = tuple(replace(made_up.trial(number, 0.8, 10), seconds=3600.0) for number in (0, 1))
    shared = {**made_up.calibrated("cuda", 8), "gpus_each": 0.5}
    spending = Spending(Budget(gpu_hours=2.0), shared, 0, 2, 100.0)
    assert spending.gpu_hours(trials) == pytest.approx(1.0)
    assert spending.remaining(trials) == pytest.approx(3600.0)
    packed = {**made_up.calibrated("cuda", 8), "gpus_each": 1.0, "room": 16}
    spending = Spending(Budget(gpu_hours=3.0), packed, 0, 16, 100.0)
    assert spending.gpu_hours(trials) == pytest.approx(2.0)
    assert spending.remaining(trials) == pytest.approx(3600.0)
