"""What a worker says of model and data once it has loaded them."""

from __future__ import annotations

from pathlib import Path

import tiny_base
import torch
from small import small_spec

from autopeft.execute.workbench import Workbench
from autopeft.spec_file import read_spec


def test_examples_at_the_length_limit_are_counted(tmp_path: Path) -> None:
    base = tiny_base.save_base(tmp_path / "base", "bert")
    path = small_spec(tmp_path, model={"base": str(base)}, data={"source": "data", "max_length": 8})
    bench = Workbench(*read_spec(path, environ={}), "cpu")
    told = bench.prepare(torch.get_num_threads(), calibrate=False)["data"]
    lengths = [e.length for e in bench.train_set]
    assert 0 < told["at_max_length"] == lengths.count(8) < told["counts"]["train"] == len(lengths)
