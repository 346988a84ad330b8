"""Full training of a pick: seeds, intervals, and an adapter that plain peft loads."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from peft import PeftModel
from safetensors.torch import load_file, save_file
from small import Quiet
from transformers import AutoModel, AutoTokenizer

from autopeft import adapter_files
from autopeft.errors import AutopeftError, SpecError
from autopeft.models.load import resolve_base
from autopeft.record import read
from autopeft.statistics import Estimate
from autopeft.train import FIRST_SEED, train
from autopeft.train_result import TrainResult, comparison, note_comparison, paired_difference
from autopeft.trial import Measurement
from autopeft_searchspace.build import save


def result(trial: int, scores: dict[int, list[float]]) -> TrainResult:
    tests = {seed: Measurement(sum(s) / len(s)) for seed, s in scores.items()}
    return TrainResult(trial, "accuracy", 1, tests, Estimate(0, 0, 0), scores, {}, "", "recipe")


def test_a_paired_difference_by_hand() -> None:
    """Gaps per example and seed: seed 1 (1, 0, 0, 1), seed 2 (1, 0, 0, 0): means .5 and .25."""
    first = result(1, {1: [1, 1, 0, 1], 2: [1, 1, 0, 0]})
    second = result(2, {1: [0, 1, 0, 0], 2: [0, 1, 0, 0]})
    gap = paired_difference(first, second)
    assert gap.value == pytest.approx(0.375)
    examples = 1.959964 * math.sqrt(sum((g - 0.375) ** 2 for g in (1, 0, 0, 0.5)) / 3) / 2
    seeds = 12.7062 * (0.25 / math.sqrt(2)) / math.sqrt(2)
    assert gap.half_width == pytest.approx(math.hypot(examples, seeds), rel=1e-4)
    assert "not distinguishable" in comparison(first, second)
    assert "a real difference" in comparison(result(1, {1: [1] * 50, 2: [1] * 50}), result(2, {1: [0] * 50, 2: [0] * 50}))


def test_what_cannot_be_paired_is_refused() -> None:
    with pytest.raises(AutopeftError, match="share no seed"):
        paired_difference(result(1, {1: [1.0]}), result(2, {2: [1.0]}))


def test_a_metric_that_is_no_mean_over_examples_is_compared_by_seed() -> None:
    """Gaps .2 and .1, standard errors .01 on both sides: the t interval over two seeds and the normal one, in squares."""
    tests = [{1: Measurement(0.7, "", 0.01), 2: Measurement(0.6, "", 0.01)}, {1: Measurement(0.5, "", 0.01), 2: Measurement(0.5, "", 0.01)}]
    first, second = (replace(result(n, {1: [1.0], 2: [1.0]}), tests=seeds, per_example={1: [], 2: []}) for n, seeds in enumerate(tests))
    gap = paired_difference(first, second)
    assert gap.value == pytest.approx(0.15)
    assert gap.half_width == pytest.approx(math.hypot(12.7062 * 0.05, 1.959964 * 0.01 * math.sqrt(2)), rel=1e-4)
    assert "(over 2 seeds)" in comparison(first, second)


def test_training_saves_an_adapter_that_plain_peft_loads(small_study: Path, tmp_path: Path) -> None:
    record = read(small_study)
    trial = next(t for t in record.trials if t.label == "LoRA r=8 on q,v")
    trained = train(record, trial, 2, Quiet(), output=tmp_path)
    assert list(trained.tests) == [FIRST_SEED, FIRST_SEED + 1]
    assert trained.estimate.low <= trained.estimate.value <= trained.estimate.high
    assert trained.estimate.value == pytest.approx(sum(m.value for m in trained.tests.values()) / 2)

    base = resolve_base(record.spec.model.base, small_study)
    folder = tmp_path / f"seed-{FIRST_SEED}"
    model = PeftModel.from_pretrained(AutoModel.from_pretrained(base, dtype=torch.float32), str(folder)).eval()
    tokenizer, head = AutoTokenizer.from_pretrained(base), load_file(folder / "head.safetensors")
    labels = json.loads((folder / "head.json").read_text("utf-8"))["labels"]
    lines = (small_study.parent / "source" / "data" / "test.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    tokens = tokenizer([row["text"] for row in rows], padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**tokens).last_hidden_state
    mask = tokens["attention_mask"].unsqueeze(-1)
    logits = (hidden * mask).sum(1) / mask.sum(1) @ head["weight"].T + head["bias"]
    right = [float(labels[i] == row["label"]) for i, row in zip(logits.argmax(1).tolist(), rows, strict=True)]
    assert right == trained.per_example[FIRST_SEED]

    progress = Quiet()
    assert train(record, trial, 2, progress, output=tmp_path) == trained
    assert any("trained before" in line for line in progress.lines)

    note_comparison(trained, trained, tmp_path)
    merged = train(record, trial, 2, progress, output=tmp_path, merge=True)
    assert list(merged.merged) == list(trained.tests)
    assert json.loads((tmp_path / "result.json").read_text("utf-8"))["against"]["difference"]["value"] == 0
    plain = AutoModel.from_pretrained(merged.merged[FIRST_SEED], dtype=torch.float32).eval()
    with torch.no_grad():
        torch.testing.assert_close(plain(**tokens).last_hidden_state, hidden, atol=1e-4, rtol=1e-4)
    assert (Path(merged.merged[FIRST_SEED]) / "head.safetensors").read_bytes() == (folder / "head.safetensors").read_bytes()

    card = (folder / "README.md").read_text("utf-8")
    front, body = card.removeprefix("---\n").split("---\n", 1)
    (said,) = yaml.safe_load(front)["model-index"]
    assert said["results"][0]["metrics"] == [{"type": "accuracy", "value": round(trained.tests[FIRST_SEED].value, 6)}]
    assert f"| seed {FIRST_SEED}, this adapter | {100 * trained.tests[FIRST_SEED].value:.1f} % |" in body
    assert body.count("```python") == 1


def test_training_on_other_data(small_study: Path, tmp_path: Path) -> None:
    """Other names of columns, other labels; the result says so, and does not count as the study's own test."""
    record = read(small_study)
    rows = [{"sentence": f"{word} is here", "class": word} for word in ("one", "two", "three") for _ in range(8)]
    for name in ("train", "validation", "test"):
        (tmp_path / "other").mkdir(exist_ok=True)
        (tmp_path / "other" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    trial = next(t for t in record.trials if t.label == "LoRA r=8 on q,v")
    trained = train(record, trial, 1, Quiet(), output=tmp_path / "out", epochs=1, data=str(tmp_path / "other"))
    assert (trained.steps, len(trained.per_example[FIRST_SEED])) == (3, 24)
    assert trained.data
    assert json.loads((tmp_path / "out" / f"seed-{FIRST_SEED}" / "head.json").read_text("utf-8"))["labels"] == ["one", "three", "two"]
    assert "On the test split of" in (tmp_path / "out" / f"seed-{FIRST_SEED}" / "README.md").read_text("utf-8")


def test_what_does_not_merge_is_told_before_training(small_study: Path, tmp_path: Path) -> None:
    record = read(small_study)
    for label, said in (("bottleneck 64", "serial cannot be folded into the base weights"), ("head only", "nothing to merge")):
        trial = next(t for t in record.trials if t.label == label)
        with pytest.raises(SpecError, match=said):
            train(record, trial, 1, Quiet(), output=tmp_path, merge=True)
    assert not list(tmp_path.iterdir())


def test_an_adapter_that_reads_back_otherwise_is_an_error(small_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save_wrongly(model: PeftModel, folder: str) -> None:
        save(model, folder)
        path = f"{folder}/adapter_model.safetensors"
        save_file({name: tensor + 1 for name, tensor in load_file(path).items()}, path)

    monkeypatch.setattr(adapter_files, "save", save_wrongly)
    record = read(small_study)
    trial = next(t for t in record.trials if t.label == "LoRA r=8 on q,v")
    with pytest.raises(AutopeftError, match="gives other outputs than were trained: they differ by up to"):
        train(record, trial, 1, Quiet(), output=tmp_path)
