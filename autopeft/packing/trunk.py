"""One forward pass of the base model for all trials of a pack."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate, chain
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn

from autopeft.models.head import TaskModel, masked_mean
from autopeft.models.roles import transformer_blocks
from autopeft.packing.grouped import KINDS, Update
from autopeft.packing.padding import kept_range, merge
from autopeft.packing.prompts import Aside, prompt_of
from autopeft.packing.rows import Rows, each_tensor
from autopeft.packing.views import NotPackable, view_of
from autopeft.packing.vocabulary import with_hidden
from autopeft.tasks import Batch
from autopeft_kernels.segments import numbers
from autopeft_searchspace.shape import ModelShape

WATCHED_STEPS = 2
"""A module may start with numbers that it drew when it was built."""


class TrialFault(Exception):
    """A trial's own module raised an error; the other trials can go on without it."""

    def __init__(self, number: int, error: Exception) -> None:
        super().__init__(str(error))
        self.number, self.error = number, error


class Draws:
    """Random numbers of one trial: as if nobody else drew any. used: whether its modules draw at all, None until seen."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device if device.type == "cuda" else None
        self._first = self._state = self._now()
        self._steps = 0
        self.used: bool | None = None

    def settle(self) -> None:
        """After a step: whether anything was drawn in the first ones decides whether to look after random numbers."""
        self._steps += 1
        if self._steps == WATCHED_STEPS:
            self.used = not torch.equal(self._first, self._state)

    def _now(self) -> Tensor:
        return torch.get_rng_state() if self._cuda is None else torch.cuda.get_rng_state(self._cuda)

    def _set(self, state: Tensor) -> None:
        if self._cuda is None:
            torch.set_rng_state(state)
        else:
            torch.cuda.set_rng_state(state, self._cuda)

    @contextmanager
    def mine(self) -> Iterator[None]:
        before = self._now()
        self._set(self._state)
        try:
            yield
        finally:
            self._state = self._now()
            self._set(before)


class Router(nn.Module):
    """Stands for a module that some trials adapt: each trial's rows go through its own module, all other rows
    through the shared one.

    own: trial -> its module. numbers: of all trials, in the order of their rows.
    """

    def __init__(
        self, shared: nn.Module, own: Mapping[int, nn.Module], numbers: Sequence[int], rows: Rows, draws: Mapping[int, Draws]
    ) -> None:
        super().__init__()
        self.shared, self._rows, self._draws = shared, rows, draws
        found = {number: (kind, read) for number, layer in own.items() for kind in KINDS if (read := kind.read(layer)) is not None}
        if isinstance(shared, nn.Linear) or hasattr(shared, "nf"):
            found = {n: it for n, it in found.items() if _base_of(own[n]).weight.data_ptr() == shared.weight.data_ptr()}
        else:
            found = {}
        self._own = {number: layer for number, layer in own.items() if number not in found}
        self._updates: list[tuple[tuple[int, ...], Update]] = []
        for kind in {id(kind): kind for kind, _ in found.values()}.values():
            having = tuple(n for n in numbers if n in found and found[n][0] is kind)
            self._updates.append((having, kind.update([found[n][1] for n in having])))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        rows, outputs = self._rows, []
        together = [number for number in rows.owners if number not in self._own]
        if together:
            given, named = rows.pick((args, kwargs), together)
            with rows.of(together):
                out = self.shared(*given, **named)
                if self._updates:
                    out = self._updated(out, given[0])
            outputs.append((together, out))
        for number in rows.owners:
            if number in self._own:
                given, named = rows.pick((args, kwargs), [number])
                outputs.append(([number], _run(self._own[number], number, self._draws[number], given, named)))
        return rows.join(outputs)

    def _updated(self, out: Tensor, x: Tensor) -> Tensor:
        """`out` with the updates of the trials that have rows now. Only their rows are given to an update, which may keep them."""
        rows, each = self._rows, out[0].numel() // out.shape[-1]
        for having, update in self._updates:
            present = [number for number in rows.owners if number in having]
            counts = {number: each * rows.counts[number] for number in present}
            bounds = tuple(accumulate((counts.get(number, 0) for number in having), initial=0))
            before = rows.cut(out, present)
            after = update(before.flatten(0, -2), rows.cut(x, present).flatten(0, -2), bounds).view_as(before)
            out = rows.replaced(out, present, after)
        return out

    def __getattr__(self, name: str) -> Any:
        """What the router lacks is looked up on the module that it stands for."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "shared":
                raise
            return getattr(self.shared, name)


