"""Samplers that choose a whole configuration at once, and the random one."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from autopeft.samplers.convert import SpaceDomain
from autopeft.samplers.coordinates import coordinate
from autopeft.samplers.domain import Condition, Domain, Point, SpaceExhausted
from autopeft.samplers.history import PROPOSED, History, read_history
from autopeft_searchspace.space import Space

Distributions = Mapping[str, BaseDistribution] | Space
_ONE_AT_A_TIME = threading.Lock()
"""Of the threads of one process: each sees what those before it were given."""
TRIES = 2000
"""Random points tried before a domain that is too large to be listed counts as exhausted."""


def make_domain(distributions: Distributions, conditions: Mapping[str, Condition], known: Mapping[Any, Callable[[Any], float]]) -> Domain:
    if isinstance(distributions, Space):
        if conditions:
            raise ValueError("a Space has its own conditions; give `conditions` with Optuna distributions alone")
        return SpaceDomain(distributions, {name: function for name, function in known.items() if isinstance(name, str)})
    return Domain(distributions, conditions)


class WholeSampler(BaseSampler):
    """Declares the whole domain as relative search space and asks `choose` for a point of it.

    The proposal depends on the study and (seed, trial number) alone. Parameters outside the domain, and
    inactive ones if they are asked for all the same, are drawn at random.
    """

    def __init__(self, domain: Domain, seed: int | None, allowed: Callable[[Any], bool] | None, batch: int = 1) -> None:
        self.domain, self._allowed, self._batch = domain, allowed, batch
        self._seed = int(np.random.default_rng().integers(2**31)) if seed is None else seed

    def choose(self, study: Study, history: History, rng: np.random.Generator) -> Point:
        raise NotImplementedError

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.domain.distributions

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        with _ONE_AT_A_TIME:
            history = read_history(study.get_trials(deepcopy=False), self.domain, trial.number, self._batch)
            params = self.domain.to_params(self.choose(study, history, np.random.default_rng([self._seed, trial.number])))
            # Trials asked for before this one has told its parameters must see what it was given.
            study._storage.set_trial_system_attr(trial._trial_id, PROPOSED, json.dumps(params))
        return params

    def sample_independent(self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution) -> Any:
        name = [int(b) for b in param_name.encode()]
        return coordinate(param_distribution).draw(np.random.default_rng([self._seed, trial.number, *name]))

    def proposable(self, points: Sequence[Point], taken: frozenset[str]) -> tuple[list[Point], list[Any]]:
        """The points that may be proposed, each meaning once, and their items."""
        seen, kept, items = set(taken), list[Point](), list[Any]()
        for point in points:
            item = self.domain.item(point)
            key = self.domain.key(item)
            if key not in seen:
                seen.add(key)
                if self.domain.may_propose(item) and (self._allowed is None or self._allowed(item)):
                    kept.append(point)
                    items.append(item)
        return kept, items

    def draw(self, taken: frozenset[str], rng: np.random.Generator) -> Point:
        """A random point that may be proposed; `SpaceExhausted` where there is none."""
        for _ in range(TRIES):
            if self.proposable([point := self.domain.draw(rng)], taken)[0]:
                return point
        left, _ = self.proposable(self.domain.listed() or [], taken)
        if not left:
            raise exhausted(taken)
        return left[int(rng.integers(len(left)))]


def exhausted(taken: frozenset[str]) -> SpaceExhausted:
    return SpaceExhausted(f"no configuration is left that is allowed and not among the {len(taken)} that were proposed")


class RandomSampler(WholeSampler):
    """Random points of the domain, none twice."""

    def __init__(
        self,
        distributions: Distributions,
        *,
        conditions: Mapping[str, Condition] | None = None,
        allowed: Callable[[Any], bool] | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(make_domain(distributions, conditions or {}, {}), seed, allowed)

    def choose(self, study: Study, history: History, rng: np.random.Generator) -> Point:
        return self.draw(history.taken, rng)
