"""Breaks searches in every way that is promised to be harmless, and writes what was lost to `README.md` beside it.

    make faults

Each search is of a random model of a few thousand weights, so that it takes seconds; three at a time. About a quarter
of an hour on two cores. `python tests/faults/table.py NAME ...` runs those whose name starts so.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import astuple
from datetime import UTC, datetime
from pathlib import Path

from breaking import FAULTS
from victim import Damage

TABLE = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- table -->\n", "<!-- end of table -->\n"
AT_ONCE = 3
"""Searches; most of the time one of them waits."""
COLUMNS = (
    "fault",
    "injected",
    "trials lost",
    "left RUNNING",
    "repeated",
    "over budget",
    "unsound databases",
    "processes left",
    "memory kept",
    "broken promises",
)


def main(names: list[str]) -> int:
    """All faults, or those whose name starts with one of `names`; 1 where something was lost."""
    rows, harmless = [], True
    with ThreadPoolExecutor(AT_ONCE) as pool:
        wanted = [name for name in FAULTS if not names or name.startswith(tuple(names))]
        for done in as_completed([pool.submit(_break, name) for name in wanted]):
            name, damage, told = done.result()
            harmless &= damage.none
            rows.append(f"| {' | '.join(map(str, (name, *astuple(damage))))} |")
            print(rows[-1], told, flush=True)
            _write(rows)
    return 0 if harmless else 1


def _break(name: str) -> tuple[str, Damage, str]:
    """(fault, what it cost, seconds and where to look); the folder stays where something was lost."""
    start, folder = time.monotonic(), Path(tempfile.mkdtemp(prefix="autopeft-faults-"))
    damage = FAULTS[name](folder)
    if damage.none:
        shutil.rmtree(folder)
    return name, damage, f"{time.monotonic() - start:.0f} s" + ("" if damage.none else f", see {folder}")


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
