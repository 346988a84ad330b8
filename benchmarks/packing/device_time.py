"""Seconds that work takes on a CUDA device alone, without the Python that launches it.

Several calls are recorded in a CUDA graph and replayed between two events. Before each call the cache is filled with something else,
by reading, since what is written would have to be written back during the call; a graph of that alone, replayed in turn with
the other, says what it takes. What cannot be recorded, because it waits for the device, is timed call by call between events
("events"); there short kernels wait for their launches. On a CPU the clock says how long a call takes ("clock").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from statistics import median, quantiles

import rows
import torch

CALLS, REPLAYS, WARM = 20, 9, 3
Call = Callable[[], object]


@dataclass(frozen=True)
class Taken:
    """Of one call: the median, and what lies between the quarters of all that was measured. how: `graph`, `events` or `clock`."""

    seconds: float
    spread: float
    how: str

    @property
    def resolved(self) -> bool:
        """Whether it is more than what other measurements of it differ by."""
        return self.seconds > max(0.0, self.spread)


def seconds(make: Callable[[], Call], device: torch.device) -> Taken:
    """make: prepares a call, on the stream on which it will run."""
    if device.type != "cuda":
        return taken(rows.each_seconds(make(), device), "clock")
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
                return taken(_beyond(lambda: (fill(), call()), fill, stream), "graph")
            except RuntimeError as error:
                print(f"cannot be recorded: {str(error).splitlines()[0]}")
                torch.cuda.synchronize(device)
        return taken(_between_events(call, fill, stream), "events")


def taken(found: list[float], how: str) -> Taken:
    low, _, high = quantiles(found, n=4)
    return Taken(median(found), high - low, how)


@cache
def _fill(device: torch.device) -> Call:
    """Reads four times what the cache holds."""
    held = torch.ones(torch.cuda.get_device_properties(device).L2_cache_size, dtype=torch.float32, device=device)
    total = torch.empty((), device=device)
    return lambda: torch.sum(held, dim=0, out=total)


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


def _beyond(whole: Call, part: Call, stream: torch.cuda.Stream) -> list[float]:
    """Seconds that one `whole` takes beyond its `part`, whose graphs of `CALLS` calls take turns: so both see the same clock rate."""
    graphs = [_recorded(call, stream) for call in (whole, part)]
    found = []
    for _ in range(REPLAYS):
        both, alone = (_between(graph.replay, stream) for graph in graphs)
        found.append((both - alone) / CALLS)
    return found


def _recorded(call: Call, stream: torch.cuda.Stream) -> torch.cuda.CUDAGraph:
    """A graph of `CALLS` calls, which has run once."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        for _ in range(CALLS):
            call()
    graph.replay()
    return graph


def _between_events(call: Call, fill: Call, stream: torch.cuda.Stream) -> list[float]:
    found = []
    for _ in range(CALLS):
        fill()
        found.append(_between(call, stream))
    return found


def _between(call: Call, stream: torch.cuda.Stream) -> float:
    """Seconds on the device."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record(stream)
    call()
    end.record(stream)
    end.synchronize()
    return start.elapsed_time(end) / 1e3
