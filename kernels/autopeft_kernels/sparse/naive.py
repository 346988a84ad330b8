from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from autopeft_kernels.segments import Bounds, spans


def sparse(base: Tensor, x: Tensor, values: Sequence[Tensor], places: Sequence[Any], bounds: Bounds) -> Tensor:
    """base [M, N], x [M, K], values [G] of [E_g], places [G] of `Places` -> [M, N]."""
    added = []
    for (start, end), entries, where in zip(spans(bounds), values, places, strict=True):
        empty = torch.zeros(base.shape[1], x.shape[1], dtype=entries.dtype, device=x.device)
        added.append(F.linear(x[start:end], empty.index_put((where.rows, where.columns), entries).to(x.dtype)))
    return base + torch.cat(added).to(base.dtype)
