"""`configuration`: one JSON file that `autopeft.apply` and the search understand."""

from __future__ import annotations

from pathlib import Path

from autopeft import files
from autopeft.export import register
from autopeft.record import StudyRecord
from autopeft.trial import Trial

FILE = "configuration.json"


@register("configuration")
def write(record: StudyRecord, trial: Trial, folder: Path) -> None:
    files.write_json(folder / FILE, trial.configuration.to_json())
