"""The shape of a base model from its config alone, for commands that must answer at once."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModel

from autopeft.models.load import _check_weights, _in_words, _load_config, _with_attention, resolve_base
from autopeft.models.roles import find_shape
from autopeft.spec import ModelSpec
from autopeft_searchspace.shape import ModelShape


def load_shape(model: ModelSpec, folder: Path) -> ModelShape:
    """Layers, roles and sizes of the base model; a folder's weights must be there but are not read.

    folder: what `model.base` starts from. Raises ModelError where the model cannot be had or used.
    """
    path = resolve_base(model.base, folder)
    config = _load_config(path, model)
    _check_weights(path)
    with _in_words(model.base, "architecture"), torch.device("meta"):
        backbone = _with_attention(
            lambda attention: AutoModel.from_config(config, attn_implementation=attention, trust_remote_code=model.trust_remote_code)
        )
    return find_shape(backbone, model.roles)
