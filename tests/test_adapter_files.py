"""Saved adapters load the way their README says, and predict what the trained model predicted."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
from tiny_base import load, save_base

from autopeft.adapter_files import save_adapter
from autopeft.models.head import TaskModel
from autopeft.models.roles import find_shape
from autopeft_searchspace.build import adapt
from autopeft_searchspace.configuration import Component, Configuration

LORA = Component("lora", 2, (0, 2), ("q", "v"), {"alpha": 4})
SERIAL = Component("serial", 2, (1,), (), {"place": "feed_forward", "bias": True})


def trained(base: Path, components: tuple[Component, ...], kind: str, head: str) -> tuple[TaskModel, Configuration]:
    """A model with adapters whose weights are random, as if trained."""
    model, _, _ = load(base, kind, model={"head": head})
    configuration = Configuration(components, 1e-3)
    shape = find_shape(model.backbone)
    model.backbone = adapt(model.backbone, configuration, shape, task_type=model.task_type, modules_to_save=model.modules_to_save)
    model.open_head()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.5)
    return model.eval(), configuration


@pytest.mark.parametrize(
    ("components", "architecture", "head", "plain"),
    [
        ((LORA,), "bert", "mean", True),
        ((), "bert", "mean", True),
        ((LORA,), "roberta", "own", True),
        ((LORA, SERIAL), "bert", "mean", False),
        ((LORA, SERIAL), "llama", "own", False),
        ((), "llama", "own", False),
    ],
)
def test_the_code_in_the_readme_predicts_the_same(
    components: tuple[Component, ...], architecture: str, head: str, plain: bool, tmp_path: Path
) -> None:
    base = save_base(tmp_path / "base", architecture, "causal_lm" if architecture in tiny.DECODERS else "none")
    model, configuration = trained(base, components, "classification", head)
    folder = tmp_path / "adapter"
    stored = save_adapter(model, configuration, folder)
    assert bool(stored) == (folder / "adapter_model.safetensors").exists()
    assert not list(tmp_path.glob("*.partial"))
    code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text("utf-8"), re.DOTALL)
    assert code is not None
    assert ("import autopeft" in code[1]) is not plain
    script = code[1].replace("your text", "a b c").replace("print(logits)", "print(logits.flatten().tolist())")
    printed = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=True).stdout
    tokens = model.tokenizer(["a b c"], return_tensors="pt")
    with torch.no_grad():
        expected = model(tokens).flatten().tolist()
    found = [float(number) for number in printed.strip().splitlines()[-1].strip("[]").split(",")]
    assert found == pytest.approx(expected, abs=1e-5)
