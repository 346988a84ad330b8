"""The few entries are written into dense updates, which tensor cores multiply: gathering x entry by entry takes far longer.

Dense updates [G, N, K] in x's type last for one product and are made again for the backward pass; so does their gradient, in
float32. Bound: 2 M (K + 2 N) bytes in bf16, or 2 M N K FLOP.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from autopeft_kernels.outer import outer
from autopeft_kernels.projections import TYPES, expand
from autopeft_kernels.segments import Bounds, addresses, numbers

BLOCK = 1024


@triton.jit
def _entries(
    dense, values, places, counts, found, SIZE: tl.constexpr, MOST, BACK: tl.constexpr, VALUE: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """dense[g, place[e]] = values_g[e]; with BACK found[g, e] = dense[g, place[e]]."""
    trial = tl.program_id(1)
    e = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = e < tl.load(counts + trial)
    place = tl.load(tl.load(places + trial).to(tl.pointer_type(tl.int64)) + e, mask=there, other=0)
    mine = dense + trial.to(tl.int64) * SIZE
    if BACK:
        tl.store(found + trial * MOST + e, tl.load(mine + place, mask=there, other=0.0), mask=there)
    else:
        value = tl.load(tl.load(values + trial).to(tl.pointer_type(VALUE)) + e, mask=there, other=0.0)
        tl.store(mine + place, value.to(dense.dtype.element_ty), mask=there)


def _run(dense: Tensor, values: Sequence[Tensor], places: Sequence[Any], found: Tensor | None) -> None:
    counts = tuple(map(len, values))
    if not any(counts):
        return
    _entries[(triton.cdiv(max(counts), BLOCK), len(counts))](
        dense, addresses(values), addresses([p.flat for p in places]), numbers(counts, dense.device), dense if found is None else found,
        dense[0].numel(), max(counts), BACK=found is not None, VALUE=TYPES[values[0].dtype], BLOCK=BLOCK,
    )  # fmt: skip


def _dense(x: Tensor, values: Sequence[Tensor], places: Sequence[Any], wide: int) -> Tensor:
    """[G, N, K] in the type of x."""
    dense = x.new_zeros(len(values), wide, x.shape[1])
    _run(dense, values, places, None)
    return dense


class _Sparse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, base: Tensor, x: Tensor, bounds: Bounds, places: Sequence[Any], *values: Tensor) -> Tensor:
        x = x.contiguous()
        ctx.save_for_backward(x, *values)
        ctx.bounds, ctx.places = bounds, places
        return expand(x, _dense(x, values, places, base.shape[1]), bounds, base).to(base.dtype)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        x, *values = ctx.saved_tensors
        bounds, places = ctx.bounds, ctx.places
        given = dy.to(x.dtype).contiguous()
        dx = expand(given, _dense(x, values, places, dy.shape[1]), bounds, across=True) if ctx.needs_input_grad[1] else None
        found = torch.empty(len(values), max(map(len, values)), dtype=torch.float32, device=x.device)
        _run(outer(given, x, bounds), values, places, found)
        gradients = [found[g, : len(entries)].to(entries.dtype) for g, entries in enumerate(values)]
        return (dy if ctx.needs_input_grad[0] else None, dx, None, None, *gradients)


def sparse(base: Tensor, x: Tensor, values: Sequence[Tensor], places: Sequence[Any], bounds: Bounds) -> Tensor:
    """base [M, N], x [M, K], values [G] of [E_g], places [G] of `Places` -> [M, N]."""
    return _Sparse.apply(base, x, bounds, places, *values)
