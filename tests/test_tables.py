from __future__ import annotations

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from autopeft import hub
from autopeft.errors import DataError
from autopeft.models.load import resolve_base
from autopeft.spec import resolve
from autopeft.tables import find_splits, read_table

ROWS = [{"text": "one", "label": "a"}, {"text": 'tw"o', "label": "b"}]
TEXTS = {
    "x.jsonl": '{"text": "one", "label": "a"}\n\n{"text": "tw\\"o", "label": "b"}\n',
    "x.json": '[{"text": "one", "label": "a"},\n {"text": "tw\\"o", "label": "b"}]',
    "lines.json": '{"text": "one", "label": "a"}\n{"text": "tw\\"o", "label": "b"}',
    "x.csv": 'text,label\none,a\n"tw""o",b\n',
    "bom.csv": '\ufefftext,label\r\none,a\r\n"tw""o",b\r\n',
    "x.tsv": 'text\tlabel\none\ta\ntw"o\tb\n',
}


@pytest.mark.parametrize("name", TEXTS)
def test_every_text_format_gives_the_same_rows(name, tmp_path):
    (tmp_path / name).write_text(TEXTS[name], encoding="utf-8", newline="")
    assert [dict(row) for row in read_table(tmp_path / name).rows] == ROWS


def test_parquet_gives_the_same_rows(tmp_path):
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "x.parquet")
    table = read_table(tmp_path / "x.parquet")
    assert [dict(row) for row in table.rows] == ROWS
    assert table.places == ("row 1", "row 2")


def test_places_are_lines_of_the_file(tmp_path):
    (tmp_path / "x.jsonl").write_text(TEXTS["x.jsonl"])
    assert read_table(tmp_path / "x.jsonl").places == ("line 1", "line 3")
    (tmp_path / "x.csv").write_text('text,label\n"one\ntwo",a\nthree,b\n')
    assert read_table(tmp_path / "x.csv").places == ("line 3", "line 4")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", b'{"text": "a"}\n{"text": \n', r"x.jsonl line 2: not JSON at column \d+"),
        ("x.jsonl", b'{"text": "a"}\n[1]\n', r"x.jsonl line 2: must be a JSON object, it is '\[1\]'"),
        ("x.jsonl", b"[" * 100_000, r"x.jsonl line 1: JSON that is nested too deeply"),
        ("x.jsonl", b'{"text": "\xff"}', r"x.jsonl: not UTF-8"),
        ("x.jsonl", b"\n \n", r"x.jsonl has no examples"),
        ("x.json", b'[{"text": "a"},\n{]', r"x.json line 2: not JSON"),
        ("x.json", b'[{"text": "a"}, 3]', r"x.json item 2: must be a JSON object, it is '3'"),
        ("x.csv", b"text,label\na\n", r"x.csv line 2: 1 cells where the header has 2"),
        ("x.csv", b'text,label\n"a"b,c\n', r"x.csv line 2: "),
        ("x.csv", b"text,text\na,b\n", r"x.csv line 1: the header names a column twice"),
        ("x.csv", b"text,label\n", r"x.csv has no examples"),
        ("x.parquet", b"not parquet", r"x.parquet: not a Parquet file"),
        ("x.xlsx", b"", r"data file must end in .jsonl, .json, .csv, .tsv, .parquet, it is 'x.xlsx'"),
    ],
)
def test_unreadable_files(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_table(tmp_path / name)


def test_missing_file_names_near_ones(tmp_path):
    (tmp_path / "training.jsonl").write_text("{}")
    with pytest.raises(DataError, match=r"traning.jsonl does not exist; did you mean training.jsonl\?"):
        read_table(tmp_path / "traning.jsonl")


def test_folder_finds_splits_under_their_usual_names(tmp_path):
    for name in ("train.jsonl", "dev.json", "test.jsonl"):
        (tmp_path / name).write_text('{"text": "a"}')
    assert list(find_splits(str(tmp_path), "", tmp_path)) == ["train", "validation", "test"]
    assert list(find_splits(".", "", tmp_path)) == ["train", "validation", "test"]
    (tmp_path / "valid.csv").write_text("text\na\n")
    with pytest.raises(DataError, match=r"more than one validation file: valid.csv, dev.json; keep one"):
        find_splits(".", "", tmp_path)


def test_folder_without_training_file(tmp_path):
    (tmp_path / "trian.jsonl").write_text("{}")
    with pytest.raises(DataError, match=r"must have a file train.*it has trian.jsonl"):
        find_splits(".", "", tmp_path)


def test_source_that_is_nothing(tmp_path):
    with pytest.raises(DataError, match=r"'./no/where' is neither a folder, nor a file, nor a Hugging Face id"):
        find_splits("./no/where", "", tmp_path)
    with pytest.raises(DataError, match=r"nope.csv does not exist"):
        find_splits("nope.csv", "", tmp_path)


def test_hub_that_cannot_be_reached(tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "is_reachable", lambda: False)
    (tmp_path / "agreement").mkdir()
    with pytest.raises(
        DataError, match=r"data set 'agrement': there is no folder .*; did you mean agreement\?; the .* hub cannot be reached"
    ):
        find_splits("agrement", "", tmp_path)


def test_hub_data_set_gives_label_names_and_knows_its_splits(tmp_path, monkeypatch):
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    part = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    hidden = datasets.Dataset.from_dict({"text": ["c"], "label": [-1]}, features=features)
    asked = []

    def load_dataset(name, subset):
        asked.append((name, subset))
        return datasets.DatasetDict({"train": part, "validation": part, "test": hidden, "extra": part})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(hub, "is_reachable", lambda: True)
    tables = find_splits("org/set", "sub", tmp_path)
    assert asked == [("org/set", "sub")]
    assert list(tables) == ["train", "validation", "test"]
    assert [row["label"] for row in tables["train"].rows] == ["yes", "no"]
    assert tables["test"].rows[0]["label"] is None


def test_hub_errors_become_words(tmp_path, monkeypatch):
    def load_dataset(name, subset):
        raise ValueError("BuilderConfig 'x' not found.\nAvailable: ['y']")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(hub, "is_reachable", lambda: True)
    with pytest.raises(DataError, match=r"data set 'org/set' \(x\) cannot be had .*: BuilderConfig 'x' not found. Available: \['y'\]"):
        find_splits("org/set", "x", tmp_path)


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "train.csv").write_text("text,label\na,b\n")
    assert list(find_splits("~/mine", "", tmp_path / "elsewhere")) == ["train"]
    assert resolve("~/mine", tmp_path / "elsewhere") == str(tmp_path / "mine")
    assert resolve_base("~/mine", tmp_path / "elsewhere") == str(tmp_path / "mine")
