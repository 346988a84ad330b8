"""Bound: the matrix products, 4 M K V FLOP; logits cross memory three times a chunk instead of about eight times."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from autopeft_kernels.segments import Bounds, owners, spans

ROWS_PER_CHUNK = 1024
BLOCK_V = 4096


@triton.jit
def _losses(logits, targets, shares, losses, V: tl.constexpr, BLOCK_V: tl.constexpr):
    """Of one row: loss = share (log sum exp - logit of the target); logits become share (softmax - one-hot)."""
    row = tl.program_id(0).to(tl.int64)
    target, share = tl.load(targets + row), tl.load(shares + row)
    line = logits + row * V
    highest, total, hit = -float("inf"), 0.0, 0.0
    for first in range(0, V, BLOCK_V):
        v = first + tl.arange(0, BLOCK_V)
        x = tl.load(line + v, mask=v < V, other=-float("inf")).to(tl.float32)
        above = tl.maximum(highest, tl.max(x, axis=0))
        total = total * tl.exp(highest - above) + tl.sum(tl.exp(x - above), axis=0)
        hit += tl.sum(tl.where(v == target, x, 0.0), axis=0)
        highest = above
    tl.store(losses + row, tl.where(share > 0, share * (highest + tl.log(total) - hit), 0.0))
    for first in range(0, V, BLOCK_V):
        v = first + tl.arange(0, BLOCK_V)
        x = tl.load(line + v, mask=v < V, other=-float("inf")).to(tl.float32)
        slope = share * (tl.exp(x - highest) / total - tl.where(v == target, 1.0, 0.0))
        tl.store(line + v, slope.to(logits.dtype.element_ty), mask=v < V)


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, targets: Tensor, bounds: Bounds) -> Tensor:
        counted, owner = (targets != -100).float(), owners(bounds, x.device)
        counts = torch.stack([counted[start:end].sum() for start, end in spans(bounds)])
        shares = counted / counts.clamp(min=1)[owner]
        frozen = weight.to(x.dtype)
        losses, dx = torch.empty(len(x), dtype=torch.float32, device=x.device), torch.empty_like(x)
        for start in range(0, len(x), ROWS_PER_CHUNK):
            chunk = slice(start, min(start + ROWS_PER_CHUNK, len(x)))
            logits = x[chunk] @ frozen.T
            _losses[(len(logits),)](
                logits,
                targets[chunk],
                shares[chunk],
                losses[chunk],
                V=len(weight),
                BLOCK_V=min(BLOCK_V, triton.next_power_of_2(len(weight))),
                num_warps=8,
            )
            torch.mm(logits, frozen, out=dx[chunk])
        ctx.save_for_backward(dx)
        ctx.owner = owner  # kept for all calls; made in inference mode it could not be saved
        return torch.stack([losses[start:end].sum() for start, end in spans(bounds)])

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> Any:
        (dx,) = ctx.saved_tensors
        return dx * d[ctx.owner].to(dx.dtype)[:, None], None, None, None


def cross_entropy(x: Tensor, weight: Tensor, targets: Tensor, bounds: Bounds) -> Tensor:
    """x [M, K], weight [V, K], targets [M] int64 or -100 -> [G] float32."""
    return _CrossEntropy.apply(x, weight, targets, bounds)
