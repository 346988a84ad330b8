"""Bound: 2 M (K + 2 N) bytes in bf16. A line of entries is walked entry by entry; a tile's rows of x stay in the cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from autopeft_kernels.projections import TYPES
from autopeft_kernels.segments import Bounds, addresses, numbers, power_of_two, spans, tile_table

BLOCK_M, BLOCK_N, BLOCK_E = 32, 64, 64


@triton.jit
def _product(
    x, values, starts, others, entries, table, base, out, K: tl.constexpr, N: tl.constexpr, LONGEST: tl.constexpr, BASE: tl.constexpr,
    WEIGHT: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """out[m, n] = base[m, n] + sum over the entries e of line n of x[m, other[e]] value[e]."""
    trial = tl.load(table + 3 * tl.program_id(0))
    rows = (tl.load(table + 3 * tl.program_id(0) + 1) + tl.arange(0, BLOCK_M)).to(tl.int64)
    inside = rows < tl.load(table + 3 * tl.program_id(0) + 2)
    lines = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    start = tl.load(starts + trial).to(tl.pointer_type(tl.int32))
    first = tl.load(start + lines, mask=lines < N, other=0)
    end = tl.load(start + lines + 1, mask=lines < N, other=0)
    other = tl.load(others + trial).to(tl.pointer_type(tl.int32))
    entry = tl.load(entries + trial).to(tl.pointer_type(tl.int32))
    value = tl.load(values + trial).to(tl.pointer_type(WEIGHT))
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for e in range(0, LONGEST):
        there = first + e < end
        column = tl.load(other + first + e, mask=there, other=0)
        number = tl.load(entry + first + e, mask=there, other=0)
        v = tl.load(value + number, mask=there, other=0.0).to(x.dtype.element_ty).to(tl.float32)
        given = tl.load(x + rows[:, None] * K + column[None, :], mask=inside[:, None] & there[None, :], other=0.0)
        total += given.to(tl.float32) * v[None, :]
    places, there = rows[:, None] * N + lines[None, :], inside[:, None] & (lines < N)[None, :]
    if BASE:
        total += tl.load(base + places, mask=there, other=0.0).to(tl.float32)
    tl.store(out + places, total.to(out.dtype.element_ty), mask=there)


@triton.jit
def _sampled(
    x, dy, rows_of, columns_of, counts, bounds, out, K: tl.constexpr, N: tl.constexpr, E: tl.constexpr, LONGEST: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_E: tl.constexpr,
):  # fmt: skip
    """out[g, e] = sum over the rows m of g of dy[m, row[e]] x[m, column[e]]: the product dy^T x where S_g has entries."""
    trial = tl.program_id(0)
    start, end = tl.load(bounds + trial), tl.load(bounds + trial + 1)
    e = tl.program_id(1) * BLOCK_E + tl.arange(0, BLOCK_E)
    there = e < tl.load(counts + trial)
    row = tl.load(tl.load(rows_of + trial).to(tl.pointer_type(tl.int64)) + e, mask=there, other=0)
    column = tl.load(tl.load(columns_of + trial).to(tl.pointer_type(tl.int64)) + e, mask=there, other=0)
    total = tl.zeros((BLOCK_E,), dtype=tl.float32)
    for first in range(0, LONGEST, BLOCK_M):
        m = start + first + tl.arange(0, BLOCK_M)
        both = (m < end)[:, None] & there[None, :]
        left = tl.load(dy + m[:, None] * N + row[None, :], mask=both, other=0.0).to(tl.float32)
        right = tl.load(x + m[:, None] * K + column[None, :], mask=both, other=0.0).to(tl.float32)
        total += tl.sum(left * right, axis=0)
    tl.store(out + trial * E + e, total, mask=e < E)


def _multiply(x: Tensor, values: Sequence[Tensor], orders: Sequence[Any], bounds: Bounds, wide: int, base: Tensor | None) -> Tensor:
    out = x.new_empty(len(x), wide)
    table = tile_table(bounds, BLOCK_M, x.device)
    if len(table):
        _product[(len(table), triton.cdiv(wide, BLOCK_N))](
            x, addresses(values), addresses([o.starts for o in orders]), addresses([o.others for o in orders]),
            addresses([o.entry for o in orders]), table, x if base is None else base.contiguous(), out,
            K=x.shape[1], N=wide, LONGEST=max(o.longest for o in orders), BASE=base is not None, WEIGHT=TYPES[values[0].dtype],
            BLOCK_M=BLOCK_M, BLOCK_N=BLOCK_N,
        )  # fmt: skip
    return out


class _Sparse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, base: Tensor, x: Tensor, bounds: Bounds, places: Sequence[Any], *values: Tensor) -> Tensor:
        x = x.contiguous()
        ctx.save_for_backward(x, *values)
        ctx.bounds, ctx.places = bounds, places
        return _multiply(x, values, [p.by_row for p in places], bounds, base.shape[1], base).to(base.dtype)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        x, *values = ctx.saved_tensors
        bounds, places = ctx.bounds, ctx.places
        given = dy.to(x.dtype).contiguous()
        dx = _multiply(given, values, [p.by_column for p in places], bounds, x.shape[1], None) if ctx.needs_input_grad[1] else None
        counts = tuple(map(len, values))
        found = torch.empty(len(values), max(counts), dtype=torch.float32, device=x.device)
        longest = max(end - start for start, end in spans(bounds))
        _sampled[(len(values), triton.cdiv(max(counts), BLOCK_E))](
            x, given, addresses([p.rows for p in places]), addresses([p.columns for p in places]), numbers(counts, x.device),
            numbers(tuple(bounds), x.device), found, K=x.shape[1], N=dy.shape[1], E=max(counts),
            LONGEST=power_of_two(longest, BLOCK_M) if longest else 0, BLOCK_M=BLOCK_M, BLOCK_E=BLOCK_E,
        )  # fmt: skip
        gradients = [found[g, :count].to(values[g].dtype) for g, count in enumerate(counts)]
        return (dy if ctx.needs_input_grad[0] else None, dx, None, None, *gradients)


def sparse(base: Tensor, x: Tensor, values: Sequence[Tensor], places: Sequence[Any], bounds: Bounds) -> Tensor:
    """base [M, N], x [M, K], values [G] of [E_g], places [G] of `Places` -> [M, N]."""
    return _Sparse.apply(base, x, bounds, places, *values)
