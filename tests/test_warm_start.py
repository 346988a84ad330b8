"""What an earlier study tells a new one: gathered, kept, proposed first; and the front alone, transferred."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from made_up import spec
from small import ROOT, Quiet, run_small
from synthetic import shape

from autopeft.errors import SpecError
from autopeft.plan import Limits
from autopeft.proposals import Proposals
from autopeft.record import read
from autopeft.samplers.earlier import carried, evenly
from autopeft.samplers.suggest import SpaceExhausted
from autopeft.trial import Origin, Trial, TrialState
from autopeft.warm_start import Earlier, gather
from autopeft_searchspace.configuration import Component, Configuration
from autopeft_searchspace.rules import default_learning_rate
from autopeft_searchspace.settings import build_space
from autopeft_searchspace.space import Space
from autopeft_searchspace.strategies import published

STUDY = ROOT / "studies" / "agreement-minilm"
SHAPE = shape()
SPACE = build_space("default", SHAPE)


@pytest.fixture(scope="module")
def earlier() -> Earlier:
    return gather(spec(warm_start=[STUDY.name]), STUDY.parent, SPACE)


def test_most_of_a_study_is_carried_and_its_front_comes_first(earlier: Earlier) -> None:
    complete = len(read(STUDY).complete)
    assert 0.8 * complete <= len(earlier.results[0]) <= complete
    assert 3 <= len(earlier.candidates) <= len(read(STUDY).front)
    assert all(SPACE.configuration(SPACE.values(c)).key == c.key for c in earlier.candidates)


def test_all_of_a_configuration_is_carried() -> None:
    """Optimiser and strategy as they are, or not at all; the base model quantised as the new space has it."""
    lora = Component("lora", 4, (0, 1), ("q",), {"alpha": 4})
    plain = Configuration((lora,), default_learning_rate([lora], SHAPE))
    plus, ist = replace(plain, optimizer="lora_plus"), replace(plain, strategy=published("ist"))
    for change, kept in (({"optimizers": "all"}, plus), ({"strategies": ["ist"]}, ist)):
        space = build_space("default", SHAPE, {**change, "types": ["lora"]})
        point = carried(kept, SHAPE, space)
        assert point is not None
        found = space.configuration(point)
        assert (found.optimizer, found.strategy) == (kept.optimizer, kept.strategy)
        assert carried(kept, SHAPE, SPACE) is None
    quantised = build_space("default", SHAPE, {"quantisation": "nf4", "types": ["lora"]})
    point = carried(plain, SHAPE, quantised)
    assert point is not None
    assert quantised.configuration(point).quantisation == "nf4"


def test_what_was_gathered_survives_as_json(earlier: Earlier) -> None:
    again = Earlier.from_json(earlier.to_json())
    assert again.candidates == earlier.candidates
    assert [list(r) for r in again.results] == [list(r) for r in earlier.results]
    assert Earlier.from_json(None) == Earlier()


def test_a_study_that_fits_in_nothing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autopeft.warm_start.carried", lambda configuration, shape, space: None)
    with pytest.raises(SpecError, match="no trial of agreement-minilm can be expressed in space 'default' of types serial, parallel"):
        gather(spec(warm_start=["agreement-minilm"]), STUDY.parent, SPACE)


def proposed(space: Space, earlier: Earlier, count: int, **settings: object) -> list[Trial]:
    proposals = Proposals(spec(baselines=False, **settings), space, {}, Limits(None, None), 8, 40, earlier)
    trials: list[Trial] = []
    while len(trials) < count:
        configuration, origin, label = proposals.next(trials)
        trials.append(Trial(len(trials), configuration, origin, TrialState.FAILED, {}, label=label))
    return trials


def test_fronts_take_half_of_the_start(earlier: Earlier) -> None:
    trials = proposed(SPACE, earlier, 8)
    first = min(4, len(earlier.candidates))
    assert [t.configuration for t in trials[:first]] == evenly(earlier.candidates, first)
    assert all(t.origin is Origin.INITIAL for t in trials)
    assert not {c.key for c in earlier.candidates} & {t.configuration.key for t in trials[first:]}


def test_transfer_tries_the_front_and_nothing_else(earlier: Earlier) -> None:
    settings = {"sampler": "transfer", "warm_start": [STUDY.name]}
    trials = proposed(SPACE, earlier, len(earlier.candidates), **settings)
    assert [t.configuration for t in trials] == list(earlier.candidates)
    with pytest.raises(SpaceExhausted, match="every configuration of the earlier fronts"):
        proposed(SPACE, earlier, len(earlier.candidates) + 1, **settings)
    with pytest.raises(ValueError, match="name their folders under warm_start"):
        spec(sampler="transfer")


@pytest.mark.slow
def test_a_search_from_an_earlier_study(tmp_path: Path) -> None:
    settings = {"warm_start": [str(STUDY)], "sampler": "transfer", "baselines": False, "fidelity": {"steps": 4}}
    progress: Quiet = run_small(tmp_path, tmp_path / "study", budget="3trials", **settings)
    record = read(tmp_path / "study")
    candidates = Earlier.from_json(record.environment["earlier"]).candidates
    assert [t.configuration for t in record.trials] == list(candidates[:3])
    assert progress.ends[:3] == [0, 1, 2]
