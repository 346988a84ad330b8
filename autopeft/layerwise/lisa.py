"""LISA: no adapter; every `interval` steps `layers` random blocks of the base model are opened and train in full.

Pan et al., 2024 (arXiv 2403.17919). What stands outside the blocks, embeddings, final norm and head, trains
all the time. Blocks are drawn uniformly, without replacement. In the paper's runs the optimiser starts anew
at each draw (`drop_state`); in the authors' public code it keeps its state of frozen blocks.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from autopeft.layerwise import register
from autopeft.layerwise.base_files import FOLDER, save_base
from autopeft.layerwise.drawing import Drawing, by_layer, draw
from autopeft.training import Run

if TYPE_CHECKING:
    from autopeft.models.head import TaskModel

HEADS = (".modules_to_save.", ".original_module.")


@register
class Lisa(Drawing):
    name = "lisa"

    def attach(self, model: TaskModel) -> None:
        named = [(n, p) for n, p in model.backbone.named_parameters() if not any(part in f".{n}" for part in HEADS)]
        self.backbone = model.backbone
        self.before = [(p, p.detach().to("cpu", copy=True)) for _, p in named if not p.is_meta]
        self.layers = by_layer(iter(named), self.shape)
        self.opened = dict.fromkeys(self.layers, 0)
        inside = {id(p) for parameters in self.layers.values() for p in parameters}
        self.always = [p for _, p in named if id(p) not in inside]
        for _, parameter in named:
            parameter.requires_grad_(True)

    def choose(self, run: Run) -> tuple[int, ...] | None:
        if run.step % int(self.settings["interval"]):
            return None
        return draw(self.generator, tuple(self.layers), int(self.settings["layers"]))

    def save(self, folder: Path) -> None:
        save_base(self.backbone, folder / FOLDER)

    def undo(self) -> None:
        self.switch(())
        for parameter, value in self.before:
            parameter.requires_grad_(False)
            with torch.no_grad():
                parameter.copy_(value)
