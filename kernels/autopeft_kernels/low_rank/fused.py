"""Bound: x is read once and y written once over its base, 2 M (K + 2 N) bytes in bf16."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from autopeft_kernels.gradients import add_to, gradients_of
from autopeft_kernels.outer import outer
from autopeft_kernels.projections import expand, shrink
from autopeft_kernels.segments import Bounds


class _LowRank(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, base: Tensor, x: Tensor, scaling: Tensor, bounds: Bounds, sums: list[Tensor] | None, *weights: Tensor) -> Tensor:
        a, b = weights[: len(weights) // 2], weights[len(weights) // 2 :]
        h = shrink(x, a, bounds, scaling)
        ctx.save_for_backward(x, h, scaling, *weights)
        ctx.bounds, ctx.sums = bounds, sums
        return expand(h, b, bounds, base).to(base.dtype)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        x, h, scaling, *weights = ctx.saved_tensors
        a, b = weights[: len(weights) // 2], weights[len(weights) // 2 :]
        given = dy.to(x.dtype).contiguous()
        dh = shrink(given, b, ctx.bounds, scaling, across=True)
        of_b = outer(h, given, ctx.bounds)  # right after the first read of dy, part of which is still in the cache
        dx = expand(dh, a, ctx.bounds, across=True) if ctx.needs_input_grad[1] else None
        of_a = outer(dh, x, ctx.bounds)
        inputs = (dy if ctx.needs_input_grad[0] else None, dx, None, None, None)
        if ctx.sums is not None:
            add_to(ctx.sums[: len(a)], of_a)
            add_to(ctx.sums[len(a) :], of_b, across=True)
            return (*inputs, *(None for _ in weights))
        da = [of_a[g, : down.shape[0]].to(down.dtype) for g, down in enumerate(a)]
        db = [of_b[g, : up.shape[1]].T.to(up.dtype) for g, up in enumerate(b)]
        return (*inputs, *da, *db)


def low_rank(
    base: Tensor, x: Tensor, a: Sequence[Tensor], b: Sequence[Tensor], scaling: Tensor, bounds: Bounds, *, accumulates: bool = False
) -> Tensor:
    """base [M, N], x [M, K], a [G] of [rank, K], b [G] of [N, rank], scaling [G] -> [M, N]."""
    sums = gradients_of([*a, *b]) if accumulates else None
    return _LowRank.apply(base, x, scaling, bounds, sums, *a, *b)
