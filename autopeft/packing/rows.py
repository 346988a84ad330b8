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
        self._cut: Tensor | None = None
        self._parts: dict[tuple[tuple[int, ...], tuple[int, ...]], Tensor] = {}

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
        total = self.total
        return each_tensor(given, lambda tensor: self.cut(tensor, chosen) if tensor.ndim and tensor.shape[0] == total else tensor)

    def cut(self, tensor: Tensor, chosen: Sequence[int]) -> Tensor:
        """The rows of the `chosen` trials; modules that read the same tensor in turn get the same copy, as they would keep one alone."""
        wanted = tuple(chosen)
        if wanted == self.owners:
            return tensor
        if tensor is not self._cut:
            self._cut, self._parts = tensor, {}
        if (wanted, self.owners) not in self._parts:
            rows = self._by_owner(self.owners, tensor)
            self._parts[wanted, self.owners] = torch.cat([rows[owner] for owner in chosen])
        return self._parts[wanted, self.owners]

    def forget(self) -> None:
        """Let go of the tensor cut last."""
        self._cut, self._parts = None, {}

    def replaced(self, tensor: Tensor, chosen: Sequence[int], new: Tensor) -> Tensor:
        """`tensor` with `new` in place of the rows of the `chosen` trials."""
        if tuple(chosen) == self.owners:
            return new
        rows = self._by_owner(self.owners, tensor) | self._by_owner(chosen, new)
        return torch.cat([rows[owner] for owner in self.owners])

    def _by_owner(self, owners: Sequence[int], tensor: Tensor) -> dict[int, Tensor]:
        return dict(zip(owners, tensor.split([self.counts[owner] for owner in owners]), strict=True))

    def join(self, found: Sequence[tuple[Sequence[int], Any]]) -> Any:
        """What modules gave for some trials each, as one of all our rows in their order; None in the place of further outputs
        that differ in more than rows, as attention weights do where some trials have a prefix."""
        if len(found) == 1:
            return found[0][1]
        first = found[0][1]
        if isinstance(first, Tensor):
            rows: dict[int, Tensor] = {}
            for owners, tensor in found:
                rows |= self._by_owner(owners, tensor)
            return torch.cat([rows[owner] for owner in self.owners])
        if isinstance(first, tuple):
            return tuple(
                self.join([(owners, out[i]) for owners, out in found]) if i == 0 or _alike([out[i] for _, out in found]) else None
                for i in range(len(first))
            )
        if first is None:
            return None
        raise TypeError(f"outputs of {type(first).__name__} cannot be joined over trials")


def _alike(outputs: Sequence[Any]) -> bool:
    """Whether tensors differ in their first dimension alone."""
    return len({output.shape[1:] for output in outputs if isinstance(output, Tensor)}) <= 1


def each_tensor(given: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """`given` with every tensor changed that stands in it, in lists, tuples and dicts."""
    if isinstance(given, Tensor):
        return change(given)
    if isinstance(given, dict):
        return {name: each_tensor(value, change) for name, value in given.items()}
    if type(given) in (list, tuple):
        return type(given)(each_tensor(value, change) for value in given)
    return given
