"""What every sampler that a study can name must do; and what ours says to bad input."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest
from made_up import small_space
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from autopeft.front import Axes, Axis
from autopeft.samplers import ParetoSampler, make_sampler
from autopeft.samplers.convert import suggest_values
from autopeft.samplers.history import read_history
from autopeft.samplers.named import SAMPLERS
from autopeft.samplers.pareto import seen_axes
from autopeft.samplers.whole import make_domain
from autopeft_searchspace.rules import trainable_parameters

optuna.logging.set_verbosity(optuna.logging.ERROR)
SPACE = small_space()
X = {"x": FloatDistribution(0.0, 1.0), "kind": CategoricalDistribution(["a", "b"])}
TWO = ("maximize", "minimize")


def searched(name: str, seed: int = 0, trials: int = 10) -> list[dict[str, Any]]:
    """Points that sampler `name` proposes on the small space; one trial fails, one is still running."""
    warnings.simplefilter("ignore")
    study = optuna.create_study(directions=TWO, sampler=make_sampler(name, SPACE, seed=seed))
    points = []
    for number in range(trials):
        asked = study.ask()
        points.append(suggest_values(asked, SPACE))
        configuration = SPACE.configuration(points[-1])
        if number == 3:
            study.tell(asked, state=TrialState.FAIL)
        elif number != 4:
            size = trainable_parameters(configuration, SPACE.shape)
            study.tell(asked, (size**0.5 * configuration.learning_rate, size))
    return points


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_stays_in_the_space_and_repeats_with_its_seed(name: str) -> None:
    points = searched(name)
    assert all(SPACE.problem(p) is None and SPACE.active(p) == p for p in points)
    assert points == searched(name)
    assert points != searched(name, seed=1)


@pytest.mark.parametrize("name", ["pareto", "random", "tacl2024"])
def test_ours_propose_nothing_twice(name: str) -> None:
    assert len({SPACE.configuration(p).key for p in searched(name, trials=16)}) == 16


def study_of(*values: tuple[float, ...], directions: Any = TWO, **settings: Any) -> optuna.Study:
    """A study with one trial of each of `values`, at random points."""
    rng = np.random.default_rng(0)
    made = optuna.create_study(directions=directions, sampler=ParetoSampler(X, startup=2, seed=0, **settings))
    for v in values:
        made.add_trial(create_trial(values=v, params={"x": float(rng.random()), "kind": "a"}, distributions=X))
    return made


SOME = ((0.5, 1.0), (0.6, 2.0), (0.7, 3.0), (0.65, 2.5))


def raises(p: Any) -> float:
    raise KeyError("layers")


@pytest.mark.parametrize(("function", "message"), [(raises, r"objective 1 failed on .*KeyError"), (lambda p: float("nan"), "1 is nan on")])
def test_known_functions_that_raise_or_give_no_number_are_named(function: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        study_of(*SOME, known={1: function}).ask(X)


def test_directions_must_be_set_and_axes_must_fit() -> None:
    with pytest.raises(ValueError, match="3 objectives"):
        study_of(*((*v, 1.0) for v in SOME), directions=(*TWO, "minimize"), axes=Axes((Axis("a", 0, 1), Axis("b", 1, 0)))).ask(X)


def test_a_direction_that_is_not_set_is_an_error() -> None:
    made = study_of(*SOME)
    history = read_history(made.trials, make_domain(X, {}, {}), -1)
    unknown = SimpleNamespace(directions=[StudyDirection.MAXIMIZE, StudyDirection.NOT_SET])
    with pytest.raises(ValueError, match="objective 1 has no direction"):
        seen_axes(unknown, history)  # type: ignore[arg-type]


def test_trials_outside_the_space_are_seen_but_not_learnt_from() -> None:
    made = study_of(*SOME)
    other = {"x": FloatDistribution(0.0, 9.0), "kind": CategoricalDistribution(["a", "c"])}
    for params in ({"x": 4.0, "kind": "a"}, {"x": 0.5, "kind": "c"}, {"x": 0.5}):
        made.add_trial(create_trial(values=(0.9, 1.0), params=params, distributions={k: other[k] for k in params}))
    history = read_history(made.trials, make_domain(X, {}, {}), -1)
    assert [e.point is None for e in history.entries] == [False] * 4 + [True] * 3
    assert len(history.complete) == 7
    assert made.ask(X).params["kind"] in ("a", "b")


def test_infinite_values_are_left_out() -> None:
    made = study_of(*SOME, (float("inf"), 1.0))
    assert len(read_history(made.trials, make_domain(X, {}, {}), -1).complete) == 4
    assert 0 <= made.ask(X).params["x"] <= 1


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, they are 0 and 1"):
        ParetoSampler(X, startup=0)
    with pytest.raises(ValueError, match="did you mean saas"):
        ParetoSampler(X, surrogate="sas")


def test_a_batch_is_proposed_without_its_own_results() -> None:
    def fourth(value: float) -> dict[str, Any]:
        made = study_of(*SOME, surrogate="trees", batch=4)
        first = made.ask(X)
        made.tell(first, (value, 1.0))
        return made.ask(X).params

    assert fourth(0.1) == fourth(0.9)


def test_copula_gives_the_same_for_any_increasing_scale() -> None:
    def proposal(power: float) -> dict[str, Any]:
        made = study_of(*((v[0] ** power, v[1]) for v in SOME), copula=True, known={1: lambda p: p["x"]}, axes=AXES)
        return made.ask(X).params

    AXES = Axes((Axis("quality", 0.0, 1.0), Axis("cost", 1.0, 0.0)))
    assert proposal(1.0) == proposal(3.0)