def _base_of(layer: Any) -> Any:
    return layer.get_base_layer() if hasattr(layer, "get_base_layer") else layer


def _run(module: nn.Module, number: int, draws: Draws, args: Any, kwargs: Any) -> Any:
    try:
        if draws.used is False:
            return module(*args, **kwargs)
        with draws.mine():
            return module(*args, **kwargs)
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:
        raise TrialFault(number, error) from error


class Trunk:
    """base: the bare task model. models: trial -> its own adapted view of it. draws: trial -> its random numbers.
    hidden: whether a language model is to give its last hidden states in place of logits.

    Raises NotPackable where a trial changes more than modules.
    """

    def __init__(
        self, base: TaskModel, shape: ModelShape, models: Mapping[int, TaskModel], draws: Mapping[int, Draws], *, hidden: bool = False
    ) -> None:
        self.models, self.rows = dict(models), Rows()
        self._view = view_of(base)
        self._head_kind, self._pad_id = base.head_kind, base.pad_id
        backbone: Any = self._view.backbone
        adapted: dict[str, dict[int, nn.Module]] = {}
        for number, model in models.items():
            for path, module in adapted_modules(backbone, model.backbone):
                adapted.setdefault(path, {})[number] = module
        names = {id(module): name for name, module in backbone.named_modules()}
        self._layers = [(names[id(block)], block) for block in transformer_blocks(backbone, shape)]
        self._first = self._first_adapted(adapted)
        if hidden:
            with_hidden(backbone)
        for path in sorted(adapted, key=lambda path: -path.count(".")):  # inner modules first, so that outer routers hold them
            parent, _, leaf = path.rpartition(".")
            owner = backbone.get_submodule(parent)
            setattr(owner, leaf, Router(getattr(owner, leaf), adapted[path], tuple(models), self.rows, draws))
        self._fan_out: tuple[int, Tensor, dict[int, Tensor]] | None = None
        for _, layer in self._layers[self._first :]:
            layer.register_forward_pre_hook(self._spread, with_kwargs=True)
        self._view.train()

    def modules(self) -> Iterator[nn.Module]:
        """Those that all trials share, but for layers below the first adapted one, which no backward pass meets."""
        below = {id(module) for _, layer in self._layers[: self._first] for module in layer.modules()}
        return (module for module in self._view.backbone.modules() if id(module) not in below)

    def _first_adapted(self, adapted: Mapping[str, Any]) -> int:
        """The first layer with an adapter; 0 where something outside the layers is adapted, or the model's own head needs its inputs."""
        names = [name for name, _ in self._layers]
        places = [next((i for i, name in enumerate(names) if path.startswith(f"{name}.")), None) for path in adapted]
        if self._head_kind == "own" or None in places:
            return 0
        return min((place for place in places if place is not None), default=len(names))

    def outputs(self, batches: Mapping[int, Batch]) -> dict[int, Tensor]:
        """Of each trial what its model gives for its batch: [n, outputs], for causal_lm [n, tokens kept, vocabulary or width].

        Trials with the same batch (the same object) share the rows below the first adapted layer.
        """
        owners = [number for number in self.models if number in batches]
        distinct = list({id(batches[number]): batches[number] for number in owners}.values())
        shares = self._first > 0 and len(distinct) < len(owners)
        given = distinct if shares else [batches[number] for number in owners]
        merged, first_kept = merge(given, self._pad_id)
        self.rows.counts = {number: len(batches[number]["input_ids"]) for number in owners}
        if shares:
            self._fan_out = (len(merged["input_ids"]), _copies(distinct, [batches[number] for number in owners]), {})
        try:
            with self.rows.of(owners):
                named = self._view.inputs_of(merged)
                output = self._view.backbone(**named)
                hidden = output.last_hidden_state if self._head_kind == "mean" else output.logits
                if self._head_kind == "causal_lm" and hidden.shape[1] == merged["input_ids"].shape[1]:
                    first_kept = 0  # a model that cannot leave out logits
                if self._fan_out is not None and len(hidden) == self._fan_out[0]:
                    hidden = hidden[self._fan_out[1]]
                return {number: self._of(number, hidden, batches[number], first_kept) for number in owners}
        finally:
            self._fan_out = None
            self.rows.forget()

    def _of(self, number: int, hidden: Tensor, batch: Batch, first_kept: int) -> Tensor:
        bounds = dict(zip(self.rows.owners, self.rows.bounds(), strict=False))
        mine = hidden[bounds[number] : bounds[number] + self.rows.counts[number]]
        if self._head_kind == "causal_lm":
            first, last = kept_range(batch)
            return mine[:, first - first_kept : last + 1 - first_kept]
        if self._head_kind == "mean":
            head = self.models[number].head
            assert head is not None
            return head(masked_mean(mine[:, : batch["attention_mask"].shape[1]], batch["attention_mask"]))
        return mine

    def _spread(self, layer: nn.Module, args: Any, kwargs: Any) -> Any:
        """Before an adapted layer: a copy of its rows for each trial, where trials shared them so far."""
        if self._fan_out is None:
            return None
        shared_rows, index, known = self._fan_out

        def spread(tensor: Tensor) -> Tensor:
            if tensor.ndim < 2 or tensor.shape[0] != shared_rows:
                return tensor
            if id(tensor) not in known:
                known[id(tensor)] = tensor.index_select(0, index)
            return known[id(tensor)]

        return each_tensor(args, spread), each_tensor(kwargs, spread)


