"""Steps of a pack whose shapes recur, recorded once as a CUDA graph and then launched as a whole.

A short fine-tune of a small model waits for launches: a step is some hundred small kernels, whose order and shapes
are the same each time a batch of the same size comes. What changes from step to step (tokens, labels, learning
rates, step counts) is copied into the tensors that the recorded step reads.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from autopeft.tasks import Batch

Compute = Callable[[Mapping[int, Batch], Tensor, Tensor], Tensor]
"""(batches of trials, their learning rates [G], their step counts [G]) -> what is told of the step; waits for nothing."""
Record = Callable[[Callable[[], Tensor]], Callable[[], Tensor]]
"""Records a computation, without its effects; what it returns runs it on what its inputs hold then."""
Signature = tuple[tuple[int, int, tuple[tuple[str, tuple[int, ...]], ...]], ...]

ON_HOST = frozenset({"adamss", "fourierft", "frod", "kasa", "monteclora", "vblora", "velora", "waveft"})
"""Adapter types of peft that read values or copy from the host in each step, so that it cannot be recorded."""
EAGER_STEPS = 2
"""Of a signature before it is recorded: kernels are compiled and memory is found by then."""
MOST_RECORDED = 32


def cuda_recorder(device: torch.device) -> Record:
    """All graphs share their memory: they run one after another, and what one tells is read before the next."""
    pool = torch.cuda.graph_pool_handle()

    def record(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize(device)
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            found = run()

        def replay() -> Tensor:
            graph.replay()
            return found

        return replay

    return record


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
    """record: how, None to run every step as it comes."""

    def __init__(self, record: Record | None) -> None:
        self._record = record
        self._recorded: dict[Signature, _Recorded] = {}
        self._seen: Counter[Signature] = Counter()

    @property
    def on(self) -> bool:
        return self._record is not None

    def __len__(self) -> int:
        """Steps recorded now."""
        return len(self._recorded)

    def forget(self) -> None:
        """Where tensors of the trials have moved, or others have come."""
        self._recorded.clear()
        self._seen.clear()

    def run(self, compute: Compute, batches: Mapping[int, Batch], rates: Tensor, steps: Tensor) -> Tensor:
        """`compute`, from a recording where there is one. Recording fails where the step waits for the device or reads
        from the host, or memory runs out; then nothing is recorded any more."""
        key = signature(batches)
        if key in self._recorded:
            return self._recorded[key].run(batches, rates, steps)
        self._seen[key] += 1
        if self._record is None or self._seen[key] <= EAGER_STEPS or len(self._recorded) == MOST_RECORDED:
            return compute(batches, rates, steps)
        own = _copies(batches)
        own_rates, own_steps = rates.clone(), steps.clone()
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
        (number, places.setdefault(id(batch), len(places)), tuple((name, tuple(tensor.shape)) for name, tensor in batch.items()))
        for number, batch in batches.items()
    )


def _copies(batches: Mapping[int, Batch]) -> dict[int, Batch]:
    """Tensors of their own; who shares a batch still does."""
    made: dict[int, Batch] = {}
    for batch in batches.values():
        if id(batch) not in made:
            made[id(batch)] = {name: tensor.clone() for name, tensor in batch.items()}
    return {number: made[id(batch)] for number, batch in batches.items()}
