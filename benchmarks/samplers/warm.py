"""What an earlier study saves, and what a misleading one costs.

    python benchmarks/samplers/warm.py [--seeds 10] [--trials 40]

A study with `ParetoSampler` is run cold; warm from a study of a related task with as many trials; and warm from the same
study with its qualities turned upside down, which misleads as much as can be. Related tasks are tables of the same networks
trained on other data by others (`tables.py`). Per run one row of warm.csv: the true hypervolume after each trial. Printed,
per pair of tasks: trials until the warm study reaches what the cold one has at its end, and the hypervolume of the misled
one as a share of the cold one's, after 20, 30 and all trials: medians over seeds with 90 % bootstrap intervals.
"""

from __future__ import annotations

import argparse
import csv
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import optuna
from problem import Problem
from run import find_problem

from autopeft.samplers import ParetoSampler
from autopeft.samplers.earlier import Results

PAIRS = (
    ("hpolib-protein_structure", "hpolib-slice_localization"),
    ("hpolib-slice_localization", "hpolib-protein_structure"),
    ("nasbench-cifar10", "nasbench-imagenet"),
    ("nasbench-imagenet", "nasbench-cifar10"),
)
RESULTS = Path(__file__).parent / "warm.csv"
STARTS = ("cold", "related", "misleading")


def search(problem: Problem, earlier: Sequence[Results], seed: int, trials: int) -> tuple[list[float], Results]:
    """True hypervolume after each trial, and what the study found of its uncertain objective, the first."""
    sampler = ParetoSampler(problem.space, known=problem.known, axes=problem.axes, earlier=earlier, seed=seed)
    study, rng = optuna.create_study(directions=problem.directions, sampler=sampler), np.random.default_rng([seed, 5])
    truths, volumes = [], []
    for _ in range(trials):
        trial = study.ask()
        item = problem.suggest(trial)
        study.tell(trial, problem.observe(item, rng))
        truths.append(problem.truth(item))
        volumes.append(problem.axes.hypervolume(truths))
    return volumes, [(t.params, t.values[0]) for t in study.trials]


def runs(pair: tuple[str, str], seed: int, trials: int) -> list[dict[str, object]]:
    source, target = (find_problem(name, seed) for name in pair)
    _, found = search(source, (), seed + 100, trials)
    middle = 2 * float(np.mean([value for _, value in found]))
    earlier = {"cold": (), "related": (found,), "misleading": ([(params, middle - value) for params, value in found],)}
    curves = {start: search(target, earlier[start], seed, trials)[0] for start in STARTS}
    return [
        {"source": pair[0], "target": pair[1], "start": start, "seed": seed, "volumes": " ".join(f"{v:.5f}" for v in curve)}
        for start, curve in curves.items()
    ]


def interval(values: Sequence[float]) -> str:
    draws = np.median(np.random.default_rng(0).choice(np.asarray(values, dtype=float), (2000, len(values))), axis=1)
    low, high = np.quantile(draws, [0.05, 0.95])
    return f"{np.median(values):.2f} ({low:.2f}-{high:.2f})"


def summary(rows: Sequence[dict[str, str]]) -> list[str]:
    lines = []
    for pair in dict.fromkeys((r["source"], r["target"]) for r in rows):
        own = [r for r in rows if (r["source"], r["target"]) == pair]
        cold, related, misled = ({r["seed"]: np.array(r["volumes"].split(), float) for r in own if r["start"] == s} for s in STARTS)
        length = min(map(len, cold.values()))
        reached = [np.append(np.flatnonzero(related[s] >= cold[s][-1]), length)[0] + 1 for s in cold]
        shares = [interval([misled[s][n - 1] / cold[s][n - 1] for s in cold]) for n in (20, 30, length)]
        ahead = interval([related[s][19] / cold[s][19] for s in cold])
        lines.append(
            f"{pair[0]} -> {pair[1]}, {len(cold)} seeds: what a cold study has after {length} trials after {interval(reached)} "
            f"({length + 1}: not at all); hypervolume after 20 trials {ahead} times the cold one's; misled, after 20, 30 and {length}: "
            + ", ".join(shares)
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=40)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rows: list[dict[str, str]] = []
    if RESULTS.exists():
        with RESULTS.open(newline="") as file:
            rows = list(csv.DictReader(file))
    have = {(r["source"], r["target"], r["seed"]) for r in rows}
    for seed in range(arguments.seeds):
        for pair in PAIRS:
            if (*pair, str(seed)) in have:
                continue
            new = [{k: str(v) for k, v in row.items()} for row in runs(pair, seed, arguments.trials)]
            with RESULTS.open("a", newline="") as file:
                writer = csv.DictWriter(file, list(new[0]))
                if not rows:
                    writer.writeheader()
                writer.writerows(new)
            rows += new
    print("\n".join(summary(rows)))


if __name__ == "__main__":
    main()
