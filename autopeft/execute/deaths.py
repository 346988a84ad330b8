"""Why a process ended: its exit code, and what Linux counts of the processes that it ends for lack of memory."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

from autopeft.trial import TrialState

SYSTEM = Path("/")


class Deaths:
    """Tells how workers ended; made before the first is started.

    root: the file system in which counters are looked for.
    """

    def __init__(self, root: Path = SYSTEM) -> None:
        self._root = root
        self._known = _kills_for_memory(root)

    def cause(self, code: int) -> tuple[TrialState, str]:
        """State and reason of a trial whose worker ended with an exit code, below 0 that of a signal.

        Signal 9 is out of memory where the system counts one more process that it ended for that; each counts once.
        """
        if code == -signal.SIGKILL:
            now = _kills_for_memory(self._root)
            if now is None or self._known is None:
                return TrialState.FAILED, "worker killed by signal 9, by the system's out-of-memory killer or by someone"
            if now > self._known:
                self._known += 1
                return TrialState.INFEASIBLE, "out of memory: worker killed by the system"
            return TrialState.FAILED, "worker killed by signal 9, not for lack of memory"
        if code < 0:
            return TrialState.FAILED, f"worker died of signal {-code} ({signal.Signals(-code).name})"
        return TrialState.FAILED, f"worker ended with exit code {code}"


def _kills_for_memory(root: Path) -> int | None:
    """How many processes of this control group were ended for lack of memory, or of the machine where the group has
    no counter; None where the system does not tell."""
    for path in _counters(root):
        try:
            lines = [line.split() for line in path.read_text("utf-8").splitlines()]
        except OSError:
            continue
        for line in lines:
            if line[:1] == ["oom_kill"]:
                return int(line[1])
    return None


def _counters(root: Path) -> Iterator[Path]:
    """Files that may hold a counter `oom_kill`, the narrowest first. In a container the group's own path may stand
    for the top of what is mounted."""
    groups = root / "sys" / "fs" / "cgroup"
    try:
        lines = (root / "proc" / "self" / "cgroup").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            folder, name = groups, "memory.events"
        elif controllers == "memory":
            folder, name = groups / "memory", "memory.oom_control"
        else:
            continue
        yield folder / path.lstrip("/") / name
        yield folder / name
    yield root / "proc" / "vmstat"
