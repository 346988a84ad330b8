"""`transformers` and `trl`: a training script of one's own, ready to run, that puts the configuration on the
model with `autopeft.apply`. Any configuration will do, compositions included, that AdamW alone
trains from a start of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from autopeft import files
from autopeft.errors import AutopeftError
from autopeft.export import configuration as plain
from autopeft.export import register
from autopeft.export.language import check_plain, recipe
from autopeft.export.peft import TASKS, quantisation_code
from autopeft.record import StudyRecord
from autopeft.trial import Trial

FILE = "train.py"
HERE = Path(__file__).parent


@register("trl")
def write_trl(record: StudyRecord, trial: Trial, folder: Path) -> None:
    if record.spec.task.kind != "causal_lm":
        raise AutopeftError(f"trl trains language models, the task of this study is {record.spec.task.kind}; --to transformers takes it")
    _write(record, trial, folder, "trl.py.txt", {})


@register("transformers")
def write_transformers(record: StudyRecord, trial: Trial, folder: Path) -> None:
    kind = record.spec.task.kind
    labels = record.environment.get("data", {}).get("labels") or []
    _write(record, trial, folder, "transformers.py.txt", {"kind": kind, "model": TASKS[kind][1], "labels": list(map(str, labels))})


def _write(record: StudyRecord, trial: Trial, folder: Path, template: str, more: Mapping[str, Any]) -> None:
    """Values stand in the script as Python writes them, so that no name can become code."""
    if not trial.configuration.components and record.spec.task.kind == "causal_lm":
        raise AutopeftError(f"trial {trial.number} trains nothing of a language model; pick another trial")
    check_plain(trial, template.partition(".")[0])
    made = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters["python"] = ascii
    given = {"trial": trial.number, "recipe": recipe(record, trial), "quantised": quantisation_code(record, trial), **more}
    text = made.from_string((HERE / template).read_text("utf-8")).render(given)
    plain.write(record, trial, folder)
    files.write_text(folder / FILE, text if text.endswith("\n") else text + "\n")
