"""What a sampler searches: points with conditions, drawn, changed, encoded and told apart.

A point is a dict of the active dimensions' values. `Domain` is made of Optuna distributions; our own
spaces are a `SpaceDomain` (`convert.py`), which knows more of what makes two points alike.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution

from autopeft.samplers.coordinates import Coordinate, Ordinal, coordinate

Floats = NDArray[np.float64]
Point = dict[str, Any]
Condition = Callable[[Mapping[str, Any]], bool]
LISTED = 4096
"""A domain with at most this many points is listed instead of sampled."""


class SpaceExhausted(Exception):
    """Every configuration that is allowed has been proposed."""


class Domain:
    """A domain of Optuna distributions.

    distributions: name -> distribution; a dimension's condition may look at those before it.
    conditions: name -> whether the dimension is active, given the active dimensions before it.
    """

    def __init__(self, distributions: Mapping[str, BaseDistribution], conditions: Mapping[str, Condition] | None = None) -> None:
        conditions = dict(conditions or {})
        if unknown := conditions.keys() - distributions.keys():
            raise ValueError(f"conditions name {', '.join(sorted(unknown))}; the dimensions are {', '.join(distributions)}")
        self.distributions = dict(distributions)
        self.coordinates: dict[str, Coordinate] = {name: coordinate(d) for name, d in distributions.items()}
        self._conditions = conditions
        self._alike = {name: _alike(name) for name, own in self.coordinates.items() if own.cardinality == 2}

    # what is a point

    def is_active(self, name: str, point: Mapping[str, Any]) -> bool:
        return name not in self._conditions or bool(self._conditions[name](point))

    def is_valid(self, point: Mapping[str, Any]) -> bool:
        return True

    def may_propose(self, item: Any) -> bool:
        """Whether a valid point is worth a trial."""
        return True

    def item(self, point: Point) -> Any:
        """What functions of the user are given for a point."""
        return point

    def key(self, item: Any) -> str:
        """Equal for points that mean the same, and only for those."""
        return json.dumps(item, sort_keys=True, default=str)

    def to_params(self, point: Point) -> dict[str, Any]:
        """Parameters as Optuna knows them."""
        return dict(point)

    def from_params(self, params: Mapping[str, Any]) -> Point | None:
        """The point of a trial's parameters, or None where it is not one of this domain."""
        point: Point = {}
        for name in self.distributions:
            if self.is_active(name, point):
                if name not in params or not self._holds(name, params[name]):
                    return None
                point[name] = self._own(name, params[name])
        return point if self.is_valid(point) else None

    def _holds(self, name: str, value: Any) -> bool:
        """Whether `value` is one of dimension `name`."""
        distribution = self.distributions[name]
        try:
            return bool(distribution._contains(distribution.to_internal_repr(value)))
        except (ValueError, TypeError):
            return False

    def _own(self, name: str, value: Any) -> Any:
        """`value` as the dimension has it: floats in steps may differ in the last digit."""
        own = self.coordinates[name]
        return min(own.values(), key=lambda v: abs(v - value)) if isinstance(own, Ordinal) and isinstance(value, float) else value

    def kind(self, point: Point) -> tuple[Any, ...]:
        """Equal for points with the same active dimensions and the same choice in every category of three or more."""
        return tuple(value if self.coordinates[name].width > 1 else name for name, value in point.items())

    # drawing and changing

    def complete(self, point: Mapping[str, Any], rng: np.random.Generator) -> Point:
        """`point` without inactive dimensions, active ones that are missing drawn.

        Bits whose names differ in a number alone are drawn with one probability for all of them, so that few,
        half and nearly all of them on are equally likely.
        """
        full: Point = {}
        odds: dict[str, float] = {}
        for name, own in self.coordinates.items():
            if not self.is_active(name, full):
                continue
            if name in point:
                full[name] = point[name]
            elif name in self._alike:
                kind = self._alike[name]
                odds[kind] = odds[kind] if kind in odds else rng.random()
                full[name] = own.values()[int(rng.random() < odds[kind])]
            else:
                full[name] = own.draw(rng)
        return full

    def draw(self, rng: np.random.Generator) -> Point:
        return self.complete({}, rng)

    def neighbours(self, point: Point, rng: np.random.Generator) -> list[Point]:
        """Valid points one move away: one dimension changed, its dependants drawn."""
        moved = ({**point, name: value} for name in point for value in self.coordinates[name].near(point[name], rng))
        return [p for p in (self.complete(m, rng) for m in moved) if self.is_valid(p)]

    def mutate(self, point: Point, rng: np.random.Generator) -> Point:
        """One to three random moves."""
        for _ in range(int(rng.integers(1, 4))):
            name = list(point)[int(rng.integers(len(point)))]
            if near := self.coordinates[name].near(point[name], rng):
                moved = self.complete({**point, name: near[int(rng.integers(len(near)))]}, rng)
                point = moved if self.is_valid(moved) else point
        return point

    def cross(self, one: Point, other: Point, rng: np.random.Generator) -> Point:
        """`one` with about half of the values in which `other` differs; `one` itself where that is not valid."""
        mixed = self.complete({**one, **{name: value for name, value in other.items() if rng.random() < 0.5}}, rng)
        return mixed if self.is_valid(mixed) else one

    def listed(self) -> list[Point] | None:
        """All points, where there are at most `LISTED`; else None."""
        if math.prod(own.cardinality for own in self.coordinates.values()) > LISTED * 16:
            return None
        found = list(islice(self.all_points(), LISTED + 1))
        return found if len(found) <= LISTED else None

    def all_points(self) -> Iterator[Point]:
        """Every point of a finite domain."""
        return self._extend({}, list(self.coordinates))

    def _extend(self, point: Point, names: Sequence[str]) -> Iterator[Point]:
        if not names:
            if self.is_valid(point):
                yield point
        elif not self.is_active(names[0], point):
            yield from self._extend(point, names[1:])
        else:
            for value in self.coordinates[names[0]].values():
                yield from self._extend({**point, names[0]: value}, names[1:])

    # encoding

    def groups(self) -> list[int]:
        """The group of each feature; features of a group share a lengthscale: the columns of a category, and
        bits whose names differ in a number alone."""
        names = [self._alike.get(name, name) for name, own in self.coordinates.items() for _ in range(own.width)]
        order = list(dict.fromkeys(names))
        return [order.index(name) for name in names]

    @property
    def derives(self) -> bool:
        """Whether `encode` has columns for what can be computed of an item, so that none need be added."""
        return False

    def size_feature(self) -> int | None:
        """The feature that says how much a point can change, where there is one."""
        return None

    def encode(self, points: Sequence[Point], items: Sequence[Any]) -> Floats:
        """Features [n, d] in [0, 1]; `items` are the points' own `item`s."""
        rows = [
            [x for name, own in self.coordinates.items() for x in (own.encode(point[name]) if name in point else own.neutral())]
            for point in points
        ]
        return np.array(rows, dtype=float).reshape(len(points), sum(own.width for own in self.coordinates.values()))


def _alike(name: str) -> str:
    """`layers.3` -> `layers.#`"""
    return re.sub(r"\d+", "#", name)
