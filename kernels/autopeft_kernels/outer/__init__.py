"""Segmented outer products: for each trial the sum over its rows of u v^T. Deterministic, without atomics."""

from __future__ import annotations

from torch import Tensor

from autopeft_kernels.dispatch import takes_kernel
from autopeft_kernels.outer import naive
from autopeft_kernels.segments import Bounds, check_bounds


def outer(u: Tensor, v: Tensor, bounds: Bounds) -> Tensor:
    """u [M, P], v [M, Q] -> [G, P, Q] float32, out[g] = u[rows of g]^T v[rows of g]; zero for a trial without rows."""
    check_bounds(bounds, len(u), len(bounds) - 1)
    if takes_kernel(u):
        from autopeft_kernels.outer import fused

        return fused.outer(u, v, bounds)
    return naive.outer(u, v, bounds)
