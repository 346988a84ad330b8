"""Grouped bottleneck adapters: y = base + U_g f(D_g x + b_g) + c_g for the rows of each trial g.

Serial bottlenecks read what they add to (base = x); Houlsby et al. 2019, section 2.1.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from autopeft_kernels.bottleneck import naive
from autopeft_kernels.dispatch import takes_kernel
from autopeft_kernels.segments import Bounds, check_bounds


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
    """base [M, N], x [M, K], down [G] of [size, K], up [G] of [N, size], biases of [size] and [N] or none -> [M, N].

    activation: `none`, `relu`, `gelu` (with the error function), `silu` or `tanh`. Backward computes the narrow
    hidden rows again instead of keeping them. Gradients go to base, x and all weights.
    """
    check_bounds(bounds, len(x), len(down))
    if takes_kernel(x):
        from autopeft_kernels.bottleneck import fused

        return fused.bottleneck(base, x, down, up, bounds, down_bias=down_bias, up_bias=up_bias, activation=activation)
    return naive.bottleneck(base, x, down, up, bounds, down_bias=down_bias, up_bias=up_bias, activation=activation)
