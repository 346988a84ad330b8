"""From a configuration to a model that trains it, and back to the bare backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from autopeft_searchspace import space
from autopeft_searchspace.configuration import Configuration
from autopeft_searchspace.registry import adapter_type
from autopeft_searchspace.shape import ModelShape

if TYPE_CHECKING:
    from peft import PeftConfig
    from torch import nn
    from transformers import PreTrainedModel


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

    space.check(configuration, shape)
    if not configuration.components and not modules_to_save:
        backbone.requires_grad_(False)
        return backbone
    config = peft_config(configuration, shape)
    config.task_type = task_type
    config.modules_to_save = list(modules_to_save) or None
    if hasattr(config, "fan_in_fan_out"):
        config.fan_in_fan_out = _has_transposed_targets(backbone, configuration, shape)
    return get_peft_model(backbone, config)


def peft_config(configuration: Configuration, shape: ModelShape) -> PeftConfig:
    """What peft builds the configuration from."""
    from autopeft_searchspace.tuners.register import register

    if len(configuration.components) == 1:
        component = configuration.components[0]
        if (plain := adapter_type(component.type).peft_config(component, shape)) is not None:
            return plain
    register()
    from autopeft_searchspace.tuners.composition import CompositionConfig

    return CompositionConfig(components=[c.to_json() for c in configuration.components], shape=shape.to_json())


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
    return model.unload()


def _has_transposed_targets(backbone: PreTrainedModel, configuration: Configuration, shape: ModelShape) -> bool:
    """Whether weights are [in, out], as in the `Conv1D` of GPT-2."""
    from transformers.pytorch_utils import Conv1D

    component = configuration.components[0]
    path = shape.modules[component.roles[0]][component.layers[0]].path
    return isinstance(backbone.base_model.get_submodule(path), Conv1D)
