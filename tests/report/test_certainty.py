"""Probabilities of being on the front, and smaller configurations that do as well."""

from dataclasses import replace
from statistics import NormalDist

import made_up
import numpy as np
import pytest
import synthetic

from autopeft.front import share_on_front
from autopeft.record import StudyRecord
from autopeft.report.certainty import front_probabilities, smaller_one
from autopeft.report.page import sections
from autopeft.report.summary import summarise
from autopeft.trial import Measurement, Trial


def measured(number: int, parameters: int, search: float, confirm: float, error: float = 0.01) -> Trial:
    made = made_up.trial(number, search, parameters)
    both = {"search.accuracy": Measurement(search, "", error), "confirm.accuracy": Measurement(confirm, "", error)}
    return replace(made, observations=(replace(made.observations[0], measurements=both),))


def study(*trials: Trial) -> StudyRecord:
    whole = synthetic.record(8, two_objectives=True)
    data = {"counts": {"train": 4000}}  # no counts of the splits: errors are those measured
    return replace(whole, trials=trials, environment={**whole.environment, "data": data})


def test_two_trials_have_the_probability_of_the_normal_difference() -> None:
    record = study(measured(0, 100, 0.80, 0.80), measured(1, 200, 0.81, 0.81))
    rows = summarise(record).rows
    found = front_probabilities(record, rows)
    assert found[0] == 1.0  # nothing is as cheap
    error = np.hypot(0.01, rows[0].spread) * np.sqrt(2)
    assert found[1] == pytest.approx(NormalDist().cdf(0.01 / error), abs=0.04)


def test_a_lucky_trial_on_the_search_split_is_not_taken_at_its_word() -> None:
    record = study(measured(0, 100, 0.80, 0.85), measured(1, 200, 0.95, 0.75))
    summary = summarise(record)
    assert [row.number for row in summary.front] == [0, 1]
    assert summary.probability[1] < 0.01
    assert "1 of them is more likely off the front" in str(_trade_offs(record))


def _trade_offs(record: StudyRecord) -> str:
    return next(section.lead for section in sections(summarise(record)) if section.name == "trade-offs")


def test_equal_trials_of_equal_cost_are_all_on_the_front() -> None:
    draws = np.array([[0.5, 0.5, 0.4]] * 5)
    assert list(share_on_front(np.array([[1.0], [1.0], [1.0]]), draws)) == [1.0, 1.0, 0.0]
    cheaper_and_worse = np.array([[0.9, 0.9, 0.5]] * 5)
    assert list(share_on_front(np.array([[1.0], [1.0], [0.5]]), cheaper_and_worse)) == [1.0, 1.0, 1.0]
    better = np.array([[0.4, 0.4, 0.5]] * 5)
    assert list(share_on_front(np.array([[1.0], [1.0], [1.0]]), better)) == [0.0, 0.0, 1.0]


def test_probabilities_agree_with_the_front_where_nothing_is_uncertain() -> None:
    record = study(*(measured(i, 100 * (i + 1), q, q, 1e-9) for i, q in enumerate((0.5, 0.7, 0.6, 0.9))))
    rows = tuple(replace(row, spread=0.0) for row in summarise(record).rows)
    assert front_probabilities(record, rows) == {0: 1.0, 1: 1.0, 2: 0.0, 3: 1.0}


def test_the_smallest_trial_that_does_as_well_is_named() -> None:
    trials = [measured(0, 100, 0.5, 0.5), measured(1, 300, 0.89, 0.89), measured(2, 900, 0.9, 0.9), measured(3, 800, 0.9, 0.9)]
    record = study(*trials)
    summary = summarise(record)
    found = smaller_one(record, summary.row(2), summary.rows)
    assert found is not None
    assert found.row.number == 1
    assert smaller_one(record, summary.row(1), summary.rows) is None
    best = next(pick for pick in summary.picks if "best" in pick.names)
    assert best.smaller is not None
    assert f"Trial {best.smaller.row.number}" in best.sentence


def test_no_trials_no_probabilities() -> None:
    assert front_probabilities(study(), ()) == {}
