"""Frozen weights in bfloat16, made once for a trial and not in every step.

Autocast casts the float32 weights of a linear layer each time it runs: it remembers those that train within a step, never
those that are frozen. The copies made here are the ones it would make, so that numbers are the same, bit for bit; and
above the first adapted layer it holds its own copies until the backward pass anyway, so that no more memory is taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

HALF = torch.bfloat16


class Casts:
    """device_type: of the weights. A copy is kept as long as a module uses it, since a weight may change in between; weights that
    are shared have one."""

    def __init__(self, device_type: str) -> None:
        self.device_type, self.paused = device_type, False
        self._copies: WeakValueDictionary[int, Tensor] = WeakValueDictionary()
        self._modules: list[nn.Module] = []

    def put_on(self, modules: Iterable[nn.Module]) -> None:
        """Let the frozen float32 linear layers among `modules` use copies wherever autocast would make them.

        Their weights must not change until `take_off`.
        """
        for module in modules:
            if type(module) not in (nn.Linear, Conv1D) or "forward" in vars(module):
                continue
            tensors = [tensor for tensor in (module.weight, module.bias) if tensor is not None]
            if all(tensor.dtype is torch.float32 and not tensor.requires_grad for tensor in tensors):
                module.forward = _Cast(self, module, *map(self._copy, tensors))
                self._modules.append(module)

    def take_off(self, modules: Iterable[nn.Module] | None = None) -> None:
        """Leave these modules, or all, as they were."""
        wanted = {id(module) for module in (self._modules if modules is None else modules)}
        for module in self._modules:
            if id(module) in wanted:
                del module.forward
        self._modules = [module for module in self._modules if id(module) not in wanted]

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Within this all run as they would without."""
        self.paused = True
        try:
            yield
        finally:
            self.paused = False

    def _copy(self, tensor: Tensor) -> Tensor:
        copied = self._copies.get(id(tensor))
        if copied is None:
            copied = self._copies[id(tensor)] = tensor.detach().to(HALF)
        return copied


class _Cast:
    """The forward of a linear layer with its copies."""

    def __init__(self, casts: Casts, module: Any, weight: Tensor, bias: Tensor | None = None) -> None:
        self._casts, self._module, self._weight, self._bias = casts, module, weight, bias

    def __call__(self, x: Tensor) -> Tensor:
        device = self._casts.device_type
        as_ever = self._casts.paused or not torch.is_autocast_enabled(device) or torch.get_autocast_dtype(device) is not HALF
        if as_ever or self._module.weight.requires_grad:
            out: Tensor = type(self._module).forward(self._module, x)
            return out
        if isinstance(self._module, Conv1D):
            return torch.addmm(self._bias, x.view(-1, x.size(-1)), self._weight).view(*x.shape[:-1], self._module.nf)
        return F.linear(x, self._weight, self._bias)
