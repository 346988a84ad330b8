from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from autopeft_kernels.segments import Bounds, spans


def cross_entropy(x: Tensor, weight: Tensor, targets: Tensor, bounds: Bounds) -> Tensor:
    """x [M, K], weight [V, K], targets [M] int64 or -100 -> [G] float32."""
    logits = F.linear(x, weight.to(x.dtype)).float()
    losses = F.cross_entropy(logits, targets, ignore_index=-100, reduction="none")
    return torch.stack([losses[start:end].sum() / (targets[start:end] != -100).sum().clamp(min=1) for start, end in spans(bounds)])
