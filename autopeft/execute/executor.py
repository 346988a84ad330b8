"""What the coordinator asks of whoever runs trials, and what it is told. Records that travel as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from autopeft.trial import Observation, TrialSpec, TrialState


@dataclass(frozen=True)
class Step:
    """An optimiser step of a running trial; only some are told."""

    number: int
    step: int
    of: int
    loss: float


@dataclass(frozen=True)
class Rung:
    """A measurement of a running trial, which waits for `Executor.answer`."""

    number: int
    observation: Observation


@dataclass(frozen=True)
class Ended:
    """seconds: that the run took, whatever became of it."""

    number: int
    state: TrialState
    reason: str
    seconds: float


Event = Step | Rung | Ended


class Executor(Protocol):
    """Runs trials: `local` in child processes of this machine, `cluster` on the machines of a Ray cluster.
    The coordinator calls it from one thread.

    Every trial that was submitted ends exactly once, unless it is stopped: whatever kills a worker
    becomes an `Ended` with the reason, and the search goes on.
    silence_seconds: a trial that says nothing for so long is ended as hung; set after `start`.
    gpus_each: of a GPU, the share that a worker holds, where there are any.
    """

    silence_seconds: float
    gpus_each: float

    def start(self, threads: int | None, *, calibrate: bool) -> dict[str, Any]:
        """Make ready; returns what the first worker found out (`Workbench.prepare`). threads: of each CPU
        worker, None to find out which count is fastest. Raises the AutopeftError that a worker met."""

    def __len__(self) -> int:
        """Number of trials that can run at once."""

    @property
    def free(self) -> int:
        """Number of trials that can be submitted now."""

    @property
    def running(self) -> tuple[int, ...]:
        """Numbers of the trials that run."""

    def submit(self, trial: TrialSpec) -> None:
        """Run a trial; only where `free` is above 0."""

    def answer(self, number: int, go_on: bool) -> None:
        """Tell a trial that waits at a rung whether to go on."""

    def stop(self, number: int) -> float:
        """End a trial at once, for good; returns the seconds that it had run."""

    def events(self, seconds: float) -> Iterator[Event]:
        """What happened, waiting up to `seconds` for something to happen."""

    def close(self) -> None:
        """End all workers, whatever they are doing."""
