from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from autopeft_kernels.cases import SEGMENTS, Case, normal
from autopeft_kernels.sparse import Places


def reference(base: Tensor, x: Tensor, values: list[Tensor], places: list[Places], bounds: tuple[int, ...]) -> Tensor:
    """Entry by entry."""
    parts = []
    for g, (entries, where) in enumerate(zip(values, places, strict=True)):
        rows = base[bounds[g] : bounds[g + 1]].clone()
        for e, (row, column) in enumerate(zip(where.rows.tolist(), where.columns.tolist(), strict=True)):
            rows[:, row] = rows[:, row] + entries[e] * x[bounds[g] : bounds[g + 1], column]
        parts.append(rows)
    return torch.cat(parts)


def _inputs(bounds: tuple[int, ...]) -> Any:
    def make(dtype: torch.dtype, generator: torch.Generator) -> dict[str, Any]:
        wide, out = 72, 40
        values, places = [], []
        for g in range(len(bounds) - 1):
            chosen = torch.randperm(wide * out, generator=generator)[: (1, 30, 90, 5, 65)[g % 5]]
            places.append(Places.of(chosen // wide, chosen % wide, out, wide))
            values.append(normal(generator, len(chosen)))
        base, x = normal(generator, bounds[-1], out, dtype=dtype), normal(generator, bounds[-1], wide, dtype=dtype)
        return {"base": base, "x": x, "values": values, "places": places, "bounds": bounds}

    return make


CASES = [Case(name, _inputs(bounds), reference, ("base", "x", "values")) for name, bounds in SEGMENTS.items()]
