"""What samplers are compared on: a problem whose noise-free truth is known.

An item is what a problem's functions take: a `Configuration` for one of our spaces, else the parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution

from autopeft.front import Axes, hypervolume, non_dominated
from autopeft.samplers.convert import distributions, suggest_values
from autopeft.samplers.domain import Condition, Domain
from autopeft.samplers.whole import make_domain
from autopeft_searchspace.space import Space

Values = Sequence[float]
LARGEST_FRONT = 400
"""Kept of a front while its best volume is searched: real objectives would have thousands of points."""


@dataclass(frozen=True)
class Problem:
    """One problem.

    space: a `Space`, or Optuna distributions with `conditions`.
    known: objective index -> function of an item, for what can be computed before a trial.
    truth: item -> noise-free values. noise: standard deviation of each objective's observation.
    draw: instead of `noise`, one real observation of an item.
    axes: scale and reference point on which hypervolume is measured.
    """

    name: str
    directions: tuple[str, ...]
    space: Space | Mapping[str, BaseDistribution]
    known: Mapping[int, Callable[[Any], float]]
    truth: Callable[[Any], Values]
    axes: Axes
    noise: tuple[float, ...]
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    draw: Callable[[Any, np.random.Generator], Values] | None = None

    def domain(self) -> Domain:
        return make_domain(self.space, self.conditions, {})

    def distributions(self) -> dict[str, BaseDistribution]:
        return distributions(self.space) if isinstance(self.space, Space) else dict(self.space)

    def suggest(self, trial: optuna.Trial) -> Any:
        """The item that any Optuna sampler suggests, define-by-run."""
        if isinstance(self.space, Space):
            return self.space.configuration(suggest_values(trial, self.space))
        point: dict[str, Any] = {}
        for name, distribution in self.space.items():
            if name not in self.conditions or self.conditions[name](point):
                point[name] = trial._suggest(name, distribution)
        return point

    def observe(self, item: Any, rng: np.random.Generator) -> list[float]:
        """What a trial sees. Known objectives have no noise."""
        if self.draw:
            return [float(v) for v in self.draw(item, rng)]
        return [float(v + s * rng.standard_normal()) for v, s in zip(self.truth(item), self.noise, strict=True)]


def best_volume(problem: Problem, evaluations: int = 12_000, seed: int = 0) -> float:
    """Hypervolume of the whole true front: exact where the domain can be listed, else of a long
    evolutionary search on the truth (mutants of the front, and random points), so at most a little too low."""
    domain, rng = problem.domain(), np.random.default_rng(seed)
    if (points := domain.listed()) is not None:
        return problem.axes.hypervolume([problem.truth(domain.item(p)) for p in points])
    points, Y = [], np.empty((0, len(problem.directions)))
    batch = 400
    for _ in range(evaluations // batch):
        fresh = [domain.draw(rng) for _ in range(batch if not points else batch // 10)]
        fresh += [domain.mutate(points[rng.integers(len(points))], rng) for _ in range(batch - len(fresh))]
        both = np.concatenate([Y, problem.axes.points([problem.truth(domain.item(p)) for p in fresh])])
        _, first = np.unique(both, axis=0, return_index=True)
        kept = first[non_dominated(both[first]) & (both[first] > 0).all(1)]
        kept = kept if len(kept) <= LARGEST_FRONT else rng.choice(kept, LARGEST_FRONT, replace=False)
        points, Y = [(points + fresh)[i] for i in kept], both[kept]
    return hypervolume(Y, problem.axes.reference)
