"""A warm child process that runs trials one after another.

It reads commands as JSON lines on standard input and writes events as JSON lines on what was
standard output; everything that libraries print goes to standard error, the worker's log.

    command                                   event
    {"command": "prepare", ...}            -> {"event": "ready", "prepared": {...}} or {"event": "refused", ...}
    {"command": "run", "trial": {...}}     -> {"event": "step", ...}*, {"event": "rung", "observation": {...}}*,
    {"command": "go_on", "number": 3, "value": true}
                                              {"event": "ended", "state": ..., "reason": ..., "seconds": ...}

One that packs trials (`pack_worker`) says in `prepared` for how many it has `room`, hears of further ones while it runs
some, and takes {"command": "stop", "number": 3}.

A worker whose coordinator is gone meets a closed pipe and ends; on Linux it is killed with it, also
where it hangs.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from autopeft.errors import AutopeftError
from autopeft.redaction import Redacted, redacted
from autopeft.spec import StudySpec
from autopeft.trial import Observation, TrialSpec

SECONDS_BETWEEN_STEP_EVENTS = 0.25
PR_SET_PDEATHSIG = 1
"""Of <linux/prctl.h>."""


class Channel:
    """Commands in, events out."""

    def __init__(self, commands: TextIO, events: TextIO) -> None:
        self._commands, self._events = commands, events

    def send(self, event: str, **content: Any) -> None:
        self._events.write(json.dumps({"event": event, **content}) + "\n")
        self._events.flush()

    def receive(self) -> dict[str, Any] | None:
        """The next command, None when the coordinator is gone."""
        line = self._commands.readline()
        return json.loads(line) if line else None


def serve(channel: Channel) -> None:
    from autopeft.execute.workbench import Workbench

    first = channel.receive()
    if first is None:
        return
    try:
        spec = StudySpec.model_validate(first["spec"])
        bench = Workbench(spec, Path(first["folder"]), first["device"])
        prepared = bench.prepare(first["threads"], calibrate=first["calibrate"])
        if spec.executor.name == "packed":
            from autopeft.execute.pack_room import Room

            room = Room(bench)
            prepared["room"] = room.find_count(spec.workers)
    except AutopeftError as error:
        channel.send("refused", kind=type(error).__name__, message=str(error))
        return
    channel.send("ready", prepared=prepared)
    if spec.executor.name == "packed":
        from autopeft.execute.pack_worker import serve_pack

        serve_pack(channel, bench, room)
    while (command := channel.receive()) is not None:
        if command["command"] == "run":
            _run(channel, bench, TrialSpec.from_json(command["trial"]))


def _run(channel: Channel, bench: Any, trial: TrialSpec) -> None:
    last = 0.0

    def at_step(step: int, loss: float) -> None:
        nonlocal last
        if time.monotonic() - last > SECONDS_BETWEEN_STEP_EVENTS:
            last = time.monotonic()
            channel.send("step", number=trial.number, step=step, of=trial.rungs[-1], loss=loss)

    def at_rung(observation: Observation) -> bool:
        channel.send("rung", number=trial.number, observation=observation.to_json())
        answer = channel.receive()
        if answer is None:
            sys.exit(1)
        return bool(answer["value"])

    outcome = bench.run(trial, at_rung, at_step)
    send_end(channel, bench, trial.number, outcome)


def send_end(channel: Channel, bench: Any, number: int, outcome: Any) -> None:
    """What became of a trial, without secrets, and what the worker keeps on purpose."""
    said = {"state": outcome.state.value, "reason": redacted(outcome.reason), "seconds": outcome.seconds}
    channel.send("ended", number=number, **said, stored_bytes=bench.stored_bytes)


def _end_with_parent() -> None:
    """Let the kernel kill this process when the thread that started it ends, where there is a way to ask for it."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before we asked
        sys.exit(1)


def main() -> None:
    _end_with_parent()
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout, sys.stderr = Redacted(sys.stdout), Redacted(sys.stderr)
    serve(Channel(sys.stdin, events))


if __name__ == "__main__":
    main()
