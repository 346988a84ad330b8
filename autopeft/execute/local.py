"""Runs trials in warm child processes on this machine, one or more per device.

A worker that dies or shows no sign of life is replaced; the trial it ran ends with the reason.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import autopeft.errors
from autopeft.errors import AutopeftError
from autopeft.execute.deaths import Deaths
from autopeft.execute.executor import Ended, Event, Rung, Step
from autopeft.spec import StudySpec
from autopeft.trial import Observation, TrialSpec, TrialState

WORKER = (sys.executable, "-m", "autopeft.execute.worker")
START_SECONDS = 900.0
STARTS = 5
"""How often a worker that is killed while it starts is started again, before the search gives up."""
MOST_GROWTH_BYTES = 2**30
"""A worker that has grown by more since its first trial is replaced by a fresh one."""


@dataclass
class _Worker:
    """room: trials that it runs at once; more than one where they share a model (executor `packed`).
    trials: that it runs, by number, with the moment when each was submitted."""

    device: str
    process: subprocess.Popen[str]
    lines: queue.Queue[str | None] = field(default_factory=queue.Queue)
    room: int = 1
    trials: dict[int, float] = field(default_factory=dict)
    last_sign: float = 0.0
    first_bytes: int = 0

    def send(self, **command: Any) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()


class LocalExecutor:
    """devices: one for each worker. log: file that workers write their output to. most_threads: of each
    worker; 0 is as many as there are. silence_seconds: a trial whose worker says nothing for so long is
    ended as hung; infinite until it is set."""

    def __init__(self, spec: StudySpec, folder: Path, devices: list[str], log: Path, most_threads: int = 0) -> None:
        self._spec, self._folder, self._devices, self._log = spec, folder, devices, log
        self._most_threads = most_threads
        self.silence_seconds, self.gpus_each = float("inf"), len(set(devices)) / len(devices)
        self._workers: list[_Worker] = []
        self._threads: int | None = None
        self._deaths = Deaths()

    def start(self, threads: int | None, *, calibrate: bool) -> dict[str, Any]:
        """Start all workers; returns what the first one found out (`Workbench.prepare`).

        threads: of each CPU worker, None to find out which count is fastest: the same for all, for numbers
            depend on it. Times are of the slowest worker while all are at work, where that count is known.
        Raises the AutopeftError that a worker met while loading model and data.
        """
        self._threads = threads or (1 if self._most_threads == 1 else None)
        together = len(self._devices) if self._threads else 1
        found = self._start_workers(self._devices[:together], calibrate=calibrate)
        self._threads = found[0]["threads"]
        self._start_workers(self._devices[together:], calibrate=False)
        if calibrate:
            found[0].update({name: max(each[name] for each in found) for name in ("seconds_per_step", "evaluation_seconds")})
        return found[0]

    def _start_workers(self, devices: list[str], *, calibrate: bool) -> list[dict[str, Any]]:
        """Start workers side by side; what each of them found out."""
        started = [self._launch(device, calibrate=calibrate) for device in devices]
        return [self._ready(worker, calibrate=calibrate) for worker in started]

    def _launch(self, device: str, *, calibrate: bool) -> _Worker:
        log = self._log.open("a", encoding="utf-8")
        threads = {"OMP_NUM_THREADS": str(self._most_threads)} if self._most_threads else {}
        process = subprocess.Popen(
            WORKER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
            env={**os.environ, **threads, "TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
        )
        log.close()
        worker = _Worker(device, process)
        threading.Thread(target=_read, args=(process, worker.lines), daemon=True).start()
        self._workers.append(worker)
        worker.send(
            command="prepare",
            spec=self._spec.model_dump(mode="json"),
            folder=str(self._folder),
            device=device,
            threads=self._threads,
            calibrate=calibrate,
        )
        return worker

    def _ready(self, worker: _Worker, *, calibrate: bool) -> dict[str, Any]:
        """What a worker found out; one that a signal ends before it is ready is started again."""
        line: str | None = None
        for left in reversed(range(STARTS)):
            try:
                line = worker.lines.get(timeout=START_SECONDS)
            except queue.Empty:
                line, end = None, "no answer"
            else:
                if line is not None:
                    break
                code = worker.process.wait()
                end = f"signal {-code}" if code < 0 else f"exit code {code}"
            self._stop(worker)
            if not left or not end.startswith("signal"):
                raise AutopeftError(f"the worker on {worker.device} did not start ({end}); its output is in {self._log}")
            worker = self._launch(worker.device, calibrate=calibrate)
        assert line is not None
        answer = json.loads(line)
        if answer["event"] == "refused":
            self._stop(worker)
            raise getattr(autopeft.errors, answer["kind"])(answer["message"])
        worker.room = answer["prepared"].get("room", 1)
        return answer["prepared"]

    def __len__(self) -> int:
        """Number of trials that can run at once."""
        return sum(worker.room for worker in self._workers)

    @property
    def free(self) -> int:
        """Number of trials that can be submitted now."""
        return sum(worker.room - len(worker.trials) for worker in self._workers)

    @property
    def running(self) -> tuple[int, ...]:
        return tuple(number for worker in self._workers for number in worker.trials)

    def submit(self, trial: TrialSpec) -> None:
        worker = max(self._workers, key=lambda worker: worker.room - len(worker.trials))
        worker.trials[trial.number] = worker.last_sign = time.monotonic()
        worker.send(command="run", trial=trial.to_json())

    def answer(self, number: int, go_on: bool) -> None:
        """Tell a trial that waits at a rung whether to go on."""
        worker = self._worker_of(number)
        worker.last_sign = time.monotonic()
        worker.send(command="go_on", number=number, value=go_on)

    def stop(self, number: int) -> float:
        """End a trial for good; returns the seconds that it had run. The worker is killed with its last trial."""
        worker = self._worker_of(number)
        seconds = time.monotonic() - worker.trials.pop(number)
        if worker.trials:
            worker.send(command="stop", number=number)
        else:
            self._stop(worker)
        return seconds

    def events(self, seconds: float) -> Iterator[Event]:
        """What happened, waiting up to `seconds` for something to happen."""
        deadline = time.monotonic() + seconds
        while True:
            found = [event for worker in list(self._workers) for event in self._events_of(worker)]
            yield from found
            if found or time.monotonic() >= deadline:
                return
            time.sleep(0.02)

    def _events_of(self, worker: _Worker) -> Iterator[Event]:
        while True:
            try:
                line = worker.lines.get_nowait()
            except queue.Empty:
                break
            if line is None:
                yield from self._died(worker, *self._deaths.cause(worker.process.wait()))
                return
            worker.last_sign = time.monotonic()
            event = json.loads(line)
            if event["event"] == "step":
                yield Step(event["number"], event["step"], event["of"], event["loss"])
            elif event["event"] == "rung":
                yield Rung(event["number"], Observation.from_json(event["observation"]))
            elif event["event"] == "ended":
                del worker.trials[event["number"]]
                yield Ended(event["number"], TrialState(event["state"]), event["reason"], event["seconds"])
                if self._has_grown(worker, event["stored_bytes"]) and not worker.trials:
                    self._replace(worker)
                    return
        if worker.trials and time.monotonic() - worker.last_sign > self.silence_seconds:
            yield from self._died(worker, TrialState.FAILED, f"no sign of life for {self.silence_seconds:.0f} s")

    def _died(self, worker: _Worker, state: TrialState, reason: str) -> Iterator[Event]:
        now, together = time.monotonic(), len(worker.trials)
        if together > 1:  # which of them it was cannot be told, so that none is called infeasible
            state, reason = TrialState.FAILED, f"{reason}; {together} trials shared it"
        self._replace(worker)
        for number, started in worker.trials.items():
            yield Ended(number, state, reason, (now - started) / together)

    def _has_grown(self, worker: _Worker, stored_bytes: int) -> bool:
        """stored_bytes: what it keeps on purpose."""
        now = _resident_bytes(worker.process) - stored_bytes
        worker.first_bytes = worker.first_bytes or now
        return now - worker.first_bytes > MOST_GROWTH_BYTES

    def _replace(self, worker: _Worker) -> None:
        self._stop(worker)
        self._start_workers([worker.device], calibrate=False)

    def _worker_of(self, number: int) -> _Worker:
        return next(worker for worker in self._workers if number in worker.trials)

    def _stop(self, worker: _Worker) -> None:
        if worker in self._workers:
            self._workers.remove(worker)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.process.pid, signal.SIGKILL)
        worker.process.wait()
        for pipe in (worker.process.stdin, worker.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def close(self) -> None:
        """End all workers, whatever they are doing."""
        for worker in list(self._workers):
            self._stop(worker)


def _resident_bytes(process: subprocess.Popen[str]) -> int:
    """Memory that a process holds now; 0 where the system does not tell."""
    try:
        return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _read(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    with contextlib.suppress(ValueError, OSError):
        for line in process.stdout:
            lines.put(line)
    lines.put(None)
