"""Runs trials on the machines of a Ray cluster, or on this one through Ray.

Each slot is an actor with its share of cores or GPUs; on its machine it keeps a warm worker through
`local`, so that a trial is killed, timed and judged there as it is on one machine. A machine that is
lost takes its slots with it: their trials run again, under the same numbers, on what is left. Model,
data and study folder stand at the same path on every machine.
"""

from __future__ import annotations

import logging
import os
import platform
import socket
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from autopeft.errors import AutopeftError, SpecError
from autopeft.execute.executor import Ended, Event
from autopeft.execute.local import START_SECONDS, LocalExecutor
from autopeft.spec import StudySpec
from autopeft.trial import TrialSpec, TrialState

MOST_LOSSES = 3
"""A trial whose machine was lost so often may be the reason, and is ended."""
KNOCK_SECONDS = 10.0


class Host:
    """One slot, on its machine. An actor: one call at a time, in the order in which they were made."""

    def __init__(self, spec: StudySpec, study: Path, device: str, log: Path) -> None:
        self._executor = LocalExecutor(spec, study, [device], log)

    def start(self, threads: int | None, calibrate: bool) -> dict[str, Any]:
        try:
            return self._executor.start(threads, calibrate=calibrate)
        except AutopeftError as error:
            raise type(error)(f"{error} (on machine {platform.node()})") from None

    def submit(self, trial: TrialSpec, silence_seconds: float) -> None:
        self._executor.silence_seconds = silence_seconds
        self._executor.submit(trial)

    def answer(self, number: int, go_on: bool) -> None:
        self._executor.answer(number, go_on)

    def events(self, seconds: float) -> list[Event]:
        return list(self._executor.events(seconds))


@dataclass
class _Slot:
    """awaited: what its actor was asked last: to start, then for events. started: when its trial was handed on."""

    host: Any
    awaited: Any
    ready: bool = False
    trial: TrialSpec | None = None
    started: float = 0.0


class RayExecutor:
    """log: file that workers write their output to.

    Raises SpecError where the cluster cannot hold a single trial, AutopeftError where it cannot be reached.
    """

    def __init__(self, spec: StudySpec, study: Path, log: Path) -> None:
        self.silence_seconds = float("inf")
        self._spec, self._study, self._log = spec, study.resolve(), log.resolve()
        self._slots: list[_Slot] = []
        self._waiting: deque[TrialSpec] = deque()
        self._losses: dict[int, int] = {}
        self._lost_seconds: dict[int, float] = {}
        self._threads: int | None = None
        self._last_ready = time.monotonic()
        self._own = _connect(spec.executor.address)
        try:
            self._device, self._share = _share(spec)
            self._count, self.gpus_each = self._count_slots(), self._share.get("num_gpus", 0.0)
        except SpecError:
            self.close()
            raise

    def _count_slots(self) -> int:
        count = sum(_fitting(node["Resources"], self._share) for node in ray.nodes() if node["Alive"])
        if count < 1:
            needed = _in_words(self._share)
            raise SpecError(f"no machine of the Ray cluster has {needed} for a trial; lower executor.cores or executor.gpus")
        return min(count, self._spec.executor.trials or count)

    def start(self, threads: int | None, *, calibrate: bool) -> dict[str, Any]:
        self._threads = threads or (self._spec.executor.cores if self._device == "cpu" else None)
        prepared = self._when_ready([self._add_slot(calibrate=calibrate)])[0]
        self._threads = prepared["threads"]
        self._when_ready([self._add_slot(calibrate=False) for _ in range(self._count - 1)])
        return prepared

    def _when_ready(self, slots: list[_Slot]) -> list[dict[str, Any]]:
        try:
            found: list[dict[str, Any]] = ray.get([slot.awaited for slot in slots])
        except RayTaskError as error:
            raise error.cause from None
        except RayError as error:
            raise AutopeftError(f"no worker could be started in the Ray cluster: {error}") from None
        for slot in slots:
            slot.ready, slot.awaited = True, None
        return found

    def _add_slot(self, *, calibrate: bool) -> _Slot:
        actor: Any = ray.remote(Host)
        host = actor.options(**self._share, max_restarts=0).remote(self._spec, self._study, self._device, self._log)
        slot = _Slot(host, host.start.remote(self._threads, calibrate))
        self._slots.append(slot)
        return slot

    def __len__(self) -> int:
        return self._count

    @property
    def free(self) -> int:
        """At least one trial can wait for a slot, also while none is ready."""
        return max(0, max(1, sum(slot.ready for slot in self._slots)) - len(self.running))

    @property
    def running(self) -> tuple[int, ...]:
        return (*(slot.trial.number for slot in self._slots if slot.trial is not None), *(trial.number for trial in self._waiting))

    def submit(self, trial: TrialSpec) -> None:
        save_to = str(Path(trial.save_to).resolve()) if trial.save_to else None
        self._waiting.append(replace(trial, save_to=save_to))
        self._losses[trial.number], self._lost_seconds[trial.number] = 0, 0.0
        self._hand_on()

    def _hand_on(self) -> None:
        """Give waiting trials to slots that have none."""
        for slot in self._slots:
            if self._waiting and slot.ready and slot.trial is None:
                slot.trial, slot.started = self._waiting.popleft(), time.monotonic()
                slot.host.submit.remote(slot.trial, self.silence_seconds)
                slot.awaited = slot.host.events.remote(1.0)

    def answer(self, number: int, go_on: bool) -> None:
        if slot := self._slot_of(number):
            slot.host.answer.remote(number, go_on)

    def stop(self, number: int) -> float:
        seconds = self._lost_seconds[number]
        if slot := self._slot_of(number):
            seconds += time.monotonic() - slot.started
            self._slots.remove(slot)
            ray.kill(slot.host)
        self._waiting = deque(trial for trial in self._waiting if trial.number != number)
        return seconds

    def events(self, seconds: float) -> Iterator[Event]:
        deadline = time.monotonic() + seconds
        while True:
            self._hand_on()
            awaited = {slot.awaited: slot for slot in self._slots if slot.awaited is not None}
            left = max(0.0, deadline - time.monotonic())
            done, _ = ray.wait(list(awaited), timeout=left) if awaited else ([], [])
            found = False
            for reference in done:
                for event in self._told(awaited[reference]):
                    found = True
                    yield event
            self._check_some_slot()
            if found or time.monotonic() >= deadline:
                return

    def _told(self, slot: _Slot) -> Iterator[Event]:
        """What a slot's actor answered; afterwards it is asked again while it has a trial."""
        try:
            answer = ray.get(slot.awaited)
        except RayTaskError as error:
            raise error.cause from None
        except RayActorError:
            yield from self._lost(slot)
            return
        slot.awaited = None
        if not slot.ready:
            slot.ready = True
            return
        for event in answer:
            if isinstance(event, Ended):
                slot.trial = None
                yield replace(event, seconds=event.seconds + self._lost_seconds[event.number])
            else:
                yield event
        if slot.trial is not None and slot in self._slots:
            slot.awaited = slot.host.events.remote(1.0)

    def _lost(self, slot: _Slot) -> Iterator[Event]:
        """A slot's machine is gone: another slot is asked for, and its trial waits for the first that is free."""
        self._slots.remove(slot)
        self._add_slot(calibrate=False)
        if (trial := slot.trial) is None:
            return
        self._losses[trial.number] += 1
        self._lost_seconds[trial.number] += time.monotonic() - slot.started
        if self._losses[trial.number] < MOST_LOSSES:
            self._waiting.appendleft(trial)
        else:
            reason = f"its machine was lost {MOST_LOSSES} times while it ran"
            yield Ended(trial.number, TrialState.FAILED, reason, self._lost_seconds[trial.number])

    def _check_some_slot(self) -> None:
        if any(slot.ready for slot in self._slots):
            self._last_ready = time.monotonic()
        elif time.monotonic() - self._last_ready > START_SECONDS:
            raise AutopeftError(f"no machine of the Ray cluster has had {_in_words(self._share)} for {START_SECONDS:.0f} s")

    def _slot_of(self, number: int) -> _Slot | None:
        return next((slot for slot in self._slots if slot.trial is not None and slot.trial.number == number), None)

    def close(self) -> None:
        for slot in self._slots:
            ray.kill(slot.host)
        self._slots.clear()
        if self._own:
            ray.shutdown()


