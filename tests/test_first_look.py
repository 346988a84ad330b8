import json
from pathlib import Path
from typing import Any

import pytest

from autopeft.errors import DataError
from autopeft.first_look import first_look


def look(folder: Path, *rows: dict[str, Any]) -> Any:
    path = folder / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return first_look("rows.jsonl", folder)


def test_classification_by_our_names(tmp_path: Path) -> None:
    found = look(tmp_path, {"text": "a", "label": "yes"}, {"text": "b", "label": "no"})
    assert (found.task, found.columns, found.labels, found.counts) == ("classification", {}, ("no", "yes"), {"train": 2})


def test_pairs_under_other_names(tmp_path: Path) -> None:
    found = look(tmp_path, {"Sentence1": "a", "sentence2": "b", "Label": 1}, {"Sentence1": "c", "sentence2": "d", "Label": 0})
    assert found.task == "classification"
    assert found.columns == {"text": "Sentence1", "text_pair": "sentence2", "label": "Label"}


def test_fractions_are_regression_and_so_are_many_whole_numbers(tmp_path: Path) -> None:
    assert look(tmp_path, {"text": "a", "score": 1.5}, {"text": "b", "score": 2}).task == "regression"
    assert look(tmp_path, *({"text": "a", "label": i} for i in range(30))).task == "regression"
    assert look(tmp_path, *({"text": "a", "label": i % 3} for i in range(30))).task == "classification"
    assert look(tmp_path, {"text": "a", "label": True}, {"text": "b", "label": False}).task == "classification"


def test_generation(tmp_path: Path) -> None:
    found = look(tmp_path, {"instruction": "a", "output": "b", "id": 3})
    assert (found.task, found.columns, found.labels) == ("causal_lm", {"prompt": "instruction", "completion": "output"}, ())


def test_columns_that_fit_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows.jsonl: cannot tell the task from the columns a, b; expected text and label, or prompt and"):
        look(tmp_path, {"a": 1, "b": 2})


def test_splits_of_a_folder_are_counted(tmp_path: Path) -> None:
    for name, count in (("train", 3), ("dev", 2)):
        (tmp_path / f"{name}.csv").write_text("text,label\n" + "a,x\n" * count)
    assert first_look(".", tmp_path).counts == {"train": 3, "validation": 2}
