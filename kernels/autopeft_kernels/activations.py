"""Activations of bottlenecks and their slopes, inside kernels. KIND: `none`, `relu`, `gelu`, `silu` or `tanh`."""

from __future__ import annotations

import triton
import triton.language as tl

KINDS = ("none", "relu", "gelu", "silu", "tanh")


@triton.jit
def activate(x, KIND: tl.constexpr):
    """f(x) in float32; gelu with the error function."""
    if KIND == "relu":
        x = tl.maximum(x, 0.0)
    elif KIND == "gelu":
        x = 0.5 * x * (1.0 + tl.math.erf(x * 0.7071067811865476))
    elif KIND == "silu":
        x = x / (1.0 + tl.exp(-x))
    elif KIND == "tanh":
        x = 2.0 / (1.0 + tl.exp(-2.0 * x)) - 1.0
    return x


@triton.jit
def slope(x, KIND: tl.constexpr):
    """f'(x) in float32; 0 for relu at 0."""
    if KIND == "relu":
        s = tl.where(x > 0.0, 1.0, 0.0)
    elif KIND == "gelu":
        s = 0.5 * (1.0 + tl.math.erf(x * 0.7071067811865476)) + x * 0.3989422804014327 * tl.exp(-0.5 * x * x)
    elif KIND == "silu":
        part = 1.0 / (1.0 + tl.exp(-x))
        s = part * (1.0 + x * (1.0 - part))
    elif KIND == "tanh":
        t = 2.0 / (1.0 + tl.exp(-2.0 * x)) - 1.0
        s = 1.0 - t * t
    else:
        s = x * 0.0 + 1.0
    return s
