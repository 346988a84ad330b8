"""Grouped sparse updates: y = base + x S_g^T for the rows of each trial g, where S_g [N, K] has few entries.

Trains chosen entries of a frozen weight (SHiRA, Bhardwaj et al., NeurIPS 2024, arXiv 2406.13175).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from autopeft_kernels.dispatch import takes_kernel
from autopeft_kernels.segments import Bounds, check_bounds
from autopeft_kernels.sparse import naive


@dataclass(frozen=True)
class Order:
    """Entries sorted by one index. starts [lines + 1]: the first entry of each line; others [E]: the other index;
    entry [E]: which entry it is. All int32. longest: entries of the fullest line."""

    starts: Tensor
    others: Tensor
    entry: Tensor
    longest: int


@dataclass(frozen=True)
class Places:
    """Where the E entries of one trial's S [n, k] stand. rows, columns: [E] int64, distinct pairs."""

    rows: Tensor
    columns: Tensor
    by_row: Order
    by_column: Order

    @classmethod
    def of(cls, rows: Tensor, columns: Tensor, n: int, k: int) -> Places:
        return cls(rows, columns, _sorted(rows, columns, n), _sorted(columns, rows, k))


def _sorted(index: Tensor, other: Tensor, lines: int) -> Order:
    entry = torch.argsort(index, stable=True)
    counts = torch.bincount(index, minlength=lines)
    starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return Order(starts.int(), other[entry].int(), entry.int(), int(counts.max()))


def sparse(base: Tensor, x: Tensor, values: Sequence[Tensor], places: Sequence[Places], bounds: Bounds) -> Tensor:
    """base [M, N], x [M, K], values [G] of [E_g] and where they stand -> [M, N]. Gradients go to base, x and values."""
    check_bounds(bounds, len(x), len(values))
    if takes_kernel(x):
        from autopeft_kernels.sparse import fused

        return fused.sparse(base, x, values, places, bounds)
    return naive.sparse(base, x, values, places, bounds)
