"""Training steps per second of several trials: packed, and by the best that can be had without packing.

    python benchmarks/packing/throughput.py [--device cuda] [--seconds 540] [--missing]
    python benchmarks/packing/throughput.py --shapes tiny --tokens 128 --trials 1 2 --processes 2 --span 0.05 --device cpu

`ways.py` says what is compared. LoRA r=8 on q,v of random weights in the shape of the model: rates do not depend on weights, so that
nothing is downloaded. What matters most comes first, each row is written once it is measured, and a way that fails has its
error in the row. After --seconds the rest is left out; --missing keeps the file and measures what it does not have from this device
and version of torch yet, at last what failed before.

    at_once            trials in one pass, on streams, or in processes of their own
    tokens, length     of a step of one trial, and of each example
    steps_per_second   of all trials together; median of `repeats` spans of time. spread: highest less lowest, by the median
    peak_memory_bytes  that the allocator had handed out, base model included; of several processes the sum, without their contexts
    warm_seconds       of building and the first steps: compiling and capturing
    recorded           whether a pack's steps were replays of a CUDA graph
    mps                whether processes share the GPU through NVIDIA's Multi-Process Service (`processes.mps`)

Writes ../results/throughput-<device>.csv and, after each row, ../results/throughput-summary-<device>.csv: best packed against the best
alternative.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from processes import START_SECONDS, Order, OutOfTime, Process, ask, mps
from rows import REPEATS, RESULTS, add, read, version, write
from ways import COMPILED, PACKED, PROCESSES, SHAPES, WAYS

from autopeft.device import device_name

LARGE = ("llama-1b",)
LARGE_FIRST = ("sequential", "sequential-casting", "graphs", "packed")
FIRST = (*LARGE_FIRST, "streams", "processes-graphs")
LARGE_WAYS = (*FIRST, *COMPILED)
MOST_LARGE = 8
"""Trials at once of a large model."""
WAY_SECONDS, LEAST_SECONDS, END_SECONDS = 150.0, 5.0, 5.0
"""Longest that one row may take; what must be left to begin one; for a process to end by itself."""
KEY = ("shape", "tokens", "length", "way", "at_once")
Counts = dict[str, Sequence[int]]
"""Way -> how many trials at once are tried."""


def plan(shapes: Sequence[str], tokens: Sequence[int], lengths: Sequence[int], ways: Sequence[str], counts: Counts) -> list[Order]:
    """All orders: the ways that matter most of small models at the first number of tokens, then of large ones at all; the other
    ways at the first number of tokens; small models at the other numbers; further lengths."""

    def stage(order: Order) -> int:
        if order.length != lengths[0]:
            return 5
        if order.shape in LARGE and order.way in LARGE_FIRST:
            return 1
        if order.tokens == tokens[0]:
            return 0 if order.shape not in LARGE and order.way in FIRST else 2
        return 3 if order.way in FIRST else 4

    every = (
        Order(shape, count, length, way, at_once)
        for length in lengths
        for count in tokens
        for shape in shapes
        for way in WAYS
        if way in ways
        for at_once in counts.get(way, (1,))
    )
    return sorted((order for order in every if order.shape not in LARGE or fits(order)), key=stage)


def fits(order: Order) -> bool:
    """Whether a way is measured of a large model."""
    return order.way in LARGE_WAYS and order.at_once <= MOST_LARGE // (2 if order.way in PROCESSES else 1)


def counts_of(trials: Sequence[int], processes: Sequence[int]) -> Counts:
    several = [count for count in trials if count > 1]
    return {"packed": trials, "packed-eager": trials, "packed-apart": trials[-2:], "streams": several} | dict.fromkeys(PROCESSES, processes)


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The best packed row of each shape, tokens and length against the best without packing and against peft as it comes."""
    found = []
    for key in dict.fromkeys(tuple(row[name] for name in KEY[:3]) for row in rows):
        mine = [row for row in rows if tuple(row[name] for name in KEY[:3]) == key and not row["problem"]]
        rate = {id(row): float(row["steps_per_second"]) for row in mine}
        packs = [row for row in mine if row["way"] in PACKED]
        others = [row for row in mine if row["way"] not in PACKED]
        plain, casting = ([row for row in others if row["way"] == way] for way in ("sequential", "sequential-casting"))
        named: dict[str, Any] = dict(zip(KEY[:3], key, strict=True))
        best = [max(group, key=lambda row: rate[id(row)], default=None) for group in (packs, others, plain, casting)]
        for name, row in zip(("packed", "alternative"), best, strict=False):
            named[name] = f"{row['way']} {row['at_once']}" if row else "not measured"
            named[f"{name}_steps_per_second"] = rate[id(row)] if row else ""
        for name, row in zip(("ratio_to_alternative", "ratio_to_sequential", "ratio_to_sequential_casting"), best[1:], strict=True):
            named[name] = rate[id(best[0])] / rate[id(row)] if best[0] and row else ""
        found.append(named)
    return found


