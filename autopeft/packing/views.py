"""A model of its own for each trial, on the frozen weights of all."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

from autopeft.models.head import TaskModel


class NotPackable(Exception):
    """Why a trial cannot share a forward pass."""


def view_of(model: TaskModel, own: Collection[str] = ()) -> TaskModel:
    """A task model that can be adapted by itself: modules of its own, and its own task head, but the tensors of `model`.

    model: without an adapter. own: paths of modules, relative to the base model, whose weights the view gets copies of,
        because building the adapter changes them.
    """
    base: Any = model.backbone.base_model
    kept = {id(tensor) for _, tensor in model.named_head_tensors()}
    for path in own:
        kept |= {id(tensor) for tensor in base.get_submodule(path).parameters()}
    shared: list[Any] = [tensor for tensor in (*model.parameters(), *model.buffers()) if id(tensor) not in kept]
    found: TaskModel = copy.deepcopy(model, {id(thing): thing for thing in (*shared, model.tokenizer)})
    return found
