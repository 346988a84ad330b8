"""Gradients of all trials' weights, added to what is there in one launch, where autograd would launch one for each weight."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from autopeft_kernels.segments import addresses, numbers

BLOCK = 1024


@triton.jit
def _add(found, sums, widths, P: tl.constexpr, Q: tl.constexpr, ACROSS: tl.constexpr, BLOCK: tl.constexpr):
    """sums_g[p, q] += found[g, p, q] for p below a trial's width; with ACROSS sums_g is [Q, width]."""
    trial = tl.program_id(1)
    width = tl.load(widths + trial)
    to = tl.load(sums + trial).to(tl.pointer_type(tl.float32))
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = place < width * Q
    source = place % width * Q + place // width if ACROSS else place
    added = tl.load(found + trial.to(tl.int64) * P * Q + source, mask=there, other=0.0)
    tl.store(to + place, tl.load(to + place, mask=there, other=0.0) + added, mask=there)


def add_to(sums: Sequence[Tensor], found: Tensor, *, across: bool = False) -> None:
    """sums: of each trial [width, Q], or [Q, width] across, float32. found: [G, P, Q] float32, P at least every width."""
    _, narrow, wide = found.shape
    widths = tuple(each.shape[1 if across else 0] for each in sums)
    _add[(triton.cdiv(narrow * wide, BLOCK), len(sums))](
        found.contiguous(), addresses(sums), numbers(widths, found.device), P=narrow, Q=wide, ACROSS=across, BLOCK=BLOCK
    )


def gradients_of(weights: Sequence[Tensor]) -> list[Tensor] | None:
    """Where the gradients of all weights are to be added; None where one has none yet, or not of such a sort."""
    found = [weight.grad for weight in weights]
    plain = all(
        w.requires_grad and g is not None and g.dtype == torch.float32 and g.is_contiguous() for w, g in zip(weights, found, strict=True)
    )
    return [g for g in found if g is not None] if plain else None
