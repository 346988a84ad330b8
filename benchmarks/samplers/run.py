"""Runs samplers on problems and keeps the raw curves; what is done already is not done again.

    python benchmarks/samplers/run.py --problems peft plain hpolib-protein_structure --samplers pareto tpe random \
        --seeds 10 --trials 100 --jobs 2

`peft`, `faint`, `autopeft` and `plain` are families: seed s runs on instance s modulo 5 (`peft/20`: 20 + s modulo 5).
One row of curves.csv is one run: true hypervolume after each trial, CPU seconds of each suggestion (median, and the largest of the last
ten), machine and versions. `summary.py` makes the tables and the plot of README.md from it.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from adapters import adapters
from competitors import is_ours, make_competitor
from plain import plain
from problem import Problem

CURVES = Path(__file__).parent / "curves.csv"
FAMILIES = ("peft", "faint", "autopeft", "plain")
INSTANCES = 5
KEY = ("problem", "sampler", "seed")


def find_problem(name: str, seed: int) -> Problem:
    family, _, first = name.partition("/")
    if family in FAMILIES:
        instance = int(first or 0) + seed % INSTANCES
        return plain(instance) if family == "plain" else adapters(family, instance)
    if "-" in name:
        from tables import table

        return table(*name.split("-", 1))
    from functions import function

    return function(name)


def run(task: tuple[str, str, int, int]) -> dict[str, Any]:
    """One run: (problem, sampler, seed, trials)."""
    name, sampler, seed, trials = task
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    problem, raw = find_problem(name, seed), is_ours(sampler)
    study = optuna.create_study(
        directions=problem.directions if raw else ["maximize"] * len(problem.directions), sampler=make_competitor(sampler, problem, seed)
    )
    rng, seconds = np.random.default_rng([seed, 5]), list[float]()
    truths: list[Any] = []
    volumes: list[float] = []
    for _ in range(trials):
        began = time.process_time()
        trial = study.ask()
        item = problem.suggest(trial)
        seconds.append(time.process_time() - began)
        values = problem.observe(item, rng)
        if raw and problem.noise[0]:
            trial.set_user_attr("standard_error", problem.noise[0])
        study.tell(trial, values if raw else problem.axes.points([values])[0].tolist())
        truths.append(problem.truth(item))
        volumes.append(problem.axes.hypervolume(truths))
    return {
        "problem": name,
        "sampler": sampler,
        "seed": seed,
        "instance": problem.name,
        "volumes": " ".join(f"{v:.5f}" for v in volumes),
        "seconds_median": f"{np.median(seconds[10:]):.3f}",
        "seconds_last_ten": f"{max(seconds[-10:]):.3f}",
        "machine": f"{platform.machine()}, {platform.system()}",
        "versions": f"python {platform.python_version()}, optuna {optuna.__version__}, numpy {np.__version__}",
    }


def done(path: Path, trials: int) -> set[tuple[str, ...]]:
    """Keys of the runs that have as many trials."""
    if not path.exists():
        return set()
    with path.open(newline="") as file:
        return {tuple(row[k] for k in KEY) for row in csv.DictReader(file) if len(row["volumes"].split()) >= trials}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", default=["peft", "plain"])
    parser.add_argument("--samplers", nargs="+", default=["pareto", "tpe", "random"])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--output", type=Path, default=CURVES)
    arguments = parser.parse_args()
    have = done(arguments.output, arguments.trials)
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    tasks = [(p, s, seed, arguments.trials) for seed in seeds for p in arguments.problems for s in arguments.samplers]
    tasks = [t for t in tasks if (t[0], t[1], str(t[2])) not in have]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(arguments.jobs) as pool:
        for row in map(run, tasks) if arguments.jobs == 1 else pool.map(run, tasks):
            new = not arguments.output.exists()
            with arguments.output.open("a", newline="") as file:
                writer = csv.DictWriter(file, list(row))
                if new:
                    writer.writeheader()
                writer.writerow(row)
            print(row["problem"], row["sampler"], row["seed"], row["volumes"].split()[-1], row["seconds_median"], flush=True)


if __name__ == "__main__":
    main()
