"""Bound: 2 M (K + 2 N) bytes in bf16 forward, as for a low-rank update of the same size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from autopeft_kernels.activations import activate, slope
from autopeft_kernels.outer import outer
from autopeft_kernels.projections import expand, shrink
from autopeft_kernels.segments import Bounds

BLOCK = 1024


@triton.jit
def _through(before, given, hidden, passed, COUNT, KIND: tl.constexpr, BLOCK: tl.constexpr):
    """hidden = f(before), passed = given f'(before)."""
    places = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = places < COUNT
    x = tl.load(before + places, mask=there, other=0.0).to(tl.float32)
    d = tl.load(given + places, mask=there, other=0.0).to(tl.float32)
    tl.store(hidden + places, activate(x, KIND).to(hidden.dtype.element_ty), mask=there)
    tl.store(passed + places, (d * slope(x, KIND)).to(passed.dtype.element_ty), mask=there)


class _Bottleneck(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, base: Tensor, x: Tensor, bounds: Bounds, activation: str, biased: tuple[bool, bool], *weights: Tensor) -> Tensor:
        ctx.save_for_backward(x, *weights)
        ctx.bounds, ctx.activation, ctx.biased = bounds, activation, biased
        down, up, down_bias, up_bias = _parted(weights, len(bounds) - 1, biased)
        h = shrink(x, down, bounds, biases=down_bias, kind=activation)
        return expand(h, up, bounds, base, biases=up_bias).to(base.dtype)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        x, *weights = ctx.saved_tensors
        bounds = ctx.bounds
        down, up, down_bias, up_bias = _parted(weights, len(bounds) - 1, ctx.biased)
        given = dy.to(x.dtype).contiguous()
        before = shrink(x, down, bounds, biases=down_bias)
        dh = shrink(given, up, bounds, across=True)
        hidden, passed = torch.empty_like(before), torch.empty_like(before)
        _through[(triton.cdiv(max(1, before.numel()), BLOCK),)](
            before, dh, hidden, passed, before.numel(), KIND=ctx.activation, BLOCK=BLOCK
        )
        of_down, of_up = outer(passed, x, bounds), outer(hidden, given, bounds)
        dx = expand(passed, down, bounds, across=True) if ctx.needs_input_grad[1] else None
        gradients = [of_down[g, : w.shape[0]].to(w.dtype) for g, w in enumerate(down)]
        gradients += [of_up[g, : w.shape[1]].T.to(w.dtype) for g, w in enumerate(up)]
        for biases, rows in ((down_bias, passed), (up_bias, given)):
            if biases:
                sums = outer(torch.ones(len(rows), 1, dtype=rows.dtype, device=rows.device), rows, bounds)
                gradients += [sums[g, 0, : len(bias)].to(bias.dtype) for g, bias in enumerate(biases)]
        return (dy if ctx.needs_input_grad[0] else None, dx, None, None, None, *gradients)


def _parted(weights: Sequence[Tensor], trials: int, biased: tuple[bool, bool]) -> tuple[Sequence[Tensor], ...]:
    """down, up, biases of down and of up; an empty list where there are none."""
    lists = iter([weights[at : at + trials] for at in range(0, len(weights), trials)])
    return (next(lists), next(lists), next(lists) if biased[0] else (), next(lists) if biased[1] else ())


def bottleneck(
    base: Tensor,
    x: Tensor,
    down: Sequence[Tensor],
    up: Sequence[Tensor],
    bounds: Bounds,
    *,
    down_bias: Sequence[Tensor] = (),
    up_bias: Sequence[Tensor] = (),
    activation: str = "relu",
) -> Tensor:
    """base [M, N], x [M, K], down [G] of [size, K], up [G] of [N, size], biases of [size] and [N] -> [M, N]."""
    biased = bool(down_bias), bool(up_bias)
    return _Bottleneck.apply(base, x, bounds, activation, biased, *down, *up, *down_bias, *up_bias)
