"""The next proposal is made while trials run, and what it is made from does not depend on when it is done."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from autopeft.ahead import Ahead, Proposal
from autopeft.ledger import Ledger
from autopeft.samplers.suggest import SpaceExhausted
from autopeft.trial import Origin, Trial, TrialState
from autopeft_searchspace.configuration import Component, Configuration


def proposal(size: int) -> Proposal:
    components = (Component("lora", size, (0,), ("q",), {"alpha": size}),)
    return Proposal(Configuration(components, 1e-3), Origin.SAMPLER, "", {"trainable_parameters": 8.0})


class Proposer:
    """Proposes LoRA of a rank of one more than there are trials; remembers when it was asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, trials: Sequence[Trial]) -> Proposal:
        self.asked.append(len(trials))
        return proposal(len(trials) + 1)


def trials(count: int) -> list[Trial]:
    return [Trial(n, proposal(n + 1).configuration, Origin.SAMPLER, TrialState.RUNNING, {}) for n in range(count)]


def look(ahead: Ahead, so_far: Sequence[Trial], *, wait: bool = True) -> None:
    """As the coordinator does it; waits for what it began."""
    if ahead.wants(len(so_far)):
        ahead.begin(ahead.known(so_far))
    if wait:
        ahead.settle()


def test_a_proposal_made_ahead_is_taken_once_and_not_made_again(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ahead = Ahead(ledger, propose := Proposer())
        look(ahead, trials(3), wait=False)
        look(ahead, trials(3))
        look(ahead, trials(3))
        assert ahead.take(trials(3)) == proposal(4)
        assert propose.asked == [3]
        assert ahead.take(trials(4)) == proposal(5)
        assert propose.asked == [3, 4]


def test_a_resumed_search_takes_what_was_made_before_with_the_same_settings(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        look(Ahead(ledger, Proposer(), made_for={"sampler": "pareto"}), trials(2))
    with Ledger(tmp_path) as ledger:
        again = Ahead(ledger, propose := Proposer(), made_for={"sampler": "pareto"})
        assert not again.wants(2)
        assert again.take(trials(2)) == proposal(3)
        assert propose.asked == []
        other = Ahead(ledger, propose, made_for={"sampler": "random"})
        assert other.wants(2)
        assert other.take(trials(2)) == proposal(3)
        assert propose.asked == [2]


def test_the_search_goes_on_while_a_proposal_is_made(tmp_path: Path) -> None:
    go_on = threading.Event()

    def slow(given: Sequence[Trial]) -> Proposal:
        assert go_on.wait(60)
        return proposal(len(given) + 1)

    with Ledger(tmp_path) as ledger:
        ahead = Ahead(ledger, slow)
        look(ahead, trials(1), wait=False)  # comes back at once, or this never ends
        assert not ahead.done
        assert not ahead.wants(1)
        go_on.set()
        assert ahead.take(trials(1)) == proposal(2)
        ahead.close()


def test_an_exhausted_space_is_told_when_a_proposal_is_wanted_and_not_asked_again_before(tmp_path: Path) -> None:
    asked = []

    def exhausted(given: Sequence[Trial]) -> Proposal:
        asked.append(len(given))
        if len(given) == 1:
            return proposal(2)
        raise SpaceExhausted("no configuration is left")

    with Ledger(tmp_path) as ledger:
        ahead = Ahead(ledger, exhausted, depth=3)
        for _ in range(4):
            look(ahead, trials(1))
        assert asked == [1, 2]
        assert ahead.take(trials(1)) == proposal(2)
        with pytest.raises(SpaceExhausted, match="no configuration is left"):
            ahead.take(trials(2))


def test_what_fails_while_it_is_made_fails_the_search(tmp_path: Path) -> None:
    def wrong(given: Sequence[Trial]) -> Proposal:
        raise ZeroDivisionError

    with Ledger(tmp_path) as ledger, pytest.raises(ZeroDivisionError):
        look(Ahead(ledger, wrong), trials(1))


def test_as_many_as_wanted_are_made_each_from_those_before(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ahead = Ahead(ledger, propose := Proposer(), depth=3)
        for _ in range(5):
            look(ahead, trials(2))
        assert propose.asked == [2, 3, 4]
        assert ahead.take(trials(2)) == proposal(3)
        look(ahead, trials(3))
        assert propose.asked == [2, 3, 4, 5]
        assert [ahead.take(trials(n)) for n in (3, 4, 5)] == [proposal(4), proposal(5), proposal(6)]
