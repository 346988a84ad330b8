"""What a search tries next: known defaults, a stratified start, then the sampler."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from autopeft.baselines import baselines
from autopeft.budget import Budget
from autopeft.plan import Limits
from autopeft.samplers.initial import initial_design
from autopeft.samplers.suggest import suggest
from autopeft.spec import StudySpec
from autopeft.trial import Origin, Trial
from autopeft_searchspace.configuration import Configuration
from autopeft_searchspace.space import Space

FEWEST_INITIAL, MOST_INITIAL = 4, 16
BASELINES = 5


class Proposals:
    """known: objective -> function of a configuration, for what is known before training.

    initial: number of trials of the stratified start. Depends on nothing but these and the trials,
    so that a resumed search proposes what an uninterrupted one would have.
    """

    def __init__(
        self, spec: StudySpec, space: Space, known: dict[str, Callable[[Configuration], float]], limits: Limits, initial: int, rates: int
    ) -> None:
        self._spec, self._space, self._known, self._limits = spec, space, known, limits
        self._baselines = baselines(space.shape, rates) if spec.baselines else []
        points = initial_design(space, initial, spec.seeds.search, known, limits)
        self._initial = [space.configuration(values) for values in points]

    def next(self, trials: Sequence[Trial]) -> tuple[Configuration, Origin, str]:
        """(configuration, origin, label) of the next trial; raises SpaceExhausted where none is left."""
        seen = {t.configuration.key for t in trials}
        for label, configuration in self._baselines:
            if configuration.key not in seen:
                return configuration, Origin.BASELINE, label
        for configuration in self._initial:
            if configuration.key not in seen:
                return configuration, Origin.INITIAL, ""
        return suggest(self._spec, self._space, trials, self._known, len(trials), self._limits), Origin.SAMPLER, ""


def initial_trials(budget: Budget) -> int:
    """Size of the stratified start: half of what follows the baselines, 4 to 16."""
    if budget.trials is None:
        return MOST_INITIAL
    return min(MOST_INITIAL, max(FEWEST_INITIAL, (budget.trials - BASELINES) // 2))
