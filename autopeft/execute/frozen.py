"""What the frozen part of a model computes, kept and shared by trials.

Below the first adapted layer nothing changes from step to step or from trial to trial, as long as dropout
of the base model is off. All trials of a seed see the same batches, so the hidden states that leave the
last untouched layer are computed once for a batch and then looked up: the layers below are passed
through. Numbers are those of computing them again, bit for bit; that is checked on the first batch met
again at each depth, and sharing ends where it does not hold.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

from autopeft.device import free_memory_bytes

SHARE_OF_MEMORY = 0.15
"""Of the memory free when a worker starts, at most; other workers do the same."""
SHARE_OF_DISK = 0.05
"""Of what is free on the study's disk when a worker starts, at most, once that memory is full."""

Key = tuple[int, bytes]


class Scratch:
    """Tensors in a file without a name in `folder`, up to `most_bytes`: its space is free again when the process ends, however it does."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder, self.most_bytes, self.bytes = folder, most_bytes, 0
        self._file: IO[bytes] | None = None
        self._places: dict[Key, tuple[int, torch.Size, torch.dtype]] = {}

    def keep(self, key: Key, tensor: Tensor) -> None:
        size = tensor.numel() * tensor.element_size()
        if self.bytes + size > self.most_bytes:
            return
        try:
            self._file = self._file or tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - held as long as the process
            self._file.seek(self.bytes)
            self._file.write(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
            self._file.flush()
        except OSError as error:
            self.most_bytes = 0
            print(f"hidden states of the frozen layers are kept in memory alone: {error}", file=sys.stderr)
        else:
            self._places[key] = self.bytes, tensor.shape, tensor.dtype
            self.bytes += size

    def get(self, key: Key) -> Tensor | None:
        if key not in self._places or self._file is None:
            return None
        start, shape, dtype = self._places[key]
        self._file.seek(start)
        return torch.frombuffer(bytearray(self._file.read(shape.numel() * dtype.itemsize)), dtype=dtype).reshape(shape)

    def clear(self) -> None:
        self._file, self.bytes = None, 0
        self._places.clear()


class FrozenLayers:
    """Hidden states by depth and batch in main memory, up to `most_bytes` of them, then in `scratch`; when both are full,
    later batches are computed as ever. found, missed: batches so far."""

    def __init__(self, most_bytes: int, scratch: Scratch | None = None) -> None:
        self.most_bytes, self.bytes = most_bytes, 0
        self.scratch = scratch
        self.found = self.missed = 0
        self._kept: dict[Key, Tensor] = {}
        self._checked: set[int] = set()
        self._trusted = True
        self._paused = False

    @property
    def shares(self) -> bool:
        return self._trusted and not self._paused

    @contextmanager
    def below(self, model: nn.Module, blocks: Sequence[nn.Module], depth: int) -> Iterator[None]:
        """Within this, calls of `model` (a `TaskModel`, with a batch) take the outputs of the first `depth`
        of its `blocks` from here where they are known."""
        if depth == 0:
            yield
            return
        visit = _Visit(self, blocks, depth)
        with _forward(model, partial(visit.forward, model.forward)):
            yield

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Within this nothing is kept or looked up."""
        self._paused = True
        try:
            yield
        finally:
            self._paused = False

    def keep(self, key: Key, hidden: Tensor) -> None:
        size = hidden.numel() * hidden.element_size()
        if key in self._kept:
            return
        if self.bytes + size <= self.most_bytes:
            self._kept[key] = hidden.detach().to("cpu", copy=True)
            self.bytes += size
        elif self.scratch:
            self.scratch.keep(key, hidden.detach())

    def get(self, key: Key, device: torch.device) -> Tensor | None:
        """A copy, which whoever gets it may change."""
        hidden = self._kept.get(key)
        if hidden is None and self.scratch:
            hidden = self.scratch.get(key)
        self.found += hidden is not None
        self.missed += hidden is None
        return None if hidden is None else hidden.to(device, copy=True)

    def must_check(self, depth: int) -> bool:
        """Whether what is kept for this depth has not yet been compared with computing it again."""
        return depth not in self._checked

    def checked(self, depth: int, same: bool) -> None:
        self._checked.add(depth)
        if not same:
            self._trusted = False
            self._kept.clear()
            self.bytes = 0
            if self.scratch:
                self.scratch.clear()
            print("hidden states of the frozen layers differ when computed again: they are not shared", file=sys.stderr)


