"""What a data set seems to be for: its columns in our names and the kind of task, guessed from its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autopeft.errors import DataError
from autopeft.tables import Table, find_splits

SYNONYMS = {
    "text": ("text", "sentence", "sentence1", "text1", "question1", "premise", "review", "content", "utterance", "document", "query"),
    "text_pair": ("text_pair", "sentence2", "text2", "question2", "hypothesis"),
    "label": ("label", "labels", "class", "category", "intent", "sentiment", "target", "rating", "score"),
    "prompt": ("prompt", "instruction", "question", "input", "source"),
    "completion": ("completion", "response", "output", "answer", "target", "summary"),
}
"""Our name -> names that data sets use for it, the likeliest first; letter case does not count."""

MOST_CLASSES_AS_NUMBERS = 20
"""Whole numbers with more distinct values than this are taken for a quantity, not for classes."""


@dataclass(frozen=True)
class FirstLook:
    """task: kind of task. columns: our name -> name in the data, where they differ.
    counts: rows per split. labels: distinct labels of train, () unless classification."""

    task: str
    columns: Mapping[str, str]
    counts: Mapping[str, int]
    labels: tuple[str, ...]


def first_look(source: str, folder: Path, subset: str = "") -> FirstLook:
    """Look at a folder, file or Hugging Face data set as `data.source` names it.

    Raises DataError where it cannot be read, or where its columns fit no kind of task.
    """
    tables = find_splits(source, subset, folder)
    train = tables["train"]
    task, names = _task_and_columns(train)
    return FirstLook(
        task=task,
        columns={ours: name for ours, name in names.items() if ours != name},
        counts={split: len(table.rows) for split, table in tables.items()},
        labels=tuple(sorted({str(v) for v in _values(train, names["label"])})) if task == "classification" else (),
    )


def _task_and_columns(table: Table) -> tuple[str, dict[str, str]]:
    generation = _named(table.columns, ("prompt", "completion"))
    judging = _named(table.columns, ("text", "text_pair", "label"))
    if "text" in judging and "label" in judging:
        return ("regression" if _is_quantity(_values(table, judging["label"])) else "classification"), judging
    if len(generation) == 2:
        return "causal_lm", generation
    raise DataError(
        f"{table.name}: cannot tell the task from the columns {', '.join(table.columns)}; expected text and label, or prompt and "
        f"completion; name yours in data.columns, e.g. --set data.columns.text={table.columns[0]}, and give --task"
    )


def _named(columns: Sequence[str], wanted: Sequence[str]) -> dict[str, str]:
    """Our name -> column, for those of `wanted` that have one; no column serves twice."""
    lower = {name.lower(): name for name in reversed(columns)}
    found: dict[str, str] = {}
    for ours in wanted:
        name = next((lower[s] for s in SYNONYMS[ours] if s in lower and lower[s] not in found.values()), None)
        if name is not None:
            found[ours] = name
    return found


def _values(table: Table, column: str) -> list[Any]:
    return [row[column] for row in table.rows if row.get(column) is not None]


def _is_quantity(values: Sequence[Any]) -> bool:
    """Whether labels are measurements: numbers with fractions, or many different whole numbers."""
    try:
        numbers = {float(value) for value in values if not isinstance(value, bool)}
    except (TypeError, ValueError):
        return False
    return any(not number.is_integer() for number in numbers) or len(numbers) > MOST_CLASSES_AS_NUMBERS
