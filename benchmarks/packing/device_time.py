"""Seconds that work takes on a CUDA device alone, without the Python that launches it.

Several calls are recorded in a CUDA graph and replayed between two events. Before each call the cache is filled with something else,
by reading, since what is written would have to be written back during the call; a graph of that alone says what it takes. What
cannot be recorded, because it waits for the device, is timed call by call between events ("events"); there short kernels wait
for their launches. On a CPU the clock says how long a call takes ("clock").
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from statistics import median

import rows
import torch

CALLS, REPLAYS, WARM = 20, 5, 3
Call = Callable[[], object]


def seconds(make: Callable[[], Call], device: torch.device) -> tuple[float, str]:
    """(seconds of one call, how they were measured). make: prepares a call, on the stream on which it will run."""
    if device.type != "cuda":
        return rows.seconds(make(), device), "clock"
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        call, fill = make(), _fill(device)
        for _ in range(WARM):
            call()
            fill()
        stream.synchronize()
        if not _waits(call):
            try:
                return (_replayed(lambda: (fill(), call()), stream) - _filling(device, stream)) / CALLS, "graph"
            except RuntimeError as error:
                print(f"cannot be recorded: {str(error).splitlines()[0]}")
                torch.cuda.synchronize(device)
        return _between_events(call, fill, stream), "events"


@cache
def _fill(device: torch.device) -> Call:
    """Reads four times what the cache holds."""
    held = torch.ones(torch.cuda.get_device_properties(device).L2_cache_size, dtype=torch.float32, device=device)
    total = torch.empty((), device=device)
    return lambda: torch.sum(held, dim=0, out=total)


_FOUND: dict[torch.device, float] = {}


def _filling(device: torch.device, stream: torch.cuda.Stream) -> float:
    """Seconds of a replay of nothing but filling the cache."""
    if device not in _FOUND:
        _FOUND[device] = _replayed(_fill(device), stream)
    return _FOUND[device]


def _waits(call: Call) -> bool:
    """Whether the call waits for the device, which would spoil a recording."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        call()
    except RuntimeError:
        return True
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return False


def _replayed(call: Call, stream: torch.cuda.Stream) -> float:
    """Seconds of one replay of `CALLS` calls."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        for _ in range(CALLS):
            call()
    graph.replay()
    found = []
    for _ in range(REPLAYS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record(stream)
        graph.replay()
        end.record(stream)
        end.synchronize()
        found.append(start.elapsed_time(end) / 1e3)
    return median(found)


def _between_events(call: Call, fill: Call, stream: torch.cuda.Stream) -> float:
    found = []
    for _ in range(CALLS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        fill()
        start.record(stream)
        call()
        end.record(stream)
        end.synchronize()
        found.append(start.elapsed_time(end) / 1e3)
    return median(found)
