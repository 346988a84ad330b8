"""Scores on the test split: read from a study, shown in its report, and what they change in its verdict."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import synthetic

from autopeft import report
from autopeft.errors import AutopeftError
from autopeft.export import export
from autopeft.record import read
from autopeft.report.summary import summarise
from autopeft.statistics import Estimate
from autopeft.tested import RESULT, TrialTest, read_tests

ROOT = Path(__file__).resolve().parents[1]
STUDY = ROOT / "studies" / "agreement-minilm"


def result(trial: int, value: float, **more: object) -> dict[str, object]:
    plain = {"trial": trial, "metric": "accuracy", "steps": 9, "estimate": {"value": value, "low": value - 0.1, "high": value + 0.1}}
    return {**plain, "per_example": {"101": [1.0]}, **more}


def test_a_recorded_study_and_a_live_one_are_read_alike(tmp_path: Path) -> None:
    (tmp_path / "train" / "7").mkdir(parents=True)
    gap = {"value": 0.2, "low": 0.1, "high": 0.3}
    live = result(7, 0.9, against={**result(1, 0.7), "difference": gap})
    (tmp_path / "train" / "7" / RESULT).write_text(json.dumps(live))
    other, own = read_tests(tmp_path)
    assert other == TrialTest(1, "accuracy", 9, Estimate(0.7, 0.6, pytest.approx(0.8)))
    assert (own.against, own.difference) == (1, Estimate(0.2, 0.1, 0.3))
    (tmp_path / "tests.json").write_text(json.dumps({"older": result(7, 0.1), "third": result(3, 0.5)}))
    assert [(t.trial, t.estimate.value) for t in read_tests(tmp_path)] == [(1, 0.7), (3, 0.5), (7, 0.9)]


@pytest.mark.parametrize(
    "text", ["{", "[1]", '{"trial": 1}', '{"trial": 1, "metric": "m", "steps": 1, "estimate": {"value": "x", "low": 0, "high": 0}}']
)
def test_a_damaged_result_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "train" / "7").mkdir(parents=True)
    (tmp_path / "train" / "7" / RESULT).write_text(text)
    with pytest.raises(AutopeftError, match="is damaged"):
        read_tests(tmp_path)


def test_the_report_shows_them() -> None:
    summary = summarise(read(STUDY))
    said = {claim.about: claim.text for claim in summary.picks[0].claims}
    assert said["test split"] == "95.9 % accuracy (91.3–100.0 %), mean of 3 other seeds; against LoRA r=8 on q,v +4.9 points (+3.0 to +6.9)"
    page = report.render(read(STUDY))
    assert "Trained in full, with seeds that the search did not use" in page
    assert report.render(read(STUDY), "md").count("On the test split") == 1


def test_an_adapter_that_wins_on_the_test_split_takes_the_head_alone_out_of_the_verdict() -> None:
    record = synthetic.record(gain=0.0)
    assert summarise(record).verdict.head_is_enough
    head = record.head_only
    assert head is not None
    worse = TrialTest(head.number, "accuracy", 240, Estimate(0.6, 0.58, 0.62, 3), "", 1, Estimate(-0.05, -0.07, -0.03, 3))
    verdict = summarise(replace(record, tests=(worse,))).verdict
    assert not verdict.head_is_enough
    assert "On the test split the task head alone differs from LoRA r=8 on q,v by −5.0 points (−7.0 to −3.0)." in verdict.remarks
    unclear = replace(worse, difference=Estimate(-0.05, -0.07, 0.03, 3))
    assert summarise(replace(record, tests=(unclear,))).verdict.head_is_enough
    elsewhere = replace(worse, data="other")
    assert summarise(replace(record, tests=(elsewhere,))).verdict.head_is_enough


def test_a_random_search_is_drawn_beside() -> None:
    record, random = synthetic.record(), synthetic.record(30, seed=3, name="random")
    (chart,) = [line for line in report.render(record, "html", random).splitlines() if "by random search." in line and "figcaption" in line]
    assert "After 30 trials: " in chart
    other = replace(random, environment={**random.environment, "data": {"sha256": "other"}})
    with pytest.raises(AutopeftError, match="does not stand beside that of studies/agreement-synthetic: it was judged on other data"):
        summarise(record, other)


def test_a_study_exported_is_the_study_read_again(tmp_path: Path) -> None:
    record = read(STUDY)
    export(record, record.trial(20), "study", tmp_path / "out")
    again = read(tmp_path / "out")
    assert (again.trials, again.tests, again.environment) == (record.trials, record.tests, record.environment)
    assert again.spec.model_copy(update={"data": record.spec.data}) == record.spec
    assert (tmp_path / "out" / again.spec.data.source).resolve() == (STUDY / record.spec.data.source).resolve()
    assert "picked: trial 20, parallel 384" in (tmp_path / "out" / "README.md").read_text("utf-8")
