"""Small models, traced and measured on the same training step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import tiny_base
import torch

from autopeft.device import find_attention
from autopeft.meters import measure_peak
from autopeft.models.head import TaskModel
from autopeft.models.roles import find_shape
from autopeft.tasks import Encoded, Task
from autopeft.tracing import Trace, trace_step
from autopeft.training import Recipe, make_optimizer, train_step
from autopeft_searchspace.build import adapt
from autopeft_searchspace.configuration import Component, Configuration
from autopeft_searchspace.shape import ModelShape

BATCH_SIZE, LONGEST = 6, 14


def reference(kind: str = "classification", precision: str = "fp32", device_type: str = "cpu", batch_size: int = BATCH_SIZE) -> Recipe:
    counted = LONGEST // 2 if kind == "causal_lm" else 0
    attention = find_attention(device_type, precision, LONGEST)
    return Recipe("", "", "", "", 16, LONGEST, device_type, precision, batch_size, 10, 0.06, 0.01, 1.0, False, counted, attention)


def lora(shape: ModelShape, size: int = 4, layers: tuple[int, ...] = (0, 1, 2)) -> Configuration:
    return Configuration((Component("lora", size, layers, shape.roles, {"alpha": size}),), 1e-3)


def build(base: Path, kind: str, configuration: Configuration | None, *, weights: bool, attention: str = "sdpa") -> tuple[TaskModel, Task]:
    """configuration: None for full fine-tuning."""
    model, task, _ = tiny_base.load(base, kind, weights=weights, attention=attention)
    if configuration is None:
        return model.requires_grad_(True), task
    shape = find_shape(model.backbone)
    model.backbone = adapt(model.backbone, configuration, shape, task_type=model.task_type, modules_to_save=model.modules_to_save)
    model.open_head()
    return model, task


def traced(base: Path, configuration: Configuration | None, kind: str = "classification", recipe: Recipe | None = None) -> Trace:
    recipe = recipe or reference(kind)
    model, task = build(base, kind, configuration, weights=False, attention=recipe.attention)
    examples = [Encoded((5,) * LONGEST, 0, completion=recipe.counted)] * recipe.batch_size
    return trace_step(
        model,
        lambda optimizer, parameters: train_step(
            lambda: task.loss(model, task.collate(examples, model.pad_id, "cpu")), optimizer, parameters, replace(recipe, device_type="cpu")
        ),
        lambda parameters: make_optimizer(parameters, 0.0, 0.01),
        recipe.device_type,
        model.backbone.base_model.encoder.layer if hasattr(model.backbone.base_model, "encoder") else (),
    )


def measured(base: Path, configuration: Configuration | None, kind: str = "classification", recipe: Recipe | None = None) -> int:
    recipe = recipe or reference(kind)
    model, task = build(base, kind, configuration, weights=True, attention=recipe.attention)
    lengths = [LONGEST, *(LONGEST - 1 - i % 3 for i in range(recipe.batch_size - 1))]
    examples = [Encoded((5,) * length, 0, completion=min(recipe.counted, length - 1)) for length in lengths]
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = make_optimizer(parameters, 0.0, 0.0)
    model.train()

    def step() -> None:
        train_step(lambda: task.loss(model, task.collate(examples, model.pad_id, "cpu")), optimizer, parameters, recipe)

    return measure_peak(step, torch.device("cpu"), [*model.parameters(), *model.buffers()])
