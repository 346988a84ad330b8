"""What people get wrong, given to a whole search: each is told with rule, value and near names, exit code
2, before a study exists."""

import json
from pathlib import Path
from typing import Any

import pytest
from small import MINILM, small_spec
from typer.testing import CliRunner

from autopeft.cli import app

ROWS = [{"text": f"sentence {i}", "label": ("good", "bad")[i % 2]} for i in range(40)]


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def refused(folder: Path, *arguments: str) -> str:
    """What a search says that must not start; `folder` stays as it is."""
    before = sorted(folder.rglob("*"))
    result = CliRunner().invoke(app, ["search", *arguments, "--study", str(folder / "study")])
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert sorted(folder.rglob("*")) == before
    return result.stderr


def with_data(folder: Path, **splits: str) -> list[str]:
    (folder / "rows").mkdir()
    for name, text in splits.items():
        (folder / "rows" / f"{name}.jsonl").write_text(text)
    return ["--model", MINILM, "--data", str(folder / "rows"), "--task", "classification", "--device", "cpu", "--quiet"]


@pytest.mark.parametrize(
    ("splits", "said"),
    [
        ({"train": lines([{"txt": r["text"], "label": r["label"]} for r in ROWS])}, "has no column 'text' for text; did you mean txt?"),
        (
            {"train": lines(ROWS), "validation": lines([*ROWS, {"text": "a", "label": "goood"}])},
            "line 41: label 'goood' does not occur in train; did you mean good?",
        ),
        ({"train": lines(ROWS), "validation": ""}, "validation.jsonl has no examples"),
        ({"train": ""}, "train.jsonl has no examples"),
        ({"train": lines(ROWS[:1])}, "classification needs at least two labels in train, it has only 'good'"),
    ],
    ids=["missing column", "label unseen in training", "empty validation", "empty training", "one example"],
)
def test_data(tmp_path: Path, splits: dict[str, str], said: str) -> None:
    assert said in refused(tmp_path, *with_data(tmp_path, **splits))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("model.roles.ff_gate=mlp.gate", "role ff_gate: no linear module 'mlp.gate' in every layer of bert"),
        ("space.change.lora.roles.ff_gate=true", "space: space has no dimension 'lora.roles.ff_gate'; did you mean lora.roles.ff"),
        ("space.change.lora.size=[0, 3]", "dimension 'lora.size' has no value 3"),
        ("space.change.types=[lroa]", "unknown adapter type 'lroa'; did you mean rosa or road or lora?"),
        ("space.change.layers=bit", "layers must be 'bits', 'all' or 'top', it is 'bit'"),
        ("data.columns.labl=x", "data.columns"),
    ],
)
def test_model_and_space(tmp_path: Path, setting: str, said: str) -> None:
    assert said in refused(tmp_path, *with_data(tmp_path, train=lines(ROWS)), "--set", setting)


def test_a_model_folder_without_weights(tmp_path: Path) -> None:
    arguments = with_data(tmp_path, train=lines(ROWS))
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "config.json").write_text('{"model_type": "bert"}')
    assert "has no weights (*.safetensors)" in refused(tmp_path, *arguments, "--model", str(tmp_path / "bare"))


def test_a_misspelt_path_of_the_spec(tmp_path: Path) -> None:
    spec = small_spec(tmp_path, data={"source": "daat"})
    said = refused(tmp_path, str(spec))
    assert "'daat'" in said
    assert "did you mean data?" in said


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"trainnig": {}}, "a study has no setting 'trainnig'; did you mean training?"),
        ({"budget": "9 trails"}, "budget '9 trails' has the unknown unit 'trails'; did you mean trials"),
        ({"objectives": [{"name": "accuracy"}, {"name": "trainable_parameters"}]}, "objectives.0.direction is missing: maximize"),
    ],
)  # fmt: skip
def test_spec(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    spec = small_spec(tmp_path, **settings)
    told = refused(tmp_path, str(spec))
    assert said in told
    assert f"{spec}:" in told
