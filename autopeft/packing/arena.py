"""Parameters of all trials in flat buffers, so that one operation updates them all."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autopeft.packing.views import NotPackable
from autopeft_kernels.adamw import BLOCK, Flat, adamw


@dataclass
class Tenant:
    """Parameters of one trial. moments: as flat as its values, None before its first step.
    unused: those that got no gradient at the first step; as in torch's optimisers, they do not decay either."""

    parameters: list[nn.Parameter]
    moments: tuple[Tensor, Tensor] | None = None
    unused: frozenset[int] = frozenset()

    @property
    def blocks(self) -> int:
        return sum(-(-p.numel() // BLOCK) for p in self.parameters)


class Arena:
    """Who has parameters in it changes rarely: then all buffers are laid out again."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._tenants: dict[int, Tenant] = {}
        self._flat: Flat | None = None
        self._fresh: set[int] = set()

    @property
    def numbers(self) -> tuple[int, ...]:
        """Trials in the order in which `step` takes and gives what is each one's own."""
        return tuple(self._tenants)

    def add(self, number: int, parameters: Sequence[nn.Parameter]) -> None:
        """Raises NotPackable where a parameter is not of real numbers in 32 bits."""
        if wrong := {str(p.dtype) for p in parameters if p.dtype != torch.float32}:
            raise NotPackable(f"parameters must be float32, some are {', '.join(sorted(wrong))}")
        self._keep_moments()
        self._tenants[number] = Tenant(list(parameters))
        self._fresh.add(number)

    def remove(self, number: int) -> None:
        """Its parameters keep their values."""
        self._keep_moments()
        for parameter in self._tenants.pop(number).parameters:
            parameter.data, parameter.grad = parameter.data.clone(), None
        self._fresh.discard(number)

    def before_backward(self) -> None:
        """Make ready for gradients; new trials first gather theirs apart, to see which parameters get any."""
        if self._flat is None:
            self._flat = self._lay_out()
        for number in self._fresh:
            for parameter in self._tenants[number].parameters:
                parameter.grad = None

    def clear(self) -> None:
        """Forget gradients of a step that was not made."""
        if self._flat is not None:
            self._flat.gradients.zero_()

    @property
    def settled(self) -> bool:
        """Whether all trials have made a step, so that each further one does the same on the same memory."""
        return self._flat is not None and not self._fresh

    def each(self, values: Mapping[int, float], dtype: torch.dtype) -> Tensor:
        """[G] on the device: a number for each trial, 0 for those that have none."""
        host = torch.tensor([values.get(number, 0) for number in self.numbers], dtype=dtype)
        return (host.pin_memory() if self.device.type == "cuda" else host).to(self.device, non_blocking=True)

    def step(self, present: Collection[int], rates: Tensor, steps: Tensor, decay: float, clip: float) -> Tensor:
        """One AdamW step; the norms of the gradients before clipping, [G]. What trials are, here and below, is in the order of `numbers`.

        present: trials that have gradients. rates: [G] float32, learning rates of this step. steps: [G] int64, which step of a trial it
        is, counted from 1; those at 0 rest. A trial whose norm is not finite stays as it is.
        """
        assert self._flat is not None
        if started := self._fresh.intersection(present):
            self._settle(started)
        return adamw(self._flat, rates, torch.full_like(rates, decay), torch.full_like(rates, clip), steps)

    def _settle(self, started: Collection[int]) -> None:
        """Take the gradients of trials that made their first step into the buffers; what got none does not decay."""
        flat, at = self._flat, 0
        assert flat is not None
        for number, tenant in self._tenants.items():
            if number in started:
                tenant.unused = frozenset(i for i, p in enumerate(tenant.parameters) if p.grad is None)
            for i, parameter in enumerate(tenant.parameters):
                blocks = -(-parameter.numel() // BLOCK)
                if number in started:
                    place = flat.gradients[at * BLOCK :][: parameter.numel()].view_as(parameter)
                    if i in tenant.unused:
                        flat.decays[at : at + blocks] = False
                    else:
                        place.copy_(parameter.grad)
                    parameter.grad = place
                at += blocks
        self._fresh.difference_update(started)

    def _keep_moments(self) -> None:
        """Take the moments out of buffers that will be laid out again."""
        if self._flat is not None:
            for tenant, start, end in zip(self._tenants.values(), self._flat.bounds[:-1], self._flat.bounds[1:], strict=True):
                mine = slice(start * BLOCK, end * BLOCK)
                tenant.moments = self._flat.first[mine].clone(), self._flat.second[mine].clone()
            self._flat = None

    def _lay_out(self) -> Flat:
        bounds = [0]
        for tenant in self._tenants.values():
            bounds.append(bounds[-1] + tenant.blocks)
        values, gradients, first, second = (torch.zeros(bounds[-1] * BLOCK, device=self.device) for _ in range(4))
        decays = torch.zeros(bounds[-1], dtype=torch.bool, device=self.device)
        for tenant, at in zip(self._tenants.values(), bounds[:-1], strict=True):
            if tenant.moments is not None:
                for buffer, moments in zip((first, second), tenant.moments, strict=True):
                    buffer[at * BLOCK :][: len(moments)] = moments
            for i, parameter in enumerate(tenant.parameters):
                place = slice(at * BLOCK, at * BLOCK + parameter.numel())
                values[place] = parameter.data.flatten()
                parameter.data = values[place].view(parameter.shape)
                parameter.grad = gradients[place].view(parameter.shape)
                blocks = -(-parameter.numel() // BLOCK)
                decays[at : at + blocks] = parameter.ndim > 1 and i not in tenant.unused
                at += blocks
        return Flat(values, gradients, first, second, tuple(bounds), decays)
