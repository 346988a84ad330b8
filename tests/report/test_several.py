"""Several studies in one page."""

from dataclasses import replace
from pathlib import Path

import plotly.graph_objects as go
import recorded_study
import synthetic
from typer.testing import CliRunner

from autopeft import report
from autopeft.cli import app
from autopeft.record import StudyRecord
from autopeft.report.several import compare_studies


def random_search() -> StudyRecord:
    other = synthetic.record(40, seed=3, name="random-synthetic")
    return replace(other, spec=other.spec.model_copy(update={"sampler": "random"}))


def test_fronts_and_progress_stand_side_by_side_on_the_axes_of_the_first() -> None:
    page = compare_studies([synthetic.record(), random_search()])
    assert page.notices == ()
    assert [chart.name for chart in page.charts] == ["fronts", "hypervolumes"]
    for chart in page.charts:
        go.Figure(chart.content)
        assert [trace["name"] for trace in chart.content["data"]] == ["agreement-synthetic", "random-synthetic"]
    assert "random-synthetic: random search" in page.charts[1].note
    both = [row[0].text for row in page.charts[1].table.rows]
    assert both == list(page.names)
    assert page.charts[1].table.columns[1].title == "after 39 trials"


def test_other_data_or_metrics_are_told_and_not_drawn() -> None:
    other = random_search()
    elsewhere = replace(other, environment={**other.environment, "data": {**other.environment["data"], "sha256": "other"}})
    page = compare_studies([synthetic.record(), elsewhere])
    assert page.notices == ("random-synthetic is not drawn beside agreement-synthetic: it was judged on other data.",)
    assert [len(chart.content["data"]) for chart in page.charts] == [1, 1]
    assert any(row[0].text == "random-synthetic" for row in page.table.rows)


def test_one_study_twice_has_two_names_and_names_are_escaped() -> None:
    record = synthetic.record(8)
    twin = replace(record, folder=Path("<script>x"))
    assert len(set(compare_studies([record, twin]).names)) == 2
    assert "<script>x" not in report.render_together([record, twin])


def test_studies_without_trials_are_told() -> None:
    page = compare_studies([synthetic.record(0), synthetic.record(0, name="other")])
    assert page.charts == ()
    assert "none yet" in [row[5].text for row in page.table.rows]


def test_the_command_writes_one_page(tmp_path: Path) -> None:
    folders = [recorded_study.write_study(tmp_path / name, trials=8, name=name) for name in ("a", "b")]
    done = CliRunner().invoke(app, ["report", *map(str, folders)])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "a" / "comparison.html").stat().st_size > 1e6
    done = CliRunner().invoke(app, ["report", *map(str, folders), "--format", "md"])
    assert done.exit_code == 2
    assert "several studies are compared in html" in done.output