def adapted_modules(bare: nn.Module, adapted: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """(path, module) of every module of a trial's model that is not what the bare backbone has there.

    Raises NotPackable where inputs of the whole model are changed, or weights of the base model train in place.
    """
    if isinstance(adapted, PeftModel):
        if adapted.active_peft_config.is_prompt_learning:
            raise NotPackable(f"{adapted.active_peft_config.peft_type} puts tokens in front of the whole model")
        adapted = adapted.get_base_model()
    if type(adapted) is not type(bare):
        raise NotPackable(f"{type(adapted).__name__} stands in place of {type(bare).__name__}")
    between: list[Tensor] = []
    waiting = [("", bare, adapted)]
    while waiting:
        path, shared, own = waiting.pop()
        if any(p.requires_grad for p in own.parameters(recurse=False)):
            raise NotPackable(f"weights of {path or 'the model'} train in place")
        for name, child in shared.named_children():
            there, place = getattr(own, name), f"{path}.{name}".lstrip(".")
            if type(there) is not type(child) or there._forward_hooks or there._forward_pre_hooks:
                prompt = prompt_of(there)
                yield place, there if prompt is None else Aside(there, prompt, between)
            else:
                waiting.append((place, child, there))


def _copies(distinct: Sequence[Batch], wanted: Sequence[Batch]) -> Tensor:
    """Row numbers in the merged distinct batches of every trial's rows."""
    starts, at = {}, 0
    for batch in distinct:
        starts[id(batch)] = at
        at += len(batch["input_ids"])
    rows = chain.from_iterable(range(starts[id(b)], starts[id(b)] + len(b["input_ids"])) for b in wanted)
    return numbers(tuple(rows), distinct[0]["input_ids"].device)
