"""Our spaces as Optuna sees them, and as a domain of our samplers.

ordered dimension     IntDistribution over the positions of its values
unordered dimension   CategoricalDistribution over its values
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import BaseTrial

from autopeft.samplers.coordinates import Category, Ordinal
from autopeft.samplers.domain import Domain, Floats, Point
from autopeft.samplers.limits import Computed, computed
from autopeft_searchspace.configuration import Configuration, Value
from autopeft_searchspace.dims import Dimension
from autopeft_searchspace.space import Space


def distribution(dimension: Dimension) -> BaseDistribution:
    return IntDistribution(0, dimension.cardinality - 1) if dimension.ordered else CategoricalDistribution(dimension.values)


def distributions(space: Space) -> dict[str, BaseDistribution]:
    return {d.name: distribution(d) for d in space.dimensions}


def values_to_params(space: Space, values: Mapping[str, Value]) -> dict[str, Any]:
    """Values of a point -> parameters of an Optuna trial."""
    return {name: space.by_name[name].index(value) if space.by_name[name].ordered else value for name, value in values.items()}


def params_to_values(space: Space, params: Mapping[str, Any]) -> dict[str, Value]:
    """Parameters of an Optuna trial -> values of a point."""
    return {
        name: space.by_name[name].values[p] if space.by_name[name].ordered else p for name, p in params.items() if name in space.by_name
    }


def suggest_values(trial: BaseTrial, space: Space) -> dict[str, Value]:
    """A point of `space` by define-by-run suggestions, for any Optuna sampler.

    Only active dimensions are asked for. Once as many types are on as can be combined, the others are
    off without being asked; which are asked first changes from trial to trial, so that no type is
    favoured.
    """
    sizes = [space.by_name[f"{type}.size"] for type in space.types]
    start = trial.number % len(sizes)
    values: dict[str, Value] = {}
    for d in sorted(sizes[start:] + sizes[:start], key=lambda d: 0 in d.values):
        full = sum(bool(value) for value in values.values()) >= space.maximum_components
        values[d.name] = 0 if full and 0 in d.values else _ask(trial, d)
    for d in space.dimensions:
        if d.name not in values and space.is_active(d.name, values):
            values[d.name] = _ask(trial, d)
    return space.active(values)


def _ask(trial: BaseTrial, dimension: Dimension) -> Value:
    if dimension.ordered:
        return dimension.values[trial.suggest_int(dimension.name, 0, dimension.cardinality - 1)]
    return trial.suggest_categorical(dimension.name, dimension.values)


class SpaceDomain(Domain):
    """One of our spaces. Points are values of the space, items are configurations.

    known: objectives that can be computed; parameters and memory become features. Head-only, a
    baseline, is learnt from but not proposed.
    """

    def __init__(self, space: Space, known: Mapping[str, Computed] | None = None) -> None:
        super().__init__(distributions(space))
        self.space, self._known = space, computed({}, space) | dict(known or {})
        self.coordinates = {d.name: Ordinal(d.values) if d.ordered else Category(d.values) for d in space.dimensions}
        self._sizes = [f"{type}.size" for type in space.types]
        rng = np.random.default_rng(0)
        raw = self._derived([self.item(self.draw(rng)) for _ in range(64)])
        self._low, self._span = raw.min(0), np.where(np.ptp(raw, 0) > 0, np.ptp(raw, 0), 1.0)

    def is_active(self, name: str, point: Mapping[str, Any]) -> bool:
        return self.space.is_active(name, point)

    def is_valid(self, point: Mapping[str, Any]) -> bool:
        return self.space.problem(point) is None

    def may_propose(self, item: Configuration) -> bool:
        return not item.head_only

    def item(self, point: Point) -> Configuration:
        return self.space.configuration(point)

    def key(self, item: Configuration) -> str:
        return item.key

    def kind(self, point: Point) -> tuple[Any, ...]:
        """The adapter types that are on."""
        return tuple(name for name in self._sizes if point[name])

    def to_params(self, point: Point) -> dict[str, Any]:
        return values_to_params(self.space, point)

    def from_params(self, params: Mapping[str, Any]) -> Point | None:
        if not all(self._holds(name, value) for name, value in params.items() if name in self.distributions):
            return None
        values = params_to_values(self.space, params)
        if any(name not in values for name in self.coordinates if self.is_active(name, values)):
            return None
        return self.space.active(values) if self.is_valid(values) else None

    def draw(self, rng: np.random.Generator) -> Point:
        return self.space.sample(rng)

    def complete(self, point: Mapping[str, Any], rng: np.random.Generator) -> Point:
        values = {name: point[name] for name in self._sizes}
        for name, own in self.coordinates.items():
            if name not in values and self.is_active(name, values):
                values[name] = point[name] if name in point else own.draw(rng)
        return self.space.active(values)

    def neighbours(self, point: Point, rng: np.random.Generator) -> list[Point]:
        """Besides single changes: another type in the place of one, and one layer for another."""
        found = super().neighbours(point, rng)
        moved = self._swaps(point)
        chosen = rng.permutation(len(moved))[:16]
        return found + [p for p in (self.complete(moved[i], rng) for i in chosen) if self.is_valid(p)]

    def mutate(self, point: Point, rng: np.random.Generator) -> Point:
        swaps = self._swaps(point) if rng.random() < 0.3 else []
        if swaps:
            moved = self.complete(swaps[int(rng.integers(len(swaps)))], rng)
            point = moved if self.is_valid(moved) else point
        return super().mutate(point, rng)

    def _swaps(self, point: Point) -> list[Point]:
        moved: list[Point] = []
        for on in (name for name in self._sizes if point[name]):
            for off in (name for name in self._sizes if not point[name]):
                choices = [v for v in self.space.by_name[off].values if v]
                if choices and 0 in self.space.by_name[on].values:
                    share = self.coordinates[on].encode(point[on])[0]
                    moved.append({**point, on: 0, off: choices[round(share * (len(choices) - 1))]})
        bits = {name: value for name, value in point.items() if name.startswith("layers.") and self.space.by_name[name].cardinality == 2}
        trained, frozen = ([name for name, value in bits.items() if value is wanted] for wanted in (True, False))
        return moved + [{**point, a: False, b: True} for a in trained for b in frozen]

    def all_points(self) -> Iterator[Point]:
        return self.space.points()

    @property
    def derives(self) -> bool:
        return True

    def groups(self) -> list[int]:
        """Layers are alike, and so are the roles of a type, and which types are on."""
        names = [_alike(name) for name, own in self.coordinates.items() for _ in range(own.width)]
        names += [f"derived.{i}" for i in range(len(self._low) - len(self.space.types))] + ["on" for _ in self.space.types]
        order = list(dict.fromkeys(names))
        return [order.index(name) for name in names]

    def size_feature(self) -> int:
        """log parameters, the first of what is derived."""
        return len(self.groups()) - len(self._low)

    def encode(self, points: Sequence[Point], items: Sequence[Configuration]) -> Floats:
        """Canonical encoding (inactive dimensions at off), then what is derived of the configuration."""
        derived = (self._derived(items) - self._low) / self._span
        return np.concatenate([super().encode(points, items), derived], axis=1)

    def _derived(self, items: Sequence[Configuration]) -> Floats:
        """log parameters, share and mean depth of adapted layers, number of components, log learning
        rate, predicted memory where known, and one column per type that is on. [n, 5 or 6 + types]"""
        rows, memory = [], "peak_memory_bytes" in self._known
        for item in items:
            layers = {layer for component in item.components for layer in component.layers}
            row = [
                math.log10(1 + self._known["trainable_parameters"](item)),
                len(layers) / self.space.shape.layers,
                sum(layers) / max(1, len(layers)) / self.space.shape.layers,
                len({component.type for component in item.components}),
                math.log10(item.learning_rate),
            ]
            on = {c.type for c in item.components}
            row += [self._known["peak_memory_bytes"](item)] if memory else []
            rows.append([*row, *(float(type in on) for type in self.space.types)])
        return np.array(rows, dtype=float).reshape(len(items), 5 + memory + len(self.space.types))


def _alike(name: str) -> str:
    """`layers.3` -> `layers`, `roles.q` -> `roles`, `lora.roles.q` -> `lora.roles`; others are like no other."""
    owner, _, rest = name.partition(".")
    return owner if owner in ("layers", "roles") else f"{owner}.roles" if rest.startswith("roles.") else name
