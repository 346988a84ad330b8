"""Charts: valid plotly, nothing that needs WebGL or code made at run time, a table beside each, both themes."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
import synthetic

from autopeft.report import words
from autopeft.report.charts.fronts import fronts
from autopeft.report.charts.importance import importance, importances
from autopeft.report.charts.parallel import parallel
from autopeft.report.charts.placement import placement
from autopeft.report.charts.style import DARK, Chart, hover, safe, wrapped
from autopeft.report.page import sections
from autopeft.report.summary import Summary, summarise
from autopeft.trial import Measurement, Observation, Origin, Trial, TrialState
from autopeft_searchspace.settings import build_space

SVG = {"scatter", "bar", "heatmap"}


@pytest.fixture(scope="module")
def summary() -> Summary:
    return summarise(synthetic.record())


def all_charts(summary: Summary) -> list[Chart]:
    return [chart for section in sections(summary) for chart in section.charts]


def strings(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        for value in content.values():
            yield from strings(value)
    elif isinstance(content, list):
        for value in content:
            yield from strings(value)


@pytest.mark.parametrize(
    "record",
    [synthetic.record(), synthetic.record(gain=0.0), synthetic.record(two_objectives=True), synthetic.record(7), synthetic.record(1)],
    ids=["full", "flat", "two-objectives", "baselines", "head-only"],
)
def test_every_chart_is_valid_and_has_words_and_a_table(record: synthetic.StudyRecord) -> None:
    charts = all_charts(summarise(record))
    assert charts
    assert len({chart.name for chart in charts}) == len(charts)
    for chart in charts:
        go.Figure(chart.content)  # raises on any key or value that plotly does not know
        json.dumps(chart.content, allow_nan=False)
        assert {trace["type"] for trace in chart.content["data"]} <= SVG
        assert len(chart.alt) > 40
        assert chart.note
        assert chart.table.rows or chart.name == "seconds"
        assert re.fullmatch(r"[a-z0-9-]+", chart.name)


def test_all_kinds_of_charts_are_there(summary: Summary) -> None:
    names = {chart.name for chart in all_charts(summary)}
    assert {"hypervolume", "within", "placement", "parallel", "importance", "loss", "rungs", "memory", "seconds", "replicates"} <= names
    assert len([name for name in names if name.startswith("front-")]) == 3


def test_a_study_without_trials_has_no_charts() -> None:
    assert sections(summarise(synthetic.record(0))) == []


def test_every_colour_has_a_dark_twin(summary: Summary) -> None:
    used = {text for chart in all_charts(summary) for text in strings(dict(chart.content)) if re.fullmatch("#[0-9a-f]{6}", text)}
    assert len(used) > 8
    assert used <= set(DARK)
    assert not set(DARK) & set(DARK.values()), "a colour must not be swapped twice"


def test_baselines_and_states_differ_by_shape_and_not_by_colour_alone(summary: Summary) -> None:
    chart = fronts(summary)[0]
    looks = [(trace["marker"]["symbol"], trace["marker"]["size"]) for trace in chart.content["data"] if "marker" in trace]
    assert len(set(looks)) == len(looks)


def test_every_trial_is_drawn_once_in_each_pair(summary: Summary) -> None:
    for chart in fronts(summary):
        points = [trace for trace in chart.content["data"] if trace.get("name") != "picks"]  # rings around points
        drawn = [number for trace in points for number in trace.get("customdata", [])]
        assert len(drawn) == len(set(drawn))
        assert set(drawn) == {row.number for row in summary.rows if row.trial.state is not TrialState.RUNNING}


def test_zero_parameters_have_a_place_on_the_log_axis(summary: Summary) -> None:
    chart = fronts(summary)[0]
    head = next(trace for trace in chart.content["data"] if trace.get("name") == "head only")
    axis = chart.content["layout"]["xaxis"]
    assert axis["type"] == "log"
    assert axis["ticktext"][axis["tickvals"].index(head["x"][0])] == "0"


def test_placement_counts_the_front(summary: Summary) -> None:
    chart = placement(summary)
    assert chart is not None
    (trace,) = chart.content["data"]
    adapted = [row for row in summary.front if row.trial.configuration.components]
    for name, shares in zip(trace["y"], trace["z"], strict=True):
        kind, _, role = name.partition(" ")
        for layer, share in enumerate(shares):
            count = sum(
                any(c.type == kind and layer in c.layers and (not role or role in c.roles) for c in row.trial.configuration.components)
                for row in adapted
            )
            assert share == pytest.approx(100 * count / len(adapted))


def test_parallel_lines_stay_between_their_ends(summary: Summary) -> None:
    chart = parallel(summary)
    assert chart is not None
    heights = [y for trace in chart.content["data"] for y in trace["y"] if y is not None]
    assert min(heights) == pytest.approx(0)
    assert max(heights) == pytest.approx(1)


def test_importance_finds_what_decides_a_maximised_quality(summary: Summary) -> None:
    """All trials the same but for the learning rate, which alone decides the quality."""
    space = synthetic.space()
    rng = np.random.default_rng(0)
    trials = []
    for number in range(120):
        configuration = space.configuration(space.sample(rng))
        factor = float(space.values(configuration)["learning_rate"])
        last = Observation(configuration.key, 0, 10, 10, "r", {"search.accuracy": Measurement(0.9 - 0.05 * abs(np.log2(factor) - 2))})
        computed = {"trainable_parameters": 1e4 * len(configuration.components[0].layers), "peak_memory_bytes": 1e8 + number}
        trials.append(Trial(number, configuration, Origin.SAMPLER, TrialState.COMPLETE, computed, (last,)))
    found = importances(summarise(replace(summary.record, trials=tuple(trials))))
    assert next(iter(found["accuracy"].shares)) == "learning_rate"
    assert found["accuracy"].shares["learning_rate"] > 0.5
    assert "learning_rate" not in found["trainable_parameters"].shares | found["peak_memory_bytes"].shares
    assert all(sum(made.shares.values()) == pytest.approx(1) for made in found.values())


def test_importance_of_memory_counts_trials_of_every_state(summary: Summary) -> None:
    found = importances(summary)
    assert found["accuracy"].trials <= len(summary.complete) < found["peak_memory_bytes"].trials <= len(summary.rows)


def test_importance_for_parameters_does_not_depend_on_what_a_search_chose(summary: Summary) -> None:
    few = summarise(replace(summary.record, trials=summary.record.trials[:30]))
    found = importances(summary)["trainable_parameters"]
    assert importances(few)["trainable_parameters"] == found


def test_importance_of_a_study_of_one_placement_is_that_of_its_learning_rates(summary: Summary) -> None:
    """Nothing decides parameters or memory there, so that nothing is said of them."""
    record = summary.record
    change = {"types": ["prefix"], "prefix.size": 24, "layers": "all"}
    data = {**record.spec.model_dump(mode="json"), "space": {"preset": "default", "change": change}}
    space, rng = build_space("default", record.shape, change), np.random.default_rng(0)
    points = {space.configuration(point).key: space.configuration(point) for point in (space.sample(rng) for _ in range(200))}
    trials = tuple(replace(t, configuration=c) for t, c in zip(record.complete, points.values(), strict=False))
    assert len(trials) > 10
    made = summarise(replace(record, trials=trials, spec=type(record.spec).model_validate(data)))
    assert importances(made).keys() == {"accuracy"}
    chart = importance(made)
    assert chart is not None
    assert "learning_rate for accuracy" in chart.alt


def test_importance_needs_trials() -> None:
    assert importances(summarise(synthetic.record(8))) == {}


def test_hover_says_what_a_trial_costs_and_escapes_it(summary: Summary) -> None:
    row = summary.row(summary.chosen["best"])
    text = hover(summary, row)
    assert f"trial {row.number}" in text
    assert f"trainable parameters: {words.value('trainable_parameters', row.parameters)}" in text
    assert safe("<a href='x'>&") == "&lt;a href='x'&gt;&amp;"
    assert "<a" not in wrapped("<a href='javascript:alert(1)'>x</a>" * 9)
