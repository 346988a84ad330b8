"""Layers of peft's own tuners as parts, so that any type of peft can stand in a composition.

The tuner is let loose on a bare tree that holds nothing but the target modules, under their own paths.
Of what it makes of each, the layer is kept, with a stand-in for the module below it that calls the next
inner part and knows the module's weight. The base model itself is not touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from peft import PeftConfig
from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from autopeft_searchspace.registry import Base
from autopeft_searchspace.shape import LinearShape
from autopeft_searchspace.tuners.parts import Call, Part

ADAPTER = "part"
"""Name of the adapter inside a layer; the name of the composition never reaches it."""
CONTROLS = ("set_adapter", "enable_adapters", "set_requires_grad", "merge", "unmerge")
"""Methods by which peft controls all layers of a model."""


class NativePart(Part):
    """A layer of a peft tuner on one module; innermost of all parts, and in the layer's own numbers."""

    def __init__(self, layer: Any, module: nn.Module) -> None:
        super().__init__()
        kind: Any = type(layer)
        layer.__class__ = _deaf(kind)
        layer.base_layer = _Below(module)
        self.layer = layer
        self._frozen = [name for name, parameter in layer.named_parameters() if not parameter.requires_grad]

    @property
    def title(self) -> str:
        return str(self.layer.adapter_layer_names[0]).partition("_")[0]

    def forward(self, call: Call, *args: Any, **kwargs: Any) -> Any:
        below = self.layer.base_layer
        below.call = call
        try:
            return self.layer(*args, **kwargs)
        finally:
            below.call = None

    def freeze(self) -> None:
        for name in self._frozen:
            self.layer.get_parameter(name).requires_grad_(False)


class _Below(nn.Linear):
    """Stands below a layer for the module and the parts around it: has the module's weights, owns none."""

    def __init__(self, module: Any) -> None:
        nn.Module.__init__(self)
        self._module = [module]  # in a list, so that it is not registered as a child
        self._transposed = isinstance(module, Conv1D)
        self.call: Call | None = None
        if hasattr(module, "in_features") or self._transposed:
            self.in_features, self.out_features = (module.nx, module.nf) if self._transposed else (module.in_features, module.out_features)

    @property
    def weight(self) -> Tensor:
        weight: Tensor = self._module[0].weight
        return weight.T if self._transposed else weight

    @property
    def bias(self) -> Tensor | None:
        return getattr(self._module[0], "bias", None)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if self.call is None:
            raise RuntimeError("a layer of a composition was called outside of it")
        return self.call(*args, **kwargs)


class _Tree(nn.Module):
    """Nothing but modules under their dotted paths."""

    def put(self, path: str, module: nn.Module) -> None:
        owner: nn.Module = self
        *owners, leaf = path.split(".")
        for name in owners:
            if not hasattr(owner, name):
                owner.add_module(name, _Tree())
            owner = owner.get_submodule(name)
        owner.add_module(leaf, module)


def native_parts(config: PeftConfig, targets: Sequence[LinearShape], base: Base | None, *, mergeable: bool) -> dict[str, Part]:
    """Path -> part, of what the tuner of `config` makes of `targets`.

    base: path -> module; without it, linear modules of the right sizes on the default device stand in.
    """
    modules = {target.path: base(target.path) if base else nn.Linear(target.d_in, target.d_out, target.bias) for target in targets}
    return parts_around(config, modules, mergeable=mergeable)


def parts_around(config: PeftConfig, modules: dict[str, nn.Module], *, mergeable: bool) -> dict[str, Part]:
    """Path -> part, of what the tuner of `config` makes of any modules."""
    config.target_modules = config.target_modules or list(modules)
    tree = _Tree()
    for path, module in modules.items():
        tree.put(path, _as_linear(module) if isinstance(module, Conv1D) else module)
    was = {id(p): p.requires_grad for module in modules.values() for p in module.parameters()}
    PEFT_TYPE_TO_TUNER_MAPPING[config.peft_type](tree, {ADAPTER: config}, ADAPTER)
    found: dict[str, Part] = {}
    for path, module in modules.items():
        found[path] = part = NativePart(tree.get_submodule(path), module)
        part.mergeable = mergeable
        for parameter in module.parameters():
            parameter.requires_grad_(was[id(parameter)])
    return found


def _as_linear(module: Any) -> nn.Linear:
    """A `Conv1D` as a linear module on the same memory."""
    linear = nn.Linear(module.nx, module.nf, device="meta")
    linear.weight = nn.Parameter(module.weight.detach().T, requires_grad=False)
    linear.bias = nn.Parameter(module.bias.detach(), requires_grad=False)
    return linear


@cache
def _deaf(kind: type[Any]) -> type[Any]:
    """The class of a layer that stays as it is: it is the composition that is switched, merged and unmerged."""

    def ignore(self: BaseTunerLayer, *args: Any, **kwargs: Any) -> None:
        pass

    return type(kind.__name__, (kind,), dict.fromkeys(CONTROLS, ignore))