class _Visit:
    """The model's forward while layers below `depth` may be passed through."""

    def __init__(self, shared: FrozenLayers, blocks: Sequence[nn.Module], depth: int) -> None:
        self._shared, self._blocks, self._depth = shared, blocks[:depth], depth
        self._plain = True

    def forward(self, inner: Callable[[Mapping[str, Tensor]], Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        if not self._shared.shares or not self._plain:
            return inner(batch)
        key = (self._depth, _digest(batch))
        hidden = self._shared.get(key, next(iter(batch.values())).device)
        if hidden is None:
            with self._replaced(lambda index, run, args, kwargs: self._record(key, index, run, args, kwargs)):
                return inner(batch)
        if self._shared.must_check(self._depth):
            again: list[Tensor] = []
            with self._replaced(lambda index, run, args, kwargs: self._compare(again, index, run, args, kwargs)):
                result = inner(batch)
            self._shared.checked(self._depth, bool(again) and torch.equal(again[0], hidden))
            return result
        with self._replaced(lambda index, run, args, kwargs: hidden if index == self._depth - 1 else _entering(args, kwargs)):
            return inner(batch)

    def _record(self, key: Key, index: int, run: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        entering, output = _entering(args, kwargs), run(*args, **kwargs)
        if not (isinstance(output, Tensor) and isinstance(entering, Tensor) and output.shape == entering.shape):
            self._plain = False  # a layer that gives more than hidden states cannot be passed through
        elif index == self._depth - 1 and self._plain:
            self._shared.keep(key, output)
        return output

    def _compare(self, again: list[Tensor], index: int, run: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        output = run(*args, **kwargs)
        if index == self._depth - 1:
            again.append(output.detach())
        return output

    @contextmanager
    def _replaced(self, instead: Callable[[int, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]) -> Iterator[None]:
        """Blocks whose forward is `instead(index, own forward, args, kwargs)`."""
        with ExitStack() as stack:
            for index, block in enumerate(self._blocks):
                stack.enter_context(_forward(block, partial(_called, instead, index, block.forward)))
            yield


def make_store(folder: Path) -> FrozenLayers:
    """A store within its shares of this machine's memory and of the disk that `folder` is on."""
    return FrozenLayers(int(SHARE_OF_MEMORY * free_memory_bytes()), Scratch(folder, _room_on_disk(folder)))


def _room_on_disk(folder: Path) -> int:
    """Bytes of `folder`'s disk that may be used; none where there is no such folder."""
    try:
        return int(SHARE_OF_DISK * shutil.disk_usage(folder).free)
    except OSError:
        return 0


def _called(instead: Callable[..., Any], index: int, run: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    return instead(index, run, args, kwargs)


@contextmanager
def _forward(module: nn.Module, instead: Callable[..., Any]) -> Iterator[None]:
    """A module with another forward, for a while; one that somebody had set on it comes back."""
    before = vars(module).get("forward")
    module.forward = instead
    try:
        yield
    finally:
        del module.forward
        if before is not None:
            module.forward = before


def _entering(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The hidden states that a block is called with."""
    return args[0] if args else kwargs.get("hidden_states")


def _digest(batch: Mapping[str, Tensor]) -> bytes:
    """Of everything in a batch that the model can see."""
    sums = blake2b(digest_size=16)
    for name in sorted(batch.keys() - {"labels"}):
        tensor = batch[name].cpu().contiguous()
        sums.update(f"{name}{tuple(tensor.shape)}".encode())
        sums.update(tensor.numpy().tobytes())
    return sums.digest()


def untouched_layers(training: Iterable[nn.Parameter], blocks: Sequence[nn.Module]) -> int:
    """How many of the first `blocks` neither train nor hold any part of an adapter: all of them where nothing
    trains, none where something trains outside of them.

    training: what trains, without the task head.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    where = {id(parameter): index for index, block in enumerate(blocks) for parameter in block.parameters()}
    first = min((where.get(id(parameter), 0) for parameter in training), default=len(blocks))
    holding = (i for i, block in enumerate(blocks) if any(isinstance(module, BaseTunerLayer) for module in block.modules()))
    return min(first, next(holding, len(blocks)))
