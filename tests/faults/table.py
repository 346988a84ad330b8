"""Breaks searches in every way that is promised to be harmless, and writes what was lost to `README.md` beside it.

    make faults

Real processes are killed, a real disk is full, a real lock is held; each search is of a random model of a
few thousand weights, so that it takes seconds. About half an hour on two cores.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import astuple
from datetime import UTC, datetime
from pathlib import Path

from victim import PATIENCE_SECONDS, Damage, Victim

from autopeft.ledger import Ledger
from autopeft.storage import DATABASE
from autopeft.trial import TrialState

KILLS = 20
MANY = "400trials"
TABLE = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- table -->\n", "<!-- end of table -->\n"


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
    "segfault": (TrialState.FAILED, "SIGSEGV"),
    "hang": (TrialState.FAILED, "no sign of life"),
    "nan": (TrialState.INFEASIBLE, "diverged"),
    "error": (TrialState.FAILED, "LookupError: nobody expected this"),
}
"""What becomes of a trial that meets a fault of `faulty_worker`."""


def in_trials(folder: Path, times: int, *names: str) -> Damage:
    """Faults in turn, in every other trial of one search, which is to end by itself, with state and reason told."""
    victim = Victim(folder)
    victim.expect(victim.run("--budget", f"{2 * times}trials", faults=",".join(names)) == 0)
    victim.look()
    for i, trial in enumerate(victim.trials()[1::2]):
        state, reason = PROMISED[names[i % len(names)]]
        victim.damage.injected += 1
        victim.expect(trial.state is state and reason in trial.reason)
    victim.expect(all(t.state in (TrialState.COMPLETE, TrialState.EARLY_STOPPED) for t in victim.trials()[::2]))
    victim.finish(2 * times + 1)
    return victim.damage


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
    """The clock of the search and its worker is set back and forth by hours, through libfaketime."""
    victim, budget = Victim(folder), 2 * times
    setting = folder / "clock"
    setting.write_text("+0\n")
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    clock = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(setting),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    os.environ.update(clock)
    try:
        process = victim.start("--budget", f"{budget}trials,4h")
    finally:
        for name in clock:
            del os.environ[name]
    for jump in range(times):
        more = victim.ended() + 1
        victim.wait(lambda more=more: victim.ended() >= more, process)
        victim.expect(process.poll() is None)
        setting.write_text(["-3h\n", "+9h\n", "-400d\n", "+0\n"][jump % 4])
        victim.damage.injected += 1
    victim.expect(process.wait(PATIENCE_SECONDS) == 0)
    victim.look()
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
COLUMNS = (
    "fault",
    "injected",
    "trials lost",
    "left RUNNING",
    "repeated",
    "over budget",
    "unsound databases",
    "processes left",
    "broken promises",
)


def main(names: list[str]) -> int:
    """All faults, or those whose name starts with one of `names`; 1 where something was lost."""
    rows, harmless = [], True
    for name, fault in FAULTS.items():
        if names and not name.startswith(tuple(names)):
            continue
        start, folder = time.monotonic(), Path(tempfile.mkdtemp(prefix="autopeft-faults-"))
        damage = fault(folder)
        harmless &= damage.none
        rows.append(f"| {' | '.join(map(str, (name, *astuple(damage))))} |")
        print(f"{rows[-1]} {time.monotonic() - start:.0f} s", "" if damage.none else f"see {folder}", flush=True)
        if damage.none:
            shutil.rmtree(folder)
        _write(rows)
    return 0 if harmless else 1


def _write(rows: list[str]) -> None:
    """Put rows into the table in place of earlier ones of the same faults."""
    text = TABLE.read_text("utf-8")
    before, old, after = text.partition(BEGIN)[0], text.partition(BEGIN)[2].partition(END)[0], text.partition(END)[2]
    found = {row.split(" | ")[0].removeprefix("| "): row for row in [*old.splitlines(), *rows] if row.startswith("| ")}
    head = [f"| {' | '.join(COLUMNS)} |", "|---" + "|---:" * (len(COLUMNS) - 1) + "|"]
    made = f"Made {datetime.now(UTC):%Y-%m-%d}, Python {sys.version.split()[0]}, {os.cpu_count()} cores."
    table = "\n".join([*head, *(found[name] for name in FAULTS if name in found), "", made, ""])
    TABLE.write_text("".join([before, BEGIN, table, END, after]), "utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
