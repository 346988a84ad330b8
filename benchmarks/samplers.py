"""Compares samplers on made-up fine-tuning problems: true hypervolume of what each has tried.

    python benchmarks/samplers.py --trials 60 --seeds 5 --samplers pareto tpe random

Every sampler of a seed starts from the same head-only baseline and the same stratified start, and
sees noisy quality; what is printed is the median over seeds of the hypervolume of the noise-free values,
on the study's axes, after so many trials. `pareto-trees` is our sampler on trees in the place of the
Gaussian process. Writes results/samplers.csv with machine and versions.
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
from statistics import median
from typing import Any

import botorch
import numpy as np
import optuna
import problems
import torch

from autopeft.samplers import suggest as suggest_module
from autopeft.samplers.initial import initial_design
from autopeft.samplers.pareto import ParetoSampler
from autopeft.samplers.suggest import suggest
from autopeft.trial import Origin
from autopeft_searchspace.configuration import Configuration

INITIAL = 12
RESULTS = Path(__file__).parent / "results" / "samplers.csv"


def run(task: tuple[str, int, int]) -> dict[str, Any]:
    """One search. Hypervolume after each trial, and seconds per suggestion."""
    name, seed, trials_wanted = task
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    sampler, _, surrogate = name.partition("-")
    if surrogate:  # not something a study can choose
        suggest_module.make_sampler = lambda _, space, **settings: ParetoSampler(space, surrogate=surrogate, **settings)  # type: ignore[assignment]
    problem = problems.problem(sampler, seed)
    axes = problem.axes()
    start = [Configuration((), 5e-3), *(problem.space.configuration(v) for v in initial_design(problem.space, INITIAL, seed))]
    trials = [problem.trial(i, c, Origin.INITIAL if i else Origin.BASELINE) for i, c in enumerate(start)]
    seconds = []
    while len(trials) < trials_wanted:
        began = time.process_time()
        configuration = suggest(problem.spec, problem.space, trials, problem.known(), len(trials), axes=axes)
        seconds.append(time.process_time() - began)
        trials.append(problem.trial(len(trials), configuration, Origin.SAMPLER))
    volumes = [axes.hypervolume(problem.true_values(trials[: n + 1])) for n in range(len(trials))]
    return {"sampler": name, "seed": seed, "volumes": volumes, "seconds": float(np.median(seconds))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--samplers", nargs="+", default=["pareto", "pareto-trees", "tpe", "nsga2", "random"])
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    tasks = [(name, seed, arguments.trials) for seed in range(arguments.seeds) for name in arguments.samplers]
    with ProcessPoolExecutor(arguments.processes) as pool:
        runs = list(pool.map(run, tasks))

    marks = [n for n in (INITIAL + 1, 20, 30, 40, 60, 80, 100) if n <= arguments.trials]
    machine = f"{platform.machine()} {os.cpu_count()} cores, {platform.system()}"
    versions = f"python {platform.python_version()}, optuna {optuna.__version__}, botorch {botorch.__version__}, torch {torch.__version__}"
    rows = []
    for name in arguments.samplers:
        mine = [r for r in runs if r["sampler"] == name]
        volumes = {f"hypervolume_after_{n}": round(median(r["volumes"][n - 1] for r in mine), 4) for n in marks}
        cpu = round(median(r["seconds"] for r in mine), 2)
        rows.append(
            {
                "sampler": name,
                "seeds": arguments.seeds,
                **volumes,
                "cpu_seconds_per_suggestion": cpu,
                "machine": machine,
                "versions": versions,
            }
        )
        print(f"{name:14}", *(f"{volume:.3f}" for volume in volumes.values()), f"{cpu:.2f} s")
    with arguments.output.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
