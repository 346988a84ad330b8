"""Earlier studies for a new one: their configurations carried over to its model, and their front."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from autopeft.front import front_numbers, non_dominated, sign
from autopeft.samplers.domain import Domain, Floats, Point
from autopeft.spec import StudySpec
from autopeft.surrogate.posterior import Posterior, Surrogate
from autopeft.surrogate.trend import standardised
from autopeft.trial import Trial
from autopeft_searchspace.configuration import Component, Configuration, Value
from autopeft_searchspace.rules import default_learning_rate
from autopeft_searchspace.shape import ModelShape
from autopeft_searchspace.space import OutsideSpace, Space

Results = Sequence[tuple[Mapping[str, Any], float]]
"""What one earlier study found: (parameters, value of the first uncertain objective)."""
P = TypeVar("P")
FEWEST = 5
"""Results inside the domain that a study must have to be learnt from."""


def front_points(
    domain: Domain, studies: Sequence[Results], known: Sequence[Callable[[Any], float]], signs: Sequence[float]
) -> list[Point]:
    """The fronts of earlier studies, the best first and the studies taking turns. signs: 1 or -1, of the
    uncertain objective, then of the known ones."""
    fronts: list[list[Point]] = []
    for results in studies:
        points, values = _inside(domain, results)
        if points:
            computed = [[f(domain.item(p)) for p in points] for f in known]
            Y = np.column_stack([values, *computed]) * list(signs)
            fronts.append([points[i] for i in sorted(np.flatnonzero(non_dominated(Y)), key=lambda i: -Y[i, 0])])
    longest = max(map(len, fronts), default=0)
    return [front[i] for i in range(longest) for front in fronts if i < len(front)]


def evenly(front: Sequence[P], count: int) -> list[P]:
    """`count` of the points of a front, evenly spaced from the first to the last; all where there are fewer."""
    return [front[round(i)] for i in np.linspace(0, len(front) - 1, min(count, len(front)))]


def fitted(domain: Domain, studies: Sequence[Results], features: Callable[[list[Point]], Floats], fit: Surrogate) -> list[Posterior]:
    """A surrogate of the standardised values of each study that has enough inside the domain."""
    inside = [_inside(domain, results) for results in studies]
    return [fit(features(points), standardised(values), np.zeros(len(values))) for points, values in inside if len(values) >= FEWEST]


def _inside(domain: Domain, results: Results) -> tuple[list[Point], Floats]:
    found = [(p, v) for params, v in results if (p := domain.from_params(params)) is not None and math.isfinite(v)]
    return [p for p, _ in found], np.array([v for _, v in found])


def carried(configuration: Configuration, old: ModelShape, space: Space) -> dict[str, Value] | None:
    """The point of `space` nearest to a configuration of another model: layers at the same relative depth,
    sizes and learning rate factor rounded to the grid, the base model quantised as the space
    has it; None where the space cannot express its types, roles, options, optimiser or strategy."""
    new = space.shape
    components = []
    for c in configuration.components:
        if c.type not in space.types:
            return None
        depth = [i * old.layers // new.layers in c.layers for i in range(new.layers)]
        layers = tuple(i for i, on in enumerate(depth) if on) or (min(c.layers[-1] * new.layers // old.layers, new.layers - 1),)
        sizes = [float(v) for v in space.by_name[f"{c.type}.size"].values if v]
        size = int(min(sizes, key=lambda v: abs(np.log(v / c.size)))) if sizes else 0
        options = {k: v * size / c.size if k == "alpha" and not isinstance(v, str) else v for k, v in c.options.items()}
        components.append(Component(c.type, size, layers, tuple(r for r in c.roles if r in new.roles), options))
    moved, strategy, quantisation = tuple(components), configuration.strategy, configuration.quantisation
    factor = configuration.learning_rate / default_learning_rate(configuration.components, old, strategy)
    rate = factor * default_learning_rate(moved, new, strategy)
    if quantisation not in space.quantisations:
        quantisation = space.quantisations[0]
    try:
        return space.values(replace(configuration, components=moved, learning_rate=rate, quantisation=quantisation))
    except (OutsideSpace, ValueError):
        return None


def earlier_front(trials: Sequence[Trial], spec: StudySpec, shape: ModelShape, space: Space) -> list[Configuration]:
    """The front of an earlier study as configurations of `space`, the best first; head-only left out, and what it cannot express."""
    by_number = {t.number: t for t in trials}
    front = [by_number[number] for number in front_numbers(trials, spec)]
    front.sort(key=lambda t: -sign(spec.quality) * (m.value if (m := t.value(spec.quality, spec.quality)) else 0.0))
    points = [p for t in front if not t.configuration.head_only and (p := carried(t.configuration, shape, space)) is not None]
    return list({c.key: c for c in map(space.configuration, points)}.values())
