"""An adapter that was trained on a pruned base, for the base as it was: plug-and-play, as Light-PEFT (arXiv 2406.03792) keeps it.

LoRA's A [r, inputs] and B [outputs, r] stand at heads and units that are left; at those that were pruned the
padded matrices are 0, so that the adapter changes nothing there. Bottlenecks work on the hidden states,
which are never pruned, and stay as they are.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from autopeft.layerwise.structure import GROWING, UNITS, Pruning, columns_of
from autopeft_searchspace.shape import ModelShape

FULL = "for_full_base"
"""Inside the folder of an adapter that was trained on a pruned base."""

FILES = ("adapter_model.safetensors", "adapter_config.json")


def padded(state: Mapping[str, torch.Tensor], shape: ModelShape, pruning: Pruning) -> dict[str, torch.Tensor]:
    """LoRA's matrices in an adapter's state dict at their full sizes; all else unchanged."""
    found = dict(state)
    for role, modules in shape.modules.items():
        for layer, module in enumerate(modules):
            kept = _kept(role, layer, shape, pruning)
            if kept is None:
                continue
            grows = role in (*GROWING, *UNITS)
            part, size = ("lora_B", module.d_out) if grows else ("lora_A", module.d_in)
            for name, tensor in state.items():
                if f".{module.path}." in name and part in name:
                    whole = tensor.new_zeros((size, tensor.shape[1]) if grows else (tensor.shape[0], size))
                    whole[kept if grows else (slice(None), kept)] = tensor
                    found[name] = whole
    return found


def _kept(role: str, layer: int, shape: ModelShape, pruning: Pruning) -> list[int] | None:
    """Features of the pruned side of a module that are left; None for a role that is not pruned."""
    module = shape.modules[role][layer]
    if role in GROWING or role == "o":
        width = module.d_in if role == "o" else module.d_out
        return columns_of(pruning.heads[layer], width, shape.key_value_heads)
    if role in UNITS or role == "ff_out":
        return list(pruning.units[layer])
    return None


def save_padded(folder: Path, shape: ModelShape, pruning: Pruning) -> None:
    """Beside the adapter in `folder`, the same for the full base, in `for_full_base`; peft loads it there."""
    weights, config = (folder / name for name in FILES)
    (folder / FULL).mkdir()
    save_file(padded(load_file(weights), shape, pruning), folder / FULL / weights.name, metadata={"format": "pt"})
    shutil.copy(config, folder / FULL / config.name)
