"""Tables that tell a kernel which rows it works on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor

Bounds = Sequence[int]
"""G + 1 row numbers: trial g owns rows bounds[g] to bounds[g + 1]."""


def check_bounds(bounds: Bounds, rows: int, trials: int) -> None:
    """Raises ValueError unless `bounds` part `rows` rows among `trials` trials."""
    if len(bounds) != trials + 1 or bounds[0] != 0 or bounds[-1] != rows or list(bounds) != sorted(bounds):
        raise ValueError(f"bounds must be {trials + 1} ascending numbers from 0 to {rows}, they are {list(bounds)}")


def spans(bounds: Bounds) -> list[tuple[int, int]]:
    """(first row, row after the last) of each trial."""
    return list(pairwise(bounds))


def tile_table(bounds: Bounds, block: int, device: torch.device) -> Tensor:
    """[tiles, 3] int32: trial, first row and end of each tile of at most `block` rows of one trial."""
    return _tile_table(tuple(bounds), block, device)


@lru_cache(maxsize=256)
def _tile_table(bounds: tuple[int, ...], block: int, device: torch.device) -> Tensor:
    rows = [(g, at, min(at + block, end)) for g, (start, end) in enumerate(spans(bounds)) for at in range(start, end, block)]
    return torch.tensor(rows, dtype=torch.int32).reshape(-1, 3).to(device)


@lru_cache(maxsize=256)
def numbers(values: tuple[int, ...], device: torch.device) -> Tensor:
    """int64 tensor of `values`, kept: ranks, addresses and bounds recur at every step."""
    return torch.tensor(values, dtype=torch.int64, device=device)


def addresses(tensors: Sequence[Tensor]) -> Tensor:
    """[n] int64: where the values of each tensor stand, so that a kernel reads them without a copy."""
    if any(not tensor.is_contiguous() for tensor in tensors):
        raise ValueError("weights of trials must be contiguous")
    return numbers(tuple(tensor.data_ptr() for tensor in tensors), tensors[0].device)


def power_of_two(number: int, least: int = 16) -> int:
    """The smallest power of two that is at least `number` and `least` (16 is what a tensor core takes)."""
    return max(least, 1 << max(0, number - 1).bit_length())
