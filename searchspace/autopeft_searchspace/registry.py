"""Adapter types: the contract, and where they register. One file each in `adapters/`."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Any, ClassVar

from autopeft_searchspace.configuration import Component, Value
from autopeft_searchspace.dims import Dimension
from autopeft_searchspace.shape import ModelShape

if TYPE_CHECKING:
    from peft import PeftConfig

    from autopeft_searchspace.tuners.starts import Seen

PLUGINS = "autopeft.adapters"
"""Entry point group: modules whose import registers further adapter types."""
Base = Callable[[str], Any]


@dataclass(frozen=True)
class Supports:
    """What an adapter type can do; printed by `autopeft adapters` and checked by contract tests.

    merge: its update can be folded into the base weights without changing the outputs.
    quantised_base: it trains on 8-bit and 4-bit bases.
    layers: it can be placed in chosen layers; roles: on chosen module roles.
    identity_at_start: the adapted model starts equal to the base model.
    plain_peft: a single component of this type is a type of Hugging Face peft.
    composition: it can be one of several components.
    innermost: it computes with the module's own weight, so that no other change of that weight may stand
        below it: of the components on one module at most one can be so.
    kinds: of models that it works on, `encoder` and `decoder`.
    """

    merge: bool
    quantised_base: bool
    layers: bool
    roles: bool
    identity_at_start: bool
    plain_peft: bool
    composition: bool = True
    innermost: bool = False
    kinds: tuple[str, ...] = ("encoder", "decoder")


class AdapterType(ABC):
    """One adapter type. All methods but `peft_config` and `attach` are pure and need no torch."""

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    supports: ClassVar[Supports]
    neutral: ClassVar[Mapping[str, Value]] = {}
    """Options that a component leaves out at this value. A space has them as dimensions only if it asks."""

    memory_like: ClassVar[str] = ""
    """What the memory model takes it together with: types that keep alike activations; none with ``."""
    traced_as: ClassVar[str] = ""
    """Type with alike activations whose training step is traced in its place, where its own cannot be."""

    apart: ClassVar[bool] = True
    """Whether several components of the type, on modules of their own, can stand in one model: a size for each group."""

    pairs: ClassVar[bool] = False
    """Whether its update is a product of two trained factors, which optimisers of such pairs train."""

    schedules: ClassVar[bool] = False
    """Whether it changes what trains from step to step by itself."""

    def frozen_by_lora_fa(self, component: Component, shape: ModelShape) -> int:
        """Of types with `pairs`, the weights of the first factors, which LoRA-FA does not train."""
        return 0

    def changes_base(self, component: Component) -> bool:
        """Whether building it takes something out of the weights of the base model; then it stands alone."""
        return False

    def trains_quantised(self, component: Component) -> bool:
        """Whether it trains on a base model whose weights are quantised."""
        return self.supports.quantised_base and not self.changes_base(component)

    def starts_from_data(self, component: Component) -> bool:
        """Whether its first weights are found from training batches (`start`)."""
        return False

    def start(self, component: Component, layer: Any, seen: Seen) -> None:
        """Give one of its modules the first weights. layer: what stands on the module. seen: of the module, in training batches."""
        raise NotImplementedError(f"{self.name} does not start from data")

    def unavailable(self, shape: ModelShape) -> str | None:
        """Why this model cannot take the type, or None where it can."""
        if shape.kind not in self.supports.kinds:
            return f"it works on {' and '.join(f'{kind}s' for kind in self.supports.kinds)}, this model is {_a(shape.kind)}"
        return None

    @abstractmethod
    def dimensions(self, shape: ModelShape) -> Sequence[Dimension]:
        """Own dimensions; the first is `<name>.size` with 0 = off, the others `<name>.<option>`.

        Layers are not among them: they belong to the space.
        """

    @abstractmethod
    def component(self, values: Mapping[str, Value], layers: tuple[int, ...], shape: ModelShape) -> Component | None:
        """The canonical component for values of `dimensions`, or None where nothing would train."""

    @abstractmethod
    def values(self, component: Component, shape: ModelShape) -> dict[str, Value]:
        """Values of `dimensions` that `component()` maps to this component."""

    @abstractmethod
    def check(self, component: Component, shape: ModelShape) -> None:
        """Raise ValueError (rule, value, near names) unless the model can take the component."""

    @abstractmethod
    def trainable_parameters(self, component: Component, shape: ModelShape) -> int:
        """Exact number of weights the component trains, in closed form."""

    @abstractmethod
    def default_learning_rate(self, component: Component, shape: ModelShape) -> float:
        """Learning rate lr0(type, size) that the searched factor multiplies."""

    @abstractmethod
    def peft_config(self, component: Component, shape: ModelShape) -> PeftConfig | None:
        """The config of plain peft that builds exactly this component; None where peft lacks it."""

    def pattern_config(self, components: Sequence[Component], shape: ModelShape) -> PeftConfig | None:
        """The config of plain peft that builds several components of the type at once; None where peft has no pattern for their sizes."""
        return None

    @abstractmethod
    def attach(self, component: Component, shape: ModelShape, base: Base | None = None) -> Mapping[str, Any]:
        """What the composition tuner puts on each module path it adapts (see `tuners/`).

        base: path -> module of the model, for types that start from its weights; without it, modules of
            the right sizes stand in.
        """

    def spots(self, component: Component, shape: ModelShape) -> Mapping[str, bool]:
        """Path of each module it touches -> whether trained weights stand there."""
        import torch

        with torch.device("meta"):
            parts = self.attach(component, shape)
        return {path: any(True for _ in part.parameters()) for path, part in parts.items()}

    def sized_for(self, weights: int, like: Component, shape: ModelShape) -> Component:
        """A component of this type where `like` is, with about as many trained weights; for `traced_as`."""
        raise NotImplementedError(f"{self.name} stands in for no other type")

    def stored_bytes(self, component: Component, shape: ModelShape) -> int:
        """Bytes of the tensors that plain peft (or a composition of this one component) saves, in float32."""
        return 4 * self.trainable_parameters(component, shape)


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


_TYPES: dict[str, AdapterType] = {}


def register(cls: type[AdapterType]) -> type[AdapterType]:
    """Class decorator: makes an adapter type known under its `name`."""
    if not cls.supports.composition:
        cls.apart = False
    if cls.name in _TYPES:
        raise ValueError(f"adapter type {cls.name!r} is registered twice")
    _TYPES[cls.name] = cls()
    return cls


def adapter_types() -> dict[str, AdapterType]:
    """All adapter types by name; imports every file of `adapters/`, and the modules that other installed
    packages name under the entry point group `PLUGINS`, on first use."""
    _import_adapters()
    return dict(_TYPES)


@cache
def _import_adapters() -> None:
    import autopeft_searchspace.adapters as package

    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    for plugin in metadata.entry_points(group=PLUGINS):
        plugin.load()


def adapter_type(name: str) -> AdapterType:
    """The adapter type called `name`; ValueError with near names if there is none."""
    types = adapter_types()
    if name not in types:
        near = difflib.get_close_matches(name, types, n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else f"; there are {', '.join(sorted(types))}"
        raise ValueError(f"unknown adapter type {name!r}{hint}")
    return types[name]
