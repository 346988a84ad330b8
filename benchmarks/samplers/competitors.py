"""Samplers by the names of this benchmark.

    pareto          ParetoSampler, its Gaussian process; computed objectives given as functions
    pareto-MODEL    the same with another surrogate
    pareto-q4       the same, four trials asked in a row without each other's results
    pareto-blind    the same, every objective learnt as the competitors must
    random tpe tpe-multivariate nsga2 gp    Optuna's; NSGA-II with a population of 10, since 50 would be random
    botorch         BoTorchSampler of optuna-integration

Ours see raw values and the axes of the hypervolume; the others see the values on these axes (log
parameters, log loss, all maximised), so that none has to find the scale out.
"""

from __future__ import annotations

import warnings
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from problem import Problem

from autopeft.samplers import ParetoSampler

SLOW = ("gp", "botorch")


def is_ours(name: str) -> bool:
    return name.startswith("pareto")


def make_competitor(name: str, problem: Problem, seed: int) -> BaseSampler:
    own, _, variant = name.partition("-")
    if own == "pareto":
        settings: dict[str, Any] = {"known": problem.known, "axes": problem.axes, "conditions": problem.conditions, "seed": seed}
        if variant == "blind":
            settings["known"] = {}
        elif variant == "q4":
            settings["batch"] = 4
        elif variant:
            settings["surrogate"] = variant
        return ParetoSampler(problem.space, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        match name:
            case "random":
                return optuna.samplers.RandomSampler(seed=seed)
            case "tpe":
                return optuna.samplers.TPESampler(seed=seed)
            case "tpe-multivariate":
                return optuna.samplers.TPESampler(multivariate=True, group=True, seed=seed)
            case "nsga2":
                return optuna.samplers.NSGAIISampler(population_size=10, seed=seed)
            case "gp":
                return optuna.samplers.GPSampler(seed=seed, warn_independent_sampling=False)
            case "botorch":
                from optuna_integration import BoTorchSampler

                return BoTorchSampler(n_startup_trials=10, seed=seed)
    raise ValueError(f"unknown sampler {name!r}")
