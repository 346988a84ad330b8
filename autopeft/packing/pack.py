"""The members of a pack, and their steps: one forward, backward and update for all."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from autopeft import updates
from autopeft.device import autocast
from autopeft.models.head import TaskModel
from autopeft.packing.arena import Arena
from autopeft.packing.trunk import Draws, TrialFault, Trunk, adapted_modules
from autopeft.packing.views import NotPackable
from autopeft.tasks import Batch, Task
from autopeft.training import Diverged, Recipe, rate_factor
from autopeft_searchspace.configuration import Configuration
from autopeft_searchspace.shape import ModelShape


@dataclass
class Member:
    """A trial of a pack. model: its own adapted view. learning_rate: the peak. penalty: added to its loss. taken: steps so far."""

    model: TaskModel
    recipe: Recipe
    learning_rate: float
    draws: Draws
    parameters: Sequence[nn.Parameter]
    penalty: Callable[[], Tensor | float]
    taken: int = 0


Outcome = float | Exception
"""Loss of a member's step, or why it can make no more."""


class Pack:
    """base: the bare task model on `device`, of which every member's model is a view (`views.view_of`)."""

    def __init__(self, base: TaskModel, shape: ModelShape, task: Task, device: torch.device) -> None:
        self._base, self._shape, self._task, self._device = base, shape, task, device
        self._members: dict[int, Member] = {}
        self._arena = Arena(device)
        self._trunk: Trunk | None = None

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, number: int) -> bool:
        return number in self._members

    def join(self, number: int, model: TaskModel, recipe: Recipe, configuration: Configuration) -> None:
        """Take in a trial just built: the random numbers that its modules draw go on from torch's present state.

        Raises NotPackable where it cannot share a forward pass or the update; then nothing changed.
        """
        if configuration.strategy:
            raise NotPackable(f"layer strategy {configuration.strategy.name} acts between the parts of a step")
        if not updates.is_adamw(model, configuration.optimizer):
            raise NotPackable(f"its update is not AdamW alone ({configuration.optimizer})")
        if not any(p.requires_grad for p in model.parameters()):
            raise NotPackable("nothing of it trains")
        member = Member(
            model,
            recipe,
            configuration.learning_rate,
            Draws(self._device),
            [p for p in model.parameters() if p.requires_grad],
            updates.penalty_of(model),
        )
        list(adapted_modules(self._base.backbone, model.backbone))
        self._arena.add(number, member.parameters)
        self._members[number] = member
        self._trunk = None
        model.train()

    def leave(self, number: int) -> None:
        """Its model stays as it is trained so far; the others do not notice."""
        del self._members[number]
        self._arena.remove(number)
        self._trunk = None

    def step(self, batches: Mapping[int, Batch]) -> dict[int, Outcome]:
        """One step of the members in `batches`. A member whose outcome is an exception is to leave; its error is its own.

        Running out of memory is raised; then nobody took a step.
        """
        failed: dict[int, Outcome] = {}
        while batches:
            try:
                return failed | self._step(batches)
            except (torch.OutOfMemoryError, MemoryError):
                self._arena.clear()
                raise
            except TrialFault as fault:
                failed[fault.number] = fault.error
                batches = {number: batch for number, batch in batches.items() if number != fault.number}
        return failed

    def _step(self, batches: Mapping[int, Batch]) -> dict[int, Outcome]:
        if self._trunk is None:
            models = {number: member.model for number, member in self._members.items()}
            self._trunk = Trunk(self._base, self._shape, models, {number: member.draws for number, member in self._members.items()})
        recipe = next(iter(self._members.values())).recipe
        self._arena.before_backward()
        with autocast(recipe.device_type, recipe.precision):
            outputs = self._trunk.outputs(batches)
            losses = {n: self._task.loss(partial(_given, out), batches[n]) + self._members[n].penalty() for n, out in outputs.items()}
        torch.stack(list(losses.values())).sum().backward()
        members = {number: self._members[number] for number in losses}
        norms = self._arena.step(
            {n: m.learning_rate * rate_factor(m.taken, m.recipe.total_steps, m.recipe.warmup_share) for n, m in members.items()},
            {n: m.taken + 1 for n, m in members.items()},
            recipe.weight_decay,
            recipe.clip_norm,
        )
        found = torch.stack([torch.stack([losses[n].detach().float(), norms[n]]) for n in losses]).tolist()
        return {n: self._outcome(members[n], loss, norm) for n, (loss, norm) in zip(losses, found, strict=True)}

    @staticmethod
    def _outcome(member: Member, loss: float, norm: float) -> Outcome:
        """As the plain loop says it (`training.train`)."""
        if not math.isfinite(loss):
            return Diverged(f"loss is {loss} at step {member.taken + 1}")
        if not math.isfinite(norm):
            return Diverged(f"gradients are not finite at step {member.taken + 1}")
        member.taken += 1
        member.draws.settle()
        return loss


def _given(output: Tensor, batch: Batch) -> Tensor:
    """What the model gave for a batch, for a task that asks for it."""
    return output
