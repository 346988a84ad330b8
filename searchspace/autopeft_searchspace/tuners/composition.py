"""The composition tuner: up to three adapters in one model, as one tuner type of Hugging Face peft.

What each adapter puts where is said by its type (`AdapterType.attach`); this file only knows parts.
A saved composition loads with `PeftModel.from_pretrained(base, folder)` after `import autopeft`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from peft import PeftConfig, PeftType
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils.constants import DUMMY_TARGET_MODULES
from torch import Tensor, nn

from autopeft_searchspace.configuration import Component
from autopeft_searchspace.registry import Base, adapter_type
from autopeft_searchspace.shape import ModelShape
from autopeft_searchspace.tuners.narrowing import drop_idle_taps, innermost, narrow
from autopeft_searchspace.tuners.parts import Call, Part, merged

NAME = "autopeft_composition"
PARTS = "composed_parts"


@dataclass
class CompositionConfig(PeftConfig):
    """components: as `Component.to_json` gives them; none where only `modules_to_save` train.
    shape: of the base model, as `ModelShape.to_json` gives it.
    modules_to_save: modules of the model that train and are saved whole, as in peft.
    target_modules: filled in when the adapter is built, for people to read.
    sizes: path relative to the backbone -> adapter type -> size there, of a composition that was pruned while
        it trained; 0 where it is gone. What is not named has its component's size.
    """

    components: list[dict[str, Any]] = field(default_factory=list)
    shape: dict[str, Any] = field(default_factory=dict)
    modules_to_save: list[str] | None = None
    target_modules: list[str] | str | None = None
    sizes: dict[str, dict[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = PeftType[NAME.upper()]

    def parts(self, base: Base) -> dict[str, dict[str, Part]]:
        """New parts: path relative to the backbone -> adapter type -> part. base: path -> module."""
        shape = ModelShape.from_json(self.shape)
        found: dict[str, dict[str, Part]] = {}
        for component in map(Component.from_json, self.components):
            for path, part in adapter_type(component.type).attach(component, shape, base).items():
                found.setdefault(path, {})[component.type] = part
        for path, sizes in self.sizes.items():
            for name, size in sizes.items():
                if size:
                    narrow(innermost(found[path][name]), range(size))
                else:
                    del found[path][name]
        if self.sizes:
            drop_idle_taps(found.values())
        return {path: parts for path, parts in found.items() if parts}


class ComposedLayer(nn.Module, BaseTunerLayer):
    """A module of the base model with parts around it."""

    adapter_layer_names = (PARTS,)

    def __init__(self, base_layer: nn.Module, adapter_name: str, parts: Mapping[str, Part]) -> None:
        super().__init__()
        self.base_layer = base_layer
        in_order = sorted(parts.items(), key=lambda item: (item[1].depth, not adapter_type(item[0]).supports.innermost, item[0]))
        self.composed_parts = nn.ModuleDict({adapter_name: nn.ModuleDict(dict(in_order))})
        self.merged_adapters: list[str] = []
        self._before: tuple[Tensor, Tensor | None] | None = None
        device = next(base_layer.parameters()).device
        self.composed_parts.to(device)
        self.set_adapter(adapter_name)

    def active_parts(self, adapter_names: list[str] | None = None) -> list[Part]:
        """Parts of the active adapter, innermost first."""
        names = self.active_adapters if adapter_names is None else adapter_names
        return [part for name in names if name in self.composed_parts for part in self.composed_parts[name].values()]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        call: Call = self.base_layer
        if not self.disable_adapters and not self.merged:
            for part in self.active_parts():
                call = partial(part.__call__, call)
        return call(*args, **kwargs)

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        if not self.merged:
            self._before = self._replace(*merged(self.active_parts(adapter_names), self.base_layer, safe_merge))
            self.merged_adapters = list(self.active_adapters)

    def unmerge(self) -> None:
        if self._before is not None:
            self._replace(*self._before)
            self.merged_adapters, self._before = [], None

    def _replace(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Put weight and bias into the module; returns what was there."""
        module: Any = self.base_layer
        before = module.weight.detach().clone(), None if bias is None else module.bias.detach().clone()
        with torch.no_grad():
            module.weight.copy_(weight)
            if bias is not None:
                module.bias.copy_(bias)
        return before

    def _freeze_non_trainable_peft_weights(self, adapter_names: str | Sequence[str] | None = None) -> None:
        for parts in self.composed_parts.values():
            for part in parts.values():
                part.freeze()

    def unload_and_optionally_merge_module(self, merge: bool, safe_merge: bool, adapter_names: list[str] | None) -> nn.Module:
        """The module itself again, and everything inside it (a block holds attention modules, and they linear ones)."""
        composed = [(name, inner) for name, inner in self.base_layer.named_modules() if isinstance(inner, ComposedLayer)]
        for name, inner in composed:
            if not any(name.startswith(f"{outer}.") for outer, _ in composed):  # what is deeper is unloaded with its outer one
                parent, _, leaf = name.rpartition(".")
                unloaded = inner.unload_and_optionally_merge_module(merge, safe_merge, adapter_names)
                setattr(self.base_layer.get_submodule(parent), leaf, unloaded)
        if merge:
            self.merge(safe_merge, adapter_names)
        return self.base_layer

    def __getattr__(self, name: str) -> Any:
        """What the layer lacks is looked up on the module that it stands for."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base_layer":
                raise
            return getattr(self.base_layer, name)


class CompositionModel(BaseTuner):
    """Puts the parts of a `CompositionConfig` into a model; one composition per model."""

    prefix = "composed_"
    tuner_layer_cls = ComposedLayer
    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012

    def _check_new_adapter_config(self, config: CompositionConfig) -> None:
        if len(self.peft_config) > 1:
            raise ValueError(f"a model takes one composition at a time, it was given {', '.join(self.peft_config)}")

    def _prepare_adapter_config(self, peft_config: CompositionConfig, model_config: dict[str, Any]) -> CompositionConfig:
        return peft_config  # completed by _prepare_model, which knows the modules

    def _prepare_model(self, peft_config: CompositionConfig, model: nn.Module) -> None:
        """Make the parts, and find where the backbone stands inside `model`: every path must be below it."""
        root = _root(model, ModelShape.from_json(peft_config.shape)) if peft_config.components else ""
        parts = peft_config.parts(lambda path: model.get_submodule(root + path))
        self._waiting = {root + path: parts_there for path, parts_there in parts.items()}
        peft_config.target_modules = sorted(parts) or DUMMY_TARGET_MODULES

    def _check_target_module_exists(self, peft_config: CompositionConfig, key: str) -> bool:
        return key in self._waiting

    def _create_and_replace(
        self,
        peft_config: CompositionConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        if isinstance(parent, ComposedLayer):  # a linear module inside an attention module that has a prefix
            parent = parent.base_layer
        setattr(parent, target_name, ComposedLayer(target, adapter_name, self._waiting.pop(current_key)))

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        setattr(parent, child_name, new_module)  # the very module that was wrapped: nothing is to be copied

    def _check_merge_allowed(self) -> None:
        super()._check_merge_allowed()
        parts = [part for module in self.model.modules() if isinstance(module, ComposedLayer) for part in module.active_parts()]
        if lasting := sorted({part.title for part in parts if not part.mergeable}):
            raise ValueError(f"this composition cannot be merged: {', '.join(lasting)} is no change of a weight")

    @classmethod
    def _remove_adapter_name_from_key(cls, key: str, adapter_name: str) -> str:
        return key.replace(f".{PARTS}.{adapter_name}.", f".{PARTS}.")

    @classmethod
    def _get_adapter_state_dict(
        cls, model: nn.Module, config: Any, adapter_name: str, state_dict: dict[str, Tensor], unwanted_adapter_names: list[str]
    ) -> dict[str, Tensor]:
        """What several parts share is written once, under the first of its names."""
        found = super()._get_adapter_state_dict(model, config, adapter_name, state_dict, unwanted_adapter_names)
        names: dict[Any, str] = {}
        return {name: tensor for name, tensor in found.items() if names.setdefault(_place(tensor) or name, name) == name}

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls, model: nn.Module, config: Any, adapter_name: str, state_dict: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """What was written once is read under all of its names."""
        found: dict[str, Tensor] = super()._remap_adapter_state_dict_for_load(model, config, adapter_name, state_dict)
        own = {
            name: place for name, tensor in model.state_dict().items() if f".{PARTS}.{adapter_name}." in name and (place := _place(tensor))
        }
        saved = {place: found[name] for name, place in own.items() if name in found}
        return found | {name: saved[place] for name, place in own.items() if name not in found and place in saved}


def _place(tensor: Tensor) -> tuple[int, torch.Size] | None:
    """Equal for tensors that are the same memory; None where that cannot be told."""
    return (tensor.data_ptr(), tensor.shape) if tensor.numel() and not tensor.is_meta else None


def _root(model: nn.Module, shape: ModelShape) -> str:
    """What stands before the paths of `shape` in the model's own. Raises ValueError unless it is that model's."""
    names = {name for name, _ in model.named_modules()}
    paths = [module.path for modules in shape.modules.values() for module in modules] + list(shape.attention_paths)
    roots = [name.removesuffix(paths[0]) for name in names if name == paths[0] or name.endswith(f".{paths[0]}")]
    fitting = [root for root in roots if all(root + path in names for path in paths)]
    if len(fitting) != 1:
        base = f"a {shape.architecture} of {shape.layers} layers"
        raise ValueError(f"the adapter does not fit {type(model).__name__}: it was made for {base}, with modules such as {paths[0]!r}")
    return fitting[0]
