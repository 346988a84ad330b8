"""Between wide rows and the narrow hidden rows of adapters, each trial with its own weights and width.

    shrink  h[m, r] = f(s_g sum_k x[m, k] W_g[r, k] + b_g[r])       [M, K] -> [M, R]
    expand  y[m, n] = base[m, n] + sum_r h[m, r] W_g[n, r] + b_g[n]  [M, R] -> [M, N]

Weights are read where they stand, by address: each trial has its own width, of at most R. Where `across`,
weights are stored the other way round, as [K, width] to shrink and [width, N] to expand, which makes
backward passes out of the same two kernels. Narrow rows beyond a trial's width are zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from autopeft_kernels.activations import activate
from autopeft_kernels.dispatch import interpreted
from autopeft_kernels.segments import Bounds, addresses, numbers, power_of_two, tile_table

BLOCK_M, BLOCK_K, BLOCK_N = 32, 64, 64
MOST_NARROW = 64
TYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


@triton.jit
def _shrink(
    x, weights, biases, scaling, widths, table, out, K: tl.constexpr, R: tl.constexpr, KIND: tl.constexpr, BIAS: tl.constexpr,
    ACROSS: tl.constexpr, WEIGHT: tl.constexpr, UPCAST: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    trial = tl.load(table + 3 * tl.program_id(0))
    rows = tl.load(table + 3 * tl.program_id(0) + 1) + tl.arange(0, BLOCK_M)
    inside = rows < tl.load(table + 3 * tl.program_id(0) + 2)
    narrow = tl.program_id(1) * BLOCK_R + tl.arange(0, BLOCK_R)
    width = tl.load(widths + trial)
    weight = tl.load(weights + trial).to(tl.pointer_type(WEIGHT))
    total = tl.zeros((BLOCK_M, BLOCK_R), dtype=tl.float32)
    row_starts = rows.to(tl.int64)[:, None] * K
    for first in range(0, K, BLOCK_K):
        wide = first + tl.arange(0, BLOCK_K)
        tile = tl.load(x + row_starts + wide[None, :], mask=inside[:, None] & (wide < K)[None, :], other=0.0)
        places = wide[:, None] * width + narrow[None, :] if ACROSS else narrow[None, :] * K + wide[:, None]
        part = tl.load(weight + places, mask=(wide < K)[:, None] & (narrow < width)[None, :], other=0.0).to(tile.dtype)
        if UPCAST:
            total += tl.dot(tile.to(tl.float32), part.to(tl.float32), input_precision="ieee")
        else:
            total += tl.dot(tile, part, input_precision="ieee")
    total *= tl.load(scaling + trial)
    if BIAS:
        bias = tl.load(biases + trial).to(tl.pointer_type(WEIGHT))
        total += tl.load(bias + narrow, mask=narrow < width, other=0.0).to(tl.float32)[None, :]
    total = tl.where((narrow < width)[None, :], activate(total, KIND), 0.0)
    places = rows.to(tl.int64)[:, None] * R + narrow[None, :]
    tl.store(out + places, total.to(out.dtype.element_ty), mask=inside[:, None] & (narrow < R)[None, :])


@triton.jit
def _expand(
    h, weights, biases, widths, table, base, out, N: tl.constexpr, R: tl.constexpr, BASE: tl.constexpr, BIAS: tl.constexpr,
    ACROSS: tl.constexpr, WEIGHT: tl.constexpr, UPCAST: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    trial = tl.load(table + 3 * tl.program_id(0))
    rows = tl.load(table + 3 * tl.program_id(0) + 1) + tl.arange(0, BLOCK_M)
    inside = rows < tl.load(table + 3 * tl.program_id(0) + 2)
    wide = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    width = tl.load(widths + trial)
    weight = tl.load(weights + trial).to(tl.pointer_type(WEIGHT))
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for first in range(0, R, BLOCK_R):
        narrow = first + tl.arange(0, BLOCK_R)
        tile = tl.load(h + rows.to(tl.int64)[:, None] * R + narrow[None, :], mask=inside[:, None] & (narrow < R)[None, :], other=0.0)
        places = narrow[:, None] * N + wide[None, :] if ACROSS else wide[None, :] * width + narrow[:, None]
        part = tl.load(weight + places, mask=(narrow < width)[:, None] & (wide < N)[None, :], other=0.0).to(tile.dtype)
        if UPCAST:
            total += tl.dot(tile.to(tl.float32), part.to(tl.float32), input_precision="ieee")
        else:
            total += tl.dot(tile, part, input_precision="ieee")
    if BIAS:
        bias = tl.load(biases + trial).to(tl.pointer_type(WEIGHT))
        total += tl.load(bias + wide, mask=wide < N, other=0.0).to(tl.float32)[None, :]
    places, there = rows.to(tl.int64)[:, None] * N + wide[None, :], inside[:, None] & (wide < N)[None, :]
    if BASE:
        total += tl.load(base + places, mask=there, other=0.0).to(tl.float32)
    tl.store(out + places, total.to(out.dtype.element_ty), mask=there)


def shrink(
    x: Tensor,
    weights: Sequence[Tensor],
    bounds: Bounds,
    scaling: Tensor,
    *,
    across: bool = False,
    biases: Sequence[Tensor] = (),
    kind: str = "none",
) -> Tensor:
    """x [M, K], weights [width, K] (or [K, width] across), scaling [G] float32, biases [width] -> h [M, R]."""
    widths = tuple(weight.shape[1 if across else 0] for weight in weights)
    x, most = x.contiguous(), max(widths)
    out = x.new_empty(len(x), most)
    table = tile_table(bounds, BLOCK_M, x.device)
    block_r = min(MOST_NARROW, power_of_two(most))
    if len(table):
        _shrink[(len(table), triton.cdiv(most, block_r))](
            x, addresses(weights), addresses(biases or weights), scaling, numbers(widths, x.device), table, out,
            K=x.shape[1], R=most, KIND=kind, BIAS=bool(biases), ACROSS=across, WEIGHT=TYPES[weights[0].dtype], UPCAST=interpreted(),
            BLOCK_M=BLOCK_M, BLOCK_K=BLOCK_K, BLOCK_R=block_r,
        )  # fmt: skip
    return out


def expand(
    h: Tensor,
    weights: Sequence[Tensor],
    bounds: Bounds,
    base: Tensor | None = None,
    *,
    across: bool = False,
    biases: Sequence[Tensor] = (),
) -> Tensor:
    """h [M, R], weights [N, width] (or [width, N] across), base [M, N] or None, biases [N] -> y [M, N]."""
    widths = tuple(weight.shape[0 if across else 1] for weight in weights)
    wide = weights[0].shape[1 if across else 0]
    out = h.new_empty(len(h), wide)
    table = tile_table(bounds, BLOCK_M, h.device)
    if len(table):
        _expand[(len(table), triton.cdiv(wide, BLOCK_N))](
            h, addresses(weights), addresses(biases or weights), numbers(widths, h.device), table,
            h if base is None else base.contiguous(), out,
            N=wide, R=h.shape[1], BASE=base is not None, BIAS=bool(biases), ACROSS=across, WEIGHT=TYPES[weights[0].dtype],
            UPCAST=interpreted(), BLOCK_M=BLOCK_M, BLOCK_N=BLOCK_N, BLOCK_R=min(MOST_NARROW, power_of_two(h.shape[1])),
        )  # fmt: skip
    return out
