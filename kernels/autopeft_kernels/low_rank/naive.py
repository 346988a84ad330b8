from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from autopeft_kernels.segments import Bounds, spans


def low_rank(base: Tensor, x: Tensor, a: Sequence[Tensor], b: Sequence[Tensor], scaling: Tensor, bounds: Bounds) -> Tensor:
    """base [M, N], x [M, K], a [G] of [rank, K], b [G] of [N, rank], scaling [G] -> [M, N]."""
    added = [
        F.linear(F.linear(x[start:end], down.to(x.dtype)), up.to(x.dtype)) * s
        for (start, end), down, up, s in zip(spans(bounds), a, b, scaling.unbind(), strict=True)
    ]
    return base + torch.cat(added).to(base.dtype)
