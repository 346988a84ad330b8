"""Limits of a study, as a rule on configurations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from autopeft_searchspace.configuration import Configuration
from autopeft_searchspace.space import Space, trainable_parameters


class Limited(Protocol):
    def problem(self, parameters: float, memory_bytes: float) -> str:
        """Which limit is exceeded, in words; empty where none."""


def within(limits: Limited | None, known: Mapping[str, Callable[[Configuration], float]], space: Space) -> Callable[[Configuration], bool]:
    """Whether a configuration is within the limits; memory counts as 0 where it is not known."""
    memory = known.get("peak_memory_bytes", lambda configuration: 0.0)

    def allowed(configuration: Configuration) -> bool:
        return limits is None or not limits.problem(trainable_parameters(configuration, space.shape), memory(configuration))

    return allowed
