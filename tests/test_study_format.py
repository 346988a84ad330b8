"""A study of another format is refused by every command, with what reads it, and stays as it is; what is merely older opens."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest
import synthetic
from recorded_study import write_study
from typer.testing import CliRunner

from autopeft.cli import app
from autopeft.ledger import Ledger
from autopeft.record import read
from autopeft.recorded import ENVIRONMENT
from autopeft.study_folder import stored_environment

HERE = metadata.version("autopeft")
FORMATS = [
    (0, "0.0.9", "has format 0, made by autopeft 0.0.9; ", "`pip install autopeft==0.0.9` reads it"),
    (0, "", "has format 0, made by an earlier version of autopeft; ", f"`pip install 'autopeft<{HERE}'` reads it"),
    (2, "9.1", "has format 2, made by autopeft 9.1; ", "`pip install autopeft==9.1` reads it"),
    (2, "", "has format 2, made by a later version of autopeft; ", "`pip install --upgrade autopeft` reads it"),
]


def live(folder: Path, format_: int, version: str) -> Path:
    """A study with a database, as another version left it."""
    record = synthetic.record()
    with Ledger(folder) as ledger:
        ledger.set_fact("spec", record.spec.model_dump(mode="json"))
        environment = {**record.environment, "shape": record.shape.to_json()}
        ledger.set_fact("environment", {**environment, "environment": {"versions": {"autopeft": version}} if version else {}})
        ledger.set_fact("format", format_)
    return folder


def recorded(folder: Path, format_: int, version: str) -> Path:
    """A study in plain files, as another version left it."""
    path = write_study(folder) / ENVIRONMENT
    content = json.loads(path.read_text("utf-8"))
    path.write_text(
        json.dumps({**content, "format": format_, "environment": {"versions": {"autopeft": version}} if version else {}}), "utf-8"
    )
    return folder


@pytest.mark.parametrize(("format_", "version", "who", "what"), FORMATS)
@pytest.mark.parametrize("make", [live, recorded])
def test_another_format_is_refused_with_what_reads_it(make, format_: int, version: str, who: str, what: str, tmp_path: Path) -> None:
    study = make(tmp_path, format_, version)
    before = {path.name: path.read_bytes() for path in study.iterdir()}
    for verb in ("status", "report", "export", "train"):
        result = CliRunner(env={"COLUMNS": "400"}).invoke(app, [verb, str(study)])
        assert result.exit_code == 2
        assert who in result.stderr
        assert what in result.stderr
        assert "which reads format 1" in result.stderr
    assert {name: (study / name).read_bytes() for name in before} == before


def test_a_search_does_not_go_on_in_a_study_of_another_format(tmp_path: Path) -> None:
    live(tmp_path, 2, "9.1")
    with pytest.raises(Exception, match=r"has format 2, made by autopeft 9\.1"):
        stored_environment(synthetic.record().spec, tmp_path)


def test_a_recorded_study_without_a_number_is_of_the_first_format(tmp_path: Path) -> None:
    path = write_study(tmp_path) / ENVIRONMENT
    content = json.loads(path.read_text("utf-8"))
    assert content.pop("format") == 1
    path.write_text(json.dumps(content), "utf-8")
    assert len(read(tmp_path).trials) == len(synthetic.record().trials)


def test_settings_that_a_study_does_not_know_yet_count_with_their_defaults(tmp_path: Path) -> None:
    live(tmp_path, 1, HERE)
    spec = synthetic.record().spec
    content = spec.model_dump(mode="json")
    del content["share_frozen_layers"], content["executor"]
    with Ledger(tmp_path) as ledger:
        ledger.set_fact("spec", content)
    assert read(tmp_path).spec == spec
    assert stored_environment(spec, tmp_path) is not None
