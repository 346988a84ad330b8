from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from autopeft_kernels.segments import spans


def adamw(
    flat: Any, rates: Tensor, decay: Tensor, clip: Tensor, steps: Tensor, block: int, betas: tuple[float, float], epsilon: float
) -> Tensor:
    """In place; returns the norms [G]. With g the clipped gradient and t the step:

    p <- p - lr decay p where it decays;  m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2
    p <- p - lr / (1 - b1^t) m / (sqrt(v) / sqrt(1 - b2^t) + epsilon)
    """
    norms = []
    settings = zip(rates.tolist(), decay.tolist(), clip.tolist(), steps.tolist(), strict=True)
    for (start, end), (rate, shrinks, most, step) in zip(spans(flat.bounds), settings, strict=True):
        mine = slice(start * block, end * block)
        values, gradients, first, second = (t[mine] for t in (flat.values, flat.gradients, flat.first, flat.second))
        norm = gradients.norm()
        norms.append(norm)
        if not step or not torch.isfinite(norm):
            continue
        gradients *= (most / (norm + 1e-6)).clamp(max=1.0)
        values.view(-1, block).mul_(1 - rate * shrinks * flat.decays[start:end, None].float())
        first.lerp_(gradients, 1 - betas[0])
        second.mul_(betas[1]).addcmul_(gradients, gradients, value=1 - betas[1])
        below = (second.sqrt() / (1 - betas[1] ** step) ** 0.5).add_(epsilon)
        values.addcdiv_(first, below, value=-rate / (1 - betas[0] ** step))
    flat.gradients.zero_()
    return torch.stack(norms)
