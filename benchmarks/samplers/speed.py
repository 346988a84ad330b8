"""CPU seconds of one suggestion with so many observations, on one core, imports excluded.

    python benchmarks/samplers/speed.py --problem plain --observations 100 500 --profile

The observations are random configurations; the median of three suggestions after one that warms up.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time

import numpy as np
import optuna
from competitors import make_competitor
from optuna.trial import create_trial
from run import find_problem


def suggestion_seconds(name: str, sampler: str, observations: int, profile: bool = False) -> tuple[float, int]:
    """CPU seconds, and the number of dimensions."""
    problem = find_problem(name, 0)
    domain, rng = problem.domain(), np.random.default_rng(0)
    study = optuna.create_study(directions=problem.directions, sampler=make_competitor(sampler, problem, 0))
    for _ in range(observations):
        point = domain.draw(rng)
        params = domain.to_params(point)
        study.add_trial(
            create_trial(
                values=problem.observe(domain.item(point), rng),
                params=params,
                distributions={key: domain.distributions[key] for key in params},
                user_attrs={"standard_error": problem.noise[0]},
            )
        )
    seconds = []
    with cProfile.Profile(time.process_time) if profile else open("/dev/null") as profiler:  # noqa: PTH123
        for _ in range(4):
            began = time.process_time()
            trial = study.ask()
            problem.suggest(trial)
            seconds.append(time.process_time() - began)
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
    if profile:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(28)
    return float(np.median(seconds[1:])), len(domain.distributions)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problem", default="plain")
    parser.add_argument("--sampler", default="pareto")
    parser.add_argument("--observations", type=int, nargs="+", default=[100, 500])
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for count in arguments.observations:
        seconds, dimensions = suggestion_seconds(arguments.problem, arguments.sampler, count, arguments.profile)
        what = f"{arguments.sampler} on {arguments.problem} ({dimensions} dimensions), {count} observations"
        print(f"{what}: {seconds:.2f} CPU s per suggestion")


if __name__ == "__main__":
    main()
