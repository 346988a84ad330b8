"""Grouped LoRA: y = base + s_g (x A_g^T) B_g^T for the rows of each trial g, ranks unlike (Hu et al. 2022, section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from autopeft_kernels.dispatch import takes_kernel
from autopeft_kernels.low_rank import naive
from autopeft_kernels.segments import Bounds, check_bounds


def low_rank(
    base: Tensor, x: Tensor, a: Sequence[Tensor], b: Sequence[Tensor], scaling: Tensor, bounds: Bounds, *, accumulates: bool = False
) -> Tensor:
    """base [M, N], x [M, K], a [G] of [rank, K], b [G] of [N, rank], scaling [G] float32 -> [M, N], in base's type.

    Products are taken in the type of x, as autocast does it. Gradients go to base, x, a and b.
    accumulates: whether kernels may add gradients of a and b to those that all of them have, in place of autograd, which launches an
    addition for each; hooks of theirs are not called then.
    """
    check_bounds(bounds, len(x), len(a))
    if takes_kernel(x):
        from autopeft_kernels.low_rank import fused

        return fused.low_rank(base, x, a, b, scaling, bounds, accumulates=accumulates)
    return naive.low_rank(base, x, a, b, scaling, bounds)
