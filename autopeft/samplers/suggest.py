"""The next configuration of a study. What the coordinator calls, for every sampler alike."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import NSGAIISampler
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from autopeft.front import Axes, objective_values, study_axes
from autopeft.samplers.convert import distribution, suggest_values, values_to_params
from autopeft.samplers.domain import SpaceExhausted
from autopeft.samplers.earlier import Results
from autopeft.samplers.limits import Computed, Limited, computed, within
from autopeft.samplers.named import POPULATION, make_sampler
from autopeft.samplers.whole import RandomSampler
from autopeft.spec import StudySpec
from autopeft.trial import Trial, TrialState
from autopeft_searchspace.configuration import Configuration
from autopeft_searchspace.space import OutsideSpace, Space

__all__ = ["SpaceExhausted", "suggest"]
TRIES = 8
"""Proposals of an Optuna sampler that are refused before a random one takes their place."""
STATES = {
    TrialState.RUNNING: OptunaState.RUNNING,
    TrialState.COMPLETE: OptunaState.COMPLETE,
    TrialState.EARLY_STOPPED: OptunaState.PRUNED,
    TrialState.INFEASIBLE: OptunaState.PRUNED,
    TrialState.FAILED: OptunaState.FAIL,
}


def suggest(
    spec: StudySpec,
    space: Space,
    trials: Sequence[Trial],
    known: Mapping[str, Computed],
    number: int,
    limits: Limited | None = None,
    axes: Axes | None = None,
    earlier: Sequence[Results] = (),
) -> Configuration:
    """The configuration of trial `number`: within the limits, and none that a trial already has.

    known: objectives that can be computed. axes: the study's; made from the trials where not given.
    earlier: quality in earlier studies, by parameters as Optuna knows them.
    Depends on the arguments alone. Raises `SpaceExhausted` when no configuration is left.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    seed = int(np.random.SeedSequence([spec.seeds.search, number]).generate_state(1)[0] % 2**31)
    known = computed(known, space)
    allowed = within(limits, known)
    taken = {t.configuration.key for t in trials}

    def fresh(configuration: Configuration) -> bool:
        return not configuration.head_only and configuration.key not in taken and allowed(configuration)

    study = study_of(spec, space, trials)
    axes = axes or _axes(spec, space, trials)
    study.sampler = make_sampler(spec.sampler, space, seed=seed, known=known, axes=axes, allowed=fresh, earlier=earlier)
    for _ in range(TRIES):
        trial = study.ask()
        values = suggest_values(trial, space)
        if space.problem(values) is None and fresh(configuration := space.configuration(values)):
            return configuration
        study.tell(trial, state=OptunaState.FAIL)
    study.sampler = RandomSampler(space, allowed=fresh, seed=seed)
    return space.configuration(suggest_values(study.ask(), space))


def study_of(spec: StudySpec, space: Space, trials: Sequence[Trial]) -> optuna.Study:
    """The trials as an Optuna study in memory, in the way that `samplers.history` reads it.

    INFEASIBLE trials are PRUNED with a violated constraint: they have no values, and Optuna's samplers
    ignore constraints of failed trials. Trials outside the space have values but no parameters.
    """
    study = optuna.create_study(directions=[o.direction for o in spec.objectives])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names([o.name for o in spec.objectives])
    for trial in sorted(trials, key=lambda t: t.number):
        study.add_trial(_frozen(trial, spec, space))
    return study


def _frozen(trial: Trial, spec: StudySpec, space: Space) -> FrozenTrial:
    try:
        values = space.values(trial.configuration)
    except OutsideSpace:
        values = {}
    found = [trial.value(o.name, spec.quality) for o in spec.objectives]
    complete = all(m is not None and math.isfinite(m.value) for m in found)
    state = STATES[trial.state] if complete or trial.state is not TrialState.COMPLETE else OptunaState.FAIL
    quality = trial.value(spec.quality, spec.quality)
    attributes: dict[str, Any] = {"rung": _rungs(trial, spec)}
    if quality and quality.standard_error:
        attributes["standard_error"] = quality.standard_error
    return optuna.trial.create_trial(
        state=state,
        values=[m.value for m in found if m] if state is OptunaState.COMPLETE else None,
        params=values_to_params(space, values),
        distributions={name: distribution(space.by_name[name]) for name in values},
        user_attrs=attributes,
        system_attrs={NSGAIISampler._get_generation_key(): trial.number // POPULATION},
        constraints={"infeasible": 1.0} if trial.state is TrialState.INFEASIBLE else None,
    )


def _rungs(trial: Trial, spec: StudySpec) -> list[dict[str, float]]:
    """Quality before the end, for the first seed that was observed."""
    rungs = []
    for o in trial.observations:
        measured = o.measurements.get(f"search.{spec.quality}")
        if measured and not o.is_final and o.seed == trial.observations[0].seed:
            share, error = o.step / o.total_steps, measured.standard_error or 0.0
            rungs.append({"share": share, "value": measured.value, "standard_error": error})
    return rungs


def _axes(spec: StudySpec, space: Space, trials: Sequence[Trial]) -> Axes | None:
    """The study's axes, where memory ends half above the largest seen instead of at full fine-tuning."""
    memory = max((t.computed.get("peak_memory_bytes", 0.0) for t in trials), default=0.0)
    return study_axes(spec, space, trials, 1.5 * memory or None) if objective_values(trials, spec)[0] else None
