from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from autopeft_kernels.cases import SEGMENTS, Case, normal


def reference(base: Tensor, x: Tensor, weights: list[Tensor], chosen: list[Tensor], bounds: tuple[int, ...]) -> Tensor:
    """Row by row and column by column."""
    rows = []
    for g, (weight, index) in enumerate(zip(weights, chosen, strict=True)):
        for m in range(bounds[g], bounds[g + 1]):
            rows.append(base[m] + sum(x[m, column] * weight[:, c] for c, column in enumerate(index.tolist())))
    return torch.stack(rows)


def _inputs(bounds: tuple[int, ...]) -> Any:
    def make(dtype: torch.dtype, generator: torch.Generator) -> dict[str, Any]:
        counts = [(1, 5, 20, 3, 8)[g % 5] for g in range(len(bounds) - 1)]
        wide, out = 72, 40
        return {
            "base": normal(generator, bounds[-1], out, dtype=dtype),
            "x": normal(generator, bounds[-1], wide, dtype=dtype),
            "weights": [normal(generator, out, count) for count in counts],
            "chosen": [torch.randperm(wide, generator=generator)[:count] for count in counts],
            "bounds": bounds,
        }

    return make


CASES = [Case(name, _inputs(bounds), reference, ("base", "x", "weights")) for name, bounds in SEGMENTS.items()]
