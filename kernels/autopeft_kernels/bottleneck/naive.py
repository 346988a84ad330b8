from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from autopeft_kernels.segments import Bounds, spans

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": F.relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "tanh": torch.tanh,
}


def bottleneck(
    base: Tensor,
    x: Tensor,
    down: Sequence[Tensor],
    up: Sequence[Tensor],
    bounds: Bounds,
    *,
    down_bias: Sequence[Tensor] = (),
    up_bias: Sequence[Tensor] = (),
    activation: str = "relu",
) -> Tensor:
    """base [M, N], x [M, K], down [G] of [size, K], up [G] of [N, size], biases of [size] and [N] -> [M, N]."""
    added = []
    for g, (start, end) in enumerate(spans(bounds)):
        before = down_bias[g].to(x.dtype) if down_bias else None
        after = up_bias[g].to(x.dtype) if up_bias else None
        hidden = ACTIVATIONS[activation](F.linear(x[start:end], down[g].to(x.dtype), before))
        added.append(F.linear(hidden, up[g].to(x.dtype), after))
    return base + torch.cat(added).to(base.dtype)
