"""The examples run as their heads say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_base import save_base

from autopeft_searchspace.configuration import Component, Configuration

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]


def run(folder: Path, example: str, *arguments: object) -> str:
    """What the example prints; it runs in `folder`, where `studies` is the repository's."""
    (folder / "studies").symlink_to(ROOT / "studies")
    paths = os.pathsep.join(str(ROOT / part) for part in ("", "searchspace", "kernels"))
    command = [sys.executable, str(ROOT / "examples" / example), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "cache")}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_trainer(tmp_path: Path) -> None:
    assert "after 4 steps" in run(tmp_path, "trainer.py", 4)
    assert (tmp_path / "example-trainer" / "adapter_model.safetensors").stat().st_size > 0


def test_trl(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", "llama", "causal_lm")
    lora, serial = (
        Component("lora", 4, (0, 1), ("q", "v"), {"alpha": 8}),
        Component("serial", 4, (0,), (), {"place": "attention", "bias": True}),
    )
    (tmp_path / "configuration.json").write_text(json.dumps(Configuration((serial, lora), 1e-3).to_json()))
    (tmp_path / "train.jsonl").write_text(json.dumps({"prompt": "a b", "completion": " c"}) + "\n")
    assert "mean training loss" in run(tmp_path, "trl_sft.py", base, "configuration.json", "train.jsonl", 2)
    assert (tmp_path / "example-trl" / "adapter_model.safetensors").stat().st_size > 0
