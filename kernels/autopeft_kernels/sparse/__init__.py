"""Grouped sparse updates: y = base + x S_g^T for the rows of each trial g, where S_g [N, K] has few entries.

Trains chosen entries of a frozen weight (SHiRA, Bhardwaj et al., NeurIPS 2024, arXiv 2406.13175).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from autopeft_kernels.dispatch import takes_kernel
from autopeft_kernels.segments import Bounds, check_bounds
from autopeft_kernels.sparse import naive


@dataclass(frozen=True)
class Places:
    """Where the E entries of one trial's S [n, k] stand. rows, columns: [E] int64, distinct pairs. flat: [E], row k + column."""

    rows: Tensor
    columns: Tensor
    flat: Tensor

    @classmethod
    def of(cls, rows: Tensor, columns: Tensor, n: int, k: int) -> Places:
        return cls(rows, columns, rows * k + columns)


def sparse(base: Tensor, x: Tensor, values: Sequence[Tensor], places: Sequence[Places], bounds: Bounds) -> Tensor:
    """base [M, N], x [M, K], values [G] of [E_g] and where they stand -> [M, N]. Gradients go to base, x and values."""
    check_bounds(bounds, len(x), len(values))
    if takes_kernel(x):
        from autopeft_kernels.sparse import fused

        return fused.sparse(base, x, values, places, bounds)
    return naive.sparse(base, x, values, places, bounds)
