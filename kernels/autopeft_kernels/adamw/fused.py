"""Two launches: squares summed by part, then norms, clipping and update. Bound: 28 bytes a parameter, and 4 to clear."""

from __future__ import annotations

from math import log
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from autopeft_kernels.segments import longest, numbers, owners, power_of_two, spans, tile_table

PARTS = 1024
"""Sums of squares of a trial, at most: every block of the second launch adds them up for itself."""
AT_ONCE = 4


@triton.jit
def _squares(gradients, table, sums, CHUNK: tl.constexpr, AT_ONCE: tl.constexpr, BLOCK: tl.constexpr):
    """The sum of squares of one part, of at most CHUNK blocks of one trial."""
    first, end = tl.load(table + 3 * tl.program_id(0) + 1), tl.load(table + 3 * tl.program_id(0) + 2)
    total = tl.zeros((AT_ONCE, BLOCK), dtype=tl.float32)
    for at in range(0, CHUNK, AT_ONCE):
        blocks = first + at + tl.arange(0, AT_ONCE)
        places = blocks.to(tl.int64)[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
        g = tl.load(gradients + places, mask=(blocks < end)[:, None], other=0.0)
        total += g * g
    tl.store(sums + tl.program_id(0), tl.sum(tl.sum(total, axis=1), axis=0))


@triton.jit
def _approached(x):
    """1 - exp(x) for x < 0 in float32; near zero by its series, where the difference would lose four digits."""
    series = -x * (1 + x / 2 * (1 + x / 3 * (1 + x / 4 * (1 + x / 5 * (1 + x / 6 * (1 + x / 7 * (1 + x / 8)))))))
    return tl.where(x > -0.5, series, 1.0 - tl.exp(x))


@triton.jit
def _update(
    values, gradients, first, second, sums, owners, bounds, parts, decays, rates, decay, clip, steps, norms,
    B1: tl.constexpr, B2: tl.constexpr, LOG_B1: tl.constexpr, LOG_B2: tl.constexpr, EPSILON: tl.constexpr,
    BLOCK: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    block = tl.program_id(0)
    places = block.to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    g, m = tl.load(gradients + places), tl.load(first + places)  # all that is long to read is asked for at once
    v, p = tl.load(second + places), tl.load(values + places)
    trial = tl.load(owners + block)
    start, end = tl.load(parts + trial), tl.load(parts + trial + 1)
    part = start + tl.arange(0, PARTS)
    square = tl.sum(tl.load(sums + part, mask=part < end, other=0.0), axis=0)  # in one order: no atomics, no third launch
    norm = tl.sqrt(square)
    tl.store(norms + trial, norm, mask=block == tl.load(bounds + trial))
    step = tl.load(steps + trial).to(tl.float32)
    tl.store(gradients + places, tl.zeros((BLOCK,), dtype=tl.float32))
    if (step > 0) & (norm < float("inf")):
        rate = tl.load(rates + trial)
        g *= tl.minimum(tl.load(clip + trial) / (norm + 1e-6), 1.0)
        m += (1.0 - B1) * (g - m)
        v = B2 * v + (1.0 - B2) * g * g
        shrinks = tl.where(tl.load(decays + block) != 0, rate * tl.load(decay + trial), 0.0)
        below = tl.sqrt(v) / tl.sqrt(_approached(step * LOG_B2)) + EPSILON
        p = p * (1.0 - shrinks) - rate / _approached(step * LOG_B1) * m / below
        tl.store(values + places, p)
        tl.store(first + places, m)
        tl.store(second + places, v)


def _parts(bounds: tuple[int, ...], chunk: int, device: torch.device) -> Tensor:
    """[G + 1] int64: the first part of each trial."""
    firsts = [0]
    for start, end in spans(bounds):
        firsts.append(firsts[-1] + triton.cdiv(end - start, chunk))
    return numbers(tuple(firsts), device)


def adamw(
    flat: Any, rates: Tensor, decay: Tensor, clip: Tensor, steps: Tensor, block: int, betas: tuple[float, float], epsilon: float
) -> Tensor:
    """In place; returns the norms [G]."""
    device, bounds = flat.values.device, flat.bounds
    blocks = bounds[-1]
    norms = torch.zeros(len(bounds) - 1, dtype=torch.float32, device=device)
    if blocks:
        chunk = power_of_two(triton.cdiv(longest(bounds), PARTS), 1)
        table = tile_table(bounds, chunk, device)
        sums = torch.empty(len(table), dtype=torch.float32, device=device)
        _squares[(len(table),)](flat.gradients, table, sums, CHUNK=chunk, AT_ONCE=min(AT_ONCE, chunk), BLOCK=block)
        _update[(blocks,)](
            flat.values, flat.gradients, flat.first, flat.second, sums, owners(bounds, device), numbers(bounds, device),
            _parts(bounds, chunk, device), flat.decays.view(torch.int8), rates, decay, clip, steps, norms,
            B1=betas[0], B2=betas[1], LOG_B1=log(betas[0]), LOG_B2=log(betas[1]), EPSILON=epsilon, BLOCK=block, PARTS=PARTS,
        )  # fmt: skip
    return norms
