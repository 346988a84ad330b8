"""Results as CSV, each row with the machine and the versions that gave it."""

from __future__ import annotations

import csv
import os
import platform
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from autopeft.device import RECORDED_PACKAGES, device_name

RESULTS = Path(os.environ.get("BENCHMARK_RESULTS") or Path(__file__).parents[1] / "results")
REPEATS = 5


def write(name: str, rows: Sequence[dict[str, Any]], device: torch.device, *, in_words: bool = True) -> None:
    """results/<name>-<device>.csv anew, and the rows in words."""
    _path(name, device).unlink(missing_ok=True)
    add(name, rows, device, in_words=in_words)


def add(name: str, rows: Sequence[dict[str, Any]], device: torch.device, *, in_words: bool = True) -> None:
    """Rows at the end of results/<name>-<device>.csv, and in words. `BENCHMARK_RESULTS` names another folder."""
    where = {"device": device_name(device), "python": platform.python_version(), **{name: version(name) for name in RECORDED_PACKAGES}}
    path = _path(name, device)
    path.parent.mkdir(parents=True, exist_ok=True)
    first = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*rows[0], *where], lineterminator="\n")
        if first:
            writer.writeheader()
        writer.writerows({**row, **where} for row in rows)
    if not in_words:
        return
    for row in rows:
        print("  ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()))
    print(f"{len(rows)} rows -> {path}")


def version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # it is on the path, or nothing that was measured needs it
        return "not installed"


def read(name: str, device: torch.device) -> list[dict[str, str]]:
    """Rows of results/<name>-<device>.csv."""
    with _path(name, device).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _path(name: str, device: torch.device) -> Path:
    return RESULTS / f"{name}-{device.type}.csv"


def each_seconds(run: Callable[[], object], device: torch.device) -> list[float]:
    """Of `REPEATS` calls after two that warm up."""
    found = []
    for _ in range(REPEATS + 2):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(time.perf_counter() - start)
    return found[2:]
