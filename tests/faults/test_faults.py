"""Faults of the table, a few each; `test_determinism` kills the coordinator. `make faults` injects more, and writes down what was lost."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import breaking
import pytest
from victim import PATIENCE_SECONDS, Damage, Victim

IN_TRIALS = [name for name in breaking.PROMISED if name != "greed"]
FEW: dict[str, Callable[[Path], Damage]] = {
    "worker": partial(breaking.worker_killed, times=2),
    "trials": lambda folder: breaking.in_trials(folder, len(IN_TRIALS), *IN_TRIALS),
    "disk": partial(breaking.full_disk, times=1),
    "system": partial(breaking.killed_for_memory, times=1),
    "database": partial(breaking.locked_database, times=1),
    "clock": partial(breaking.clock_that_jumps, times=3),
    "model": partial(breaking.vanishing_model, times=1),
}


@pytest.mark.timeout(1800)
@pytest.mark.slow
@pytest.mark.parametrize("name", FEW)
def test_nothing_is_lost(name: str, tmp_path: Path) -> None:
    if name == "disk" and not _may_mount():
        pytest.skip("a small file system can be made by root alone")
    if name == "clock" and not shutil.which("cc"):
        pytest.skip("the library that sets the clock needs a C compiler")
    try:
        damage = FEW[name](tmp_path)
    except breaking.NoControlGroup as why:
        pytest.skip(str(why))
    assert damage.injected
    assert damage.none, f"{damage}\n{(tmp_path / 'search.log').read_text('utf-8')[-3000:]}"


@pytest.mark.timeout(1800)
@pytest.mark.slow
def test_no_secret_is_kept(tmp_path: Path) -> None:
    """A token that libraries put into an exception and into what they print is in no file of the study."""
    token, victim = "a-token-of-somebody", Victim(tmp_path)
    assert victim.start("--budget", "2trials", faults="leak", variables={"HF_TOKEN": token}).wait(PATIENCE_SECONDS) == 0
    assert "401 Unauthorized: [redacted]" in victim.trials()[1].reason
    kept = [path for path in victim.study.rglob("*") if path.is_file()]
    assert kept
    assert not [path for path in kept if token.encode() in path.read_bytes()]


def _may_mount() -> bool:
    return os.geteuid() == 0 and bool(int(Path("/proc/self/status").read_text().partition("CapEff:\t")[2].split()[0], 16) >> 21 & 1)
