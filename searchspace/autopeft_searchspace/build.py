"""From a configuration to a model that trains it, and back to the bare backbone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from autopeft_searchspace.configuration import Configuration
from autopeft_searchspace.registry import adapter_type
from autopeft_searchspace.rules import check
from autopeft_searchspace.shape import ModelShape

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from torch import Tensor, nn
    from transformers import PreTrainedModel

BEFORE = "weights_before_building"


def adapt(
    backbone: PreTrainedModel,
    configuration: Configuration,
    shape: ModelShape,
    *,
    task_type: str | None,
    modules_to_save: Sequence[str] = (),
) -> nn.Module:
    """`backbone` with the adapters of `configuration`, which train, and all else frozen; in place.

    A single component of a type that peft has is built by plain peft, everything else by the
    composition tuner. Without components and `modules_to_save` the backbone itself comes back, frozen.
    New weights are drawn from torch's global generator.

    task_type: of peft, e.g. `SEQ_CLS` or `CAUSAL_LM`; None for a bare backbone.
    modules_to_save: modules beside the backbone that train and are saved whole, e.g. `classifier`.
    Raises ValueError where the model cannot take the configuration.
    """
    from peft import get_peft_model

    check(configuration, shape)
    if not configuration.components and not modules_to_save:
        backbone.requires_grad_(False)
        return backbone
    config = peft_config(configuration, shape)
    config.task_type = task_type
    config.modules_to_save = list(modules_to_save) or None
    changed = {path: backbone.base_model.get_submodule(path).weight.detach().clone() for path in changed_paths(configuration, shape)}
    model = get_peft_model(backbone, config)
    setattr(model, BEFORE, changed)
    if configuration.optimizer == "lora_fa":
        for name, parameter in model.named_parameters():
            if ".lora_A." in name:
                parameter.requires_grad_(False)
    return model


def starts_from_data(configuration: Configuration) -> bool:
    """Whether `start` is to be called before training."""
    return any(adapter_type(component.type).starts_from_data(component) for component in configuration.components)


def start(model: nn.Module, configuration: Configuration, shape: ModelShape, losses: Sequence[Callable[[], Tensor]]) -> None:
    """Give components that start from data (`lora` with init eva, corda or lora_ga; the mask of `rosa`) their first weights.

    model: as `adapt` made it. losses: of a few training batches each, through `model`. Without this they
    start as others do. Raises ValueError where there are no losses.
    """
    from autopeft_searchspace.tuners.composition import ComposedLayer
    from autopeft_searchspace.tuners.native import NativePart
    from autopeft_searchspace.tuners.starts import look

    wanted = [component for component in configuration.components if adapter_type(component.type).starts_from_data(component)]
    if not wanted:
        return
    if not losses:
        raise ValueError(f"{', '.join(c.type for c in wanted)} starts from training batches, and none were given")
    paths = [[shape.modules[role][i].path for i in c.layers for role in c.roles] for c in wanted]
    layers = {path: _at(model, path) for of_one in paths for path in of_one}
    seen = look({path: layer.base_layer for path, layer in layers.items()}, losses)
    for component, of_one in zip(wanted, paths, strict=True):
        for path in of_one:
            layer = layers[path]
            if isinstance(layer, ComposedLayer):
                part = next(iter(layer.composed_parts.values()))[component.type]
                layer = part.layer if isinstance(part, NativePart) else part
            adapter_type(component.type).start(component, layer, seen[path])


def _at(model: nn.Module, path: str) -> Any:
    """The adapter's layer at a path relative to the backbone."""
    named = ((name.replace(".base_layer", ""), module) for name, module in model.named_modules() if hasattr(module, "base_layer"))
    return next(module for name, module in named if f".{name}".endswith(f".{path}"))


def save(model: PeftModel, folder: str) -> None:
    """As `save_pretrained`, so that the folder loads onto the untouched base model: what a start took out
    of its weights is saved with the adapter, as a plain LoRA of twice the rank."""
    from safetensors.torch import save_file

    from autopeft_searchspace.tuners.starts import whole_adapter

    model.save_pretrained(folder, safe_serialization=True)
    if (whole := whole_adapter(model)) is not None:
        config, state = whole
        config.inference_mode = True
        config.save_pretrained(folder)
        save_file(state, f"{folder}/adapter_model.safetensors", metadata={"format": "pt"})


