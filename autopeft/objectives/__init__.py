"""Objectives beside quality, one per file: direction, unit, and where the value comes from.

Predicted ones are functions of the configuration, known before anything trains: searches optimise and
limit them. Measured ones are found out by a run and stored with its observation.
Adding one is adding a file here: `@register` makes it known.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, TypeVar

from autopeft_searchspace.configuration import Configuration
from autopeft_searchspace.shape import ModelShape

if TYPE_CHECKING:
    from autopeft.tracing import MemoryEstimate


class MemoryFunctions(Protocol):
    """Peak memory of a configuration (see `autopeft.memory`)."""

    def exact(self, configuration: Configuration) -> MemoryEstimate: ...

    def fast(self, configuration: Configuration) -> float: ...


@dataclass(frozen=True)
class Run:
    """What a finished run knows of itself.

    step_ends: moment when each optimiser step was done, in seconds.
    stored_bytes: of the saved adapter and head, None where none was saved.
    measure_peak: runs a few steps on the reference batch; bytes. None where the model is a smaller one by now.
    """

    step_ends: Sequence[float]
    stored_bytes: int | None
    measure_peak: Callable[[], int] | None


class Objective(ABC):
    name: ClassVar[str]
    direction: ClassVar[Literal["maximize", "minimize"]]
    unit: ClassVar[str]


class Predicted(Objective):
    @abstractmethod
    def predict(self, configuration: Configuration, shape: ModelShape, memory: MemoryFunctions) -> float:
        """The value a trial records: exact and always the same."""

    def rank(self, configuration: Configuration, shape: ModelShape, memory: MemoryFunctions) -> float:
        """A value quick enough to ask thousands of times, as close as it can be."""
        return self.predict(configuration, shape, memory)


class Measured(Objective):
    @abstractmethod
    def measure(self, run: Run) -> float | None:
        """The value of a finished run, None where the run cannot tell."""


_OBJECTIVES: dict[str, Objective] = {}
_Registered = TypeVar("_Registered", bound=Objective)


def register(cls: type[_Registered]) -> type[_Registered]:
    """Class decorator: makes an objective known under its name."""
    if cls.name in _OBJECTIVES:
        raise ValueError(f"objective {cls.name!r} is registered twice")
    _OBJECTIVES[cls.name] = cls()
    return cls


def objectives() -> dict[str, Objective]:
    """All objectives by name; imports every file of this package on first use."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return dict(_OBJECTIVES)


def predicted() -> dict[str, Predicted]:
    return {name: objective for name, objective in objectives().items() if isinstance(objective, Predicted)}


def measured() -> dict[str, Measured]:
    return {name: objective for name, objective in objectives().items() if isinstance(objective, Measured)}
