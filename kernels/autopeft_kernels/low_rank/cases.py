from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from autopeft_kernels.cases import SEGMENTS, Case, normal


def reference(base: Tensor, x: Tensor, a: list[Tensor], b: list[Tensor], scaling: Tensor, bounds: tuple[int, ...]) -> Tensor:
    """Row by row, with each trial's whole update of the weight."""
    updates = [scaling[g] * b[g] @ a[g] for g in range(len(a))]
    owner = [g for g in range(len(a)) for _ in range(bounds[g], bounds[g + 1])]
    return torch.stack([base[m] + updates[g] @ x[m] for m, g in enumerate(owner)])


def _inputs(bounds: tuple[int, ...]) -> Any:
    def make(dtype: torch.dtype, generator: torch.Generator) -> dict[str, Any]:
        ranks = [(1, 4, 17, 8, 70)[g % 5] for g in range(len(bounds) - 1)]
        wide, out = 72, 40
        return {
            "base": normal(generator, bounds[-1], out, dtype=dtype),
            "x": normal(generator, bounds[-1], wide, dtype=dtype),
            "a": [normal(generator, rank, wide) / 8 for rank in ranks],
            "b": [normal(generator, out, rank) for rank in ranks],
            "scaling": torch.linspace(0.5, 2.0, len(ranks)),
            "bounds": bounds,
        }

    return make


CASES = [Case(name, _inputs(bounds), reference, ("base", "x", "a", "b")) for name, bounds in SEGMENTS.items()]
