"""Ways of `ways.py` measured in processes of their own, which can be stopped and replaced when one fails.

A process that measures waits for orders. For each it builds the step and makes `WARM` of them, which compiles and captures
whatever has to be, says so, and on a word makes steps for `REPEATS` spans of time: so several can be set off at once. After
a way that failed, also in recording a pack's steps, another process measures the next.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from rows import REPEATS
from ways import COMPILED, PACKED, PROCESSES, RECORDED, WAYS, NeedsCuda, Setting, without_masks

WARM = 10
"""Steps before the measured ones."""
START_SECONDS, MPS_SECONDS = 180.0, 60.0
CONNECTIONS = {"CUDA_DEVICE_MAX_CONNECTIONS": "32"}
"""Queues of a process to the device. There are 8 otherwise, behind which more streams wait for each other."""
Answer = dict[str, Any]


@dataclass(frozen=True)
class Order:
    """What one row is measured of. at_once: trials."""

    shape: str
    tokens: int
    length: int
    way: str
    at_once: int


class OutOfTime(Exception):
    """A process did not answer in time; it was ended."""


class Process:
    """A process that measures, started when it is first asked and again after it failed. environ: what it sees besides ours."""

    def __init__(self, device: torch.device, span: float, environ: Mapping[str, str]) -> None:
        self._device, self._span, self._environ = device, span, CONNECTIONS | dict(environ)
        self._process: Any = None

    def start(self) -> None:
        """Start it where it is not running, without waiting until it is ready."""
        if self._process is None:
            context = multiprocessing.get_context("spawn")
            self._end, theirs = context.Pipe()
            self._process = context.Process(target=serve, args=(self._device, self._span, theirs))
            with mock.patch.dict(os.environ, self._environ):
                self._process.start()
            theirs.close()
            self._ready = False

    def wait(self, until: float) -> None:
        """Until it is ready."""
        self.start()
        if not self._ready:
            if problem := self.receive(until).get("problem"):
                raise SystemExit(f"nothing can be measured: {problem}")
            self._ready = True

    def send(self, what: Any) -> None:
        self._end.send(what)

    def receive(self, until: float) -> Answer:
        """Its answer. Raises OutOfTime where there is none by `until`."""
        try:
            if self._end.poll(max(0.0, until - time.monotonic())):
                return self._end.recv()
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            self.end()
            return {"problem": f"the process ended with code {code}"}
        self.end()
        raise OutOfTime

    def dismiss(self) -> None:
        """Let it end by itself where it waits for an order."""
        if self._process is not None:
            with suppress(OSError):
                self._end.send(None)

    def end(self, patience: float = 0.0) -> None:
        """patience: seconds for it to end by itself."""
        if self._process is not None:
            if patience:
                self._process.join(patience)
            self._process.kill()
            self._process.join()
            self._end.close()
            self._process = None


def ask(processes: Sequence[Process], order: Order, until: float) -> Answer:
    """steps_per_second of all processes together, or the `problem`. Raises OutOfTime; then all of them were ended."""
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.wait(until)
            process.send(order)
        warm = [process.receive(until) for process in processes]
        problem = next((answer for answer in warm if "problem" in answer), None)
        for process, answer in zip(processes, warm, strict=True):
            if "problem" not in answer:
                process.send(problem is None)
        found = [] if problem else [process.receive(until) for process in processes]
    except (OutOfTime, OSError) as error:
        for process in processes:
            process.end()
        if isinstance(error, OutOfTime):
            raise
        return {"problem": f"a process ended: {error}"}
    problem = problem or next((answer for answer in found if "problem" in answer), None)
    if any(answer.get("spoilt", "problem" in answer) for answer in (*warm, *found)):
        for process in processes:
            process.end()
    if problem:
        return {"problem": problem["problem"]}
    each = 1 if order.way in PROCESSES else order.at_once
    totals = sorted(each * sum(rates) for rates in zip(*(answer["rates"] for answer in found), strict=True))
    median = totals[len(totals) // 2]
    return {
        "steps_per_second": median,
        "spread": (totals[-1] - totals[0]) / median,
        "peak_memory_bytes": sum(answer["peak"] for answer in found) if found[0]["peak"] else "",
        "warm_seconds": max(answer["warm_seconds"] for answer in warm),
        "recorded": found[0]["recorded"],
    }


def serve(device: torch.device, span: float, parent: Any) -> None:
    """In a process that measures."""
    parent.send({})
    kept = dict[tuple[str, int, int], Setting]()
    while (order := parent.recv()) is not None:
        try:
            key = order.shape, order.tokens, order.length
            if key not in kept:
                kept.clear()
                tidy(device)
                kept[key] = Setting(*key, device)
            tidy(device)
            measure(order, kept[key], span, parent)
        except Exception as error:
            kept.clear()
            expected, words = isinstance(error, NeedsCuda), (str(error).strip() or type(error).__name__).splitlines()[0]
            parent.send({"problem": words if expected else f"{type(error).__name__}: {words}", "spoilt": not expected})
        tidy(device)


def measure(order: Order, setting: Setting, span: float, parent: Any) -> None:
    with nullcontext() if order.way in ("sequential", "processes", *PACKED) else without_masks(setting):
        start = time.perf_counter()
        step = WAYS[order.way](setting, order.at_once)
        for _ in range(WARM):
            step()
        synchronize(setting.device)
        parent.send({"warm_seconds": time.perf_counter() - start})
        if parent.recv():
            found = rates(step, setting.device, span)
            peak = torch.cuda.max_memory_allocated(setting.device) if setting.device.type == "cuda" else None
            recorded = getattr(step, "recorded", "")
            failed = setting.device.type == "cuda" and order.way in RECORDED and not recorded
            parent.send({"rates": found, "peak": peak, "recorded": recorded, "spoilt": failed})
    setting.casts.take_off()
    if order.way in COMPILED:
        torch.compiler.reset()


def rates(step: Callable[[], object], device: torch.device, span: float) -> list[float]:
    """Steps per second in each of `REPEATS` spans of so many seconds, of one step at least."""
    found = []
    for _ in range(REPEATS):
        start, done = time.perf_counter(), 0
        while done == 0 or time.perf_counter() - start < span:
            step()
            done += 1
        synchronize(device)
        found.append(done / (time.perf_counter() - start))
    return found


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def tidy(device: torch.device) -> None:
    """Free what earlier ways held."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


