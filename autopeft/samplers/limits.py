"""What is known of configurations: computed objectives, and the limits on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from autopeft_searchspace.configuration import Configuration
from autopeft_searchspace.rules import trainable_parameters
from autopeft_searchspace.space import Space

REMEMBERED = 20_000
"""Values, after which all are forgotten."""
Computed = Callable[[Configuration], float]


def computed(known: Mapping[str, Computed], space: Space) -> dict[str, Computed]:
    """`known` with trainable parameters, which always are; each value is computed once per object."""
    parameters: Computed = lambda configuration: float(trainable_parameters(configuration, space.shape))  # noqa: E731
    return {name: remembered(function) for name, function in {"trainable_parameters": parameters, **known}.items()}


def remembered(function: Computed) -> Computed:
    """`function`, called once per configuration object (their hash costs as much as most functions)."""
    seen: dict[int, tuple[Configuration, float]] = {}

    def value(configuration: Configuration) -> float:
        if id(configuration) not in seen:
            if len(seen) >= REMEMBERED:
                seen.clear()
            seen[id(configuration)] = configuration, function(configuration)
        return seen[id(configuration)][1]

    return value


class Limited(Protocol):
    def problem(self, parameters: float, memory_bytes: float) -> str:
        """Which limit is exceeded, in words; empty where none."""


def within(limits: Limited | None, known: Mapping[str, Computed]) -> Callable[[Configuration], bool]:
    """Whether a configuration is within the limits; memory counts as 0 where it is not known."""
    parameters, memory = known["trainable_parameters"], known.get("peak_memory_bytes", lambda configuration: 0.0)

    def allowed(configuration: Configuration) -> bool:
        return limits is None or not limits.problem(parameters(configuration), memory(configuration))

    return allowed
