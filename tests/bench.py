"""A workbench on a tiny random model, for tests of what happens while it trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny_base import save_base

from autopeft import files
from autopeft.execute.workbench import Outcome, Workbench
from autopeft.spec import StudySpec
from autopeft.trial import Observation, TrialSpec
from autopeft_searchspace.configuration import Component, Configuration, Strategy

STEPS = 6


def workbench(folder: Path, architecture: str = "bert", **settings: Any) -> Workbench:
    """Two labels, told by the first word."""
    save_base(folder / "base", architecture)
    for name, rows in (("train", 24), ("validation", 12), ("test", 6)):
        lines = [{"text": f"{'ab'[i % 2]} {'c d ' * (i % 4)}e", "label": "xy"[i % 2]} for i in range(rows)]
        files.write_text(folder / "data" / f"{name}.jsonl", "".join(f"{line}\n".replace("'", '"') for line in lines))
    content = {
        "name": "tiny",
        "model": {"base": "base"},
        "task": {"kind": "classification"},
        "data": {"source": "data", "max_length": 16},
        "training": {"batch_size": 4},
        "device": "cpu",
        "precision": "fp32",
    }
    return Workbench(StudySpec.model_validate({**content, **settings}), folder, "cpu")


def lora(
    strategy: Strategy | None = None, layers: tuple[int, ...] = (0, 1, 2), roles: tuple[str, ...] = ("q", "v"), size: int = 2
) -> Configuration:
    return Configuration((Component("lora", size, layers, roles, {"alpha": size}),), 1e-2, strategy)


def run(bench: Workbench, configuration: Configuration, steps: int = STEPS, **more: Any) -> tuple[Outcome, Observation | None]:
    """A whole run and its last observation."""
    seen: list[Observation] = []
    outcome = bench.run(TrialSpec(0, configuration, 0, (steps,), more.pop("save_to", None)), lambda o: seen.append(o) is None, **more)
    return outcome, seen[-1] if seen else None
