"""Steps of a pack whose shapes recur, recorded once as a CUDA graph and then launched as a whole.

A short fine-tune of a small model waits for launches: a step is some hundred small kernels, whose order and shapes
are the same each time a batch of the same size comes. What changes from step to step (tokens, labels, learning
rates, step counts) is copied into the tensors that the recorded step reads.
"""

from __future__ import annotations

import gc
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from transformers.utils import import_utils

from autopeft.tasks import Batch
from autopeft_kernels.segments import holding

Compute = Callable[[Mapping[int, Batch], Tensor, Tensor], Tensor]
"""(batches of trials, their learning rates [G], their step counts [G]) -> what is told of the step; waits for nothing."""
Record = Callable[[Callable[[], Tensor]], Callable[[], Tensor]]
"""Records a computation, without its effects; what it returns runs it on what its inputs hold then."""
Signature = tuple[tuple[int, int, tuple[tuple[Any, ...], ...]], ...]

ON_HOST = frozenset({"adamss", "boft", "deft", "fourierft", "frod", "kasa", "monteclora", "psoft", "vblora", "velora", "waveft"})
"""Adapter types of peft that read values, solve systems or copy from the host in each step, so that it cannot be recorded."""
EAGER_STEPS = 2
"""Of a signature before it is recorded: kernels are compiled and memory is found by then."""
MOST_RECORDED = 32


def cuda_recorder(device: torch.device) -> Record:
    """Its graphs share their memory: they run one after another, and what one tells is read before the next."""
    pool = torch.cuda.graph_pool_handle()

    def record(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream(device)
        gc.collect()  # an old step in a cycle would tie gradients to the stream that it ran on
        torch.cuda.synchronize(device)
        try:
            with holding() as tables, _OnDevice(device), torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
                found = run()
        except BaseException:
            torch.cuda.set_stream(stream)  # where a recording fails, torch stays on the stream that it recorded
            raise

        def replay(tables: object = tables) -> Tensor:  # which the graph reads
            graph.replay()
            return found

        return replay

    return record


class _OnDevice(TorchFunctionMode):
    """Positions are counted on the device: MPNet in transformers up to 5.17 counts on the host and copies them."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.arange and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": self._device}
        return func(*args, **kwargs)


@contextmanager
def _masks_as_recorded() -> Iterator[None]:
    """Within this transformers makes the masks that it makes where a step is recorded, and does not look into them: the kernels that a
    recording takes have then run before."""
    before = import_utils.is_cuda_stream_capturing
    import_utils.is_cuda_stream_capturing = lambda: True
    try:
        yield
    finally:
        import_utils.is_cuda_stream_capturing = before


@dataclass
class _Recorded:
    batches: Mapping[int, Batch]
    rates: Tensor
    steps: Tensor
    replay: Callable[[], Tensor]

    def run(self, batches: Mapping[int, Batch], rates: Tensor, steps: Tensor) -> Tensor:
        pairs = {id(mine): (mine, batches[number]) for number, mine in self.batches.items()}
        for mine, given in pairs.values():
            for name, tensor in mine.items():
                tensor.copy_(given[name], non_blocking=True)
        self.rates.copy_(rates)
        self.steps.copy_(steps)
        return self.replay()


class Graphs:
    """make_recorder: None to run every step as it comes."""

    def __init__(self, make_recorder: Callable[[], Record] | None) -> None:
        self._make_recorder, self._record = make_recorder, None if make_recorder is None else make_recorder()
        self._recorded: dict[Signature, _Recorded] = {}
        self._seen: Counter[Signature] = Counter()

    @property
    def on(self) -> bool:
        return self._record is not None

    def __len__(self) -> int:
        """Steps recorded now."""
        return len(self._recorded)

    def forget(self) -> None:
        """Where tensors of the trials have moved, others have come, or memory is short. Memory that recordings shared is not used again."""
        if self._recorded and self._make_recorder is not None and self.on:
            self._record = self._make_recorder()
        self._recorded.clear()
        self._seen.clear()

    def run(self, compute: Compute, batches: Mapping[int, Batch], rates: Tensor, steps: Tensor) -> Tensor:
        """`compute`, from a recording where there is one. Recording fails where the step waits for the device or reads
        from the host, or memory runs out; then nothing is recorded any more."""
        key = signature(batches)
        if key in self._recorded:
            return self._recorded[key].run(batches, rates, steps)
        self._seen[key] += 1
        if self._record is None:
            return compute(batches, rates, steps)
        if self._seen[key] <= EAGER_STEPS:
            with _masks_as_recorded():
                return compute(batches, rates, steps)
        if len(self._recorded) == MOST_RECORDED:
            self.forget()
        own, own_rates, own_steps = _copies(batches), rates.clone(), steps.clone()
        try:
            replay = self._record(lambda: compute(own, own_rates, own_steps))
        except Exception as error:  # also where there is no memory for a recording beside what was kept so far
            self._record = None
            self.forget()
            print(f"steps of packs are not recorded as CUDA graphs: {type(error).__name__}: {error}", file=sys.stderr)
            return compute(batches, rates, steps)
        self._recorded[key] = _Recorded(own, own_rates, own_steps, replay)
        return replay()


def signature(batches: Mapping[int, Batch]) -> Signature:
    """What has to be the same for a step to be the same: who is in it, which of them share a batch, and all shapes."""
    places: dict[int, int] = {}
    return tuple(
        (number, places.setdefault(id(batch), len(places)), tuple((name, tensor.dtype, *tensor.shape) for name, tensor in batch.items()))
        for number, batch in batches.items()
    )


def _copies(batches: Mapping[int, Batch]) -> dict[int, Batch]:
    """Tensors of their own; who shares a batch still does."""
    made: dict[int, Batch] = {}
    for batch in batches.values():
        if id(batch) not in made:
            made[id(batch)] = {name: tensor.clone() for name, tensor in batch.items()}
    return {number: made[id(batch)] for number, batch in batches.items()}
