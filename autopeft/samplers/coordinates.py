"""Coordinates of a domain: how the values of one dimension are drawn, changed and encoded in [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution


class Coordinate(Protocol):
    @property
    def width(self) -> int:
        """Columns of its encoding."""

    @property
    def cardinality(self) -> float:
        """Number of values; infinite for real ones."""

    def values(self) -> Sequence[Any]:
        """All values, of a finite coordinate."""

    def draw(self, rng: np.random.Generator) -> Any: ...

    def near(self, value: Any, rng: np.random.Generator) -> list[Any]:
        """The values one move away from `value`."""

    def encode(self, value: Any) -> Sequence[float]: ...

    def neutral(self) -> Sequence[float]:
        """Encoding of an inactive dimension."""


@dataclass(frozen=True)
class Ordinal:
    """Finite and ordered: `choices` in order, encoded by position."""

    choices: Sequence[Any]
    width: int = 1

    @property
    def cardinality(self) -> float:
        return len(self.choices)

    def values(self) -> Sequence[Any]:
        return self.choices

    def draw(self, rng: np.random.Generator) -> Any:
        return self.choices[int(rng.integers(len(self.choices)))]

    def near(self, value: Any, rng: np.random.Generator) -> list[Any]:
        position = self._position(value)
        return [self.choices[p] for p in (position - 1, position + 1) if 0 <= p < len(self.choices)]

    def encode(self, value: Any) -> Sequence[float]:
        return (self._position(value) / max(1, len(self.choices) - 1),)

    def neutral(self) -> Sequence[float]:
        return (0.0,)

    def _position(self, value: Any) -> int:
        if value in self.choices:
            return self.choices.index(value)
        return min(range(len(self.choices)), key=lambda i: abs(self.choices[i] - value))  # floats that were rounded


@dataclass(frozen=True)
class Whole:
    """Integers low, low + step, ..., high, encoded linearly or by their logarithm."""

    low: int
    high: int
    step: int
    log: bool
    width: int = 1

    @property
    def cardinality(self) -> float:
        return (self.high - self.low) // self.step + 1

    def values(self) -> Sequence[Any]:
        return range(self.low, self.high + 1, self.step)

    def draw(self, rng: np.random.Generator) -> Any:
        return self._decode(rng.random())

    def near(self, value: Any, rng: np.random.Generator) -> list[Any]:
        found = {value - self.step, value + self.step}
        found |= {self._decode(u) for u in np.clip(self.encode(value)[0] + rng.normal(0, 0.15, 2), 0, 1)}
        return sorted(v for v in found - {value} if self.low <= v <= self.high)

    def encode(self, value: Any) -> Sequence[float]:
        low, high, value = (math.log(v) for v in (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        return ((value - low) / ((high - low) or 1),)

    def neutral(self) -> Sequence[float]:
        return (0.5,)

    def _decode(self, u: float) -> int:
        value = self.low * (self.high / self.low) ** u if self.log else self.low + u * (self.high - self.low)
        return min(self.low + round((value - self.low) / self.step) * self.step, self.high)


@dataclass(frozen=True)
class Category:
    """Finite without order: one column per choice, or a single one for two choices."""

    choices: Sequence[Any]

    @property
    def width(self) -> int:
        return 1 if len(self.choices) <= 2 else len(self.choices)

    @property
    def cardinality(self) -> float:
        return len(self.choices)

    def values(self) -> Sequence[Any]:
        return self.choices

    def draw(self, rng: np.random.Generator) -> Any:
        return self.choices[int(rng.integers(len(self.choices)))]

    def near(self, value: Any, rng: np.random.Generator) -> list[Any]:
        return [choice for choice in self.choices if choice != value]

    def encode(self, value: Any) -> Sequence[float]:
        position = self.choices.index(value)
        return (float(position),) if self.width == 1 else [float(i == position) for i in range(self.width)]

    def neutral(self) -> Sequence[float]:
        return (0.0,) * self.width


@dataclass(frozen=True)
class Real:
    """A float between low and high, encoded linearly or by its logarithm."""

    low: float
    high: float
    log: bool
    width: int = 1
    cardinality: float = math.inf

    def values(self) -> Sequence[Any]:
        raise ValueError("a real coordinate cannot be listed")

    def draw(self, rng: np.random.Generator) -> Any:
        return self._decode(rng.random())

    def near(self, value: Any, rng: np.random.Generator) -> list[Any]:
        steps = np.concatenate([rng.normal(0, 0.03, 2), rng.normal(0, 0.15, 2)])
        return [self._decode(u) for u in np.clip(self.encode(value)[0] + steps, 0, 1)]

    def encode(self, value: Any) -> Sequence[float]:
        low, high, value = (math.log(v) for v in (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        return ((value - low) / (high - low),)

    def neutral(self) -> Sequence[float]:
        return (0.5,)

    def _decode(self, u: float) -> float:
        value = self.low * (self.high / self.low) ** u if self.log else self.low + u * (self.high - self.low)
        return float(min(max(value, self.low), self.high))


def coordinate(distribution: BaseDistribution) -> Coordinate:
    """The coordinate of an Optuna distribution."""
    match distribution:
        case CategoricalDistribution():
            return Category(distribution.choices)
        case IntDistribution():
            return Whole(distribution.low, distribution.high, distribution.step, distribution.log)
        case FloatDistribution() if distribution.step is not None:
            count = round((distribution.high - distribution.low) / distribution.step)
            return Ordinal([min(distribution.low + k * distribution.step, distribution.high) for k in range(count + 1)])
        case FloatDistribution() if distribution.low < distribution.high:
            return Real(distribution.low, distribution.high, distribution.log)
        case FloatDistribution():
            return Ordinal([distribution.low])
    raise TypeError(f"distribution must be a float, an int or a categorical one, it is {distribution!r}")
