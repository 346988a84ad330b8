"""The Optuna study inside a study's database: a view of the ledger, one Optuna trial per trial.

Optuna's dashboard, importances and samplers read it unchanged. COMPLETE trials carry values,
EARLY_STOPPED ones are PRUNED with their rung values as attributes, INFEASIBLE and FAILED ones FAIL.
The view can be thrown away and made again; nothing reads it back into the ledger.
"""

from __future__ import annotations

import json
import warnings
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.trial import TrialState as OptunaState
from sqlalchemy import make_url

from autopeft.errors import AutopeftError
from autopeft.spec import StudySpec
from autopeft.storage import engine_arguments
from autopeft.trial import Trial, TrialState
from autopeft_searchspace.configuration import Value
from autopeft_searchspace.dims import Dimension
from autopeft_searchspace.space import OutsideSpace, Space

STATES = {
    TrialState.RUNNING: OptunaState.RUNNING,
    TrialState.COMPLETE: OptunaState.COMPLETE,
    TrialState.EARLY_STOPPED: OptunaState.PRUNED,
    TrialState.INFEASIBLE: OptunaState.FAIL,
    TrialState.FAILED: OptunaState.FAIL,
}


class View:
    """Keeps the Optuna study `spec.name` in step with the ledger's trials."""

    def __init__(self, url: str, spec: StudySpec, space: Space) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._spec, self._space = spec, space
        self._storage = optuna.storages.RDBStorage(url, engine_kwargs=engine_arguments(make_url(url)))
        self.study = self._open()

    def _open(self) -> optuna.Study:
        study = optuna.create_study(
            storage=self._storage,
            study_name=self._spec.name,
            directions=[o.direction for o in self._spec.objectives],
            load_if_exists=True,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names([o.name for o in self._spec.objectives])
        return study

    def update(self, trials: tuple[Trial, ...]) -> None:
        """Add the trials the view lacks and end those that ended since. AutopeftError on a full disk."""
        try:
            self._update(trials)
        except StorageInternalError as error:
            raise AutopeftError(f"the study's database cannot be written: {error.__cause__ or error}") from error

    def _update(self, trials: tuple[Trial, ...]) -> None:
        known = self.study.get_trials(deepcopy=False)
        stopped = [t.number for t in known if t.state is OptunaState.PRUNED]
        if any(trials[number].state is not TrialState.EARLY_STOPPED for number in stopped):
            # A stopped trial went on, and Optuna lets nobody change a finished one: the view is made anew.
            optuna.delete_study(study_name=self._spec.name, storage=self._storage)
            self.study, known = self._open(), []
        for trial in trials:
            if trial.number >= len(known):
                self._add(trial)
            elif known[trial.number].state is OptunaState.RUNNING and trial.state.finished:
                self._end(known[trial.number]._trial_id, trial)

    def _add(self, trial: Trial) -> None:
        params, distributions = parameters(trial, self._space)
        attributes: dict[str, Any] = {"configuration": trial.configuration.in_words(), "origin": trial.origin.value, "label": trial.label}
        attributes.update(trial.computed)
        frozen = optuna.trial.create_trial(
            state=OptunaState.RUNNING,
            params=params,
            distributions=distributions,
            user_attrs={k: v for k, v in attributes.items() if v != ""},
        )
        trial_id = self._storage.create_new_trial(self.study._study_id, template_trial=frozen)
        if trial.state.finished:
            self._end(trial_id, trial)

    def _end(self, trial_id: int, trial: Trial) -> None:
        for name, content in _attributes(trial, self._spec.quality).items():
            self._storage.set_trial_user_attr(trial_id, name, content)
        values = [trial.value(o.name, self._spec.quality) for o in self._spec.objectives]
        complete = trial.state is TrialState.COMPLETE and all(v is not None for v in values)
        self._storage.set_trial_state_values(trial_id, STATES[trial.state], [v.value for v in values if v] if complete else None)


def parameters(trial: Trial, space: Space) -> tuple[dict[str, Value], dict[str, BaseDistribution]]:
    """Active dimensions of a trial as people read them; none where the space cannot express it."""
    try:
        values = space.values(trial.configuration)
    except OutsideSpace:
        return {}, {}
    return values, {name: distribution(space.by_name[name]) for name in values}


def distribution(dimension: Dimension) -> BaseDistribution:
    """A dimension as Optuna knows it: floats are a range, all else are choices."""
    numbers = [v for v in dimension.values if isinstance(v, float)]
    if len(numbers) > 1:
        return FloatDistribution(min(numbers), max(numbers), log=dimension.log)
    return CategoricalDistribution(dimension.values)


def _attributes(trial: Trial, quality: str) -> dict[str, Any]:
    rungs = {
        f"{quality} at step {o.step} of {o.total_steps}": m.value
        for o in trial.observations
        if (m := o.measurements.get(f"search.{quality}")) is not None and not o.is_final
    }
    found: dict[str, Any] = {"state": trial.state.value, "seconds": round(trial.seconds, 2), **rungs}
    if trial.reason:
        found["reason"] = trial.reason
    last = trial.final()
    for name, measurement in last.measurements.items() if last else ():
        found[name] = json.loads(json.dumps(measurement.value))
    return found
