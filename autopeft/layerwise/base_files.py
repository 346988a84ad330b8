"""A base model whose own weights changed in training, on disk: without its adapters, beside them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FOLDER = "base_model"
"""Inside the folder of a trained adapter."""


def save_base(backbone: nn.Module, folder: Path) -> None:
    """Write config and safetensors of the base model in `backbone`, with its trained head where it has one."""
    inner: Any = backbone.get_base_model() if hasattr(backbone, "get_base_model") else backbone
    inner.save_pretrained(folder, state_dict=base_state(inner), safe_serialization=True)


def base_state(inner: PreTrainedModel) -> dict[str, Tensor]:
    """Weights under the names that they have without adapters."""
    adapters = tuple(f".{name}." for name in _adapter_names(inner))
    found: dict[str, Tensor] = {}
    for name, tensor in inner.state_dict().items():
        if ".original_module." in name or any(adapter in name for adapter in adapters):
            continue
        found[name.replace(".modules_to_save.default.", ".").replace(".base_layer.", ".")] = tensor.detach().cpu().contiguous()
    return found


def _adapter_names(inner: nn.Module) -> set[str]:
    """Names under which peft layers keep what is trained."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [module for module in inner.modules() if isinstance(module, BaseTunerLayer)]
    return {name for layer in layers for name, _ in layer.named_children() if name != "base_layer"}
