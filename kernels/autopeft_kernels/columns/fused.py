"""Bound: 2 M (C + 2 N) bytes in bf16, as only the chosen columns of x are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from autopeft_kernels.outer import outer
from autopeft_kernels.projections import expand, narrow_width, shrink
from autopeft_kernels.segments import Bounds, addresses, numbers, power_of_two, tile_table

BLOCK_M = 32


@triton.jit
def _move(
    wide, narrow, chosen, counts, table, K: tl.constexpr, R: tl.constexpr, BACK: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    """narrow[m, c] = wide[m, chosen_g[c]], zero beyond a trial's columns; with BACK the other way round."""
    trial = tl.load(table + 3 * tl.program_id(0))
    rows = tl.load(table + 3 * tl.program_id(0) + 1) + tl.arange(0, BLOCK_M)
    inside = rows < tl.load(table + 3 * tl.program_id(0) + 2)
    c = tl.program_id(1) * BLOCK_R + tl.arange(0, BLOCK_R)
    there = c < tl.load(counts + trial)
    index = tl.load(tl.load(chosen + trial).to(tl.pointer_type(tl.int64)) + c, mask=there, other=0)
    places, narrow_places = rows.to(tl.int64)[:, None] * K + index[None, :], rows.to(tl.int64)[:, None] * R + c[None, :]
    if BACK:
        found = tl.load(narrow + narrow_places, mask=inside[:, None] & there[None, :], other=0.0)
        tl.store(wide + places, found, mask=inside[:, None] & there[None, :])
    else:
        found = tl.load(wide + places, mask=inside[:, None] & there[None, :], other=0.0)
        tl.store(narrow + narrow_places, found, mask=inside[:, None] & (c < R)[None, :])


def _run(wide: Tensor, narrow: Tensor, chosen: Sequence[Tensor], bounds: Bounds, *, back: bool) -> None:
    table = tile_table(bounds, BLOCK_M, wide.device)
    block = min(64, power_of_two(narrow.shape[1]))
    if len(table):
        _move[(len(table), triton.cdiv(narrow.shape[1], block))](
            wide, narrow, addresses(chosen), numbers(tuple(map(len, chosen)), wide.device), table,
            K=wide.shape[1], R=narrow.shape[1], BACK=back, BLOCK_M=BLOCK_M, BLOCK_R=block,
        )  # fmt: skip


class _Columns(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, base: Tensor, x: Tensor, bounds: Bounds, chosen: Sequence[Tensor], *weights: Tensor) -> Tensor:
        x = x.contiguous()
        h = x.new_empty(len(x), narrow_width(list(map(len, chosen))))
        _run(x, h, chosen, bounds, back=False)
        ctx.save_for_backward(h, *weights)
        ctx.bounds, ctx.chosen, ctx.shape = bounds, chosen, x.shape
        return expand(h, weights, bounds, base).to(base.dtype)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        h, *weights = ctx.saved_tensors
        given = dy.to(h.dtype).contiguous()
        dx = None
        if ctx.needs_input_grad[1]:
            dx = h.new_zeros(ctx.shape)
            _run(dx, shrink(given, weights, ctx.bounds, across=True), ctx.chosen, ctx.bounds, back=True)
        found = outer(h, given, ctx.bounds)
        gradients = [found[g, : w.shape[1]].T.to(w.dtype) for g, w in enumerate(weights)]
        return (dy if ctx.needs_input_grad[0] else None, dx, None, None, *gradients)


def columns(base: Tensor, x: Tensor, weights: Sequence[Tensor], chosen: Sequence[Tensor], bounds: Bounds) -> Tensor:
    """base [M, N], x [M, K], weights [G] of [N, C_g], chosen [G] of [C_g] int64 -> [M, N]."""
    return _Columns.apply(base, x, bounds, chosen, *weights)
