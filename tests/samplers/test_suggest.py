"""Suggestions from trials: every sampler, limits, duplicates, the end of a space; the stratified start."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from made_up import HEAD_ONLY, head_only, lora, shape, small_space, spec, trial

from autopeft.errors import SpecError
from autopeft.plan import Limits
from autopeft.samplers.convert import distributions, params_to_values, suggest_values, values_to_params
from autopeft.samplers.initial import initial_design
from autopeft.samplers.named import SAMPLERS, make_sampler
from autopeft.samplers.suggest import SpaceExhausted, study_of, suggest
from autopeft.trial import Trial, TrialState
from autopeft_searchspace.configuration import Component, Configuration
from autopeft_searchspace.rules import trainable_parameters
from autopeft_searchspace.settings import build_space
from autopeft_searchspace.space import Space

KNOWN = {"trainable_parameters": lambda c: float(trainable_parameters(c, shape(layers=4)))}
BIG = build_space("default", shape(layers=4))


def history(space: Space, count: int) -> list[Trial]:
    """Head-only and `count` configurations, better the larger they are."""
    trials = [head_only(0.5)]
    for values in initial_design(space, count, seed=3):
        configuration = space.configuration(values)
        size = trainable_parameters(configuration, space.shape)
        trials.append(trial(len(trials), 0.5 + 0.05 * np.log10(size), size, configuration=configuration))
    return trials


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_ends_a_small_space_without_a_repeat(name: str) -> None:
    space = small_space()
    trials = history(space, 15)
    while len(trials) < 19:
        configuration = suggest(spec(sampler=name), space, trials, KNOWN, len(trials))
        assert configuration.components
        size = trainable_parameters(configuration, space.shape)
        trials.append(trial(len(trials), 0.5 + size / 1000, size, configuration=configuration))
    assert len({t.configuration.key for t in trials}) == 19
    with pytest.raises(SpaceExhausted):
        suggest(spec(sampler=name), space, trials, KNOWN, len(trials))


@pytest.mark.parametrize("name", SAMPLERS)
def test_same_arguments_same_configuration(name: str) -> None:
    trials = history(BIG, 12)
    first, again, later = (suggest(spec(sampler=name), BIG, trials, KNOWN, number) for number in (13, 13, 14))
    assert first.key == again.key
    assert first.key not in {t.configuration.key for t in trials}
    assert later.key not in {t.configuration.key for t in trials}


@pytest.mark.parametrize("name", ["pareto", "tpe", "random"])
def test_limits_hold(name: str) -> None:
    trials = history(BIG, 9)
    for number in (10, 11, 12):
        configuration = suggest(spec(sampler=name), BIG, trials, KNOWN, number, Limits(maximum_parameters=300))
        assert trainable_parameters(configuration, BIG.shape) <= 300
    with pytest.raises(SpaceExhausted):
        suggest(spec(sampler=name), BIG, trials, KNOWN, 13, Limits(maximum_parameters=1))


def test_memory_limit_needs_only_its_function() -> None:
    known = {**KNOWN, "peak_memory_bytes": lambda c: 10.0 * len(c.components)}
    configuration = suggest(spec(), BIG, history(BIG, 9), known, 10, Limits(maximum_memory_bytes=10))
    assert len(configuration.components) == 1


def test_trials_of_every_state_and_outside_the_space() -> None:
    space = small_space()
    outside = Configuration((Component("prefix", 4, (0, 1)),), 1e-3)
    trials = [
        head_only(0.5),
        trial(1, 0.9, 64, configuration=outside),
        trial(2, 0.6, 16, configuration=lora(1, (0,), 5e-3)),
        trial(3, None, 32, rung=0.55, state=TrialState.EARLY_STOPPED, configuration=lora(1, (0, 1), 5e-3)),
        trial(4, None, 64, state=TrialState.INFEASIBLE, configuration=lora(2, (0, 1), 5e-3)),
        trial(5, None, 32, state=TrialState.FAILED, configuration=lora(2, (0,), 5e-3)),
        trial(6, None, 32, state=TrialState.RUNNING, configuration=lora(2, (1,), 5e-3)),
    ]
    states = optuna.trial.TrialState
    study = study_of(spec(), space, trials)
    assert [t.state for t in study.trials] == [states.COMPLETE] * 3 + [states.PRUNED, states.PRUNED, states.FAIL, states.RUNNING]
    assert study.trials[1].params == {}
    assert study.trials[1].values == [0.9, 64]
    assert study.trials[3].user_attrs["rung"] == [{"share": 1 / 3, "value": 0.55, "standard_error": 0.01}]
    assert study.trials[4].constraints == {"infeasible": 1.0}
    assert study.trials[2].user_attrs["standard_error"] == 0.01
    for name in SAMPLERS:
        assert suggest(spec(sampler=name), space, trials, KNOWN, 7).key not in {t.configuration.key for t in trials}


def test_values_and_parameters_of_optuna_are_inverse() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        values = BIG.sample(rng)
        params = values_to_params(BIG, values)
        assert params_to_values(BIG, params) == values
        assert all(distributions(BIG)[name].to_internal_repr(p) is not None for name, p in params.items())


def test_define_by_run_asks_what_is_active_and_what_can_be_combined() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(50):
        asked = study.ask()
        values = suggest_values(asked, BIG)
        assert BIG.problem(values) is None
        assert set(values) == set(BIG.active(values))
        assert all(BIG.is_active(name, values) for name in asked.params)


def test_initial_design_is_stratified_distinct_and_repeatable() -> None:
    design = initial_design(BIG, 12, seed=0)
    configurations = [BIG.configuration(values) for values in design]
    assert len({c.key for c in configurations}) == 12
    assert all(BIG.problem(values) is None for values in design)
    assert [len(c.components) for c in configurations[:4]] == [1, 1, 1, 1]
    assert {c.components[0].type for c in configurations[:4]} == set(BIG.types)
    sizes = np.log10([trainable_parameters(c, BIG.shape) for c in configurations])
    assert np.ptp(sizes) > 1.3  # of two decades on this small shape
    assert design == initial_design(BIG, 12, seed=0)
    assert design != initial_design(BIG, 12, seed=1)


def test_initial_design_keeps_limits_and_takes_what_there_is() -> None:
    within = initial_design(BIG, 8, 0, KNOWN, Limits(maximum_parameters=200))
    assert len(within) == 8
    assert all(trainable_parameters(BIG.configuration(v), BIG.shape) <= 200 for v in within)
    everything = initial_design(small_space(), 40, seed=0)
    assert len({small_space().configuration(v).key for v in everything}) == len(everything) == 18
    assert initial_design(BIG, 8, 0, KNOWN, Limits(maximum_parameters=1)) == []


def test_unknown_sampler_names_near_ones() -> None:
    with pytest.raises(SpecError, match="did you mean pareto"):
        make_sampler("paretto", BIG)


def test_head_only_is_learnt_from_but_not_proposed() -> None:
    assert small_space().values(HEAD_ONLY)["lora.size"] == 0
    everything = {small_space().configuration(v).key for v in small_space().points()}
    assert len(everything) == 18 + 3  # head-only at three rates
