"""Linear layer and cross-entropy in one, for vocabularies: logits of a few rows at a time, never of all.

Gradients are made in the forward pass while a chunk's logits are there, so that nothing of the width of the
vocabulary is kept (as in Liger Kernel, Hsu et al. 2024, arXiv 2410.10989, section 3.2).
"""

from __future__ import annotations

from torch import Tensor

from autopeft_kernels.cross_entropy import naive
from autopeft_kernels.dispatch import takes_kernel
from autopeft_kernels.segments import Bounds, check_bounds

IGNORED = -100
"""Target of rows that do not count."""


def cross_entropy(x: Tensor, weight: Tensor, targets: Tensor, bounds: Bounds) -> Tensor:
    """x [M, K], weight [V, K] frozen, targets [M] int64 or `IGNORED` -> [G] float32, mean over the rows of each trial.

    Zero for a trial of which no row counts. Gradients go to x alone.
    """
    check_bounds(bounds, len(x), len(bounds) - 1)
    if takes_kernel(x):
        from autopeft_kernels.cross_entropy import fused

        return fused.cross_entropy(x, weight, targets, bounds)
    return naive.cross_entropy(x, weight, targets, bounds)
