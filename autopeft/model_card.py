"""The README of a trained adapter: what it is, how it scores, where it comes from and how to load it, with the
front matter by which the Hugging Face hub finds it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from autopeft import __version__, files
from autopeft.export.peft import public_name, recipe_in_words
from autopeft.record import StudyRecord
from autopeft.report import words
from autopeft.report.plain import escaped
from autopeft.train_result import TrainResult

CARD = "README.md"
PIPELINES = {"classification": "text-classification", "regression": "text-classification", "causal_lm": "text-generation"}


def write_cards(record: StudyRecord, result: TrainResult) -> None:
    """Complete the README that each newly saved adapter has: results go between its title and the lines that load it."""
    for seed, folder in result.adapters.items():
        path = Path(folder) / CARD
        title, _, loading = path.read_text("utf-8").partition("\n")
        front = yaml.safe_dump(_front_matter(record, result, seed), sort_keys=False, allow_unicode=True)
        parts = [title, *_results(record, result, seed), *_origin(record, result), "## Loading it", loading.strip()]
        files.write_text(path, f"---\n{front}---\n\n" + "\n\n".join(parts) + "\n")


def _front_matter(record: StudyRecord, result: TrainResult, seed: int) -> dict[str, Any]:
    kind = PIPELINES[record.spec.task.kind]
    measured = {
        "task": {"type": kind},
        "dataset": {"name": _data(record, result), "type": "text"},
        "metrics": [{"type": result.metric, "value": round(result.tests[seed].value, 6)}],
    }
    base = public_name(record)
    return {
        **({"base_model": base} if base else {}),
        "library_name": "peft",
        "pipeline_tag": kind,
        "tags": ["autopeft", "peft", *dict.fromkeys(c.type for c in record.trial(result.trial).configuration.components)],
        "model-index": [{"name": f"{record.spec.name}-{result.trial}", "results": [measured]}],
    }


def _data(record: StudyRecord, result: TrainResult) -> str:
    return result.data_name or record.spec.data.source or record.spec.data.train


def _results(record: StudyRecord, result: TrainResult, seed: int) -> list[str]:
    metric, whole = result.metric, result.estimate
    rows = [f"| seed {s}{', this adapter' if s == seed else ''} | {words.value(metric, m.value)} |" for s, m in result.tests.items()]
    if whole.seeds > 1:
        rows.append(f"| mean of {whole.seeds} seeds | {words.value(metric, whole.value)} ({words.interval(metric, whole)}) |")
    lines = ["## Results", f"On the test split of {escaped(_data(record, result))}, after {result.steps:,} steps; intervals hold at 95 %."]
    return [*lines, "\n".join([f"| | {words.name(metric)} |", "| --- | --- |", *rows])]


def _origin(record: StudyRecord, result: TrainResult) -> list[str]:
    trial = record.trial(result.trial)
    computed: Mapping[str, float] = trial.computed
    costs = f"{words.count(computed['trainable_parameters'])} trainable parameters"
    if memory := computed.get("peak_memory_bytes"):
        costs += f", {words.bytes_(memory)} peak training memory on {record.environment.get('environment', {}).get('device', 'its device')}"
    study = f"study {escaped(record.spec.name)}, trial {trial.number}"
    found = f"Found by autopeft {__version__} among {len(record.trials)} configurations ({study})"
    text = f"{found}: {costs}. Trained with {recipe_in_words(record, trial)}."
    return ["## Where it comes from", text]
