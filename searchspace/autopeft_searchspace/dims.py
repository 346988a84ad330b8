"""Dimensions of a space. All are finite, so that a space can be counted, listed and exhausted.

Every dimension maps its values to grid indices 0..cardinality-1; samplers work on indices or on
`index / (cardinality - 1)`, never on raw values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from autopeft_searchspace.configuration import Value


@dataclass(frozen=True)
class Dimension:
    """A named, finite set of values.

    values: the choices, in their natural order.
    ordered: whether neighbouring values are alike (sizes) or not (categories, bits).
    log: whether a plot of the values reads best on a logarithmic axis.
    """

    name: str
    values: tuple[Value, ...]
    ordered: bool
    log: bool = False

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError(f"dimension {self.name!r} has no values")
        if len(set(self.values)) != len(self.values):
            raise ValueError(f"dimension {self.name!r} names a value twice: {list(self.values)}")

    @property
    def cardinality(self) -> int:
        return len(self.values)

    def index(self, value: Value) -> int:
        """Position of `value`, where floats count as equal to within a millionth."""
        for position, own in enumerate(self.values):
            same_kind = isinstance(own, (bool, str)) == isinstance(value, (bool, str))
            if same_kind and (own == value or (isinstance(own, float) and math.isclose(own, float(value), rel_tol=1e-6))):
                return position
        raise ValueError(f"dimension {self.name!r} has no value {value!r}; it has {list(self.values)}")

    def nearest(self, value: float) -> Value:
        """The value closest to `value` (in logarithm for log dimensions); for ordered dimensions."""

        def distance(own: Value) -> float:
            if self.log and own and value:
                return abs(math.log(float(own) / value))
            return abs(float(own) - value) if not self.log else math.inf

        return self.values[self.index(value)] if value in self.values else min(self.values, key=distance)


def size_dimension(name: str, sizes: Sequence[int]) -> Dimension:
    """Sizes on a log grid with 0 = off in front: `size_dimension("lora.size", [1, 2, 4])`."""
    return Dimension(name, (0, *sorted(set(sizes) - {0})), ordered=True, log=True)


def real_dimension(name: str, low: float, high: float, steps: int) -> Dimension:
    """`steps` values from low to high at equal ratios, to three significant digits."""
    ratio = (high / low) ** (1 / (steps - 1))
    return Dimension(name, tuple(float(f"{low * ratio**k:.3g}") for k in range(steps)), ordered=True, log=True)


def choice_dimension(name: str, values: Sequence[str]) -> Dimension:
    return Dimension(name, tuple(values), ordered=False)


def bit_dimension(name: str) -> Dimension:
    return Dimension(name, (False, True), ordered=False)


def option_dimension(name: str, values: Sequence[Value]) -> Dimension:
    """Of bits, of numbers (ordered) or of words."""
    if all(isinstance(value, bool) for value in values):
        return Dimension(name, tuple(values), ordered=False)
    if all(isinstance(value, (int, float)) for value in values):
        return Dimension(name, tuple(values), ordered=True, log=all(float(value) > 0 for value in values))
    return choice_dimension(name, [str(value) for value in values])


def powers_of_two(highest: int, lowest: int = 1) -> tuple[int, ...]:
    """lowest, 2 lowest, 4 lowest, ... up to `highest`."""
    return tuple(lowest * 2**k for k in range(int(math.log2(max(highest, lowest) / lowest)) + 1))


def width_grid(width: int) -> tuple[int, ...]:
    """Distinct max(1, width // 2^k) for k = 0..9, ascending: the sizes of AutoPEFT (Zhou et al., TACL
    2024, section 3.1); ten of them at width 768."""
    return tuple(sorted({max(1, width // 2**k) for k in range(10)}))
