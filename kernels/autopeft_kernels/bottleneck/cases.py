from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from autopeft_kernels.cases import SEGMENTS, Case, normal

FUNCTIONS = {"relu": F.relu, "gelu": F.gelu, "silu": F.silu, "tanh": torch.tanh}


def reference(
    base: Tensor,
    x: Tensor,
    down: list[Tensor],
    up: list[Tensor],
    bounds: tuple[int, ...],
    *,
    down_bias: list[Tensor],
    up_bias: list[Tensor],
    activation: str,
) -> Tensor:
    """Row by row."""
    rows = []
    for g in range(len(down)):
        for m in range(bounds[g], bounds[g + 1]):
            before = down[g] @ x[m] + (down_bias[g] if down_bias else 0)
            rows.append(base[m] + up[g] @ FUNCTIONS[activation](before) + (up_bias[g] if up_bias else 0))
    return torch.stack(rows)


def _inputs(bounds: tuple[int, ...], activation: str, biased: bool) -> Any:
    def make(dtype: torch.dtype, generator: torch.Generator) -> dict[str, Any]:
        sizes = [(1, 33, 6, 70, 8)[g % 5] for g in range(len(bounds) - 1)]
        wide, out = 72, 40
        return {
            "base": normal(generator, bounds[-1], out, dtype=dtype),
            "x": normal(generator, bounds[-1], wide, dtype=dtype),
            "down": [normal(generator, size, wide) / 8 for size in sizes],
            "up": [normal(generator, out, size) for size in sizes],
            "bounds": bounds,
            "down_bias": [normal(generator, size) for size in sizes] if biased else [],
            "up_bias": [normal(generator, out) for _ in sizes] if biased else [],
            "activation": activation,
        }

    return make


CASES = [
    Case(
        f"{name}, {activation}", _inputs(SEGMENTS[name], activation, biased), reference, ("base", "x", "down", "up", "down_bias", "up_bias")
    )
    for name, activation, biased in (
        ("one trial", "relu", True),
        ("uneven", "gelu", True),
        ("empty and of length one", "silu", False),
        ("uneven", "tanh", False),
    )
]
