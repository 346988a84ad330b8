from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from autopeft_kernels.segments import Bounds, spans


def columns(base: Tensor, x: Tensor, weights: Sequence[Tensor], chosen: Sequence[Tensor], bounds: Bounds) -> Tensor:
    """base [M, N], x [M, K], weights [G] of [N, C_g], chosen [G] of [C_g] -> [M, N]."""
    added = [
        F.linear(x[start:end, index], weight.to(x.dtype))
        for (start, end), weight, index in zip(spans(bounds), weights, chosen, strict=True)
    ]
    return base + torch.cat(added).to(base.dtype)
