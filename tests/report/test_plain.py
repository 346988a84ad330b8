"""JSON as other programs rely on it, CSV and Markdown that hostile names cannot abuse."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
import synthetic

from autopeft import report
from autopeft.errors import AutopeftError
from autopeft.trial import Measurement, TrialState
from autopeft_searchspace.configuration import Configuration

NUMBER = {"type": ["number", "null"]}
BY_NAME = {"type": "object", "additionalProperties": NUMBER}
SCHEMA = {
    "type": "object",
    "required": ["objectives", "trials", "front", "picks", "hypervolume", "budget"],
    "properties": {
        "objectives": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "direction", "unit"],
                "properties": {"direction": {"enum": ["maximize", "minimize"]}, "unit": {"type": "string"}},
            },
        },
        "trials": {
            "type": "array",
            "items": {
                "type": "object",
                "required": [
                    "number",
                    "state",
                    "values",
                    "standard_errors",
                    "configuration",
                    "fidelity",
                    "seconds",
                    "reason",
                    "front_probability",
                ],
                "additionalProperties": False,
                "properties": {
                    "number": {"type": "integer"},
                    "state": {"enum": [state.value for state in TrialState]},
                    "values": BY_NAME,
                    "standard_errors": BY_NAME,
                    "configuration": {"type": "object", "required": ["components", "learning_rate"]},
                    "fidelity": NUMBER,
                    "front_probability": NUMBER,
                    "seconds": {"type": "number"},
                    "reason": {"type": "string"},
                },
            },
        },
        "front": {"type": "array", "items": {"type": "integer"}},
        "picks": {"type": "object", "additionalProperties": {"type": "integer"}},
        "hypervolume": {"type": "array", "items": {"type": "object", "required": ["trials", "seconds", "hypervolume"]}},
        "budget": {"type": "object", "required": ["limit", "trials", "seconds"]},
    },
}


def not_finite(text: str) -> None:
    raise AssertionError(f"{text} is no JSON number")


@pytest.mark.parametrize("trials", [0, 1, 60])
def test_json_keeps_its_contract(trials: int) -> None:
    record = synthetic.record(trials)
    content = json.loads(report.render(record, "json"), parse_constant=not_finite)
    jsonschema.validate(content, SCHEMA)
    assert [o["name"] for o in content["objectives"]] == ["accuracy", "trainable_parameters", "peak_memory_bytes"]
    assert [t["number"] for t in content["trials"]] == list(range(trials))
    for found, trial in zip(content["trials"], record.trials, strict=True):
        assert Configuration.from_json(found["configuration"]) == trial.configuration
        assert set(found["values"]) == set(found["standard_errors"]) == {o["name"] for o in content["objectives"]}
    assert set(content["picks"]) == ({"best", "knee", "smallest-within-1se"} if trials else set())


def test_json_has_null_for_what_is_not_finite() -> None:
    record = synthetic.record(60)
    last = record.trials[1].final()
    assert last is not None
    broken = replace(last, measurements={**last.measurements, "search.accuracy": Measurement(float("nan"), "", float("inf"))})
    trials = (record.trials[0], replace(record.trials[1], observations=(broken,)), *record.trials[2:])
    content = json.loads(report.render(replace(record, trials=trials), "json"), parse_constant=not_finite)
    assert content["trials"][1]["values"]["accuracy"] is None
    assert content["trials"][1]["standard_errors"]["accuracy"] is None
    assert 1 not in content["front"]


def test_csv_has_a_line_per_trial_and_gives_configurations_back() -> None:
    record = synthetic.record(60)
    rows = list(csv.DictReader(io.StringIO(report.render(record, "csv"))))
    assert len(rows) == 60
    for row, trial in zip(rows, record.trials, strict=True):
        assert Configuration.from_json(json.loads(row["configuration"])) == trial.configuration
        assert float(row["trainable_parameters"]) == trial.computed["trainable_parameters"]


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-2", "@SUM(A1)", "\t=1"])
def test_csv_texts_do_not_run_in_a_spreadsheet(text: str) -> None:
    record = synthetic.record(5)
    trials = (replace(record.trials[0], label=text, reason=text), *record.trials[1:])
    row = next(csv.DictReader(io.StringIO(report.render(replace(record, trials=trials), "csv"))))
    assert row["label"] == row["reason"] == f"'{text}"


def test_markdown_shows_hostile_texts_as_they_stand() -> None:
    record = synthetic.record(60)
    hostile = "a|b\n# c <script>alert(1)</script> [x](javascript:alert(1)) `d`"
    trials = (replace(record.trials[0], label=hostile), *record.trials[1:])
    text = report.render(replace(record, trials=trials), "md")
    assert "<script" not in text
    assert "a\\|b \\# c &lt;script&gt;" in text
    assert "\\[x\\](javascript" in text


@pytest.mark.parametrize("format", report.FORMATS)
def test_the_same_record_gives_the_same_report(format: str) -> None:
    assert report.render(synthetic.record(20), format) == report.render(synthetic.record(20), format)


def test_the_format_of_a_file_is_that_of_its_suffix(tmp_path: Path) -> None:
    record = synthetic.record(20)
    assert json.loads(report.write(record, tmp_path / "out" / "a.json").read_text("utf-8"))["front"]
    assert report.write(record, tmp_path / "a.md").read_text("utf-8").startswith("# agreement-synthetic")
    assert report.write(record, tmp_path / "report").read_text("utf-8").startswith("<!doctype html>")
    assert {path.name for path in tmp_path.iterdir()} == {"out", "a.md", "report"}, "no temporary file is left"


def test_an_unknown_format_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(AutopeftError, match="html, json, md, csv, it is 'pdf'"):
        report.write(synthetic.record(0), tmp_path / "a.pdf")
