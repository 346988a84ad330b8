"""Everything that needs a CUDA device, one after another: the tests marked `gpu`, then the tables of `benchmarks/`.

    python benchmarks/gpu.py [--only tests kernels ...] [--seconds 300]
    BENCHMARK_RESULTS=/elsewhere python benchmarks/gpu.py

Needs no network: the base model comes from an installed package, larger shapes have random weights. Each part has a limit of time
(`PARTS`; --seconds: another one for each), at which it is ended with all processes that it started; what it wrote by then stays.
All parts but those `ON_DEMAND` take 25 minutes at most, each by itself less than ten. A part that fails does not stop the others.

Each writes its results/<name>-cuda.csv, whose rows name the device and versions, and results/gpu/<part>.log, whose last line
says how it ended. After each part all tables there are stand in results/gpu/README.md, also those of earlier runs. `BENCHMARK_RESULTS`
names another folder than results. Exit code 0 where every part ended well, 1 where one did not, 2 without a CUDA device.
"""

from __future__ import annotations

import argparse
import csv
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch

HERE = Path(__file__).parent.absolute()
ROOT = HERE.parent
RESULTS = Path(os.environ.get("BENCHMARK_RESULTS") or HERE / "results").absolute()
STUDY = "studies/agreement-minilm/study.yaml"
PYTHON = sys.executable
ROOM = 45
"""Seconds that a part with a limit of its own gets less than what it is given here, to start and to end."""
PATIENCE = 10.0
"""Seconds for a part to end by itself when it is told to."""


@dataclass(frozen=True)
class Part:
    """command: `{seconds}` in it stands for the part's own limit. tables: files of results that it writes."""

    command: tuple[str, ...]
    seconds: float
    tables: tuple[str, ...] = ()


TESTS = (
    "tests/test_gpu.py",
    "tests/kernels/test_kernels.py",
    "tests/test_bench_throughput.py",
    "tests/searchspace/test_prefix_attention.py",
)
"""Files with tests marked `gpu`, by importance: the others may need packages that are not there."""
PYTEST = (PYTHON, "-m", "pytest", *TESTS, "-m", "gpu", "-vv", "-ra", "--tb=short", "-o", "timeout=120", "--continue-on-collection-errors")
THROUGHPUT = (PYTHON, "benchmarks/packing/throughput.py", "--device", "cuda", "--seconds", "{seconds}")
THROUGHPUT_TABLES = ("throughput-summary-cuda", "throughput-cuda")
PARTS: dict[str, Part] = {
    "tests": Part(PYTEST, 240),
    "kernels": Part((PYTHON, "benchmarks/packing/operations.py", "--device", "cuda"), 150, ("kernels-cuda",)),
    "throughput": Part(THROUGHPUT, 560, THROUGHPUT_TABLES),
    "end-to-end": Part(
        (
            *(PYTHON, "benchmarks/packing/end_to_end.py", STUDY, "--device", "cuda", "--ways", "trainer", "packed", "four", "workers"),
            *("--configurations", "16", "--turn", "8", "--steps", "150"),
        ),
        270,
        ("end-to-end-cuda",),
    ),
    "pack-memory": Part((PYTHON, "benchmarks/packing/memory.py", STUDY, "--device", "cuda"), 120, ("pack-memory-cuda",)),
    "memory": Part((PYTHON, "benchmarks/memory.py", "--device", "cuda", "--runs", "40"), 150, ("memory-minilm-cuda",)),
    "throughput-missing": Part((*THROUGHPUT, "--missing"), 560, THROUGHPUT_TABLES),
    "time-to-front": Part(
        (PYTHON, "benchmarks/packing/time_to_front.py", STUDY, "--device", "cuda", "--steps", "188", "--seeds", "0", "--seconds", "240"),
        580,
        ("time-to-front-cuda",),
    ),
}
"""Name -> what is run, by importance."""
ON_DEMAND = ("throughput-missing", "time-to-front")


