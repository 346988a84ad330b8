"""Many short trials in one search: what the coordinator and its worker grow by, and how long suggestions take.

    python tests/faults/soak.py TRIALS [SAMPLER]

Growth counts from trial 30 on, or 10 with sampler random: by then everything has been imported, the sampler's libraries with its
first model. A line per trial goes to standard error, one of JSON with the figures to standard output.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from small import Quiet
from tiny_study import tiny_spec

from autopeft.coordinator import search
from autopeft.spec_file import read_spec

WARM = {"pareto": 30, "random": 10}
"""Trials before growth is counted, by sampler."""


@dataclass
class Soak:
    """growth in bytes of resident memory, handles: open files more than after warming up. suggestion: from the end of a trial to
    the start of the next, in CPU seconds of all threads; it includes the ledger and Optuna's view of it."""

    trials: int
    coordinator_growth: int
    coordinator_handles: int
    worker_growth: int
    worker_handles: int
    workers: int
    median_suggestion: float
    longest_suggestion: float


class Watch(Quiet):
    """Progress that measures this process and its worker after every trial."""

    def __init__(self) -> None:
        super().__init__()
        self.own: list[tuple[int, int]] = []
        self.workers: dict[int, list[tuple[int, int]]] = {}
        self.waits: list[float] = []
        self._since = 0.0

    def started(self, trial: Any, record: Any) -> None:
        if self._since:
            self.waits.append(time.process_time() - self._since)

    def ended(self, trial: Any, record: Any) -> None:
        super().ended(trial, record)
        self._since = time.process_time()
        self.own.append(_held(os.getpid()))
        for process in _children(os.getpid()):
            self.workers.setdefault(process, []).append(_held(process))
        workers = {process: held[-1] for process, held in self.workers.items()}
        print(f"trial {trial.number}: own {self.own[-1]}, workers {workers}, suggestion {self.waits[-1:]}", file=sys.stderr, flush=True)


def soak(trials: int, folder: Path, sampler: str = "pareto") -> Soak:
    """Run so many trials of a tiny model."""
    path = tiny_spec(folder, budget=f"{trials}trials", sampler=sampler, fidelity={"steps": 2, "rungs": []})
    spec, home = read_spec(path, environ={})
    watch = Watch()
    record = search(spec, home, folder / "study", watch)
    worker, warm = max(watch.workers.values(), key=len), WARM[sampler]
    first = min(warm, len(worker) - 1)
    return Soak(
        trials=len(record.trials),
        coordinator_growth=watch.own[-1][0] - watch.own[warm][0],
        coordinator_handles=watch.own[-1][1] - watch.own[warm][1],
        worker_growth=worker[-1][0] - worker[first][0],
        worker_handles=worker[-1][1] - worker[first][1],
        workers=len(watch.workers),
        median_suggestion=round(median(watch.waits), 3),
        longest_suggestion=round(max(watch.waits), 3),
    )


def _held(process: int) -> tuple[int, int]:
    """(resident bytes, open files) of a process; nothing where it has just ended."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE"), sum(1 for _ in Path(f"/proc/{process}/fd").iterdir())
    except OSError:
        return 0, 0


def _children(process: int) -> list[int]:
    return [int(number) for number in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


if __name__ == "__main__":
    print(json.dumps(asdict(soak(int(sys.argv[1]), Path(tempfile.mkdtemp(prefix="autopeft-soak-")), *sys.argv[2:3]))))
