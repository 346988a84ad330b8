"""`ParetoSampler` as a plain Optuna sampler: conditions, duplicates, storages, seeds, running trials."""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import tiny
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from autopeft.models.roles import find_shape
from autopeft.samplers import ParetoSampler, SpaceExhausted
from autopeft.samplers.convert import SpaceDomain
from autopeft.samplers.history import read_history
from autopeft_searchspace.settings import build_space

optuna.logging.set_verbosity(optuna.logging.WARNING)
DISTRIBUTIONS: dict[str, BaseDistribution] = {
    "type": CategoricalDistribution(["lora", "prefix", "none"]),
    "rank": IntDistribution(1, 64, log=True),
    "tokens": IntDistribution(1, 30),
    "rate": FloatDistribution(1e-5, 1e-2, log=True),
}
CONDITIONS = {"rank": lambda p: p["type"] == "lora", "tokens": lambda p: p["type"] == "prefix"}


def size(params: Any) -> float:
    return float(params.get("rank", 0) * 10 + params.get("tokens", 0) * 3)


def objective(trial: optuna.Trial) -> tuple[float, float]:
    params: dict[str, Any] = {"type": trial.suggest_categorical("type", ["lora", "prefix", "none"])}
    if params["type"] == "lora":
        params["rank"] = trial.suggest_int("rank", 1, 64, log=True)
    if params["type"] == "prefix":
        params["tokens"] = trial.suggest_int("tokens", 1, 30)
    rate = trial.suggest_float("rate", 1e-5, 1e-2, log=True)
    gain = 0.3 if params["type"] == "lora" else 0.2
    return 0.5 + gain * math.tanh(size(params) / 100) * math.exp(-(math.log10(rate / 1e-3) ** 2)), size(params)


def sampler(**settings: Any) -> ParetoSampler:
    usual = {"conditions": CONDITIONS, "known": {1: size}, "seed": 1, "startup": 5, "surrogate": "trees"}
    return ParetoSampler(DISTRIBUTIONS, **{**usual, **settings})


def study(storage: str | None = None, **settings: Any) -> optuna.Study:
    return optuna.create_study(storage=storage, directions=["maximize", "minimize"], sampler=sampler(**settings))


def test_conditions_are_respected_and_nothing_comes_twice() -> None:
    made = study()
    made.optimize(objective, n_trials=12)
    wanted = {"lora": {"type", "rank", "rate"}, "prefix": {"type", "tokens", "rate"}, "none": {"type", "rate"}}
    assert all(set(t.params) == wanted[t.params["type"]] for t in made.trials)
    assert len({str(t.params) for t in made.trials}) == 12


def test_seed_and_storage_do_not_change_the_proposals(tmp_path: Path) -> None:
    kept = study(f"sqlite:///{tmp_path / 'study.db'}")
    kept.optimize(objective, n_trials=4)
    again = optuna.load_study(study_name=kept.study_name, storage=f"sqlite:///{tmp_path / 'study.db'}", sampler=sampler())
    again.optimize(objective, n_trials=3)  # a new sampler: no state but the study's
    memory = study()
    memory.optimize(objective, n_trials=7)
    assert [t.params for t in again.trials] == [t.params for t in memory.trials]
    other = study(seed=2)
    other.optimize(objective, n_trials=2)
    assert [t.params for t in other.trials] != [t.params for t in memory.trials[:2]]


def test_ask_and_tell_with_running_trials() -> None:
    made = study()
    for _ in range(6):
        trial = made.ask()
        made.tell(trial, objective(trial))
    asked = [made.ask() for _ in range(3)]  # none has told its parameters when the next is asked for
    values = [objective(trial) for trial in asked]
    assert len({str(t.params) for t in made.trials}) == 9
    for trial, value in zip(asked, values, strict=True):
        made.tell(trial, value)


def test_a_running_trial_moves_the_next_proposal() -> None:
    made = study()
    made.optimize(objective, n_trials=8)
    first, second = made.ask(), made.ask()
    assert first.relative_params != second.relative_params


@pytest.mark.parametrize("settings", [{"known": {}}, {"known": {0: lambda p: -size(p), 1: size}}, {"surrogate": "gp"}])
def test_any_number_of_known_objectives_and_any_surrogate(settings: dict[str, Any]) -> None:
    made = study(**settings)
    made.optimize(objective, n_trials=7)
    assert len({str(t.params) for t in made.trials}) == 7


def test_one_objective_is_expected_improvement() -> None:
    made = optuna.create_study(direction="maximize", sampler=sampler(known={}, surrogate="gp"))
    made.optimize(lambda trial: objective(trial)[0], n_trials=20)
    assert made.best_value > 0.75  # of .8 at most


