"""Samplers by the names that `study.yaml` knows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, TPESampler

from autopeft.errors import SpecError, near
from autopeft.front import Axes
from autopeft.samplers.limits import Computed
from autopeft.samplers.pareto import ParetoSampler
from autopeft.samplers.whole import RandomSampler
from autopeft_searchspace.configuration import Configuration
from autopeft_searchspace.space import Space

SAMPLERS = ("pareto", "tpe", "nsga2", "gp", "random")
POPULATION = 10
"""Of NSGA-II: Optuna's 50 would never leave the first generation within the usual 40 trials."""


def make_sampler(
    name: str,
    space: Space,
    *,
    seed: int | None = None,
    known: Mapping[str, Computed] | None = None,
    axes: Axes | None = None,
    allowed: Callable[[Configuration], bool] | None = None,
) -> BaseSampler:
    """The sampler called `name`, for trials that suggest with `convert.suggest_values`.

    known, axes, allowed: as `ParetoSampler` takes them; `random` uses `allowed`, Optuna's samplers none.
    """
    match name:
        case "pareto":
            computed: dict[int | str, Computed] = dict((known or {}).items())
            return ParetoSampler(space, known=computed, axes=axes, allowed=allowed, seed=seed)
        case "random":
            return RandomSampler(space, allowed=allowed, seed=seed)
        case "tpe":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                return TPESampler(multivariate=True, group=True, constant_liar=True, seed=seed)
        case "nsga2":
            return NSGAIISampler(population_size=POPULATION, seed=seed)
        case "gp":
            return GPSampler(seed=seed, warn_independent_sampling=False)
    raise SpecError(f"unknown sampler {name!r}{near(name, SAMPLERS)}")
