"""What a search tries next: known defaults, a stratified start, then the sampler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

from autopeft.baselines import baselines
from autopeft.budget import Budget
from autopeft.plan import Limits
from autopeft.samplers.earlier import evenly
from autopeft.samplers.initial import initial_design
from autopeft.samplers.limits import computed, within
from autopeft.samplers.suggest import SpaceExhausted, suggest
from autopeft.spec import StudySpec
from autopeft.trial import Origin, Trial
from autopeft.warm_start import Earlier
from autopeft_searchspace.configuration import Configuration
from autopeft_searchspace.space import Space

FEWEST_INITIAL, MOST_INITIAL = 4, 16
BASELINES = 5


class Proposals:
    """known: objective -> function of a configuration, for what is known before training.

    initial: number of trials of the stratified start; the fronts of earlier studies take up to half of it, and all
    of it where the sampler is `transfer`. Depends on nothing but these and the trials,
    so that a resumed search proposes what an uninterrupted one would have.
    """

    def __init__(
        self,
        spec: StudySpec,
        space: Space,
        known: dict[str, Callable[[Configuration], float]],
        limits: Limits,
        initial: int,
        rates: int,
        earlier: Earlier,
    ) -> None:
        self._spec, self._space, self._known, self._limits = spec, space, known, limits
        self._baselines = baselines(space.shape, rates, space.quantisations[0]) if spec.baselines else []
        self._earlier, self._initial_count = earlier, initial

    @cached_property
    def _initial(self) -> list[Configuration]:
        """The stratified start, made when the known defaults are running: it fits the model of memory, which takes seconds."""
        allowed = within(self._limits, computed(self._known, self._space))
        first = [c for c in self._earlier.candidates if allowed(c)]
        if self._spec.sampler == "transfer":
            return first
        first = evenly(first, self._initial_count // 2)
        points = initial_design(self._space, self._initial_count - len(first), self._spec.seeds.search, self._known, self._limits)
        return first + [self._space.configuration(values) for values in points]

    def next(self, trials: Sequence[Trial]) -> tuple[Configuration, Origin, str]:
        """(configuration, origin, label) of the next trial; raises SpaceExhausted where none is left."""
        seen = {t.configuration.key for t in trials}
        for label, configuration in self._baselines:
            if configuration.key not in seen:
                return configuration, Origin.BASELINE, label
        for configuration in self._initial:
            if configuration.key not in seen:
                return configuration, Origin.INITIAL, ""
        if self._spec.sampler == "transfer":
            raise SpaceExhausted("every configuration of the earlier fronts has been tried")
        earlier = self._earlier.results
        return suggest(self._spec, self._space, trials, self._known, len(trials), self._limits, earlier=earlier), Origin.SAMPLER, ""


def initial_trials(budget: Budget) -> int:
    """Size of the stratified start: half of what follows the baselines, 4 to 16."""
    if budget.trials is None:
        return MOST_INITIAL
    return min(MOST_INITIAL, max(FEWEST_INITIAL, (budget.trials - BASELINES) // 2))
