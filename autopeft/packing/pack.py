"""The members of a pack, and their steps: one forward, backward and update for all."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

import torch
from torch import Tensor, nn

from autopeft import updates
from autopeft.casts import HALF, Casts
from autopeft.device import autocast
from autopeft.models.head import TaskModel
from autopeft.packing import vocabulary
from autopeft.packing.arena import Arena
from autopeft.packing.graphs import ON_HOST, Graphs, cuda_recorder
from autopeft.packing.padding import alike
from autopeft.packing.trunk import Draws, TrialFault, Trunk, adapted_modules
from autopeft.packing.views import NotPackable
from autopeft.tasks import Batch, Task
from autopeft.training import Diverged, Recipe, rate_factor
from autopeft_searchspace.configuration import Configuration
from autopeft_searchspace.shape import ModelShape


@dataclass
class Member:
    """A trial of a pack. model: its own adapted view. learning_rate: the peak. penalty: added to its loss. recurs: whether its
    steps do the same each time, without the host. taken: steps so far."""

    model: TaskModel
    recipe: Recipe
    learning_rate: float
    draws: Draws
    parameters: Sequence[nn.Parameter]
    penalty: Callable[[], Tensor | float]
    recurs: bool
    taken: int = 0


Outcome = float | Exception
"""Loss of a member's step, or why it can make no more."""


class Pack:
    """base: the bare task model on `device`, of which every member's model is a view (`views.view_of`).
    graphs: whether steps whose shapes recur are recorded as CUDA graphs, on a device that has them. casts: what keeps frozen
    weights in bfloat16 for all, None to cast them in every step."""

    def __init__(
        self, base: TaskModel, shape: ModelShape, task: Task, device: torch.device, *, graphs: bool = True, casts: Casts | None = None
    ) -> None:
        self._base, self._shape, self._task, self._device = base, shape, task, device
        self._members: dict[int, Member] = {}
        self._arena = Arena(device)
        self._trunk: Trunk | None = None
        self._casts = casts
        self._vocabulary = vocabulary.plain_vocabulary(base)
        self._graphs = Graphs(partial(cuda_recorder, device) if graphs and device.type == "cuda" else None)

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
            not any(component.type in ON_HOST for component in configuration.components),
        )
        list(adapted_modules(self._base.backbone, model.backbone))
        self._arena.add(number, member.parameters)
        self._members[number] = member
        self._changed()
        model.train()

    def leave(self, number: int) -> None:
        """Its model stays as it is trained so far; the others do not notice."""
        member = self._members.pop(number)
        if self._casts:
            self._casts.take_off(member.model.modules())
        self._arena.remove(number)
        self._changed()

    def _changed(self) -> None:
        """Who is in the pack."""
        if self._trunk and self._casts:
            self._casts.take_off(self._trunk.modules())
        self._trunk = None
        self._graphs.forget()

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
                if not len(self._graphs):
                    raise
                self._graphs.forget()  # recordings have memory of their own
                torch.cuda.empty_cache()
            except TrialFault as fault:
                failed[fault.number] = fault.error
                batches = {number: batch for number, batch in batches.items() if number != fault.number}
        return failed

    def _step(self, batches: Mapping[int, Batch]) -> dict[int, Outcome]:
        members = {number: self._members[number] for number in self._members if number in batches}
        self._prepare()
        rates = {n: m.learning_rate * rate_factor(m.taken, m.recipe.total_steps, m.recipe.warmup_share) for n, m in members.items()}
        given = (
            {number: batches[number] for number in members},
            self._arena.each(rates, torch.float32),
            self._arena.each({number: member.taken + 1 for number, member in members.items()}, torch.int64),
        )
        recurs = all(member.recurs and member.draws.used is False for member in members.values())
        if self._graphs.on and self._arena.settled and recurs:
            most = next(iter(members.values())).recipe.max_length
            found = self._graphs.run(self._compute, alike(given[0], self._base.pad_id, most), *given[1:])
        else:
            found = self._compute(*given)
        return {n: self._outcome(member, *told) for (n, member), told in zip(members.items(), found.tolist(), strict=True)}

    def _prepare(self) -> None:
        """For a step, what who is in the pack decides."""
        if self._trunk is None:
            models = {number: member.model for number, member in self._members.items()}
            draws = {number: member.draws for number, member in self._members.items()}
            self._trunk = Trunk(self._base, self._shape, models, draws, hidden=self._vocabulary is not None)
            if next(iter(self._members.values())).recipe.precision == "bf16":
                if self._casts:
                    self._casts.put_on(chain(self._trunk.modules(), *(model.modules() for model in models.values())))
                if self._vocabulary is not None:
                    self._vocabulary = self._vocabulary.to(HALF)
        self._arena.before_backward()

    def _compute(self, batches: Mapping[int, Batch], rates: Tensor, steps: Tensor) -> Tensor:
        """A step of the members in `batches`, which are in the order of the members; [n, 2]: loss and norm of the gradients of each.

        Reads nothing from the host and waits for nothing, so that it can be recorded.
        """
        assert self._trunk is not None
        recipe = next(iter(self._members.values())).recipe
        with autocast(recipe.device_type, recipe.precision):
            outputs = self._trunk.outputs(batches)
            losses = self._losses(outputs, batches)
            together = torch.stack([loss + self._members[number].penalty() for number, loss in losses.items()])
        together.sum().backward()
        norms = self._arena.step(batches.keys(), rates, steps, recipe.weight_decay, recipe.clip_norm)
        places = [place for place, number in enumerate(self._arena.numbers) if number in losses]
        mine = norms if len(places) == len(norms) else torch.stack([norms[place] for place in places])
        return torch.stack([together.detach().float(), mine], dim=1)

    def _losses(self, outputs: Mapping[int, Tensor], batches: Mapping[int, Batch]) -> dict[int, Tensor]:
        if self._vocabulary is not None:
            return vocabulary.losses(outputs, batches, self._vocabulary)
        return {number: self._task.loss(partial(_given, out), batches[number]) for number, out in outputs.items()}

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
