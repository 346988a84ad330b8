"""Parts: what an adapter type puts on one module of the base model.

A part is called in place of the module and calls it itself, so that it may change what goes in, what
comes out, or what happens between. Several parts on one module nest, the lowest `depth` innermost:

    h = W x + s B A x         LoRA, which belongs to the weights
    h + U f(D h)              serial reads what they give
      + U' f(D' x')           parallel reads the input x' of the sub-layer, and nothing of the others
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

Call = Callable[..., Any]


class Part(nn.Module):
    """depth: order of parts on one module, innermost first.
    mergeable: whether it is a change of the module's weight."""

    depth: ClassVar[int] = 0
    mergeable: ClassVar[bool] = False

    def forward(self, call: Call, *args: Any, **kwargs: Any) -> Any:
        """call: the module, or the next inner part around it."""
        raise NotImplementedError

    def weight_change(self) -> Tensor:
        """[d_out, d_in] what merging adds to the weight; of parts that are `mergeable`."""
        raise NotImplementedError


class LoraPart(Part):
    """W x + (alpha / rank) B A x, in numbers and initialisation as in peft's LoRA without dropout."""

    mergeable = True

    def __init__(self, d_in: int, rank: int, d_out: int, alpha: float) -> None:
        super().__init__()
        self.A = nn.Linear(d_in, rank, bias=False)
        self.B = nn.Linear(rank, d_out, bias=False)
        self.scaling = alpha / rank
        nn.init.kaiming_uniform_(self.A.weight, a=math.sqrt(5))
        nn.init.zeros_(self.B.weight)

    def forward(self, call: Call, x: Tensor) -> Tensor:
        h = call(x)
        out: Tensor = h + self.B(self.A(x.to(self.A.weight.dtype))) * self.scaling
        return out.to(h.dtype)

    def weight_change(self) -> Tensor:
        return (self.B.weight @ self.A.weight) * self.scaling


class Bottleneck(nn.Module):
    """U relu(D x): [..., d_in] -> [..., d_out], zero at the start."""

    def __init__(self, d_in: int, size: int, d_out: int, bias: bool) -> None:
        super().__init__()
        self.down = nn.Linear(d_in, size, bias=bias)
        self.up = nn.Linear(size, d_out, bias=bias)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        for start_at_zero in (self.up.weight, self.down.bias, self.up.bias):
            if start_at_zero is not None:
                nn.init.zeros_(start_at_zero)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(F.relu(self.down(x.to(self.down.weight.dtype)))).to(x.dtype)


class SerialPart(Part):
    """h + U f(D h) for the output h of a module."""

    depth = 1

    def __init__(self, d_in: int, size: int, d_out: int, bias: bool) -> None:
        super().__init__()
        self.bottleneck = Bottleneck(d_in, size, d_out, bias)

    def forward(self, call: Call, x: Tensor) -> Tensor:
        h = call(x)
        return h + self.bottleneck(h)


class TapPart(Part):
    """Keeps the input of the module with which a sub-layer starts, until the sub-layer ends."""

    depth = 2

    def __init__(self) -> None:
        super().__init__()
        self.kept: Tensor | None = None

    def forward(self, call: Call, x: Tensor) -> Tensor:
        self.kept = x
        return call(x)

    def take(self) -> Tensor:
        if self.kept is None:
            raise RuntimeError("a parallel bottleneck was reached before the sub-layer whose input it reads")
        kept, self.kept = self.kept, None
        return kept


class ParallelPart(Part):
    """h + U f(D x) for the output h of a sub-layer's last module and the sub-layer's input x."""

    depth = 2

    def __init__(self, tap: TapPart, d_in: int, size: int, d_out: int, bias: bool) -> None:
        super().__init__()
        self.bottleneck = Bottleneck(d_in, size, d_out, bias)
        self._tap = [tap]  # in a list, so that it is not registered as a child: it belongs to another module

    def forward(self, call: Call, x: Tensor) -> Tensor:
        return call(x) + self.bottleneck(self._tap[0].take())


def merge(parts: list[Part], module: nn.Module, sign: int, check_finite: bool = False) -> None:
    """Add (sign 1) or take away (sign -1) the weight changes of `parts` in place.

    Raises ValueError where the module has no plain weight (a quantised base) or, if asked, where the
    result would not be finite; the weight is then as it was.
    """
    if not isinstance(module, (nn.Linear, Conv1D)) or not module.weight.is_floating_point():
        raise ValueError(f"cannot merge into {type(module).__name__}: its weight is not a plain matrix")
    with torch.no_grad():
        change = sum((part.weight_change() for part in parts), torch.zeros((), device=module.weight.device)) * sign
        if isinstance(module, Conv1D):
            change = change.T
        merged = module.weight + change.to(module.weight.dtype)
        if check_finite and not merged.isfinite().all():
            raise ValueError("merging would give weights that are not finite")
        module.weight.copy_(merged)
