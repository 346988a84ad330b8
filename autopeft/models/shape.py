"""The shape of a base model from its config alone, for commands that must answer at once."""

from __future__ import annotations

from pathlib import Path

from autopeft.models.load import load_bare
from autopeft.models.roles import find_shape
from autopeft.spec import ModelSpec
from autopeft_searchspace.shape import ModelShape


def load_shape(model: ModelSpec, folder: Path) -> ModelShape:
    """Layers, roles and sizes of the base model; a folder's weights must be there but are not read.

    folder: what `model.base` starts from. Raises ModelError where the model cannot be had or used.
    """
    return find_shape(load_bare(model, folder), model.roles)
