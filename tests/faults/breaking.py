"""Breaks a search in every way that is promised to be harmless; each function injects a fault some times.

Real processes are killed, a real disk is full, a real lock is held. `table` runs all of them.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from victim import PATIENCE_SECONDS, Damage, Victim

from autopeft.ledger import Ledger
from autopeft.storage import DATABASE
from autopeft.trial import TrialState


class NoControlGroup(Exception):
    """Root alone may make one, and not everywhere."""


KILLS = 20
GROUP_BYTES = 3 * 2**30
MANY = "400trials"


def coordinator_killed(folder: Path, times: int = KILLS) -> Damage:
    """SIGKILL at a random moment of start-up, of a trial or between trials; then resumed."""
    victim, chance = Victim(folder), random.Random(1)
    for kill in range(times):
        process = victim.start("--budget", MANY)
        if kill % 4:
            more = victim.ended() + chance.randrange(1, 4)
            victim.wait(lambda more=more: victim.ended() >= more, process)
            time.sleep(chance.uniform(0, 1))
        else:
            time.sleep(chance.uniform(0.5, 15))
        victim.expect(process.poll() is None)  # else it was no kill
        victim.kill(process)
        victim.look()
        victim.damage.injected += 1
    victim.finish(len(victim.trials()) + 2)
    return victim.damage


def worker_killed(folder: Path, times: int = KILLS) -> Damage:
    """SIGKILL of the worker at a random moment, also while it starts; the search goes on by itself."""
    victim, chance, budget = Victim(folder), random.Random(2), 16 + 4 * times
    process = victim.start("--budget", f"{budget}trials")
    while victim.damage.injected < times and process.poll() is None:
        done = victim.ended() + chance.randrange(0, 3)
        victim.wait(lambda done=done: victim.ended() >= done and bool(victim.processes(workers=True)), process)
        time.sleep(chance.uniform(0, 2))
        victim.damage.injected += victim.kill_worker(chance)
    victim.expect(process.wait(PATIENCE_SECONDS) == 0)
    victim.look()
    victim.expect(victim.damage.injected == times)
    victim.finish(budget)
    return victim.damage


PROMISED = {
    "memory": (TrialState.INFEASIBLE, "out of memory"),
    "greed": (TrialState.INFEASIBLE, "out of memory: worker killed by the system"),
    "segfault": (TrialState.FAILED, "SIGSEGV"),
    "hang": (TrialState.FAILED, "no sign of life"),
    "nan": (TrialState.INFEASIBLE, "diverged"),
    "error": (TrialState.FAILED, "LookupError: nobody expected this"),
}
"""What becomes of a trial that meets a fault of `faulty_worker`."""


def in_trials(folder: Path, times: int, *names: str, group: Path | None = None) -> Damage:
    """Faults in turn, in every other trial of one search, which is to end by itself, with state and reason told."""
    victim = Victim(folder)
    victim.expect(victim.run("--budget", f"{2 * times}trials", faults=",".join(names), group=group) == 0)
    victim.look()
    for i, trial in enumerate(victim.trials()[1::2]):
        state, reason = PROMISED[names[i % len(names)]]
        victim.damage.injected += 1
        victim.expect(trial.state is state and reason in trial.reason)
    victim.expect(all(t.state in (TrialState.COMPLETE, TrialState.EARLY_STOPPED) for t in victim.trials()[::2]))
    victim.finish(2 * times + 1)
    return victim.damage


def killed_for_memory(folder: Path, times: int = 5) -> Damage:
    """The system itself kills a worker that takes all memory of its control group; needs the right to make one."""
    with memory_group(GROUP_BYTES) as group:
        return in_trials(folder, times, "greed", group=group)


@contextmanager
def memory_group(most_bytes: int) -> Iterator[Path]:
    """A control group with so much memory, of whichever kind the system has."""
    top = Path("/sys/fs/cgroup")
    first_kind = (top / "memory").is_dir()
    group = (top / "memory" if first_kind else top) / f"autopeft-faults-{os.getpid()}"
    try:
        group.mkdir()
        limit = group / ("memory.limit_in_bytes" if first_kind else "memory.max")
        limit.write_text(f"{most_bytes}\n")
    except OSError as error:
        raise NoControlGroup(f"no control group with a limit of memory can be made here: {error}") from None
    try:
        yield group
    finally:
        group.rmdir()


def full_disk(folder: Path, times: int = 5) -> Damage:
    """The study's folder on a file system without room; then there is room again."""
    victim = Victim(folder)
    victim.study.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", str(victim.study)], check=True)
    filler, chance = victim.study / "filler", random.Random(3)
    try:
        for _ in range(times):
            process = victim.start("--budget", MANY)
            more = victim.ended() + 2
            victim.wait(lambda more=more: victim.ended() >= more, process)
            _fill(filler, leave=chance.randrange(0, 40_000))
            victim.expect(process.wait(PATIENCE_SECONDS) == 2)
            filler.unlink()
            victim.look()
            victim.damage.injected += 1
        victim.finish(len(victim.trials()) + 2)
        for path in victim.study.iterdir():
            path.unlink() if path.is_file() else shutil.rmtree(path)
    finally:
        subprocess.run(["umount", "-l", str(victim.study)], check=True)
    return victim.damage