class MergeError(ValueError):
    """Merging would change what the model computes; nothing was merged."""


def merge(model: nn.Module, batch: Mapping[str, Tensor], tolerance: float = 1e-3) -> PreTrainedModel:
    """The base model with the adapter of `model` folded into its weights, checked on a batch; in place.

    Several types are merged wrongly by peft, without an error, on quantised bases or with some options;
    so outputs before and after are compared.

    batch: inputs of the model. tolerance: share of the largest output by which outputs may differ.
    Raises MergeError where the adapter cannot be merged, or outputs differ by more: weights are then as before.
    """
    import torch

    def outputs(of: nn.Module) -> Tensor:
        with torch.no_grad():
            found = of(**batch)
        return found.logits if hasattr(found, "logits") else found.last_hidden_state

    from peft import PeftModel

    if not isinstance(model, PeftModel):
        raise MergeError(f"{type(model).__name__} has no adapter to merge")
    was_training = model.training
    model.eval()
    kept = {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.get_base_model().state_dict().items()}
    before = outputs(model)
    try:
        model.merge_adapter(safe_merge=True)
        difference = float((outputs(model) - before).abs().max())
        limit = tolerance * max(1.0, float(before.abs().max()))
        if not difference <= limit:
            raise MergeError(f"outputs after merging differ by up to {difference:.2g}, allowed is {limit:.2g}")
        merged: PreTrainedModel = model.unload()
    except (ValueError, NotImplementedError, AttributeError, TypeError) as error:
        if any(getattr(module, "merged", False) for module in model.modules()):
            model.unmerge_adapter()
        model.get_base_model().load_state_dict(kept)
        model.train(was_training)
        raise MergeError(f"the adapter was not merged: {error}") from error
    return merged


def changed_paths(configuration: Configuration, shape: ModelShape) -> list[str]:
    """Paths, relative to the base model, of the modules that building takes something out of the weights of."""
    return [
        shape.modules[role][layer].path
        for component in configuration.components
        if adapter_type(component.type).changes_base(component)
        for role in component.roles
        for layer in component.layers
    ]


def peft_config(configuration: Configuration, shape: ModelShape) -> PeftConfig:
    """What peft builds the configuration from."""
    from autopeft_searchspace.tuners.register import register

    if (plain := plain_config(configuration, shape)) is not None:
        return plain
    register()
    from autopeft_searchspace.tuners.composition import CompositionConfig

    return CompositionConfig(components=[c.to_json() for c in configuration.components], shape=shape.to_json())


def plain_config(configuration: Configuration, shape: ModelShape) -> PeftConfig | None:
    """The config of plain peft that builds the configuration, or None where peft cannot: of one component, or of
    several of one type that knows a pattern of sizes."""
    types = {component.type for component in configuration.components}
    if len(types) != 1:
        return None
    adapter = adapter_type(types.pop())
    if len(configuration.components) == 1:
        return adapter.peft_config(configuration.components[0], shape)
    return adapter.pattern_config(configuration.components, shape)


def unadapt(model: nn.Module) -> PreTrainedModel:
    """The backbone that `adapt` was given, as it was before: own weights, nothing of ours left in it.

    Modules that trained whole (`modules_to_save`) get their weights from before back. All weights
    stay frozen.
    """
    from peft import PeftModel
    from peft.utils.other import AuxiliaryTrainingWrapper

    if not isinstance(model, PeftModel):
        return model
    inner = model.get_base_model()
    for name, module in reversed(list(inner.named_modules())):
        if isinstance(module, AuxiliaryTrainingWrapper):
            parent, _, leaf = name.rpartition(".")
            setattr(inner.get_submodule(parent), leaf, module.original_module)
    before: dict[str, Tensor] = getattr(model, BEFORE, {})
    backbone = model.unload()
    for path, weight in before.items():
        module = backbone.base_model.get_submodule(path)
        module.weight.data = weight.to(module.weight.device)
    return backbone
