from __future__ import annotations

import torch
from torch import Tensor

from autopeft_kernels.segments import Bounds, spans


def outer(u: Tensor, v: Tensor, bounds: Bounds) -> Tensor:
    """u [M, P], v [M, Q] -> [G, P, Q] float32."""
    return torch.stack([u[start:end].float().T @ v[start:end].float() for start, end in spans(bounds)])
