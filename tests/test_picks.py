from dataclasses import replace

import pytest
import synthetic

from autopeft import front, picks
from autopeft.errors import AutopeftError
from autopeft.record import StudyRecord


@pytest.fixture(scope="module")
def record() -> StudyRecord:
    return synthetic.record()


@pytest.mark.parametrize("name", ["best", "knee", "smallest-within-1se"])
def test_named_picks_are_those_of_the_front(record: StudyRecord, name: str) -> None:
    assert picks.find(record, name).number == front.picks(record.trials, record.spec, synthetic.axes())[name]


def test_a_number_and_head_only(record: StudyRecord) -> None:
    assert picks.find(record, " 7 ").number == 7
    assert picks.find(record, "head-only").configuration.components == ()
    with pytest.raises(AutopeftError, match="no trial 999; it has 0 to 59"):
        picks.find(record, "999")


@pytest.mark.parametrize("rule", ["parameters<1%", "parameters<=100k", "memory<200MB", "parameters < 2%, memory <= 250MB"])
def test_a_rule_takes_the_best_quality_within_it(record: StudyRecord, rule: str) -> None:
    limits = {
        "parameters<1%": lambda c: c["trainable_parameters"] < 227_000,
        "parameters<=100k": lambda c: c["trainable_parameters"] <= 100_000,
        "memory<200MB": lambda c: c["peak_memory_bytes"] < 200e6,
        "parameters < 2%, memory <= 250MB": lambda c: c["trainable_parameters"] < 454_000 and c["peak_memory_bytes"] <= 250e6,
    }
    values = {t.number: m.value for t in record.complete if limits[rule](t.computed) and (m := t.value("accuracy", "accuracy"))}
    assert 0 < len(values) < len(record.complete)
    assert values[picks.find(record, rule).number] == max(values.values())


def test_of_equal_quality_the_smaller_is_taken(record: StudyRecord) -> None:
    one = picks.find(record, "best")
    smaller = replace(one, number=len(record.trials), computed={**one.computed, "trainable_parameters": 1.0})
    assert picks.find(replace(record, trials=(*record.trials, smaller)), "parameters<100%").number == smaller.number


@pytest.mark.parametrize(
    ("pick", "said"),
    [
        ("bset", "unknown pick 'bset'; did you mean best"),
        ("-1", "unknown pick '-1'"),
        ("parameters<0", "no complete trial of study .* is within 'parameters<0'; the smallest trainable parameters is 0"),
        ("params<1%", "limits the unknown quantity 'params'; did you mean parameters"),
        ("parameters<many", "parameters are a number such as 100000"),
        ("memory<<2GB", "a rule is like parameters<1%"),
        ("memory>2GB", "unknown pick"),
    ],
)
def test_what_cannot_be_picked(record: StudyRecord, pick: str, said: str) -> None:
    with pytest.raises(AutopeftError, match=said):
        picks.find(record, pick)


def test_a_study_without_results(record: StudyRecord) -> None:
    empty = replace(record, trials=(), environment={})
    for pick in ("best", "head-only", "parameters<1%"):
        with pytest.raises(AutopeftError, match="no complete trial"):
            picks.find(empty, pick)
