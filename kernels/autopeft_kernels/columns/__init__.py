"""Grouped column updates: y = base + x[:, columns_g] W_g^T for the rows of each trial g.

Trains chosen columns of a frozen weight (PaCA, Woo et al., ICLR 2025, arXiv 2503.01905): W_g is what they changed by.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from autopeft_kernels.columns import naive
from autopeft_kernels.dispatch import takes_kernel
from autopeft_kernels.segments import Bounds, check_bounds


def columns(base: Tensor, x: Tensor, weights: Sequence[Tensor], chosen: Sequence[Tensor], bounds: Bounds) -> Tensor:
    """base [M, N], x [M, K], weights [G] of [N, C_g], chosen [G] of [C_g] int64, distinct columns of x -> [M, N].

    Gradients go to base, x and weights.
    """
    check_bounds(bounds, len(x), len(weights))
    if takes_kernel(x):
        from autopeft_kernels.columns import fused

        return fused.columns(base, x, weights, chosen, bounds)
    return naive.columns(base, x, weights, chosen, bounds)
