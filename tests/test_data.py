from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import pytest

from autopeft.data import read_data
from autopeft.errors import DataError
from autopeft.spec import DataSpec, TaskSpec

AGREEMENT = Path(__file__).parents[1] / "studies" / "agreement-minilm" / "data"
CLASSES = TaskSpec(kind="classification")
NUMBERS = TaskSpec(kind="regression")
WORDS = TaskSpec(kind="causal_lm")


def write(path: Path, rows: list) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def labelled(count: int, labels: str = "ab", start: int = 0) -> list[dict]:
    return [{"text": f"text {i}", "label": labels[i % len(labels)]} for i in range(start, start + count)]


def read(folder: Path, task: TaskSpec = CLASSES, **spec):
    return read_data(DataSpec(**{"source": "."} | spec), task, folder)


def test_shipped_data():
    splits = read(AGREEMENT)
    assert splits.counts == {"train": 2400, "search": 600, "confirm": 600, "test": 2400}
    assert splits.labels == ("acceptable", "unacceptable")
    assert set(splits.train[0]) == {"text", "label"}
    for part in (splits.search, splits.confirm):
        assert Counter(e["label"] for e in part) == {"acceptable": 300, "unacceptable": 300}
    assert not {e["text"] for e in splits.search} & {e["text"] for e in splits.confirm}
    assert splits.drawn == "confirm is 0.5 of validation, search the rest; drawn by seed 0"


def test_draws_follow_the_seed_and_the_hash_follows_the_draw():
    first, again, other = read(AGREEMENT), read(AGREEMENT), read(AGREEMENT, split_seed=1)
    assert first == again
    assert first.search != other.search
    assert first.train == other.train
    assert first.sha256 == again.sha256 != other.sha256


def test_hash_leaves_the_test_split_out(tmp_path):
    write(tmp_path / "train.jsonl", labelled(40))
    without = read(tmp_path).sha256
    write(tmp_path / "test.jsonl", labelled(4))
    assert read(tmp_path).sha256 == without
    write(tmp_path / "train.jsonl", labelled(41))
    assert read(tmp_path).sha256 != without


def test_validation_is_drawn_from_train_with_the_shares_of_the_labels(tmp_path):
    write(tmp_path / "all.jsonl", labelled(300, "aab"))
    splits = read(tmp_path, source="all.jsonl", validation_share=0.2, confirm_share=0.25)
    assert splits.counts == {"train": 240, "search": 45, "confirm": 15, "test": 0}
    assert Counter(e["label"] for e in splits.train) == {"a": 160, "b": 80}
    assert Counter(e["label"] for e in splits.search) == {"a": 30, "b": 15}
    texts = [e["text"] for part in (splits.train, splits.search, splits.confirm) for e in part]
    assert len(set(texts)) == 300
    assert "validation is 0.2 of train" in splits.drawn


def test_equal_inputs_stay_on_one_side(tmp_path):
    write(tmp_path / "all.jsonl", [{"prompt": f"prompt {i % 20}", "completion": f"answer {i}"} for i in range(100)])
    splits = read(tmp_path, WORDS, source="all.jsonl", validation_share=0.3)
    sides = [{e["prompt"] for e in part} for part in (splits.train, splits.search, splits.confirm)]
    assert sum(map(len, sides)) == 20
    assert splits.counts["train"] == 70


def test_train_examples_draws_that_many_with_the_shares_of_the_labels():
    splits = read(AGREEMENT, train_examples=300)
    assert Counter(e["label"] for e in splits.train) == {"acceptable": 150, "unacceptable": 150}
    assert splits.search == read(AGREEMENT).search
    with pytest.raises(DataError, match=r"train_examples must be at most the 2400 training examples, it is 2401"):
        read(AGREEMENT, train_examples=2401)


def test_columns_are_renamed_and_pairs_kept(tmp_path):
    rows = [{"s1": f"one {i}", "s2": f"two {i}", "y": i % 2, "idx": i} for i in range(20)]
    write(tmp_path / "train.jsonl", rows)
    splits = read(tmp_path, columns={"text": "s1", "text_pair": "s2", "label": "y"})
    assert all(set(e) == {"text", "text_pair", "label"} for e in splits.train)
    assert splits.labels == ("0", "1")


def test_numeric_labels_sort_as_numbers(tmp_path):
    write(tmp_path / "train.jsonl", [{"text": f"t{i}", "label": i % 11} for i in range(110)])
    assert read(tmp_path).labels == tuple(map(str, range(11)))


def test_regression_takes_numbers_in_text_form_too(tmp_path):
    (tmp_path / "train.csv").write_text("text,label\n" + "".join(f"t{i},{i / 2}\n" for i in range(20)))
    splits = read(tmp_path, NUMBERS)
    assert splits.labels == ()
    assert all(isinstance(e["label"], float) for e in splits.train)


