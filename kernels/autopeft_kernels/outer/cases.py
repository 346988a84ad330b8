from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from autopeft_kernels.cases import SEGMENTS, Case, normal


def reference(u: Tensor, v: Tensor, bounds: tuple[int, ...]) -> Tensor:
    """Row by row."""
    out = torch.zeros(len(bounds) - 1, u.shape[1], v.shape[1], dtype=u.dtype)
    for g in range(len(bounds) - 1):
        for m in range(bounds[g], bounds[g + 1]):
            out[g] += torch.outer(u[m], v[m])
    return out


LONG = (0, 2500, 2500, 2501)
"""Rows of one trial that are parted once more."""


def _inputs(bounds: tuple[int, ...]) -> Any:
    def make(dtype: torch.dtype, generator: torch.Generator) -> dict[str, Any]:
        rows = bounds[-1]
        return {"u": normal(generator, rows, 20, dtype=dtype), "v": normal(generator, rows, 70, dtype=dtype), "bounds": bounds}

    return make


CASES = [Case(name, _inputs(bounds), reference) for name, bounds in {**SEGMENTS, "a long trial": LONG}.items()]
