from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from autopeft_kernels.cases import SEGMENTS, Case, normal


def reference(x: Tensor, weight: Tensor, targets: Tensor, bounds: tuple[int, ...]) -> Tensor:
    """Minus the log of the target's softmax, row by row."""
    found = []
    for start, end in pairwise(bounds):
        rows = [-torch.log_softmax(weight @ x[m], 0)[targets[m]] for m in range(start, end) if targets[m] >= 0]
        found.append(torch.stack(rows).mean() if rows else x[:0].sum())
    return torch.stack(found)


def _inputs(bounds: tuple[int, ...], vocabulary: int) -> Any:
    def make(dtype: torch.dtype, generator: torch.Generator) -> dict[str, Any]:
        targets = torch.randint(vocabulary, (bounds[-1],), generator=generator)
        targets[torch.rand(bounds[-1], generator=generator) < 0.3] = -100
        x, weight = normal(generator, bounds[-1], 24, dtype=dtype), normal(generator, vocabulary, 24) / 4
        return {"x": x, "weight": weight, "targets": targets, "bounds": bounds}

    return make


CASES = [Case(name, _inputs(bounds, 50 if name == "one trial" else 5000), reference, ("x",)) for name, bounds in SEGMENTS.items()]
