"""Warm start: earlier studies help where they hold, and lose their weight where they mislead."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
import pytest
from made_up import lora, shape, small_space, spec, trial
from optuna.distributions import FloatDistribution
from optuna.trial import create_trial

from autopeft.front import Axes, Axis
from autopeft.samplers import ParetoSampler
from autopeft.samplers.earlier import carried, earlier_front, evenly
from autopeft.surrogate.gp import fit_gp
from autopeft.surrogate.trend import fit_trend, standardised
from autopeft_searchspace.configuration import Component, Configuration

X = {"x": FloatDistribution(0.0, 1.0), "cost": FloatDistribution(0.0, 1.0)}
AXES = Axes((Axis("quality", 0.0, 1.0), Axis("cost", 1.0, 0.0)))


def truth(x: float) -> float:
    return float(np.exp(-(((x - 0.8) / 0.15) ** 2)))


def model(upward: bool) -> Any:
    grid = np.linspace(0, 1, 25)[:, None]
    y = np.array([truth(x) for x in grid[:, 0]])
    return fit_gp(grid, standardised(y if upward else -y), np.zeros(25))


def test_a_trend_is_believed_as_far_as_it_holds() -> None:
    rng = np.random.default_rng(0)
    seen = rng.random((12, 1))
    y = np.array([truth(x) for x in seen[:, 0]])
    right, wrong = fit_trend([model(True)], seen, y), fit_trend([model(False)], seen, y)
    both = fit_trend([model(True), model(False)], seen, y)
    assert right.weights[0] > 0.85
    assert wrong.weights[0] == both.weights[1] == 0
    assert wrong(seen) == pytest.approx(np.full(12, y.mean()))
    fresh = rng.random((40, 1))
    assert np.corrcoef(both(fresh), [truth(x) for x in fresh[:, 0]])[0, 1] > 0.95
    unknown = fit_trend([model(True)], seen[:1], y[:1])
    assert 0.3 < unknown.weights[0] < 0.6  # believed a little before anything is known


def proposal(results: list[tuple[dict[str, float], float]], direction: str = "maximize", sign: float = 1.0) -> float:
    """x that is proposed after five flat observations far from the optimum."""
    axes = AXES if sign > 0 else Axes((Axis("loss", 0.0, -1.0), AXES.axes[1]))
    own = ParetoSampler(X, known={1: lambda p: p["cost"]}, axes=axes, earlier=[results], startup=5, seed=0)
    made = optuna.create_study(directions=[direction, "minimize"], sampler=own)
    for x in (0.0, 0.1, 0.2, 0.3, 0.4):
        made.add_trial(create_trial(values=(sign * (0.2 + 0.02 * x), 0.5), params={"x": x, "cost": 0.5}, distributions=X))
    return float(made.ask(X).params["x"])


@pytest.mark.parametrize(("direction", "sign"), [("maximize", 1.0), ("minimize", -1.0)])
def test_earlier_results_lead_to_where_they_were_good(direction: str, sign: float) -> None:
    results = [({"x": float(x), "cost": 0.5}, sign * truth(x)) for x in np.linspace(0, 1, 21)]
    assert 0.7 < proposal(results, direction, sign) < 0.9


def test_the_start_takes_the_front_of_earlier_studies() -> None:
    results = [({"x": x, "cost": c}, truth(x)) for x, c in ((0.8, 0.5), (0.7, 0.2), (0.1, 0.9))]
    own = ParetoSampler(X, known={1: lambda p: p["cost"]}, earlier=[results], startup=4, seed=0)
    made = optuna.create_study(directions=["maximize", "minimize"], sampler=own)
    first = [made.ask(X).params for _ in range(3)]
    assert first[:2] == [{"x": 0.8, "cost": 0.5}, {"x": 0.7, "cost": 0.2}]
    assert first[2] != {"x": 0.1, "cost": 0.9}


def test_the_scale_of_a_trend_is_told_from_where_it_was_seen() -> None:
    # seen near the optimum alone: values vary little there, and so does the earlier study; what it says of the rest is kept
    seen = np.linspace(0.65, 0.95, 9)[:, None]
    trend = fit_trend([model(True)], seen, np.array([truth(x) for x in seen[:, 0]]))
    far, best = trend(np.array([[0.2], [0.8]]))
    assert best == pytest.approx(1, abs=0.15)
    assert far == pytest.approx(0, abs=0.25)


def test_points_evenly_spaced_along_a_front() -> None:
    assert evenly("abcdefg", 3) == ["a", "d", "g"]
    assert evenly("ab", 5) == ["a", "b"]
    assert evenly("", 5) == evenly("abc", 0) == []


def test_a_configuration_is_carried_to_another_depth() -> None:
    deep = shape(layers=6)
    old = Configuration((Component("lora", 3, (4, 5), ("q",), {"alpha": 3}),), lora().learning_rate)
    values = carried(old, deep, small_space())
    assert values is not None
    assert (values["lora.size"], values["layers.0"], values["layers.1"]) == (2, False, True)
    assert carried(Configuration((Component("prefix", 3, (0,)),), 1e-3), deep, small_space()) is None


def test_the_front_of_a_study_the_best_first() -> None:
    trials = [
        trial(0, 0.6, 10, configuration=lora(1, (0,), 5e-3)),
        trial(1, 0.9, 30, configuration=lora(2, (0, 1), 5e-3)),
        trial(2, 0.5, 40),
    ]
    found = earlier_front(trials, spec(), shape(), small_space())
    assert [c.components[0].size for c in found] == [2, 1]
