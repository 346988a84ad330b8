"""The next proposals, made in a thread of their own while trials run, so that no device waits for one.

One is made when all devices have just got work, from what was known then, and kept in the ledger: with one trial at a
time and the same settings, what a search proposes depends neither on the speed of the thread nor on where the search was
killed. Where several trials share a device, they end together, so that several proposals are to be ready.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from autopeft.ledger import Ledger
from autopeft.samplers.suggest import SpaceExhausted
from autopeft.trial import Origin, Trial, TrialState
from autopeft_searchspace.configuration import Configuration

FACT = "ahead"
PATIENCE = 3.0
"""Seconds that the end of a search waits for a proposal that nobody needs any more."""


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
    """propose: trials so far -> the next proposal; raises SpaceExhausted where none is left. depth: proposals to have ready.
    made_for: settings that proposals depend on beside the trials; those kept for others are dropped."""

    def __init__(self, ledger: Ledger, propose: Callable[[Sequence[Trial]], Proposal], depth: int = 1, made_for: object = None) -> None:
        self._ledger, self._propose, self._depth, self._made_for = ledger, propose, depth, made_for
        kept = ledger.fact(FACT) or {}
        found = kept.get("proposals", {}) if kept.get("made_for") == made_for else {}
        self._ready = {int(number): Proposal.from_json(content) for number, content in found.items()}
        self._coming: tuple[int, Future[Proposal], threading.Thread] | None = None
        self._exhausted = -1

    @property
    def done(self) -> bool:
        """Whether something was made that is yet to be kept."""
        return self._coming is not None and self._coming[1].done()

    def wants(self, count: int) -> bool:
        """Whether one more is to be begun, with so many trials."""
        waiting = len(self._waiting(count))
        return self._coming is None and waiting < self._depth and self._exhausted != count + waiting

    def known(self, trials: Sequence[Trial]) -> list[Trial]:
        """Trials, and proposals that wait, which count as trials that run."""
        waiting = self._waiting(len(trials))
        return [*trials, *(Trial(number, p.configuration, p.origin, TrialState.RUNNING, p.computed) for number, p in waiting)]

    def _waiting(self, count: int) -> list[tuple[int, Proposal]]:
        """Proposals for the trials from number `count` on."""
        return [(number, self._ready[number]) for number in sorted(self._ready) if number >= count]

    def begin(self, known: Sequence[Trial]) -> None:
        """Start on the proposal after these."""
        coming: Future[Proposal] = Future()

        def make() -> None:
            try:
                coming.set_result(self._propose(known))
            except BaseException as error:  # it is raised where the proposal is wanted
                coming.set_exception(error)

        thread = threading.Thread(target=make, daemon=True)
        self._coming = len(known), coming, thread
        thread.start()

    def settle(self) -> None:
        """Wait for what is being made and keep it."""
        if self._coming:
            (number, coming, _), self._coming = self._coming, None
            try:
                self._ready[number] = coming.result()
            except SpaceExhausted:  # `take` says so, if it still holds then
                self._exhausted = number
            else:
                proposals = {str(number): proposal.to_json() for number, proposal in self._ready.items()}
                self._ledger.set_fact(FACT, {"made_for": self._made_for, "proposals": proposals})

    def take(self, trials: Sequence[Trial]) -> Proposal:
        """The next proposal: one made ahead, or one made now."""
        if self._coming and self._coming[0] <= len(trials):
            self.settle()
        proposal = self._ready.get(len(trials)) or self._propose(trials)
        self._ready = {number: ready for number, ready in self._ready.items() if number > len(trials)}
        return proposal

    def close(self) -> None:
        if self._coming:
            self._coming[2].join(PATIENCE)
