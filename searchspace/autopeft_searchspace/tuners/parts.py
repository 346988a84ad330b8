"""Parts: what an adapter type puts on one module of the base model.

A part is called in place of the module and calls it itself, so that it may change what goes in, what
comes out, or what happens between. Several parts on one module nest, the lowest `depth` innermost:

    h = W x + s B A x         LoRA, which belongs to the weights
    h + U f(D h)              serial reads what they give
      + U' f(D' x')           parallel reads the input x' of the sub-layer, and nothing of the others
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.activations import ACT2FN
from transformers.pytorch_utils import Conv1D

Call = Callable[..., Any]
TOLERANCE = 1e-3
"""Share of the largest output by which a merged module may differ from what was merged."""


class Part(nn.Module):
    """depth: order of parts on one module, innermost first.
    mergeable: whether, for given weights, the module and the part together are a linear module."""

    depth: int = 0
    mergeable: bool = False

    def forward(self, call: Call, *args: Any, **kwargs: Any) -> Any:
        """call: the module, or the next inner part around it."""
        raise NotImplementedError

    @property
    def title(self) -> str:
        return type(self).__name__.removesuffix("Part").lower()

    def freeze(self) -> None:
        """Let those of its parameters not train that never do."""


Linear = Callable[[int, int, bool], nn.Module]
"""Makes a linear map of (features in, features out, bias)."""
SMALL = 1e-2
"""Standard deviation of weights that start small (Houlsby et al. 2019, section 3.6)."""


class Bottleneck(nn.Module):
    """U f(D x): [..., d_in] -> [..., d_out], with a layer norm before D if asked; zero at the start unless `small`.

    activation: f, by its name in transformers. linear: how D and U are made; theirs is to have a
    `weight` and a `bias`, or a `start_at_zero` of their own.
    """

    def __init__(
        self,
        d_in: int,
        size: int,
        d_out: int,
        bias: bool,
        *,
        activation: str = "relu",
        norm: bool = False,
        small: bool = False,
        linear: Linear = nn.Linear,
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_in) if norm else None
        self.down: Any = linear(d_in, size, bias)
        self.up: Any = linear(size, d_out, bias)
        self.activation = ACT2FN[activation]
        if isinstance(self.up, nn.Linear):
            nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
            nn.init.zeros_(self.up.weight)
        else:
            self.up.start_at_zero()
        for start_at_zero in (self.down.bias, self.up.bias):
            if start_at_zero is not None:
                nn.init.zeros_(start_at_zero)
        if small:
            nn.init.normal_(self.down.weight, std=SMALL)
            nn.init.normal_(self.up.weight, std=SMALL)

    def forward(self, x: Tensor) -> Tensor:
        h = x.to(next(self.parameters()).dtype)
        if self.norm is not None:
            h = self.norm(h)
        out: Tensor = self.up(self.activation(self.down(h)))
        return out.to(x.dtype)


class Kronecker(nn.Module):
    """A linear map whose weight is sum_i A_i (x) s_i t_i: A [n, n, n] shared, s [n, d_out / n] and t [n, d_in / n] its own.

    Mahabadi et al., NeurIPS 2021 (arXiv 2106.04647), equations 4 and 5.
    """

    def __init__(self, shared: nn.Parameter, d_in: int, d_out: int, bias: bool) -> None:
        super().__init__()
        n = len(shared)
        self.shared = shared
        self.s = nn.Parameter(torch.randn(n, d_out // n) / math.sqrt(n))
        self.t = nn.Parameter(torch.randn(n, d_in // n) * math.sqrt(n / d_in))
        self.bias = nn.Parameter(torch.zeros(d_out)) if bias else None

    def start_at_zero(self) -> None:
        nn.init.zeros_(self.s)

    def forward(self, x: Tensor) -> Tensor:
        weight = torch.einsum("iab,ic,id->acbd", self.shared, self.s, self.t).reshape(self.s.numel(), self.t.numel())
        return F.linear(x, weight, self.bias)


class SerialPart(Part):
    """h + U f(D h) for the output h of a module."""

    depth = 1

    def __init__(self, bottleneck: Bottleneck) -> None:
        super().__init__()
        self.bottleneck = bottleneck

    def forward(self, call: Call, x: Tensor) -> Tensor:
        h = call(x)
        return h + self.bottleneck(h)


class HydraPart(Part):
    """h + s B A x + s B' A' h for the output h of a module and its input x; B and B' zero at the start."""

    mergeable = True

    def __init__(self, d_in: int, rank: int, d_out: int, scaling: float) -> None:
        super().__init__()
        self.scaling = scaling
        self.beside = nn.ModuleList([nn.Linear(d_in, rank, bias=False), nn.Linear(rank, d_out, bias=False)])
        self.behind = nn.ModuleList([nn.Linear(d_out, rank, bias=False), nn.Linear(rank, d_out, bias=False)])
        for down, up in (self.beside, self.behind):
            nn.init.kaiming_uniform_(down.weight, a=math.sqrt(5))
            nn.init.zeros_(up.weight)

    def forward(self, call: Call, x: Tensor) -> Tensor:
        h: Tensor = call(x)
        added = [up(down(given.to(down.weight.dtype))) for (down, up), given in ((self.beside, x), (self.behind, h))]
        return h + (self.scaling * (added[0] + added[1])).to(h.dtype)


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

    def __init__(self, tap: TapPart, bottleneck: Bottleneck) -> None:
        super().__init__()
        self.bottleneck = bottleneck
        self._tap = [tap]  # in a list, so that it is not registered as a child: it belongs to another module

    def forward(self, call: Call, x: Tensor) -> Tensor:
        return call(x) + self.bottleneck(self._tap[0].take())


def merged(parts: Sequence[Part], module: nn.Module, check_finite: bool = False) -> tuple[Tensor, Tensor | None]:
    """Weight and bias, laid out as the module's own, with which it does what it now does with `parts` around it.

    Read off the function itself: its values at the unit vectors, less its value at zero. Raises
    ValueError where the module has no plain weight (a quantised base), where the result would not be
    finite, if that is asked, and where the function turns out not to be that of one linear module.
    """
    if not isinstance(module, (nn.Linear, Conv1D)) or not module.weight.is_floating_point():
        raise ValueError(f"cannot merge into {type(module).__name__}: its weight is not a plain matrix")
    call: Call = module
    for part in parts:
        call = partial(part.__call__, call)
    training = [part for part in parts if part.training]
    for part in training:
        part.eval()
    with torch.no_grad():
        weight = module.weight.T if isinstance(module, Conv1D) else module.weight
        constant = call(weight.new_zeros(1, weight.shape[1]))
        change = (call(torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device)) - constant).T
        bias = constant[0]
        probe = torch.linspace(-1, 1, 4 * weight.shape[1], dtype=weight.dtype, device=weight.device).view(4, -1)
        expected, found = call(probe), F.linear(probe, change, bias)
    for part in training:
        part.train()
    if not (change.isfinite().all() and bias.isfinite().all()):
        if check_finite:
            raise ValueError("merging would give weights that are not finite")
    elif (expected - found).abs().max() > TOLERANCE * (1 + expected.abs().max()):
        raise ValueError(f"{', '.join(type(part).__name__ for part in parts)} around {type(module).__name__} is not a linear module")
    if module.bias is None and bias.abs().max() > TOLERANCE * (1 + expected.abs().max()):
        raise ValueError(f"merging needs a bias, which {type(module).__name__} does not have")
    return (change.T if isinstance(module, Conv1D) else change).contiguous(), None if module.bias is None else bias
