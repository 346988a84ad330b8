"""Bound: both inputs are read once per tile of the other side, 2 M (P + Q) bytes in bf16 where P is narrow.

Where few programs would have many rows each, the rows are parted once more, and the parts' products are added up afterwards.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from autopeft_kernels.dispatch import interpreted
from autopeft_kernels.segments import Bounds, longest, numbers, power_of_two

FEW = 132
"""Processors of an H100: fewer programs than that get narrower tiles, so that more of them read at once."""
ROWS = 1024
"""Of a part, at least."""


@triton.jit
def _outer(
    u, v, bounds, out, parts, P: tl.constexpr, Q: tl.constexpr, LONGEST: tl.constexpr, UPCAST: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_Q: tl.constexpr,
):  # fmt: skip
    trials = tl.num_programs(2) // parts
    trial, part = tl.program_id(2) % trials, tl.program_id(2) // trials
    start, end = tl.load(bounds + trial), tl.load(bounds + trial + 1)
    rows_of_part = tl.cdiv(tl.cdiv(end - start, parts), BLOCK_M) * BLOCK_M
    start += part * rows_of_part
    end = tl.minimum(end, start + rows_of_part)
    p = tl.program_id(1) * BLOCK_P + tl.arange(0, BLOCK_P)
    q = tl.program_id(0) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    total = tl.zeros((BLOCK_P, BLOCK_Q), dtype=tl.float32)
    for first in range(0, LONGEST if UPCAST else end - start, BLOCK_M):  # the interpreter takes constant bounds alone
        rows = start + first + tl.arange(0, BLOCK_M)
        inside = rows < end
        left = tl.load(u + rows[None, :] * P + p[:, None], mask=inside[None, :] & (p < P)[:, None], other=0.0)
        right = tl.load(v + rows[:, None] * Q + q[None, :], mask=inside[:, None] & (q < Q)[None, :], other=0.0)
        if UPCAST:
            total += tl.dot(left.to(tl.float32), right.to(tl.float32), input_precision="ieee")
        else:
            total = tl.dot(left, right, total, input_precision="ieee")
    places = (tl.program_id(2) * P + p[:, None]).to(tl.int64) * Q + q[None, :]
    tl.store(out + places, total, mask=(p < P)[:, None] & (q < Q)[None, :])


def outer(u: Tensor, v: Tensor, bounds: Bounds) -> Tensor:
    """u [M, P], v [M, Q] -> [G, P, Q] float32."""
    u, v = u.contiguous(), v.to(u.dtype).contiguous()
    trials, (_, narrow), (_, wide) = len(bounds) - 1, u.shape, v.shape
    block_p, whole = min(64, power_of_two(narrow)), u.dtype == torch.float32
    block_m = 64 if not whole else 32 if block_p < 64 else 16  # without tensor cores registers are short
    few = trials * triton.cdiv(narrow, block_p) * triton.cdiv(wide, 64) < FEW
    block_q = 128 if narrow > block_p and not whole else 32 if few else 64
    tiles, most = (triton.cdiv(wide, block_q), triton.cdiv(narrow, block_p)), longest(bounds)
    parts = max(1, min(triton.cdiv(2 * FEW, tiles[0] * tiles[1] * trials), most // ROWS))
    out = torch.empty(parts, trials, narrow, wide, dtype=torch.float32, device=u.device)
    _outer[(*tiles, trials * parts)](
        u, v, numbers(tuple(bounds), u.device), out, parts, P=narrow, Q=wide,
        LONGEST=power_of_two(most, block_m) if interpreted() else 0, UPCAST=interpreted(),
        BLOCK_M=block_m, BLOCK_P=block_p, BLOCK_Q=block_q, num_stages=4 if block_p < 64 else 3,
    )  # fmt: skip
    return out[0] if parts == 1 else out.sum(0)
