"""The commands of a worker that trains several trials side by side; the same as those of `worker`, of which it is part.

Between two steps it hears what has come meanwhile: new trials, and answers, which name their trial.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from functools import partial
from typing import Any

from autopeft.execute.pack_bench import PackBench
from autopeft.execute.pack_room import Room
from autopeft.execute.workbench import Outcome, Workbench
from autopeft.execute.worker import SECONDS_BETWEEN_STEP_EVENTS, Channel, send_end
from autopeft.trial import Observation, TrialSpec

SECONDS_TO_GATHER = 0.2
"""How long a pack that was empty waits for one more trial, so that those sent together start together."""


class _Inbox:
    """Commands as they come; a thread reads them, so that a step need not wait."""

    def __init__(self, channel: Channel) -> None:
        self._waiting: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._put_off: list[dict[str, Any]] = []
        threading.Thread(target=self._read, args=(channel,), daemon=True).start()

    def _read(self, channel: Channel) -> None:
        while (command := channel.receive()) is not None:
            self._waiting.put(command)
        self._waiting.put(None)

    def take(self, seconds: float | None) -> dict[str, Any] | None:
        """The next command; waits so long, without end for None. None where none came. Ends the process when the coordinator is gone."""
        if self._put_off:
            return self._put_off.pop(0)
        try:
            command = self._waiting.get(timeout=seconds) if seconds != 0 else self._waiting.get_nowait()
        except queue.Empty:
            return None
        if command is None:
            sys.exit(0)
        return command

    def answer_for(self, number: int) -> bool:
        """Wait for the answer to one trial; other commands stay for later."""
        others: list[dict[str, Any]] = []
        while True:
            command = self.take(None)
            assert command is not None
            if command["command"] == "go_on" and command["number"] == number:
                self._put_off = others + self._put_off
                return bool(command["value"])
            others.append(command)


def serve_pack(channel: Channel, bench: Workbench, room: Room) -> None:
    """Until the coordinator is gone."""
    inbox, last = _Inbox(channel), 0.0

    def at_step(number: int, step: int, of: int, loss: float) -> None:
        nonlocal last
        if time.monotonic() - last > SECONDS_BETWEEN_STEP_EVENTS:
            last = time.monotonic()
            channel.send("step", number=number, step=step, of=of, loss=loss)

    def at_rung(number: int, observation: Observation) -> None:
        channel.send("rung", number=number, observation=observation.to_json())

    def at_end(number: int, outcome: Outcome) -> None:
        send_end(channel, bench, number, outcome)

    def at_rung_apart(number: int, observation: Observation) -> bool:
        at_rung(number, observation)
        return inbox.answer_for(number)

    def at_step_apart(trial: TrialSpec, step: int, loss: float) -> None:
        at_step(trial.number, step, trial.rungs[-1], loss)

    pack = PackBench(bench, at_rung, at_step, at_end, room.fits, room.pass_cost)
    while True:
        busy = pack.can_step or bool(pack.apart)
        seconds: float | None = 0 if busy else None
        while (command := inbox.take(seconds)) is not None:
            if command["command"] == "run":
                pack.add(TrialSpec.from_json(command["trial"]))
            elif command["command"] == "stop":
                pack.stop(command["number"])
            else:
                pack.answer(command["number"], bool(command["value"]))
            seconds = SECONDS_TO_GATHER if not busy else 0
        while pack.apart:
            trial = pack.apart.pop(0)
            outcome = bench.run(
                trial,
                partial(at_rung_apart, trial.number),
                partial(at_step_apart, trial),
            )
            at_end(trial.number, outcome)
        if pack.can_step:
            pack.step()