def test_objectives_known_by_name() -> None:
    made = study(known={"size": size})
    made.set_metric_names(["quality", "size"])
    made.optimize(objective, n_trials=7)
    assert len(made.trials) == 7


def test_small_space_is_exhausted_exactly() -> None:
    distributions = {"on": CategoricalDistribution([True, False]), "rank": IntDistribution(1, 3)}
    own = ParetoSampler(distributions, conditions={"rank": lambda p: p["on"]}, seed=0, startup=2, surrogate="gp")
    made = optuna.create_study(directions=["maximize", "minimize"], sampler=own)

    def small(trial: optuna.Trial) -> tuple[float, float]:
        on = trial.suggest_categorical("on", [True, False])
        rank = trial.suggest_int("rank", 1, 3) if on else 0
        return float(rank), float(rank)

    made.optimize(small, n_trials=4)
    assert sorted(t.values[0] for t in made.trials) == [0, 1, 2, 3]
    with pytest.raises(SpaceExhausted, match="4 that were proposed"):
        made.ask(distributions)


@pytest.mark.parametrize("seed", range(4))
def test_the_first_trials_take_every_kind_in_turn(seed: int) -> None:
    made = study(seed=seed, startup=6)
    made.optimize(objective, n_trials=6)
    types = [t.params["type"] for t in made.trials]
    assert set(types[:3]) == set(types[3:]) == {"lora", "prefix", "none"}


def test_forbidden_configurations_are_never_proposed() -> None:
    made = study(allowed=lambda p: size(p) <= 40)
    made.optimize(objective, n_trials=12)
    assert max(t.values[1] for t in made.trials) <= 40


def test_unknown_settings_are_named() -> None:
    with pytest.raises(ValueError, match=r"conditions name width"):
        ParetoSampler(DISTRIBUTIONS, conditions={"width": lambda p: True})
    with pytest.raises(ValueError, match="unknown surrogate 'forest'; there are gp, saas"):
        ParetoSampler(DISTRIBUTIONS, surrogate="forest")
    made = study(known={5: size})
    with pytest.raises(ValueError, match="objective 5"):
        made.optimize(objective, n_trials=6)


@pytest.mark.parametrize("high", [0.3, 0.6, 0.7])
def test_floats_in_steps_stay_within_their_bounds_and_come_once(high: float) -> None:
    """0.1 is no binary fraction: three steps of it end above 0.3. A value that was put in by hand counts as its step."""
    distribution = FloatDistribution(0.0, high, step=0.1)
    made = optuna.create_study(directions=["maximize"], sampler=ParetoSampler({"x": distribution}, seed=0, startup=2))
    made.enqueue_trial({"x": 0.1})
    seen = []
    with contextlib.suppress(SpaceExhausted):
        for _ in range(20):
            trial = made.ask()
            seen.append(trial.suggest_float("x", 0.0, high, step=0.1))
            made.tell(trial, -((seen[-1] - 0.2) ** 2))
    assert max(seen) <= high
    assert sorted(round(10 * x) for x in seen) == list(range(round(10 * high) + 1))


def test_numbers_that_are_none_do_not_end_a_study() -> None:
    made = study(startup=2)
    for value in (float("nan"), None, 0.01):
        trial = made.ask()
        found = objective(trial)
        trial.set_user_attr("standard_error", value)
        trial.set_user_attr("rung", {"share": 0.3, "value": float("nan")})
        made.tell(trial, found)
    made.optimize(objective, n_trials=2)
    assert len(made.trials) == 5


def test_what_was_put_in_from_outside_is_not_learnt_as_something_else() -> None:
    made = study()
    made.enqueue_trial({"rate": 5.0})  # outside: the rest is asked of the sampler
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made.optimize(objective, n_trials=1)
    domain = sampler().domain
    (entry,) = read_history(made.get_trials(), domain, 1).entries
    assert entry.point is None


def test_threads_see_what_the_others_were_given() -> None:
    distributions = {"x": IntDistribution(1, 8)}
    made = optuna.create_study(directions=["maximize"], sampler=ParetoSampler(distributions, seed=0, startup=2, surrogate="trees"))

    def slow(trial: optuna.Trial) -> float:
        x = trial.suggest_int("x", 1, 8)
        time.sleep(0.05)
        return -abs(x - 3.0)

    made.optimize(slow, n_trials=8, n_jobs=4)
    assert sorted(t.params["x"] for t in made.trials) == list(range(1, 9))


def test_trials_of_a_longer_grid_are_not_learnt_from() -> None:
    space = build_space("default", find_shape(tiny.build("bert", device="meta")))
    domain = SpaceDomain(space)
    params = domain.to_params(domain.draw(np.random.default_rng(0)))
    assert domain.from_params(params) is not None
    assert domain.from_params({**params, "lora.size": 99}) is None