def _fill(filler: Path, leave: int) -> None:
    """Take all room of a file system but so many bytes."""
    with filler.open("wb") as file:
        try:
            while True:
                os.write(file.fileno(), bytes(2**16))
        except OSError:
            os.ftruncate(file.fileno(), max(0, file.tell() - leave))


def locked_database(folder: Path, times: int = 5) -> Damage:
    """Another process holds the database for some seconds; the search waits and goes on."""
    victim, chance = Victim(folder), random.Random(4)
    process = victim.start("--budget", f"{4 * times}trials")
    for _ in range(times):
        more = victim.ended() + 2
        victim.wait(lambda more=more: victim.ended() >= more, process)
        with sqlite3.connect(victim.study / DATABASE, timeout=30) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            time.sleep(chance.uniform(2, 6))
            connection.rollback()
        victim.damage.injected += 1
    victim.expect(process.wait(PATIENCE_SECONDS) == 0)
    victim.look()
    victim.finish(4 * times)
    return victim.damage


def two_searches(folder: Path, times: int = 5) -> Damage:
    """A second search on a study that runs: exit code 4, and the first is not disturbed."""
    victim = Victim(folder, fidelity={"steps": 400})
    process = victim.start("--budget", MANY)
    victim.wait(lambda: victim.ended() >= 1, process)
    for _ in range(times):
        victim.expect(victim.run() == 4)
        victim.damage.injected += 1
    victim.kill(process)
    victim.look()
    victim.finish(len(victim.trials()) + 1)
    return victim.damage


def clock_that_jumps(folder: Path, times: int = 10) -> Damage:
    """The clock of the search and its worker is set back and forth by hours and more than a year (`jump.c`)."""
    victim, budget = Victim(folder), 2 * times
    clock, library = folder / "clock", folder / "jump.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(Path(__file__).with_name("jump.c"))], check=True)
    clock.write_bytes(bytes(8))
    process = victim.start("--budget", f"{budget}trials,4h", variables={"LD_PRELOAD": str(library), "CLOCK": str(clock)})
    for jump in range(times):
        more = victim.ended() + 1
        victim.wait(lambda more=more: victim.ended() >= more, process)
        victim.expect(process.poll() is None)
        hours = (-3, 9, -400 * 24, 0)[jump % 4]
        with clock.open("r+b") as file:
            file.write((3600 * hours).to_bytes(8, sys.byteorder, signed=True))
        victim.damage.injected += 1
    victim.expect(process.wait(PATIENCE_SECONDS) == 0)
    victim.look()
    victim.expect(max(started := [t.started for t in victim.trials()])[:10] > min(started)[:10])  # else the clock was not set
    victim.finish(budget)
    with Ledger(victim.study, read_only=True) as ledger:
        victim.expect(0 < ledger.fact("environment")["seconds_used"] < 3600)
    return victim.damage


def vanishing_model(folder: Path, times: int = 3) -> Damage:
    """The model's folder vanishes and the worker dies, so that it cannot load it again: exit code 2 with
    the name of the folder; once it is back, the same command goes on."""
    victim, chance = Victim(folder), random.Random(5)
    base, away = folder / "base", folder / "away"
    for _ in range(times):
        process = victim.start("--budget", MANY)
        more = victim.ended() + 1
        victim.wait(lambda more=more: victim.ended() >= more, process)
        base.rename(away)
        victim.kill_worker(chance)
        victim.expect(process.wait(PATIENCE_SECONDS) == 2 and "base" in victim.log.read_text("utf-8").splitlines()[-1])
        away.rename(base)
        victim.look()
        victim.damage.injected += 1
    victim.finish(len(victim.trials()) + 1)
    return victim.damage


FAULTS: dict[str, Callable[[Path], Damage]] = {
    "coordinator killed (SIGKILL)": coordinator_killed,
    "worker killed (SIGKILL)": worker_killed,
    "out of memory in a trial": lambda folder: in_trials(folder, 8, "memory"),
    "out of memory, killed by the system": killed_for_memory,
    "segmentation fault in a trial": lambda folder: in_trials(folder, 5, "segfault"),
    "trial that hangs": lambda folder: in_trials(folder, 5, "hang"),
    "loss that is not a number": lambda folder: in_trials(folder, 8, "nan"),
    "unexpected exception in a trial": lambda folder: in_trials(folder, 8, "error"),
    "full disk": full_disk,
    "database locked by another process": locked_database,
    "second search on the same study": two_searches,
    "clock set back and forth": clock_that_jumps,
    "model folder that vanishes": vanishing_model,
}
