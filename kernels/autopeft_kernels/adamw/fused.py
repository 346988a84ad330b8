"""Two launches: squares summed by block, then norms, clipping and update. Bound: 28 bytes a parameter, and 4 to clear."""

from __future__ import annotations

from functools import lru_cache
from math import log
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from autopeft_kernels.segments import numbers, power_of_two, spans

SUMS = 1024


@triton.jit
def _squares(gradients, sums, BLOCK: tl.constexpr):
    g = tl.load(gradients + tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK))
    tl.store(sums + tl.program_id(0), tl.sum(g * g, axis=0))


@triton.jit
def _update(
    values, gradients, first, second, sums, owners, bounds, decays, rates, decay, clip, steps, norms,
    MOST: tl.constexpr, B1: tl.constexpr, B2: tl.constexpr, LOG_B1: tl.constexpr, LOG_B2: tl.constexpr, EPSILON: tl.constexpr,
    BLOCK: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    block = tl.program_id(0)
    trial = tl.load(owners + block)
    start, end = tl.load(bounds + trial), tl.load(bounds + trial + 1)
    square = 0.0
    for at in range(0, MOST, SUMS):  # every block adds its trial's sums in one order: no atomics, no third launch
        places = start + at + tl.arange(0, SUMS)
        square += tl.sum(tl.load(sums + places, mask=places < end, other=0.0), axis=0)
    norm = tl.sqrt(square)
    tl.store(norms + trial, norm, mask=block == start)
    step = tl.load(steps + trial).to(tl.float64)  # 1 - 0.999^t loses four digits in float32 at the first steps
    places = block.to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    g = tl.load(gradients + places)
    tl.store(gradients + places, tl.zeros((BLOCK,), dtype=tl.float32))
    if (step > 0) & (norm < float("inf")):
        rate = tl.load(rates + trial)
        g *= tl.minimum(tl.load(clip + trial) / (norm + 1e-6), 1.0)
        m = tl.load(first + places)
        m += (1.0 - B1) * (g - m)
        v = B2 * tl.load(second + places) + (1.0 - B2) * g * g
        shrinks = tl.where(tl.load(decays + block) != 0, rate * tl.load(decay + trial), 0.0)
        below = tl.sqrt(v) / tl.sqrt(1.0 - tl.exp(step * LOG_B2)).to(tl.float32) + EPSILON
        p = tl.load(values + places) * (1.0 - shrinks) - rate / (1.0 - tl.exp(step * LOG_B1)).to(tl.float32) * m / below
        tl.store(values + places, p)
        tl.store(first + places, m)
        tl.store(second + places, v)


@lru_cache(maxsize=64)
def _owners(bounds: tuple[int, ...], device: torch.device) -> Tensor:
    """[blocks] int64: the trial of each block."""
    return numbers(tuple(g for g, (start, end) in enumerate(spans(bounds)) for _ in range(start, end)), device)


def adamw(
    flat: Any, rates: Tensor, decay: Tensor, clip: Tensor, steps: Tensor, block: int, betas: tuple[float, float], epsilon: float
) -> Tensor:
    """In place; returns the norms [G]."""
    device, bounds = flat.values.device, flat.bounds
    blocks = bounds[-1]
    sums = torch.empty(blocks, dtype=torch.float32, device=device)
    norms = torch.zeros(len(bounds) - 1, dtype=torch.float32, device=device)
    most = max(end - start for start, end in spans(bounds))
    if blocks:
        _squares[(blocks,)](flat.gradients, sums, BLOCK=block)
        _update[(blocks,)](
            flat.values, flat.gradients, flat.first, flat.second, sums, _owners(bounds, device), numbers(bounds, device),
            flat.decays.to(torch.int8), rates, decay, clip, steps, norms,
            MOST=power_of_two(most, SUMS), B1=betas[0], B2=betas[1], LOG_B1=log(betas[0]), LOG_B2=log(betas[1]), EPSILON=epsilon,
            BLOCK=block, SUMS=SUMS,
        )  # fmt: skip
    return norms
