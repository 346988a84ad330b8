"""The next proposal, made in a thread of its own while trials run, so that no device waits for it.

It is made when all devices have just got work, from what was known then, and kept in the ledger: which
proposal a search makes depends neither on the speed of the thread nor on where the search was killed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from autopeft.ledger import Ledger
from autopeft.samplers.suggest import SpaceExhausted
from autopeft.trial import Origin, Trial
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
    """propose: trials so far -> the next proposal; raises SpaceExhausted where none is left."""

    def __init__(self, ledger: Ledger, propose: Callable[[Sequence[Trial]], Proposal]) -> None:
        self._ledger, self._propose = ledger, propose
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._coming: tuple[int, Future[Proposal]] | None = None

    def begin(self, trials: Sequence[Trial]) -> None:
        """Start on the proposal after `trials`, unless it is there or being made."""
        if self._coming is None and self._kept(len(trials)) is None:
            self._coming = len(trials), self._thread.submit(self._propose, trials)

    def settle(self) -> None:
        """Wait for what is being made and keep it."""
        if self._coming:
            (number, coming), self._coming = self._coming, None
            with contextlib.suppress(SpaceExhausted):  # `take` says so, if it still holds then
                self._ledger.set_fact(FACT, {"number": number, **coming.result().to_json()})

    def take(self, trials: Sequence[Trial]) -> Proposal:
        """The next proposal: the one made ahead, or one made now."""
        self.settle()
        kept = self._kept(len(trials))
        return Proposal.from_json(kept) if kept else self._propose(trials)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _kept(self, number: int) -> dict[str, Any] | None:
        """What was made for trial `number`."""
        kept: dict[str, Any] | None = self._ledger.fact(FACT)
        return kept if kept and kept["number"] == number else None
