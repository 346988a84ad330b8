"""Training, search, confirm and test examples of a study.

Files and Hugging Face data sets become tuples of plain examples. Where there is no validation split
it is drawn from the training examples; validation is then split in two, so that the sampler sees one
half (*search*) and claims come from the other (*confirm*). Draws are seeded, keep the shares of the
labels and never part examples with the same input.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from autopeft.errors import DataError, near
from autopeft.spec import DataSpec, TaskSpec
from autopeft.tables import Row, Table, find_splits, read_table

Example = Mapping[str, Any]
"""Our column name -> value: `text` (and `text_pair`) with `label`, or `prompt` with `completion`.
Labels are class names, or numbers for regression."""

COLUMNS = {
    "classification": ("text", "text_pair", "label"),
    "regression": ("text", "text_pair", "label"),
    "causal_lm": ("prompt", "completion"),
}
"""Columns each kind of task uses; `text_pair` alone is optional."""


@dataclass(frozen=True)
class Splits:
    """labels: class names, numbers first in their order, else alphabetical; () unless classification.
    test: empty where there is none. drawn: in words, how splits were made that were not given.
    sha256: of everything that trials see, that is all but test.
    """

    train: tuple[Example, ...]
    search: tuple[Example, ...]
    confirm: tuple[Example, ...]
    test: tuple[Example, ...]
    labels: tuple[str, ...]
    drawn: str
    sha256: str = ""

    def __post_init__(self) -> None:
        seen = json.dumps([self.train, self.search, self.confirm, self.labels], sort_keys=True)
        object.__setattr__(self, "sha256", sha256(seen.encode()).hexdigest())

    @property
    def counts(self) -> dict[str, int]:
        """Examples per split."""
        return {name: len(getattr(self, name)) for name in ("train", "search", "confirm", "test")}


def read_data(spec: DataSpec, task: TaskSpec, folder: Path) -> Splits:
    """Splits as `spec` describes them; relative paths start from `folder`.

    Raises DataError (rule, value, near names, file and line) for whatever cannot be used.
    """
    if unused := [name for name in spec.columns if name not in COLUMNS[task.kind]]:
        raise DataError(f"data.columns names {unused[0]!r}, but {task.kind} uses {', '.join(COLUMNS[task.kind])}")
    tables = find_splits(spec.source, spec.subset, folder) if spec.source else {"train": read_table(folder / spec.train)}
    for split, path in (("validation", spec.validation), ("test", spec.test)):
        if path:
            tables[split] = read_table(folder / path)
    notes = []
    if "test" in tables and _is_unlabelled(tables["test"], spec, task):
        del tables["test"]
        notes.append("test has no labels and is left out")
    pairs = "text_pair" in spec.columns or "text_pair" in tables["train"].columns
    given = {split: _examples(table, spec, task, pairs=pairs) for split, table in tables.items()}
    labels = _label_names(given["train"]) if task.kind == "classification" else ()
    for split in given.keys() - {"train"}:
        _check_labels(given[split], labels, tables[split])
    train, validation, test = given["train"], given.get("validation"), given.get("test", ())
    if validation is None:
        validation, train = _draw(train, spec.validation_share, f"validation {spec.split_seed}", "data.validation_share")
        notes.append(f"validation is {spec.validation_share:g} of train")
    confirm, search = _draw(validation, spec.confirm_share, f"confirm {spec.split_seed}", "data.confirm_share")
    notes.append(f"confirm is {spec.confirm_share:g} of validation, search the rest")
    if spec.train_examples is not None:
        if spec.train_examples > len(train):
            raise DataError(f"data.train_examples must be at most the {len(train)} training examples, it is {spec.train_examples}")
        order = [i for unit in _units(train, f"train {spec.split_seed}") for i in unit]
        train = _pick(train, order[: spec.train_examples])
        notes.append(f"train is {spec.train_examples} examples drawn from it")
    return Splits(train, search, confirm, test, labels, f"{'; '.join(notes)}; drawn by seed {spec.split_seed}")


def _is_unlabelled(table: Table, spec: DataSpec, task: TaskSpec) -> bool:
    """Whether no row has an answer, as in the test splits of benchmarks."""
    answer = COLUMNS[task.kind][-1]
    return all(row.get(spec.columns.get(answer, answer)) is None for row in table.rows)  # type: ignore[call-overload]


def _examples(table: Table, spec: DataSpec, task: TaskSpec, *, pairs: bool) -> tuple[Example, ...]:
    used = [ours for ours in COLUMNS[task.kind] if ours != "text_pair" or pairs]
    names = {ours: spec.columns.get(ours, ours) for ours in used}  # type: ignore[call-overload]
    for ours, name in names.items():
        if name not in table.columns:
            raise DataError(f"{table.name} has no column {name!r} for {ours}{near(name, table.columns)}; data.columns can rename")
    return tuple(
        {ours: _cell(row, ours, name, task, f"{table.name} {place}") for ours, name in names.items()}
        for row, place in zip(table.rows, table.places, strict=True)
    )


def _cell(row: Row, ours: str, name: str, task: TaskSpec, place: str) -> str | float:
    """The value of one column as this kind of task needs it."""
    if name not in row:
        raise DataError(f"{place}: no column {name!r}{near(name, row)}")
    value = row[name]
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise DataError(f"{place}: {name} is missing")
    if ours == "label":
        return _number(value, name, place) if task.kind == "regression" else _class_name(value, name, place)
    if not isinstance(value, str):
        raise DataError(f"{place}: {name} must be text, it is the {type(value).__name__} {value!r}")
    if not value.strip() and ours != "prompt":
        raise DataError(f"{place}: {name} must not be empty")
    return value


def _number(value: Any, name: str, place: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise DataError(f"{place}: {name} must be a number for regression, it is {value!r}")
    return number


def _class_name(value: Any, name: str, place: str) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, (str, int)):
        hint = "; task.kind regression takes numbers" if isinstance(value, float) else ""
        raise DataError(f"{place}: {name} must be a name or a whole number for classification, it is {value!r}{hint}")
    if not str(value).strip():
        raise DataError(f"{place}: {name} is missing")
    return str(value)


def _label_names(examples: Sequence[Example]) -> tuple[str, ...]:
    found = {str(example["label"]) for example in examples}
    if len(found) < 2:
        raise DataError(f"classification needs at least two labels in train, it has only {', '.join(sorted(found))!r}")
    if all(name.removeprefix("-").isdecimal() for name in found):
        return tuple(sorted(found, key=lambda name: (int(name), name)))
    return tuple(sorted(found))


def _check_labels(examples: Sequence[Example], labels: tuple[str, ...], table: Table) -> None:
    for example, place in zip(examples, table.places, strict=True):
        if labels and (label := example["label"]) not in labels:
            raise DataError(f"{table.name} {place}: label {label!r} does not occur in train{near(label, labels)}")


def _draw(examples: tuple[Example, ...], share: float, seed: str, rule: str) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """About `share` of the examples, at least one, and the rest, each in their old order."""
    drawn: list[int] = []
    for unit in _units(examples, seed):
        if len(drawn) >= max(1, round(share * len(examples))):
            break
        drawn += unit
    rest = sorted(set(range(len(examples))) - set(drawn))
    if not rest:
        raise DataError(f"{rule} of {share:g} leaves a split empty: there are {len(examples)} examples, too few or all with the same input")
    return _pick(examples, drawn), _pick(examples, rest)


def _units(examples: Sequence[Example], seed: str) -> list[list[int]]:
    """Groups of examples with the same input, shuffled so that every start of the list has the shares
    of labels that the whole has (the i-th of a label's n groups stands at (i + 1/2) / n)."""
    rng = random.Random(seed)
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, example in enumerate(examples):
        groups.setdefault((example.get("prompt"), example.get("text"), example.get("text_pair")), []).append(i)
    strata: dict[str, list[list[int]]] = {}
    for group in groups.values():
        label = examples[group[0]].get("label")
        strata.setdefault(label if isinstance(label, str) else "", []).append(group)
    placed: list[tuple[float, float, list[int]]] = []
    for name in sorted(strata):
        rng.shuffle(strata[name])
        placed += [((i + 0.5) / len(strata[name]), rng.random(), group) for i, group in enumerate(strata[name])]
    return [group for _, _, group in sorted(placed)]


def _pick(examples: Sequence[Example], indices: Sequence[int]) -> tuple[Example, ...]:
    return tuple(examples[i] for i in sorted(indices))