def test_files_named_one_by_one(tmp_path):
    write(tmp_path / "a.jsonl", labelled(20))
    write(tmp_path / "b.jsonl", labelled(10))
    write(tmp_path / "c.jsonl", labelled(6))
    splits = read(tmp_path, source="", train="a.jsonl", validation="b.jsonl", test="c.jsonl")
    assert splits.counts == {"train": 20, "search": 5, "confirm": 5, "test": 6}


def test_unlabelled_test_split_is_left_out(tmp_path):
    write(tmp_path / "train.jsonl", labelled(20))
    write(tmp_path / "test.jsonl", [{"text": "x", "label": None}])
    splits = read(tmp_path)
    assert splits.test == ()
    assert "test has no labels" in splits.drawn


@pytest.mark.parametrize(
    ("bad", "task", "message"),
    [
        ({"txt": "x", "label": "a"}, CLASSES, r"train.jsonl line 7: no column 'text'; did you mean txt\?"),
        ({"text": None, "label": "a"}, CLASSES, r"line 7: text is missing"),
        ({"text": math.nan, "label": "a"}, CLASSES, r"line 7: text is missing"),
        ({"text": 5, "label": "a"}, CLASSES, r"line 7: text must be text, it is the int 5"),
        ({"text": ["x"], "label": "a"}, CLASSES, r"line 7: text must be text, it is the list \['x'\]"),
        ({"text": " ", "label": "a"}, CLASSES, r"line 7: text must not be empty"),
        ({"text": "x", "label": None}, CLASSES, r"line 7: label is missing"),
        ({"text": "x", "label": math.nan}, CLASSES, r"line 7: label is missing"),
        ({"text": "x", "label": ""}, CLASSES, r"line 7: label is missing"),
        (
            {"text": "x", "label": 0.5},
            CLASSES,
            r"line 7: label must be a name or a whole number .* 0.5; task.kind regression takes numbers",
        ),
        ({"text": "x", "label": ["a", "b"]}, CLASSES, r"line 7: label must be a name or a whole number"),
        ({"text": "x", "label": "a"}, NUMBERS, r"line 1: label must be a number for regression, it is 'a'"),
        ({"text": "x", "label": True}, NUMBERS, r"line 1: label must be a number for regression"),
    ],
)
def test_bad_cells(bad, task, message, tmp_path):
    write(tmp_path / "train.jsonl", [*labelled(6), bad])
    with pytest.raises(DataError, match=message):
        read(tmp_path, task)


@pytest.mark.parametrize("value", [True, [1], "two", "inf", {"a": 1}])
def test_bad_numbers(value, tmp_path):
    write(tmp_path / "train.jsonl", [{"text": "x", "label": 1.5}, {"text": "y", "label": value}])
    with pytest.raises(DataError, match=r"line 2: label must be a number for regression"):
        read(tmp_path, NUMBERS)


def test_missing_column_names_near_ones(tmp_path):
    write(tmp_path / "train.jsonl", [{"sentence": "x", "labels": 1}])
    with pytest.raises(DataError, match=r"no column 'label' for label; did you mean labels\?; data.columns can rename"):
        read(tmp_path, columns={"text": "sentence"})


def test_column_of_another_kind(tmp_path):
    with pytest.raises(DataError, match=r"data.columns names 'prompt', but classification uses text, text_pair, label"):
        read(tmp_path, columns={"prompt": "question"})


def test_validation_must_have_the_pairs_that_train_has(tmp_path):
    write(tmp_path / "train.jsonl", [{**row, "text_pair": "p"} for row in labelled(8)])
    write(tmp_path / "validation.jsonl", labelled(8))
    with pytest.raises(DataError, match=r"validation.jsonl has no column 'text_pair'"):
        read(tmp_path)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_labels_unseen_in_training(split, tmp_path):
    write(tmp_path / "train.jsonl", [{"text": f"t{i}", "label": ("positive", "negative")[i % 2]} for i in range(30)])
    write(tmp_path / f"{split}.jsonl", [{"text": "x", "label": "positive"}, {"text": "y", "label": "postive"}])
    with pytest.raises(DataError, match=rf"{split}.jsonl line 2: label 'postive' does not occur in train; did you mean positive\?"):
        read(tmp_path)


def test_too_few_labels(tmp_path):
    write(tmp_path / "train.jsonl", labelled(20, "a"))
    with pytest.raises(DataError, match=r"at least two labels in train, it has only 'a'"):
        read(tmp_path)


def test_splits_that_would_be_empty(tmp_path):
    write(tmp_path / "train.jsonl", labelled(20))
    write(tmp_path / "validation.jsonl", labelled(1))
    with pytest.raises(DataError, match=r"data.confirm_share of 0.5 leaves a split empty: there are 1 examples"):
        read(tmp_path)
    write(tmp_path / "same.jsonl", [{"prompt": "p", "completion": str(i)} for i in range(9)])
    with pytest.raises(DataError, match=r"data.validation_share of 0.15 leaves a split empty.*all with the same input"):
        read(tmp_path, WORDS, source="same.jsonl")
