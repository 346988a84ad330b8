"""The one training loop: AdamW, linear warm-up and decay, clipping, rungs. For every adapter type.

The schedule always spans `total_steps`; a rung only cuts it short (it is not re-tuned per rung). A layer
strategy (`autopeft.layerwise`) may act between the parts of a step; without one nothing is called.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from autopeft import updates
from autopeft.device import autocast


class Diverged(Exception):
    """The loss became infinite or not a number."""


@dataclass(frozen=True)
class Recipe:
    """What decides the numbers of a run apart from configuration and seed (see `spec.TrainSpec`).

    longest: tokens of the longest training example, of which the reference batch consists.
    counted: positions of that batch from which the loss predicts tokens; 0 where there is a task head.
    attention: implementation of attention that is wanted (`device.find_attention`).
    data: hash of the data and of how they were split.
    """

    base: str
    head: str
    metric: str
    data: str
    max_length: int
    longest: int
    device_type: str
    precision: str
    batch_size: int
    total_steps: int
    warmup_share: float
    weight_decay: float
    clip_norm: float
    base_dropout: bool
    counted: int = 0
    attention: str = "sdpa"


def rate_factor(step: int, total_steps: int, warmup_share: float) -> float:
    """Share of the peak learning rate used for optimiser step `step` (0-based): linear up, linear down.

    >>> [round(rate_factor(s, 10, 0.2), 3) for s in (0, 1, 2, 9)]
    [0.5, 1.0, 1.0, 0.125]
    """
    warmup = math.floor(total_steps * warmup_share)
    if step < warmup:
        return (step + 1) / warmup
    return (total_steps - step) / max(1, total_steps - warmup)


@dataclass
class Progress:
    """Where a run stands. losses: (step, loss) pairs, steps counted from 1. ends: of each step, in seconds."""

    step: int = 0
    losses: list[tuple[int, float]] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)


@dataclass
class Run:
    """What a layer strategy sees of a run, and may change between steps.

    loss_of: step (0-based) -> mean loss of that step's batch. step: the one that comes, or is being made.
    parameters: all that train at some time; those that do not require gradients are left out of a step.
    """

    model: nn.Module
    loss_of: Callable[[int], Tensor]
    recipe: Recipe
    parameters: list[nn.Parameter]
    optimizer: torch.optim.Optimizer
    step: int = 0


class Strategy(Protocol):
    """What the loop calls, in this order; a subclass overrides what it needs."""

    def begin(self, run: Run) -> None:
        """Once, before the first step."""

    def before_step(self, run: Run) -> None:
        """Before each forward pass."""

    def after_backward(self, run: Run) -> None:
        """Gradients are there, not yet clipped."""

    def after_step(self, run: Run) -> None:
        """The update is made and gradients are gone."""


def make_optimizer(
    parameters: Sequence[nn.Parameter], learning_rate: float | Tensor, weight_decay: float, **settings: Any
) -> torch.optim.Optimizer:
    """AdamW; matrices decay, vectors (biases, norms, scalings) do not. settings: further ones of torch's."""
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=learning_rate, **settings)


def train_step(
    loss_of: Callable[[], Tensor],
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[nn.Parameter],
    recipe: Recipe,
    after_backward: Callable[[], None] | None = None,
) -> float:
    """One forward, backward, clip and update; returns the loss. Raises `Diverged` before the update."""
    with autocast(recipe.device_type, recipe.precision):
        loss = loss_of()
    value = float(loss.detach())
    if not math.isfinite(value):
        raise Diverged(f"loss is {value}")
    loss.backward()
    if after_backward:
        after_backward()
    norm = nn.utils.clip_grad_norm_(parameters, recipe.clip_norm)
    if not torch.isfinite(norm):
        raise Diverged("gradients are not finite")
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return value


def train(
    model: nn.Module,
    loss_of: Callable[[int], Tensor],
    recipe: Recipe,
    learning_rate: float,
    rungs: Sequence[int],
    at_rung: Callable[[Progress], bool],
    at_step: Callable[[Progress], None] = lambda progress: None,
    strategy: Strategy | None = None,
    optimizer_name: str = "adamw",
) -> Progress:
    """Train what requires gradients in `model` up to the last rung, or the one that says stop.

    loss_of: step (0-based) -> mean loss of that step's batch.
    at_rung: called after each step count in `rungs`; returns whether to go on.
    optimizer_name: of `updates`.
    Raises `Diverged` where loss or gradients stop being finite.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    progress = Progress()
    if not parameters:  # a language model without an adapter: it is measured as it is
        progress.step = rungs[-1]
        at_rung(progress)
        return progress
    run = Run(model, loss_of, recipe, parameters, make_optimizer(parameters, learning_rate, recipe.weight_decay))
    updates.prepare(run.optimizer, model, optimizer_name, recipe.total_steps)
    penalty = updates.penalty_of(model)
    after_backward = partial(strategy.after_backward, run) if strategy else None
    if strategy:
        strategy.begin(run)
    for rung in rungs:
        model.train()
        while progress.step < rung:
            step = run.step = progress.step
            if strategy:
                strategy.before_step(run)
            for group in run.optimizer.param_groups:
                factor = rate_factor(step, recipe.total_steps, recipe.warmup_share)
                group["lr"] = learning_rate * factor * group.get("share", 1.0)
            try:
                loss = train_step(lambda: loss_of(run.step) + penalty(), run.optimizer, run.parameters, recipe, after_backward)
            except Diverged as why:
                raise Diverged(f"{why} at step {step + 1}") from None
            if strategy:
                strategy.after_step(run)
            progress.step += 1
            progress.losses.append((progress.step, loss))
            progress.ends.append(time.perf_counter())
            at_step(progress)
        if not at_rung(progress):
            break
    return progress
