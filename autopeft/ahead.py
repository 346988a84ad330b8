"""The next proposal, made in a thread of its own while trials run, so that no device waits for it.

One is made when all devices have just got work, from what was known then, and kept in the ledger: with one trial
at a time, what a search proposes depends neither on the speed of the thread nor on where it was killed. Where
several trials share a device, they end together, so that several proposals are to be ready.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from autopeft.ledger import Ledger
from autopeft.samplers.suggest import SpaceExhausted
from autopeft.trial import Origin, Trial, TrialState
from autopeft_searchspace.configuration import Configuration

FACT = "ahead"


@dataclass(frozen=True)
class Proposal:
    """What becomes a trial. computed: objectives known before training. label: a baseline's name in words, else empty."""

    configuration: Configuration
    origin: Origin
    label: str
    computed: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "configuration": self.configuration.to_json(), "origin": self.origin.value}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Proposal:
        return cls(Configuration.from_json(data["configuration"]), Origin(data["origin"]), data["label"], data["computed"])


class Ahead:
    """propose: trials so far -> the next proposal; raises SpaceExhausted where none is left.
    depth: proposals to have ready; those that wait count as trials that run."""

    def __init__(self, ledger: Ledger, propose: Callable[[Sequence[Trial]], Proposal], depth: int = 1) -> None:
        self._ledger, self._propose, self.depth = ledger, propose, depth
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._coming: tuple[int, Future[Proposal]] | None = None
        self._ready = {int(number): Proposal.from_json(content) for number, content in (ledger.fact(FACT) or {}).items()}
        self._exhausted = -1

    def advance(self, trials: Sequence[Trial]) -> None:
        """Keep what is made by now, and start on the next proposal after `trials` where too few are ready."""
        if self._coming and self._coming[1].done():
            self.settle()
        waiting = [(number, self._ready[number]) for number in sorted(self._ready) if number >= len(trials)]
        if self._coming is None and len(waiting) < self.depth and self._exhausted != len(trials):
            as_running = [Trial(number, p.configuration, p.origin, TrialState.RUNNING, p.computed) for number, p in waiting]
            known = [*trials, *as_running]
            self._coming = len(known), self._thread.submit(self._propose, known)

    def settle(self) -> None:
        """Wait for what is being made and keep it."""
        if self._coming:
            (number, coming), self._coming = self._coming, None
            try:
                self._ready[number] = coming.result()
            except SpaceExhausted:  # `take` says so, if it still holds then
                self._exhausted = number
            else:
                self._ledger.set_fact(FACT, {str(number): proposal.to_json() for number, proposal in self._ready.items()})

    def take(self, trials: Sequence[Trial]) -> Proposal:
        """The next proposal: one made ahead, or one made now."""
        if self._coming and self._coming[0] == len(trials):
            self.settle()
        proposal = self._ready.get(len(trials)) or self._propose(trials)
        self._ready = {number: ready for number, ready in self._ready.items() if number > len(trials)}
        return proposal

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