def run(name: str, limit: float | None = None) -> bool:
    """Whether a part ended well within its limit of time; what it said is in its log."""
    seconds = limit or PARTS[name].seconds
    command = [word.format(seconds=max(1, round(seconds) - ROOM)) if word == "{seconds}" else word for word in PARTS[name].command]
    print(f"{name}: {' '.join(command[1:])}", flush=True)
    start, path = time.monotonic(), RESULTS / "gpu" / f"{name}.log"
    with path.open("w", encoding="utf-8") as log:
        part = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code: int | None = part.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            end(part)
    how = {0: "done", None: "ended at its limit of time"}.get(code, f"exit code {code}")
    with path.open("a", encoding="utf-8") as log:
        log.write(f"\n{how} after {time.monotonic() - start:.0f} s\n")
    print(f"{name}: {how} after {time.monotonic() - start:.0f} s, see {path}", flush=True)
    return code == 0


def end(part: subprocess.Popen[bytes]) -> None:
    """A part and all processes that it started, if any are left."""
    with suppress(ProcessLookupError):
        os.killpg(part.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            part.wait(PATIENCE)
        os.killpg(part.pid, signal.SIGKILL)
    part.wait()


def environment() -> dict[str, str]:
    paths = [str(ROOT), str(ROOT / "kernels"), str(ROOT / "searchspace"), os.environ.get("PYTHONPATH", "")]
    ours = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "BENCHMARK_RESULTS": str(RESULTS)}
    return {**os.environ, **ours, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}


def table(path: Path) -> str:
    """A CSV file as Markdown, numbers cut to four digits; columns that are the same in every row stand above it."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        return "no rows"
    same = [name for name in rows[0] if len({row[name] for row in rows}) == 1]
    names = [name for name in rows[0] if name not in same]
    lines = ["; ".join(f"{name} {rows[0][name]}" for name in same if rows[0][name]), ""]
    lines += ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    return "\n".join([*lines, *("| " + " | ".join(cut(row[name]) for name in names) + " |" for row in rows)])


def cut(value: str) -> str:
    try:
        return value if value.isdigit() else f"{float(value):.4g}"
    except ValueError:
        return value.replace("|", "/")


def machine() -> str:
    """Device, driver and what was compiled for them."""
    versions = f"torch {torch.__version__}, CUDA {torch.version.cuda}"
    with suppress(metadata.PackageNotFoundError):
        versions += f", triton {metadata.version('triton')}"
    with suppress(OSError, subprocess.CalledProcessError):
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        versions += f", driver {subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()[0]}"
    return f"{torch.cuda.get_device_name()}; {versions}"


def write_tables(about: str) -> None:
    """results/gpu/README.md: of each part that has a log or a table, its last words and its tables."""
    lines, written = [f"# Measured on a GPU\n\n{about}\n"], set[str]()
    for name, part in PARTS.items():
        log = RESULTS / "gpu" / f"{name}.log"
        tables = [RESULTS / f"{each}.csv" for each in part.tables if each not in written]
        found = [table(path) for path in tables if path.exists()]
        written |= set(part.tables)
        if log.exists() or found:
            words = (
                [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()] if log.exists() else []
            )
            said = [f"`{words[-2]}`"] if len(words) > 1 else []
            lines.append("\n\n".join([f"## {name}", *said, *words[-1:], *found]) + "\n")
    (RESULTS / "gpu" / "README.md").write_text("\n".join(lines), encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[name for name in PARTS if name not in ON_DEMAND], choices=list(PARTS))
    parser.add_argument("--seconds", type=float, help="limit of each part")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        print(f"no CUDA device: torch {torch.__version__} sees none, so that nothing can be measured here", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the part that runs is ended
    (RESULTS / "gpu").mkdir(parents=True, exist_ok=True)
    about, well = machine(), True
    for name in given.only:
        well = run(name, given.seconds) and well
        write_tables(about)
    print(f"tables in {RESULTS / 'gpu' / 'README.md'}")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
