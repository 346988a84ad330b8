"""Makes the table and the plot of README.md from curves.csv.

    python benchmarks/samplers/summary.py [--search]

Regret is 1 - hypervolume / best hypervolume; what is best is the largest of all runs and of a long search on the
truth (kept in best.csv; `--search` makes what it lacks, minutes per instance). The table has the median over seeds, with a
90 % bootstrap interval of it, and the number of seeds. The longest of several rows of one run counts.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from problem import best_volume
from run import CURVES, find_problem

HERE = Path(__file__).parent
BEST, README, PLOT = HERE / "best.csv", HERE / "README.md", HERE / "regret.svg"
MARKS = (20, 30, 50, 100)
START, END = "<!-- made by summary.py -->\n", "<!-- end -->\n"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
WIDTH, HEIGHT, MARGIN = 300, 220, 40

Runs = dict[tuple[str, str], list[np.ndarray]]


def read_runs(path: Path = CURVES, search: bool = False) -> tuple[Runs, dict[tuple[str, str], list[float]]]:
    """(problem, sampler) -> regret curves, one per seed; and CPU seconds per suggestion."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    longest = {(r["problem"], r["sampler"], r["seed"]): r for r in sorted(rows, key=lambda r: len(r["volumes"]))}
    volumes = {key: np.array(r["volumes"].split(), dtype=float) for key, r in longest.items()}
    best = _best_volumes({r["instance"]: (r["problem"], int(r["seed"])) for r in rows}, search)
    for key, r in longest.items():
        best[r["instance"]] = max(best[r["instance"]], volumes[key][-1])
    runs: Runs = {}
    seconds: dict[tuple[str, str], list[float]] = {}
    for key, r in longest.items():
        runs.setdefault(key[:2], []).append(1 - volumes[key] / best[r["instance"]])
        seconds.setdefault(key[:2], []).append(float(r["seconds_median"]))
    return runs, seconds


def _best_volumes(instances: Mapping[str, tuple[str, int]], search: bool) -> dict[str, float]:
    kept = {}
    if BEST.exists():
        with BEST.open(newline="") as file:
            kept = {r["instance"]: float(r["best"]) for r in csv.DictReader(file)}
    for instance, (problem, seed) in instances.items():
        if search and instance not in kept:
            kept[instance] = best_volume(find_problem(problem, seed))
    with BEST.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["instance", "best"])
        writer.writerows((k, f"{v:.5f}") for k, v in sorted(kept.items()))
    return {instance: kept.get(instance, 0.0) for instance in instances}


def cell(curves: Sequence[np.ndarray], mark: int) -> str:
    found = np.array([c[mark - 1] for c in curves if len(c) >= mark])
    if not len(found):
        return "-"
    draws = np.median(np.random.default_rng(0).choice(found, (2000, len(found))), axis=1)
    low, high = np.quantile(draws, [0.05, 0.95])
    return f"{np.median(found):.3f} ({low:.2f}-{high:.2f})" if len(found) > 2 else f"{np.median(found):.3f}"


def table(runs: Runs, seconds: Mapping[tuple[str, str], Sequence[float]]) -> str:
    lines = ["| problem | sampler | seeds | " + " | ".join(map(str, MARKS)) + " | CPU s |", "|" + "---|" * (len(MARKS) + 4)]
    for problem, sampler in sorted(runs):
        curves = runs[problem, sampler]
        cells = " | ".join(cell(curves, mark) for mark in MARKS)
        lines.append(f"| {problem} | {sampler} | {len(curves)} | {cells} | {np.median(seconds[problem, sampler]):.2f} |")
    return "\n".join(lines) + "\n"


def plot(runs: Runs) -> str:
    """Median regret against trials, one panel per problem, as SVG."""
    problems, samplers = sorted({p for p, _ in runs}), sorted({s for _, s in runs})
    columns = 3
    size = (columns * WIDTH, -(-len(problems) // columns) * HEIGHT + 24)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{size[0]}" height="{size[1]}" font-family="sans-serif" font-size="11">']
    parts.append(f'<rect width="{size[0]}" height="{size[1]}" fill="white"/>')
    for i, sampler in enumerate(samplers):
        parts.append(f'<text x="{20 + 110 * i}" y="14" fill="{COLOURS[i % len(COLOURS)]}">{sampler}</text>')
    for k, problem in enumerate(problems):
        left, top = MARGIN + k % columns * WIDTH, 44 + k // columns * HEIGHT
        wide, high = WIDTH - MARGIN - 20, HEIGHT - 50
        found = {s: _median(runs[problem, s]) for s in samplers if (problem, s) in runs}
        longest, most = max(map(len, found.values())), max(c[9:].max() for c in found.values())
        parts.append(f'<text x="{left}" y="{top - 6}">{problem}: regret, 0 to {most:.2f}, after 10 to {longest} trials</text>')
        parts.append(f'<path d="M{left} {top}V{top + high}H{left + wide}" fill="none" stroke="#888"/>')
        for sampler, curve in found.items():
            xy = [(left + wide * (n - 9) / (longest - 10), top + high * (1 - curve[n] / most)) for n in range(9, len(curve))]
            path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in xy)
            parts.append(f'<path d="{path}" fill="none" stroke="{COLOURS[samplers.index(sampler) % len(COLOURS)]}" stroke-width="1.5"/>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _median(curves: Sequence[np.ndarray]) -> np.ndarray:
    length = min(map(len, curves))
    return np.median([c[:length] for c in curves], axis=0)


def main() -> None:
    runs, seconds = read_runs(search="--search" in sys.argv)
    before, _, rest = README.read_text("utf-8").partition(START)
    after = rest.partition(END)[2]
    README.write_text(before + START + table(runs, seconds) + END + after, "utf-8")
    PLOT.write_text(plot(runs), "utf-8")
    print(table(runs, seconds))


if __name__ == "__main__":
    main()
