"""Recorded studies of this repository give their reports again, byte for byte."""

import shutil
from pathlib import Path

import pytest

from autopeft import report
from autopeft.record import read

ROOT = Path(__file__).resolve().parents[2]
KEPT = ("study.yaml", "observations.csv", "environment.json", "tests.json")


@pytest.mark.parametrize("name", sorted(folder.name for folder in (ROOT / "reports").iterdir() if folder.is_dir()))
def test_the_kept_files_give_the_kept_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    study = Path("studies", name)
    (tmp_path / study).mkdir(parents=True)
    for file in KEPT:
        if (ROOT / study / file).exists():  # not every study was trained further
            shutil.copy(ROOT / study / file, tmp_path / study / file)
    monkeypatch.chdir(tmp_path)
    made, kept = report.render(read(study)).encode(), (ROOT / "reports" / name / "report.html").read_bytes()
    assert made == kept, f"make it again: autopeft report {study} --output reports/{name}/report.html"