def _connect(address: str) -> bool:
    """Join the cluster, or start one of this machine; whether it was done here, and is to be undone."""
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    own = not (address or os.environ.get("RAY_ADDRESS"))
    try:
        if not own:
            _knock(address or os.environ["RAY_ADDRESS"])
        ray.init(address or None, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False if own else None)
    except Exception as error:  # Ray raises this very class where a node does not start
        what = "Ray cannot be started here" if own else f"the Ray cluster {address or os.environ['RAY_ADDRESS']} cannot be reached"
        raise AutopeftError(f"{what}: {' '.join(str(error).split())[:300]}") from None
    return True


def _knock(address: str) -> None:
    """Raise OSError where nobody listens at `HOST:PORT` or `ray://HOST:PORT`: Ray itself tries for minutes."""
    host, found, port = address.removeprefix("ray://").partition(":")
    if found and port.isdigit():
        socket.create_connection((host, int(port)), KNOCK_SECONDS).close()


def _share(spec: StudySpec) -> tuple[str, dict[str, float]]:
    """The device of a trial on its machine, and what of the cluster it takes."""
    if spec.device not in ("auto", "cpu", "cuda"):
        raise SpecError(f"with executor ray the device is auto, cpu or cuda, since Ray chooses among GPUs; it is {spec.device!r}")
    cores = float(spec.executor.cores)
    if spec.device == "cuda" or (spec.device == "auto" and ray.cluster_resources().get("GPU", 0)):
        return "cuda:0", {"num_cpus": cores, "num_gpus": spec.executor.gpus}
    return "cpu", {"num_cpus": cores}


def _fitting(node: dict[str, float], share: dict[str, float]) -> int:
    """How many trials a machine can hold at once."""
    has = {"num_cpus": node.get("CPU", 0.0), "num_gpus": node.get("GPU", 0.0)}
    return min(int(has[name] // needed) for name, needed in share.items())


def _in_words(share: dict[str, float]) -> str:
    return " and ".join(f"{amount:g} {'cores' if name == 'num_cpus' else 'GPUs'}" for name, amount in share.items())
