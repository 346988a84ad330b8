"""One AdamW step for the parameters of all trials, which stand in flat buffers.

Each trial has its own learning rate, weight decay, clipping and count of steps (Loshchilov and Hutter 2019,
algorithm 2; the update is torch.optim.AdamW's). Parameters start at multiples of `BLOCK`, so that a block
belongs to one trial and either decays or does not.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from autopeft_kernels.adamw import naive
from autopeft_kernels.dispatch import takes_kernel

BLOCK = 1024
BETAS, EPSILON = (0.9, 0.999), 1e-8


@dataclass(frozen=True)
class Flat:
    """values, gradients, first and second moments: [P] float32, P a multiple of `BLOCK`, zero where no parameter is.

    bounds: G + 1 ascending numbers of blocks; trial g owns blocks bounds[g] to bounds[g + 1].
    decays: [P / BLOCK] bool, whether the block's parameter is a matrix, which decays.
    """

    values: Tensor
    gradients: Tensor
    first: Tensor
    second: Tensor
    bounds: tuple[int, ...]
    decays: Tensor


def adamw(flat: Flat, rates: Tensor, decay: Tensor, clip: Tensor, steps: Tensor) -> Tensor:
    """Update `flat` in place and clear its gradients; returns the norms of the gradients before clipping, [G].

    rates: [G] float32 learning rates of this step. decay: [G] weight decay. clip: [G] norm that gradients are scaled
    down to. steps: [G] int64, the number of this step counted from 1; a trial at 0 rests. A trial whose
    norm is not finite keeps its values and moments.
    """
    if takes_kernel(flat.values):
        from autopeft_kernels.adamw import fused

        return fused.adamw(flat, rates, decay, clip, steps, BLOCK, BETAS, EPSILON)
    return naive.adamw(flat, rates, decay, clip, steps, BLOCK, BETAS, EPSILON)
