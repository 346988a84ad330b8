"""What training really used.

Peak memory counts the bytes of tensors on one device, as its allocator hands them out: `resident`
tensors (weights) that exist before the steps, and everything the steps allocate and have not freed
yet - gradients, optimiser state, activations, temporaries, scratch of operators. It does not count
Python, libraries, what other parts of the process hold, nor memory that the allocator keeps in
reserve, so that it is the same whatever ran before. It knows nothing of `autopeft.tracing`.

    cpu    every allocation and release of PyTorch's CPU allocator during the steps, as its profiler
           reports them; working memory that MKL and oneDNN take for themselves is not among them
    cuda   torch.cuda.max_memory_allocated: blocks of 512 bytes, cuBLAS workspaces included
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.profiler import profile

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler writes to the terminal whenever it starts

STEPS = 2
"""The first step makes the optimiser's state, the second meets it."""


def measure_peak(step: Callable[[], object], device: torch.device, resident: Iterable[Tensor]) -> int:
    """Peak memory in bytes of `STEPS` training steps on `device`.

    step: one forward, backward and update, which leaves no gradients; costs about a step and a half
        each on a CPU. resident: parameters and buffers; shared storages count once.
    """
    start = storage_bytes(tensor for tensor in resident if tensor.device.type == device.type)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        for _ in range(STEPS):
            step()
        torch.cuda.synchronize(device)
        return start + torch.cuda.max_memory_allocated(device) - before
    with profile(use_kineto=False, profile_memory=True, acc_events=False) as profiler:
        for _ in range(STEPS):
            step()
    return start + _highest_sum(profiler.kineto_results)


def storage_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of tensors; those that start at the same place count once, as tied weights do."""
    sizes: dict[int, int] = {}
    for tensor in tensors:
        sizes[tensor.data_ptr()] = max(sizes.get(tensor.data_ptr(), 0), tensor.numel() * tensor.element_size())
    return sum(sizes.values())


def _highest_sum(results: Any) -> int:
    """Highest sum of what was allocated and not yet released; blocks from before the profile do not count."""
    live: dict[int, int] = {}
    total = highest = 0
    for address, size in sorted_allocations(results.experimental_event_tree()):
        total -= live.pop(address, 0)
        if size > 0:
            live[address] = size
            total += size
            highest = max(highest, total)
    return highest


def sorted_allocations(roots: Iterable[Any]) -> Iterator[tuple[int, int]]:
    """(address, bytes) of each allocation, or release where bytes are negative, in order of time."""
    found: list[tuple[int, int, int]] = []
    waiting = list(roots)
    while waiting:
        event = waiting.pop()
        waiting.extend(event.children)
        fields = event.extra_fields
        if isinstance(fields, torch._C._profiler._ExtraFields_Allocation) and fields.ptr is not None:
            found.append((event.start_time_ns, fields.ptr, fields.alloc_size))
    found.sort(key=lambda allocation: allocation[0])
    return ((address, size) for _, address, size in found)
