"""The example of docs/plugin-example, installed beside autopeft, is found and does what every type does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "docs" / "plugin-example"

USE = """
import json
import tiny, torch
from autopeft.models.roles import find_shape
from autopeft_searchspace.build import adapt, merge
from autopeft_searchspace.configuration import Component, Configuration
from autopeft_searchspace.rules import trainable_parameters
from autopeft_searchspace.settings import build_space

backbone = tiny.build("bert")
shape = find_shape(backbone)
configuration = Configuration((Component("scale", 1, (0, 2), ("q", "ff_in")), Component("lora", 2, (1,), ("v",), {"alpha": 2})), 1e-2)
model = adapt(backbone, configuration, shape, task_type=None)
found = {
    "types": build_space("lora", shape, {"types": ["scale", "lora"]}).types,
    "counted": trainable_parameters(configuration, shape),
    "built": sum(p.numel() for p in model.parameters() if p.requires_grad),
}
with torch.no_grad():
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter += 0.1
    before = model.eval()(**tiny.batch()).last_hidden_state
    merged = merge(model, tiny.batch())
    found["difference"] = float((merged(**tiny.batch()).last_hidden_state - before).abs().max())
print(json.dumps(found))
"""


def test_the_example_is_found_by_its_entry_point(tmp_path: Path) -> None:
    info = tmp_path / "autopeft_scale-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: autopeft-scale\nVersion: 0.1.0\n")
    project = (EXAMPLE / "pyproject.toml").read_text()
    assert 'entry-points."autopeft.adapters"' in project
    (info / "entry_points.txt").write_text("[autopeft.adapters]\nscale = autopeft_scale\n")
    paths = [tmp_path, EXAMPLE, ROOT, ROOT / "searchspace", ROOT / "kernels", ROOT / "tests"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", USE], env=env, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["types"] == ["scale", "lora"]
    assert found["counted"] == found["built"] == 2 * (32 + 48) + 2 * (32 + 32)
    assert found["difference"] < 1e-4
    assert len((EXAMPLE / "autopeft_scale.py").read_text().splitlines()) <= 65
