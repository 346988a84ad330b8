"""What types and strategies brought, on a front worked by hand."""

from dataclasses import replace

import made_up
import pytest
import synthetic

from autopeft.front import Axes, Axis
from autopeft.record import StudyRecord
from autopeft.report.shares import strategies_table, types_table
from autopeft.report.summary import summarise
from autopeft_searchspace.configuration import Component, Configuration
from autopeft_searchspace.strategies import published


def test_a_type_of_several_sizes_counts_once_and_lisa_is_not_the_head_alone() -> None:
    whole = synthetic.record(8, two_objectives=True)
    one = Component("lora", 1, (0,), ("q",), {"alpha": 1})
    made = [
        made_up.trial(0, 0.5, 0, configuration=made_up.HEAD_ONLY),
        made_up.trial(1, 0.7, 100, configuration=Configuration((one, replace(one, size=2, layers=(1,))), 1e-3)),
        made_up.trial(2, 0.8, 1000, configuration=Configuration((), 1e-3, published("lisa"))),
    ]
    rows = summarise(replace(whole, trials=tuple(made))).rows
    assert [row.types for row in rows] == [("head only",), ("lora",), ("lisa",)]
    assert rows[2].title == "lisa"


def study() -> StudyRecord:
    """Head alone at 0.5; LoRA at 0.7 for 100 weights; IST at 0.8 for 1,000; a pair of types at 0.6 for 1,000, beaten by both.

    Axes are quality from 0.5 to 1 and parameters from 10,000 to 1, in log10.
    """
    lora = made_up.lora()
    both = Configuration((*lora.components, Component("ia3", 1, (0, 1), ("k", "v", "ff_in"), {})), 1e-3)
    made = [
        made_up.trial(0, 0.5, 0, configuration=made_up.HEAD_ONLY),
        made_up.trial(1, 0.7, 100, configuration=lora),
        made_up.trial(2, 0.8, 1000, configuration=replace(lora, strategy=published("ist"))),
        made_up.trial(3, 0.6, 1000, configuration=both),
    ]
    whole = synthetic.record(8, two_objectives=True)
    axes = Axes((Axis("accuracy", 0.5, 1.0), Axis("trainable_parameters", 10_000, 1, 1)))
    return replace(whole, trials=tuple(made), environment={**whole.environment, "axes": axes.to_json()})


def test_types_lose_what_only_they_dominate() -> None:
    rows = {row[0].text: row for row in types_table(summarise(study())).rows}
    # LoRA is in every point but the head alone, whose hypervolume is 0; IA3's pair is not on the front
    assert rows["lora"][-1].key == pytest.approx(1.0)
    assert rows["ia3"][-1].key == pytest.approx(0.0)
    assert [cell.text for cell in rows["lora"][1:3]] == ["3", "2"]
    assert [cell.key for cell in rows["lora"][4:7]] == [0.8, 0.8, 0.8]


def test_strategies_stand_against_none() -> None:
    rows = {row[0].text: row for row in strategies_table(summarise(study())).rows}
    # by parameters 100 and 1,000 lie at 1/2 and 1/4, by quality 0.7 and 0.8 at 0.4 and 0.6: 0.4 / 2 + 0.2 / 4 = 0.25
    assert rows["ist"][-1].key == pytest.approx(1 - 0.2 / 0.25)
    assert rows["none"][-1].key == pytest.approx(1 - 0.15 / 0.25)
    assert rows["none"][1].key == 2


def test_no_table_where_there_is_nothing_to_compare() -> None:
    record = study()
    assert not strategies_table(summarise(replace(record, trials=record.trials[:2]))).rows
