"""A case of an operation: inputs for tests and benchmarks, how near it must come, and who says what is right."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
"""Largest difference from a float64 reference, as a share of the reference's largest value."""
SEGMENTS = {
    "one trial": (0, 40),
    "uneven": (0, 3, 70, 71, 96),
    "empty and of length one": (0, 0, 1, 34, 34, 35),
}


@dataclass(frozen=True)
class Case:
    """inputs: (type of activations, generator) -> arguments of the operation, on the CPU; of these, floating tensors
    and lists of them get gradients where `learns` names them. reference: the operation in float64, written
    without anything of ours."""

    name: str
    inputs: Callable[[torch.dtype, torch.Generator], Mapping[str, Any]]
    reference: Callable[..., Any]
    learns: tuple[str, ...] = ()


def normal(generator: torch.Generator, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal numbers that bfloat16 can hold, so that rounding of inputs is no part of a difference."""
    return torch.randn(*shape, generator=generator).bfloat16().to(dtype)
