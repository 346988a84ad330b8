"""A tiny study that is searched in processes of its own, broken, and looked over afterwards."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from faulty_worker import KEPT
from tiny_study import command, environment, is_sound, tiny_spec

from autopeft import storage
from autopeft.errors import AutopeftError
from autopeft.execute import LOG
from autopeft.record import read
from autopeft.storage import DATABASE
from autopeft.trial import Trial, TrialState

PATIENCE_SECONDS = 1200.0


@dataclass
class Damage:
    """What faults cost, counted over all injections; everything but `injected` is to be 0.

    lost: trials that had ended and are gone or changed. running: left RUNNING after the last resumption.
    repeated: trials of a configuration that was tried before. overrun: trials beyond the budget.
    unsound: databases that fail SQLite's integrity check. left: processes that outlive the search.
    kept: trials after which their worker held more memory than before (`faulty_worker`).
    wrong: ends of a search, or reasons of a trial, other than those that are promised.
    """

    injected: int = 0
    lost: int = 0
    running: int = 0
    repeated: int = 0
    overrun: int = 0
    unsound: int = 0
    left: int = 0
    kept: int = 0
    wrong: int = 0

    @property
    def none(self) -> bool:
        return not any(getattr(self, field.name) for field in fields(self) if field.name != "injected")


def is_kept(before: Trial, after: Trial | None) -> bool:
    """Whether what was known of a trial that had ended still is. Later runs may add to it: replicates, and the
    rest of one that had been stopped early."""
    if after is None or before.configuration != after.configuration:
        return False
    went_on = before.state is TrialState.EARLY_STOPPED and after.state in (TrialState.RUNNING, TrialState.COMPLETE)
    return (before.state is after.state or went_on) and all(o in after.observations for o in before.observations)


class Victim:
    """folder: an empty one, for spec, data, model and study. settings: of the spec."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.spec, self.study = tiny_spec(folder, **settings), folder / "study"
        self.log = folder / "search.log"
        self.damage = Damage()
        self._mark = uuid.uuid4().hex
        self._known: dict[int, Trial] = {}

    def start(
        self, *more: str, faults: str = "", group: Path | None = None, variables: Mapping[str, str] = MappingProxyType({})
    ) -> subprocess.Popen[bytes]:
        """A search in the background. faults: of its workers (`faulty_worker`). group: control group that it is put into.
        variables: of its environment."""
        given = command(self.spec, self.study, *more)
        if faults:
            given = [sys.executable, str(Path(__file__).with_name("faulty_search.py")), faults, *given[given.index("search") + 1 :]]
        if group:
            given = ["sh", "-c", 'echo $$ > "$0"/cgroup.procs && exec "$@"', str(group), *given]
        with self.log.open("ab") as log:
            return subprocess.Popen(given, env=environment(VICTIM=self._mark, **variables), stdout=log, stderr=log, start_new_session=True)

    def run(self, *more: str, faults: str = "", group: Path | None = None) -> int:
        """Search to the end; the exit code."""
        return self.start(*more, faults=faults, group=group).wait(PATIENCE_SECONDS)

    def trials(self) -> tuple[Trial, ...]:
        """What the study holds now; nothing where it is not made yet."""
        try:
            return read(self.study).trials if storage.exists(self.study) else ()
        except AutopeftError:
            return ()

    def ended(self) -> int:
        """Trials that have ended so far; asked often, and so of the database itself."""
        try:
            with closing(sqlite3.connect(f"{(self.study / DATABASE).as_uri()}?mode=ro", uri=True, timeout=30)) as connection:
                return int(connection.execute("SELECT count(*) FROM autopeft_trials WHERE state != 'RUNNING'").fetchone()[0])
        except sqlite3.OperationalError:  # not made yet
            return 0

    def wait(self, until: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
        """Until something holds or the search has ended."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while process.poll() is None and not until():
            if time.monotonic() > deadline:
                raise TimeoutError(f"the search got no further; see {self.log}")
            time.sleep(0.1)

    def processes(self, *, workers: bool = False) -> list[int]:
        """Living processes of the searches, or only their workers."""
        found = []
        for folder in Path("/proc").iterdir():
            try:
                if folder.name.isdigit() and f"VICTIM={self._mark}".encode() in (folder / "environ").read_bytes():
                    line = (folder / "cmdline").read_bytes()
                    dead = (folder / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
                    if not dead and (not workers or any(name in line for name in (b"autopeft.execute.worker", b"faulty_worker.py"))):
                        found.append(int(folder.name))
            except OSError:
                continue
        return found

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """SIGKILL for the coordinator alone."""
        process.send_signal(signal.SIGKILL)
        process.wait()

    def kill_worker(self, chance: random.Random) -> bool:
        """SIGKILL for one worker; False where none lives."""
        workers = self.processes(workers=True)
        if workers:
            os.kill(chance.choice(workers), signal.SIGKILL)
        return bool(workers)

    def look(self) -> None:
        """After a fault and the end of the search: no process is left, the database is sound, and all
        that had ended when we looked last is there."""
        deadline = time.monotonic() + 10
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.1)
        self.damage.left += len(left)
        for process in left:
            os.kill(process, signal.SIGKILL)
        if not storage.exists(self.study):
            return
        self.damage.unsound += not is_sound(self.study)
        now = {t.number: t for t in self.trials()}
        self.damage.lost += sum(not is_kept(trial, now.get(number)) for number, trial in self._known.items())
        self._known = {number: t for number, t in now.items() if t.state.finished}

    def finish(self, trials: int) -> None:
        """Resume with a budget of so many trials, and look at the whole study."""
        self.expect(self.run("--budget", f"{trials}trials") == 0)
        self.look()
        now = self.trials()
        self.damage.kept += (self.study / LOG).read_text("utf-8").count(KEPT)
        self.damage.running += sum(not t.state.finished for t in now)
        self.damage.overrun += max(0, len(now) - trials)
        self.damage.wrong += max(0, trials - len(now))
        self.damage.repeated += sum(count - 1 for count in Counter(t.configuration.key for t in now).values())

    def expect(self, promise: bool) -> None:
        self.damage.wrong += not promise
