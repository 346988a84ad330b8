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

    space.check(configuration, shape)
    if not configuration.components and not modules_to_save:
        backbone.requires_grad_(False)
        return backbone
    config = peft_config(configuration, shape)
    config.task_type = task_type
    config.modules_to_save = list(modules_to_save) or None
    changed = _changed_weights(backbone, configuration, shape)
    model = get_peft_model(backbone, config)
    setattr(model, BEFORE, changed)
    return model


def _changed_weights(backbone: PreTrainedModel, configuration: Configuration, shape: ModelShape) -> dict[str, Tensor]:
    """Copies of the weights that building takes something out of; path relative to the backbone -> weight."""
    found: dict[str, Tensor] = {}
    for component in configuration.components:
        if adapter_type(component.type).changes_base(component):
            for path in {module.path for role in component.roles for module in (shape.modules[role][i] for i in component.layers)}:
                found[path] = backbone.base_model.get_submodule(path).weight.detach().clone()
    return found


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
    before: dict[str, Tensor] = getattr(model, BEFORE, {})
    backbone = model.unload()
    for path, weight in before.items():
        module = backbone.base_model.get_submodule(path)
        module.weight.data = weight.to(module.weight.device)
    return backbone
