"""A composed point, trained and saved, gives the same numbers in another process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file

from autopeft.models.roles import find_shape
from autopeft_searchspace.build import adapt
from autopeft_searchspace.configuration import Component, Configuration

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
POINT = Configuration(
    (
        Component("parallel", 4, (0, 1, 2), (), {"place": "feed_forward", "bias": True}),
        Component("lora", 2, (1, 2), ("q", "v"), {"alpha": 4}),
        Component("prefix", 3, (0, 2)),
    ),
    1e-2,
)
NATIVE = Configuration(
    (Component("dora", 2, (1,), ("q", "v")), Component("vblora", 16, (0, 2), ("k",)), Component("oft", 4, (0,), ("q",))), 1e-2
)
AGAIN = """
import sys
import autopeft, tiny, torch
from peft import PeftModel
from safetensors.torch import save_file

model = PeftModel.from_pretrained(tiny.build("bert"), sys.argv[1]).eval()
with torch.no_grad():
    save_file({"hidden": model(**tiny.batch()).last_hidden_state.contiguous()}, sys.argv[2])
"""


@pytest.mark.parametrize("point", [POINT, NATIVE], ids=["own", "native"])
def test_same_numbers_in_a_new_process(point: Configuration, tmp_path: Path) -> None:
    backbone = tiny.build("bert")
    torch.manual_seed(0)
    model = adapt(backbone, point, find_shape(backbone), task_type=None)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=point.learning_rate)
    for _ in range(3):
        model(**tiny.batch()).last_hidden_state.square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        expected = model.eval()(**tiny.batch()).last_hidden_state
    model.save_pretrained(str(tmp_path / "adapter"))
    saved = load_file(str(tmp_path / "adapter" / "adapter_model.safetensors"))
    assert sum(t.numel() for t in saved.values()) <= sum(p.numel() for p in model.parameters() if p.requires_grad)
    threads = str(torch.get_num_threads())  # sums are split by threads: the same count, or the last bits differ
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    arguments = [str(tmp_path / "adapter"), str(tmp_path / "out.safetensors")]
    done = subprocess.run([sys.executable, "-c", AGAIN, *arguments], env=env, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert "missing" not in done.stderr.lower(), done.stderr
    assert torch.equal(load_file(str(tmp_path / "out.safetensors"))["hidden"], expected)
