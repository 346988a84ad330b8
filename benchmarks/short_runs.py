"""What benchmarks of single short fine-tunes share: a run, its accuracy on the whole validation split, rows on disk."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autopeft.execute.workbench import Workbench
from autopeft.trial import Observation, TrialSpec
from autopeft_searchspace.configuration import Configuration


def train(bench: Workbench, configuration: Configuration, seed: int, steps: int) -> tuple[str, dict[str, float]]:
    """Outcome in words, and what was measured at the end; nothing where the run gave no result."""
    seen: list[Observation] = []
    outcome = bench.run(TrialSpec(0, configuration, seed, (steps,)), lambda observation: seen.append(observation) is None)
    if not seen:
        return f"{outcome.state} {outcome.reason}", {}
    return outcome.state.value, {name: m.value for name, m in seen[-1].measurements.items()}


def accuracy(bench: Workbench, measured: Mapping[str, float]) -> float:
    """Over both halves of the validation split."""
    halves = len(bench.search_set), len(bench.confirm_set)
    return (measured["search.accuracy"] * halves[0] + measured["confirm.accuracy"] * halves[1]) / sum(halves)


def rows_of(path: Path) -> list[dict[str, str]]:
    """Rows that are there."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def done(path: Path, key: Sequence[str]) -> set[tuple[str, ...]]:
    """Keys of the rows that are there."""
    return {tuple(row[name] for name in key) for row in rows_of(path)}


def append(path: Path, fields: Sequence[str], row: Mapping[str, Any]) -> None:
    new = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fields)
        if new:
            writer.writeheader()
        writer.writerow(row)
