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

from autopeft.layerwise.structure import Pruning, kept_features
from autopeft_searchspace.shape import ModelShape

FULL = "for_full_base"
"""Inside the folder of an adapter that was trained on a pruned base."""

FILES = ("adapter_model.safetensors", "adapter_config.json")


def padded(state: Mapping[str, torch.Tensor], shape: ModelShape, pruning: Pruning) -> dict[str, torch.Tensor]:
    """LoRA's matrices in an adapter's state dict at their full sizes; all else unchanged."""
    found = dict(state)
    for module, rows, columns in kept_features(shape, pruning):
        for name, tensor in state.items():
            if f".{module.path}." not in name:
                continue
            if rows is not None and "lora_B" in name:
                found[name] = tensor.new_zeros(module.d_out, tensor.shape[1])
                found[name][rows] = tensor
            if columns is not None and "lora_A" in name:
                found[name] = tensor.new_zeros(tensor.shape[0], module.d_in)
                found[name][:, columns] = tensor
    return found


def save_padded(folder: Path, shape: ModelShape, pruning: Pruning) -> None:
    """Beside the adapter in `folder`, the same for the full base, in `for_full_base`; peft loads it there."""
    weights, config = (folder / name for name in FILES)
    (folder / FULL).mkdir()
    save_file(padded(load_file(weights), shape, pruning), folder / FULL / weights.name, metadata={"format": "pt"})
    shutil.copy(config, folder / FULL / config.name)