@contextmanager
def mps(*, wanted: bool) -> Iterator[dict[str, str] | None]:
    """Environment of processes that share a GPU through NVIDIA's Multi-Process Service, None where it is not to be had.

    By hand: `nvidia-cuda-mps-control -d` before the processes start, `echo quit | nvidia-cuda-mps-control` after they ended.
    """
    program = shutil.which("nvidia-cuda-mps-control") if wanted else None
    if program is None:
        yield None
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # the service may still write there
        places = {name: str(Path(folder) / name) for name in ("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY")}
        environ = {**os.environ, **places}

        def control(*arguments: str, said: str = "") -> str:
            given: dict[str, Any] = {"input": said, "env": environ, "timeout": MPS_SECONDS, "check": False}
            out = subprocess.DEVNULL if arguments else subprocess.PIPE  # the service keeps a pipe open
            return subprocess.run([str(program), *arguments], stdout=out, stderr=subprocess.DEVNULL, text=True, **given).stdout

        def starts() -> bool:
            try:
                for place in places.values():
                    Path(place).mkdir()
                control("-d")
                trial = [sys.executable, "-c", "import torch; print(torch.ones(1, device='cuda').sum().item())"]
                ended = subprocess.run(trial, env=environ, capture_output=True, timeout=MPS_SECONDS, check=False)
                return ended.returncode == 0 and control(said="get_server_list\n")[:1].isdigit()
            except (OSError, subprocess.TimeoutExpired):
                return False

        works = starts()
        try:
            yield places if works else None
        finally:
            with suppress(OSError, subprocess.TimeoutExpired):
                control(said="quit\n")
