"""`make bench-gpu` on a machine without a GPU, and its tables."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.py"


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_gpu", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_says_so_and_fails() -> None:
    ended = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("no CUDA device")
    assert ended.stdout == ""


def test_its_parts_are_scripts_that_are_there(gpu: ModuleType) -> None:
    root = SCRIPT.parents[1]
    for command, _ in gpu.PARTS.values():
        for word in command[1:]:
            assert "/" not in word or (root / word).exists(), word


def test_a_table_says_once_what_is_the_same_everywhere(gpu: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "some.csv").write_text("way,seconds,device\na,1.23456,H\nb,12,H\n", encoding="utf-8")
    assert gpu.table(tmp_path / "some.csv") == "device H\n\n| way | seconds |\n|---|---|\n| a | 1.235 |\n| b | 12 |"