def known(device: torch.device) -> list[dict[str, str]]:
    """Rows that the file has of this device and version of torch."""
    if not (RESULTS / f"throughput-{device.type}.csv").exists():
        return []
    return [row for row in read("throughput", device) if (row["device"], row["torch"]) == (device_name(device), version("torch"))]


@contextmanager
def processes_of(device: torch.device, span: float, count: int, *, with_mps: bool) -> Iterator[tuple[Process, list[Process], str]]:
    """One that measures alone, those that measure together, and whether these share the GPU by MPS. All are ready."""
    with mps(wanted=with_mps and count > 0 and device.type == "cuda") as environ:
        alone, together = Process(device, span, {}), [Process(device, span, environ or {}) for _ in range(count)]
        try:
            for process in (alone, *together):
                process.start()
            for process in (alone, *together):
                process.wait(time.monotonic() + START_SECONDS)
            yield alone, together, "yes" if environ else "none"
        finally:
            for process in (alone, *together):
                process.dismiss()
            until = time.monotonic() + END_SECONDS
            for process in (alone, *together):
                process.end(max(0.1, until - time.monotonic()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda"))
    parser.add_argument("--shapes", nargs="+", default=["minilm", "mpnet", "llama-1b"], choices=list(SHAPES))
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--tokens", type=int, nargs="+", default=[1024, 256, 4096])
    parser.add_argument("--lengths", type=int, nargs="+", default=[64])
    parser.add_argument("--trials", type=int, nargs="+", default=[1, 2, 4, 8, 16], help="at once, packed or on streams")
    parser.add_argument("--processes", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--seconds", type=float, default=540, help="of the whole")
    parser.add_argument("--span", type=float, default=0.3, help=f"seconds; each row has {REPEATS} of them")
    parser.add_argument("--missing", action="store_true", help="keep the rows there are, measure the others and what failed")
    parser.add_argument("--without-mps", action="store_true")
    given = parser.parse_args()
    end = time.monotonic() + given.seconds
    if given.device == "cuda" and not torch.cuda.is_available():
        print("not measured: no CUDA device")
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the processes are ended
    device = torch.device(given.device)
    if not given.missing:
        (RESULTS / f"throughput-{device.type}.csv").unlink(missing_ok=True)
    orders = missing(plan(given.shapes, given.tokens, given.lengths, given.ways, counts_of(given.trials, given.processes)), known(device))
    most = max((order.at_once for order in orders if order.way in PROCESSES), default=0)
    with processes_of(device, given.span, most, with_mps=not given.without_mps) as (alone, together, shared):
        left_out = measure(orders, alone, together, shared, end, device)
    if left_out:
        print(f"left out after {given.seconds:.0f} s: " + ", ".join(" ".join(str(getattr(o, name)) for name in KEY) for o in left_out))
    summarise(device, in_words=True)


def missing(orders: Sequence[Order], rows: Sequence[dict[str, str]]) -> list[Order]:
    """Orders without a row, then those whose rows all have a problem."""
    well, failed = ({tuple(row[name] for name in KEY) for row in rows if bool(row["problem"]) is problem} for problem in (False, True))
    keys = {order: tuple(str(getattr(order, name)) for name in KEY) for order in orders}
    return sorted((order for order in orders if keys[order] not in well), key=lambda order: keys[order] in failed)


def measure(orders: Sequence[Order], alone: Process, together: Sequence[Process], shared: str, end: float, device: Any) -> list[Order]:
    """Write a row for each order; those for which no time was left."""
    for number, order in enumerate(orders):
        several, now = order.way in PROCESSES, time.monotonic()
        if now > end - LEAST_SECONDS:
            return list(orders[number:])
        try:
            found = ask(together[: order.at_once] if several else [alone], order, min(end, now + WAY_SECONDS))
        except OutOfTime:
            if time.monotonic() >= end:
                return list(orders[number:])
            found = {"problem": f"took more than {WAY_SECONDS:.0f} s"}
        row = {name: getattr(order, name) for name in KEY}
        row |= {name: found.get(name, "") for name in ("steps_per_second", "spread", "peak_memory_bytes", "warm_seconds", "recorded")}
        add("throughput", [{**row, "repeats": REPEATS, "mps": shared if several else "", "problem": found.get("problem", "")}], device)
        summarise(device, in_words=False)
    return []


def summarise(device: torch.device, *, in_words: bool) -> None:
    """Write the summary of what this device and version of torch has rows of."""
    if rows := known(device):
        write("throughput-summary", summary(rows), device, in_words=in_words)


if __name__ == "__main__":
    main()
