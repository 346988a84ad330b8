"""Between wide rows and the narrow hidden rows of adapters, each trial with its own weights and width.

    shrink  h[m, r] = f(s_g sum_k x[m, k] W_g[r, k] + b_g[r])       [M, K] -> [M, R]
    expand  y[m, n] = base[m, n] + sum_r h[m, r] W_g[n, r] + b_g[n]  [M, R] -> [M, N]

Weights are read where they stand, by address: each trial has its own width, of at most R. Where `across`,
weights are stored the other way round, as [K, width] to shrink and [width, N] to expand, which makes
backward passes out of the same two kernels. Narrow rows beyond a trial's width are zero; R is rounded up so that
narrow rows are read in whole vectors and few shapes are compiled.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from autopeft_kernels.activations import activate
from autopeft_kernels.dispatch import interpreted
from autopeft_kernels.segments import Bounds, addresses, common_step, numbers, power_of_two, tile_table

MOST_NARROW = 64
MANY_ROWS = 6144
"""From here on tiles of 64 rows keep an H100's 132 processors busy, and weights are read half as often as with 32."""
TYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


@triton.jit
def _shrink(
    x, weights, biases, scaling, widths, table, out, K: tl.constexpr, R: tl.constexpr, KIND: tl.constexpr, SCALED: tl.constexpr,
    BIAS: tl.constexpr, ACROSS: tl.constexpr, WEIGHT: tl.constexpr, ALIGNED: tl.constexpr, STEP: tl.constexpr, UPCAST: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    tile_of = table + 3 * tl.program_id(1)
    trial = tl.load(tile_of)
    rows = tl.load(tile_of + 1) + tl.arange(0, BLOCK_M)
    inside = rows < tl.load(tile_of + 2)
    narrow = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    width = tl.multiple_of(tl.load(widths + trial), STEP)
    weight = tl.multiple_of(tl.load(weights + trial).to(tl.pointer_type(WEIGHT)), ALIGNED)
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
            total = tl.dot(tile, part, total, input_precision="ieee")
    if SCALED:
        total *= tl.load(scaling + trial)
    if BIAS:
        bias = tl.load(biases + trial).to(tl.pointer_type(WEIGHT))
        total += tl.load(bias + narrow, mask=narrow < width, other=0.0).to(tl.float32)[None, :]
    total = tl.where((narrow < width)[None, :], activate(total, KIND), 0.0)
    tl.store(out + rows.to(tl.int64)[:, None] * R + narrow[None, :], total.to(out.dtype.element_ty), mask=inside[:, None])


@triton.jit
def _expand(
    h, weights, biases, widths, table, base, out, N: tl.constexpr, R: tl.constexpr, BASE: tl.constexpr, BIAS: tl.constexpr,
    ACROSS: tl.constexpr, WEIGHT: tl.constexpr, ALIGNED: tl.constexpr, STEP: tl.constexpr, UPCAST: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    tile_of = table + 3 * tl.program_id(1)
    rows = (tl.load(tile_of + 1) + tl.arange(0, BLOCK_M)).to(tl.int64)
    inside = rows < tl.load(tile_of + 2)
    wide = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    places, there = rows[:, None] * N + wide[None, :], inside[:, None] & (wide < N)[None, :]
    if BASE:  # asked for first, so that the longest read waits while addresses are still being followed
        below = tl.load(base + places, mask=there, other=0.0)
    trial = tl.load(tile_of)
    width = tl.multiple_of(tl.load(widths + trial), STEP)
    weight = tl.multiple_of(tl.load(weights + trial).to(tl.pointer_type(WEIGHT)), ALIGNED)
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for first in range(0, R, BLOCK_R):
        narrow = first + tl.arange(0, BLOCK_R)
        tile = tl.load(h + rows[:, None] * R + narrow[None, :], mask=inside[:, None] & (narrow < R)[None, :], other=0.0)
        at = narrow[:, None] * N + wide[None, :] if ACROSS else wide[None, :] * width + narrow[:, None]
        part = tl.load(weight + at, mask=(narrow < width)[:, None] & (wide < N)[None, :], other=0.0).to(tile.dtype)
        if UPCAST:
            total += tl.dot(tile.to(tl.float32), part.to(tl.float32), input_precision="ieee")
        else:
            total = tl.dot(tile, part, total, input_precision="ieee")
    if BIAS:
        bias = tl.load(biases + trial).to(tl.pointer_type(WEIGHT))
        total += tl.load(bias + wide, mask=wide < N, other=0.0).to(tl.float32)[None, :]
    if BASE:
        total += below.to(tl.float32)
    tl.store(out + places, total.to(out.dtype.element_ty), mask=there)


def narrow_width(widths: Sequence[int]) -> int:
    """R for trials of these widths."""
    block = min(MOST_NARROW, power_of_two(max(widths)))
    return triton.cdiv(max(widths), block) * block


def shrink(
    x: Tensor,
    weights: Sequence[Tensor],
    bounds: Bounds,
    scaling: Tensor | None = None,
    *,
    across: bool = False,
    biases: Sequence[Tensor] = (),
    kind: str = "none",
) -> Tensor:
    """x [M, K], weights [width, K] (or [K, width] across), scaling [G] float32 or 1, biases [width] -> h [M, R]."""
    widths = tuple(weight.shape[1 if across else 0] for weight in weights)
    x, most = x.contiguous(), narrow_width(widths)
    out, block_r = x.new_empty(len(x), most), min(MOST_NARROW, most)
    whole = x.dtype == torch.float32  # without tensor cores, so that smaller tiles keep within registers
    block_m = 64 if len(x) >= MANY_ROWS and not whole else 32
    table = tile_table(bounds, block_m, x.device)
    if len(table):
        _shrink[(most // block_r, len(table))](
            x, addresses(weights), addresses(biases or weights), out if scaling is None else scaling, numbers(widths, x.device), table, out,
            K=x.shape[1], R=most, KIND=kind, SCALED=scaling is not None, BIAS=bool(biases), ACROSS=across, **_stored(weights),
            STEP=common_step(widths), UPCAST=interpreted(), BLOCK_M=block_m, BLOCK_K=32 if whole else 128 if block_r == 16 else 64,
            BLOCK_R=block_r, num_stages=4,
        )  # fmt: skip
    return out


def expand(
    h: Tensor,
    weights: Sequence[Tensor] | Tensor,
    bounds: Bounds,
    base: Tensor | None = None,
    *,
    across: bool = False,
    biases: Sequence[Tensor] = (),
) -> Tensor:
    """h [M, R], weights [G] of [N, width] (or [width, N] across), base [M, N] or None, biases [N] -> y [M, N]."""
    widths = tuple(weight.shape[0 if across else 1] for weight in weights)
    wide = weights[0].shape[1 if across else 0]
    out, where = h.new_empty(len(h), wide), _where(weights)
    most = 32 if weights[0].dtype == torch.float32 else 64  # what is kept of three steps of the loop fits small GPUs
    block_r = min(most, power_of_two(h.shape[1]))
    block_m, block_n, block_r = (32, 64, 16) if h.dtype == torch.float32 else (64 if len(h) >= MANY_ROWS else 32, 128, block_r)
    table = tile_table(bounds, block_m, h.device)
    if len(table):
        _expand[(triton.cdiv(wide, block_n), len(table))](
            h, where, addresses(biases) if biases else where, numbers(widths, h.device), table,
            h if base is None else base.contiguous(), out,
            N=wide, R=h.shape[1], BASE=base is not None, BIAS=bool(biases), ACROSS=across, **_stored(weights), STEP=common_step(widths),
            UPCAST=interpreted(), BLOCK_M=block_m, BLOCK_N=block_n, BLOCK_R=block_r, num_stages=3,
        )  # fmt: skip
    return out


def _where(weights: Sequence[Tensor] | Tensor) -> Tensor:
    """[G] int64 addresses; where the weights are one tensor, which may be new at each call, without a copy from the host."""
    if not isinstance(weights, Tensor):
        return addresses(weights)
    start, apart = weights.data_ptr(), weights.stride(0) * weights.itemsize
    return torch.arange(start, start + apart * len(weights), apart, device=weights.device)


def _stored(weights: Sequence[Tensor] | Tensor) -> dict[str, object]:
    """Type of the weights, and the bytes by which all their addresses can be divided."""
    return {"WEIGHT": TYPES[weights[0].dtype], "ALIGNED": common_step([weight.data_ptr() for weight in weights])}
