"""Everything that needs a CUDA device, one after another: the tests marked `gpu`, then the tables of `benchmarks/`.

    python benchmarks/gpu.py [--only tests memory ...]

Needs no network: the base model comes from an installed package, larger shapes have random weights. Each part writes its
results/<name>-cuda.csv, whose rows name the device and versions, and results/gpu/<part>.log; a part that fails does not stop
the others. At the end all tables stand in results/gpu/README.md. Exit code 0 where every part ended well, 1 where one
did not, 2 without a CUDA device.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import torch

HERE = Path(__file__).parent
ROOT, RESULTS = HERE.parent, HERE / "results"
STUDY = "studies/agreement-minilm/study.yaml"
PYTHON = sys.executable
PARTS: dict[str, tuple[list[str], str]] = {
    "tests": ([PYTHON, "-m", "pytest", "-m", "gpu"], ""),
    "memory": ([PYTHON, "benchmarks/memory.py", "--device", "cuda"], "memory-minilm-cuda"),
    "kernels": ([PYTHON, "benchmarks/packing/operations.py", "--device", "cuda"], "kernels-cuda"),
    "throughput": ([PYTHON, "benchmarks/packing/throughput.py", "--device", "cuda"], "throughput-cuda"),
    "end-to-end": ([PYTHON, "benchmarks/packing/end_to_end.py", STUDY, "--steps", "150"], "end-to-end-cuda"),
}
"""Name -> command, and the file of results that it writes."""


def run(name: str) -> bool:
    """Whether a part ended well; what it said is in its log."""
    command, _ = PARTS[name]
    print(f"{name}: {' '.join(command[1:])}", flush=True)
    start = time.monotonic()
    with (RESULTS / "gpu" / f"{name}.log").open("w", encoding="utf-8") as log:
        code = subprocess.run(command, cwd=ROOT, env=environment(), stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    print(f"{name}: {'done' if code == 0 else f'exit code {code}'} after {time.monotonic() - start:.0f} s, see {log.name}", flush=True)
    return code == 0


def environment() -> dict[str, str]:
    paths = [str(ROOT), str(ROOT / "kernels"), str(ROOT / "searchspace"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "HF_HUB_OFFLINE": "1"}


def table(path: Path) -> str:
    """A CSV file as Markdown, numbers cut to four digits; columns that are the same in every row stand above it."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    same = [name for name in rows[0] if len({row[name] for row in rows}) == 1]
    names = [name for name in rows[0] if name not in same]
    lines = ["; ".join(f"{name} {rows[0][name]}" for name in same), ""]
    lines += ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    return "\n".join([*lines, *("| " + " | ".join(cut(row[name]) for name in names) + " |" for row in rows)])


def cut(value: str) -> str:
    try:
        return value if value.isdigit() else f"{float(value):.4g}"
    except ValueError:
        return value


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=list(PARTS), choices=list(PARTS))
    given = parser.parse_args()
    if not torch.cuda.is_available():
        print(f"no CUDA device: torch {torch.__version__} sees none, so that nothing can be measured here", file=sys.stderr)
        return 2
    (RESULTS / "gpu").mkdir(parents=True, exist_ok=True)
    well = {name: run(name) for name in given.only}
    found = [(name, RESULTS / f"{PARTS[name][1]}.csv") for name in given.only if PARTS[name][1]]
    parts = [f"## {name}\n\n{table(path)}\n" for name, path in found if path.exists()]
    (RESULTS / "gpu" / "README.md").write_text("\n".join(["# Measured on a GPU\n", *parts]), encoding="utf-8")
    print(f"tables in {RESULTS / 'gpu' / 'README.md'}")
    return 0 if all(well.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
