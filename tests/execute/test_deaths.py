"""What is said of a dead worker is what the system counts, of either kind of control groups, and no more."""

from __future__ import annotations

from pathlib import Path

import pytest

from autopeft.execute.deaths import Deaths
from autopeft.trial import TrialState

COUNTERS = {
    "second kind": ("0::/user/search\n", "sys/fs/cgroup/user/search/memory.events"),
    "second kind, top of a container": ("0::/\n", "sys/fs/cgroup/memory.events"),
    "first kind": ("4:memory:/user\n0::/\n", "sys/fs/cgroup/memory/user/memory.oom_control"),
    "first kind, in a container": ("4:memory:/docker/1f\n", "sys/fs/cgroup/memory/memory.oom_control"),
    "no group": ("", "proc/vmstat"),
}


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize("name", COUNTERS)
def test_each_kill_that_the_system_counts_is_told_once(name: str, tmp_path: Path) -> None:
    group, counter = COUNTERS[name]
    write(tmp_path / "proc/self/cgroup", group)
    write(tmp_path / "proc/vmstat", "pgfault 3\noom_kill 7\n")
    write(tmp_path / counter, "under_oom 0\noom_kill 7\n")
    deaths = Deaths(tmp_path)
    assert deaths.cause(-9) == (TrialState.FAILED, "worker killed by signal 9, not for lack of memory")
    write(tmp_path / counter, "under_oom 0\noom_kill 8\n")
    assert deaths.cause(-9) == (TrialState.INFEASIBLE, "out of memory: worker killed by the system")
    assert deaths.cause(-9)[0] is TrialState.FAILED


def test_where_nothing_is_counted_both_are_possible(tmp_path: Path) -> None:
    assert Deaths(tmp_path).cause(-9) == (
        TrialState.FAILED,
        "worker killed by signal 9, by the system's out-of-memory killer or by someone",
    )


def test_other_ends(tmp_path: Path) -> None:
    assert Deaths(tmp_path).cause(-11) == (TrialState.FAILED, "worker died of signal 11 (SIGSEGV)")
    assert Deaths(tmp_path).cause(3) == (TrialState.FAILED, "worker ended with exit code 3")
