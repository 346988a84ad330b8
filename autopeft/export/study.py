"""`study`: the whole study in plain files, for `--warm-start`, `transfer`, `report` and `train` elsewhere."""

from __future__ import annotations

from pathlib import Path

from autopeft import files, recorded
from autopeft.export import register
from autopeft.record import SPEC, StudyRecord
from autopeft.spec_file import dump_spec
from autopeft.tested import TESTS, read_results
from autopeft.trial import Trial


@register("study")
def write(record: StudyRecord, trial: Trial, folder: Path) -> None:
    """Every trial is written, since a warm start learns from them all; the README names the picked one."""
    dump_spec(record.spec, folder / SPEC, record.folder)
    recorded.write(folder, record.environment, record.trials)
    if results := read_results(record.folder):
        files.write_json(folder / TESTS, results)
    files.write_text(folder / "README.md", _readme(record, trial))


def _readme(record: StudyRecord, trial: Trial) -> str:
    return "\n".join(
        [
            "# A study of autopeft",
            "",
            f"    {len(record.trials)} trials; picked: trial {trial.number}, {trial.configuration.in_words()}",
            "",
            "    autopeft search SPEC --warm-start THIS-FOLDER     # starts from its front, learns from its trials",
            "    autopeft transfer THIS-FOLDER SPEC                # tries its front, without searching",
            "    autopeft report THIS-FOLDER",
            f"    autopeft train THIS-FOLDER --pick {trial.number}",
            "",
            "Paths of data and model in `study.yaml` start from this folder; neither is copied.",
            "",
        ]
    )
