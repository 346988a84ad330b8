"""Which rows of a batch belong to which trial, and cutting and joining whatever modules take and give."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor


class Rows:
    """Rows of a batch, trial after trial, as the module that runs now sees them.

    owners: numbers of trials in the order of their rows. counts: trial -> its rows.
    """

    def __init__(self) -> None:
        self.owners: tuple[int, ...] = ()
        self.counts: dict[int, int] = {}

    @contextmanager
    def of(self, owners: Sequence[int]) -> Iterator[None]:
        """For the time of a call, only these trials have rows."""
        before, self.owners = self.owners, tuple(owners)
        try:
            yield
        finally:
            self.owners = before

    @property
    def total(self) -> int:
        return sum(self.counts[owner] for owner in self.owners)

    def bounds(self, each: int = 1) -> tuple[int, ...]:
        """First row of each owner, and the end; `each`: how many rows of a matrix a row of the batch becomes."""
        return tuple(accumulate((each * self.counts[owner] for owner in self.owners), initial=0))

    def pick(self, given: Any, chosen: Sequence[int]) -> Any:
        """`given` with the rows of the `chosen` trials alone, in every tensor that has a row for each of ours."""
        if tuple(chosen) == self.owners:
            return given
        bounds = dict(zip(self.owners, zip(self.bounds()[:-1], self.bounds()[1:], strict=True), strict=True))
        total = self.total

        def cut(tensor: Tensor) -> Tensor:
            if not tensor.ndim or tensor.shape[0] != total:
                return tensor
            parts = [tensor[slice(*bounds[owner])] for owner in chosen]
            return parts[0] if len(parts) == 1 else torch.cat(parts)

        return each_tensor(given, cut)

    def join(self, found: Sequence[tuple[Sequence[int], Any]]) -> Any:
        """What modules gave for some trials each, as one of all our rows in their order."""
        if len(found) == 1:
            return found[0][1]
        first = found[0][1]
        if isinstance(first, Tensor):
            rows: dict[int, Tensor] = {}
            for owners, tensor in found:
                rows |= dict(zip(owners, tensor.split([self.counts[owner] for owner in owners]), strict=True))
            return torch.cat([rows[owner] for owner in self.owners])
        if isinstance(first, tuple):
            return tuple(self.join([(owners, out[i]) for owners, out in found]) for i in range(len(first)))
        if first is None:
            return None
        raise TypeError(f"outputs of {type(first).__name__} cannot be joined over trials")


def each_tensor(given: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """`given` with every tensor changed that stands in it, in lists, tuples and dicts."""
    if isinstance(given, Tensor):
        return change(given)
    if isinstance(given, dict):
        return {name: each_tensor(value, change) for name, value in given.items()}
    if type(given) in (list, tuple):
        return type(given)(each_tensor(value, change) for value in given)
    return given
