"""A study of a random model so small that a whole search takes seconds: what tests of faults break."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from tiny_base import WORDS, save_base

from autopeft.storage import DATABASE

ROWS = {"train": 96, "validation": 64, "test": 32}


def tiny_spec(folder: Path, **settings: Any) -> Path:
    """Writes `base/`, `data/` and `study.yaml` into `folder`; returns the spec's path."""
    save_base(folder / "base", "bert")
    (folder / "data").mkdir()
    for split, rows in ROWS.items():
        lines = [{"text": " ".join(WORDS[(i * k) % 20] for k in (1, 3, 7)), "label": "xy"[i * 7 % 20 % 2]} for i in range(rows)]
        (folder / "data" / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    content: dict[str, Any] = {
        "name": "tiny",
        "model": {"base": "base"},
        "task": {"kind": "classification"},
        "data": {"source": "data", "max_length": 16},
        "fidelity": {"steps": 6},
        "training": {"batch_size": 8},
        "seeds": {"replicates": 0},
        "sampler": "random",
        "device": "cpu",
        "workers": 1,
        "budget": "8trials",
        **settings,
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(content), "utf-8")
    return path


def command(spec: Path, study: Path, *more: str) -> list[str]:
    """`autopeft search` as a process of its own would be started."""
    return [sys.executable, "-m", "autopeft", "search", str(spec), "--study", str(study), "--quiet", *more]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}


def run(spec: Path, study: Path, *more: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Search to the end; what it wrote is in the result."""
    given = command(spec, study, *more)
    return subprocess.run(given, env=environment(**variables), capture_output=True, text=True, timeout=1200, check=False)


def is_sound(study: Path) -> bool:
    """Whether the study's database passes SQLite's integrity check."""
    connection = sqlite3.connect(study / DATABASE)
    try:
        return connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    finally:
        connection.close()
