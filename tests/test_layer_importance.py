"""Importance as a product: gathered from runs, drawn in the report, exported, and given to a later search."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import synthetic

from autopeft import warm_start
from autopeft.errors import AutopeftError, SpecError
from autopeft.export import export
from autopeft.export.placement import shared_out
from autopeft.layer_importance import of_study
from autopeft.record import StudyRecord
from autopeft.report.charts.layers import layers
from autopeft.report.summary import summarise
from autopeft.trial import Measurement, Trial
from autopeft_searchspace.strategies import published


def told(trial: Trial, importance: dict[str, float], layer_count: int) -> Trial:
    """The trial as one whose runs were under IST and told `importance`."""
    measured = {f"importance.{name}": Measurement(value) for name, value in importance.items()}
    observations = tuple(replace(o, measurements={**o.measurements, **measured}) if o.is_final else o for o in trial.observations)
    return replace(trial, configuration=replace(trial.configuration, strategy=published("ist")), observations=observations)


@pytest.fixture
def record() -> StudyRecord:
    """A made-up study of which one trial tells that layer 1 matters twice as much as layer 0."""
    found = synthetic.record()
    chosen = next(t for t in found.complete if any(c.type == "lora" and len(c.layers) > 1 for c in t.configuration.components))
    trials = [told(t, {"0": 1.0, "1": 2.0, "1.q": 5.0}, found.shape.layers) if t.number == chosen.number else t for t in found.trials]
    return replace(found, trials=tuple(trials))


def test_runs_are_brought_to_a_mean_of_one(record: StudyRecord) -> None:
    found = of_study(record.trials, record.shape)
    assert found is not None
    assert found.layers[:2] == pytest.approx((2 / 3, 4 / 3))
    assert found.roles == {"q": 1.0}
    assert of_study(synthetic.record().trials, record.shape) is None


def test_a_run_of_larger_changes_does_not_outweigh_the_others_in_roles(record: StudyRecord) -> None:
    """q before v in two runs of changes a thousand times as large, and v before q in two others: neither."""
    layers = record.shape.layers
    small, large = {"0": 1.0, "0.q": 1.0, "0.v": 3.0}, {"0": 1.0, "0.q": 3000.0, "0.v": 1000.0}
    complete = [t for t in record.complete if t.configuration.components and len(t.replicates()) == 1]
    found = of_study([told(complete[0], small, layers), told(complete[1], large, layers)], record.shape)
    assert found is not None
    assert found.roles == pytest.approx({"q": 1.0, "v": 1.0})


def test_the_report_draws_it_where_a_run_tells_it(record: StudyRecord) -> None:
    chart = layers(summarise(record))
    assert chart is not None
    assert "layer 1 under ist" in chart.alt
    assert layers(summarise(synthetic.record())) is None


def test_it_is_exported_as_a_placement_with_the_same_sum_of_ranks(record: StudyRecord, tmp_path: Path) -> None:
    trial = next(t for t in record.trials if t.configuration.strategy)
    export(record, trial, "placement", tmp_path)
    content = json.loads((tmp_path / "placement.json").read_text("utf-8"))
    component = next(c for c in trial.configuration.components if c.type == "lora")
    assert content["layers_to_transform"] == [0, 1]  # all others count as 0
    assert content["importance"]["1"] == pytest.approx(2 * content["importance"]["0"], abs=1e-3)
    assert sum(content["rank_pattern"].values()) == component.size * len(component.layers) * len(component.roles)
    with pytest.raises(AutopeftError, match="no run of this study tells"):
        export(synthetic.record(), synthetic.record().complete[-1], "placement", tmp_path / "none")


def test_ranks_are_shared_out_in_whole_numbers() -> None:
    assert shared_out(10, [1.0, 0.0, 1.0]) == [5, 1, 4]
    assert sum(shared_out(7, [0.3, 0.3, 0.3])) == 7


def test_a_later_search_takes_it_and_other_models_are_refused(record: StudyRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm_start, "read", lambda folder: record)
    spec = record.spec.model_copy(update={"importance": "earlier"})
    found = warm_start.earlier_importance(spec, Path(), record.shape)
    assert found is not None
    assert found["layers"][1] == pytest.approx(4 / 3)
    assert warm_start.earlier_importance(record.spec, Path(), record.shape) is None
    with pytest.raises(SpecError, match="layers, this one has 99"):
        warm_start.earlier_importance(spec, Path(), replace(record.shape, layers=99))
