"""Layer strategies: which layers train when, or are pruned, while the one training loop runs.

One file each; `@register` makes a strategy known, its settings stand in `autopeft_searchspace.strategies`.

    strategy = make_strategy(configuration, shape, seed)
    strategy.attach(model)      opens what will train; then the optimiser is made
    train(..., strategy=strategy)
    strategy.measurements()     what it did, for the observation
    strategy.undo()             the base model is again what it was
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import abstractmethod
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

from autopeft.training import Strategy
from autopeft.trial import Measurement
from autopeft_searchspace import strategies
from autopeft_searchspace.configuration import Configuration
from autopeft_searchspace.shape import ModelShape

if TYPE_CHECKING:
    from autopeft.models.head import TaskModel


class LayerStrategy(Strategy):
    """What of `training.Strategy` it does not override does nothing.

    configuration: with a strategy, checked. seed: of everything that is drawn.
    """

    name: ClassVar[str]
    prunes: ClassVar[bool] = False
    """Whether the model is a smaller one at the end, so that its peak memory then is not that of the run."""

    def __init__(self, configuration: Configuration, shape: ModelShape, seed: int) -> None:
        assert configuration.strategy is not None
        self.configuration, self.shape, self.seed = configuration, shape, seed
        self.settings = configuration.strategy.settings

    @abstractmethod
    def attach(self, model: TaskModel) -> None:
        """Look at the adapted model and let train what will, before there is an optimiser."""

    @abstractmethod
    def open_peak(self) -> int:
        """Open what trains in the step that takes most memory; bytes of optimiser state held beside that."""

    @abstractmethod
    def measurements(self) -> dict[str, Measurement]:
        """What is to be told of a finished run."""

    def save(self, folder: Path) -> None:
        """Into the folder of the trained adapter write the base model where training changed it; nothing where it
        is as it was."""
        return None

    def undo(self) -> None:
        """Put back what of the base model was changed; adapters are taken off by others."""
        return None


_STRATEGIES: dict[str, type[LayerStrategy]] = {}
_Registered = TypeVar("_Registered", bound=type[LayerStrategy])


def register(cls: _Registered) -> _Registered:
    """Class decorator: makes a strategy known under its name."""
    strategies.strategy_type(cls.name)  # it must be declared
    if cls.name in _STRATEGIES:
        raise ValueError(f"layer strategy {cls.name!r} is registered twice")
    _STRATEGIES[cls.name] = cls
    return cls


@cache
def _import_all() -> None:
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")


def layer_strategies() -> dict[str, type[LayerStrategy]]:
    """All strategies by name; imports every file of this package on first use."""
    _import_all()
    return dict(_STRATEGIES)


def make_strategy(configuration: Configuration, shape: ModelShape, seed: int) -> LayerStrategy | None:
    """The strategy of a configuration, None where it has none."""
    if configuration.strategy is None:
        return None
    return layer_strategies()[configuration.strategy.name](configuration, shape, seed)
