"""Tables that tell a kernel which rows it works on and where weights stand.

Tables are made once and kept, since the same ones recur at every step: making one copies from the host, which a CUDA
graph cannot take up. After one call with the same bounds and weights an operation makes none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor

Bounds = Sequence[int]
"""G + 1 row numbers: trial g owns rows bounds[g] to bounds[g + 1]."""
KEPT = 4096
"""Tables kept of each sort."""
_holders: list[list[Tensor]] = []


@contextmanager
def holding() -> Iterator[list[Tensor]]:
    """All tables that operations use within: who records a CUDA graph keeps them, since it reads them where they stand."""
    held: list[Tensor] = []
    _holders.append(held)
    try:
        yield held
    finally:
        _holders.remove(held)


def _held(table: Tensor) -> Tensor:
    for held in _holders:
        held.append(table)
    return table


def check_bounds(bounds: Bounds, rows: int, trials: int) -> None:
    """Raises ValueError unless `bounds` part `rows` rows among `trials` trials."""
    if len(bounds) != trials + 1 or bounds[0] != 0 or bounds[-1] != rows or list(bounds) != sorted(bounds):
        raise ValueError(f"bounds must be {trials + 1} ascending numbers from 0 to {rows}, they are {list(bounds)}")


def spans(bounds: Bounds) -> list[tuple[int, int]]:
    """(first row, row after the last) of each trial."""
    return list(pairwise(bounds))


def longest(bounds: Bounds) -> int:
    """Rows of the trial that has most."""
    return max((end - start for start, end in spans(bounds)), default=0)


def tile_table(bounds: Bounds, block: int, device: torch.device) -> Tensor:
    """[tiles, 3] int32: trial, first row and end of each tile of at most `block` rows of one trial."""
    return _held(_tile_table(tuple(bounds), block, device))


@lru_cache(maxsize=KEPT)
def _tile_table(bounds: tuple[int, ...], block: int, device: torch.device) -> Tensor:
    rows = [(g, at, min(at + block, end)) for g, (start, end) in enumerate(spans(bounds)) for at in range(start, end, block)]
    return torch.tensor(rows, dtype=torch.int32).reshape(-1, 3).to(device)


def owners(bounds: Bounds, device: torch.device) -> Tensor:
    """[M] int64: the trial of each row."""
    return _held(_owners(tuple(bounds), device))


@lru_cache(maxsize=KEPT)
def _owners(bounds: tuple[int, ...], device: torch.device) -> Tensor:
    lengths = torch.tensor([end - start for start, end in spans(bounds)])
    return torch.repeat_interleave(torch.arange(len(bounds) - 1), lengths).to(device)


def numbers(values: tuple[int, ...], device: torch.device) -> Tensor:
    """int64 tensor of `values`."""
    return _held(_numbers(values, device))


@lru_cache(maxsize=KEPT)
def _numbers(values: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.int64, device=device)


def addresses(tensors: Sequence[Tensor]) -> Tensor:
    """[n] int64: where the values of each tensor stand, so that a kernel reads them without a copy."""
    if any(not tensor.is_contiguous() for tensor in tensors):
        raise ValueError("weights of trials must be contiguous")
    return numbers(tuple(tensor.data_ptr() for tensor in tensors), tensors[0].device)


def common_step(values: Sequence[int], most: int = 16) -> int:
    """The largest power of two, of at most `most`, that divides every one of `values`: how many can be read at once."""
    step = most
    while any(value % step for value in values):
        step //= 2
    return step


def power_of_two(number: int, least: int = 16) -> int:
    """The smallest power of two that is at least `number` and `least` (16 is what a tensor core takes)."""
    return max(least, 1 << max(0, number - 1).bit_length())
