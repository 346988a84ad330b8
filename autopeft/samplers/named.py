"""Samplers by the names that `study.yaml` knows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, TPESampler

from autopeft.errors import SpecError, near
from autopeft.front import Axes
from autopeft.samplers.earlier import Results
from autopeft.samplers.limits import Computed
from autopeft.samplers.pareto import ParetoSampler
from autopeft.samplers.whole import RandomSampler
from autopeft_searchspace.configuration import Configuration
from autopeft_searchspace.space import Space

SAMPLERS = ("pareto", "tpe", "nsga2", "gp", "random", "tacl2024")
POPULATION = 10
"""Of NSGA-II: Optuna's 50 would never leave the first generation within the usual 40 trials."""
TACL2024: dict[str, Any] = {"startup": 100, "spread": False, "surrogate": "saas-nuts", "copula": True, "batch": 4}
"""As AutoPEFT searched (Zhou et al., TACL 2024, section 4): 100 random configurations, then 100 by fully Bayesian
SAAS on copula-transformed quality, in batches of 4; parameters are computed here, not learnt."""


def make_sampler(
    name: str,
    space: Space,
    *,
    seed: int | None = None,
    known: Mapping[str, Computed] | None = None,
    axes: Axes | None = None,
    allowed: Callable[[Configuration], bool] | None = None,
    earlier: Sequence[Results] = (),
) -> BaseSampler:
    """The sampler called `name`, for trials that suggest with `convert.suggest_values`.

    known, axes, allowed, earlier: as `ParetoSampler` takes them; `random` uses `allowed`, Optuna's samplers none.
    """
    match name:
        case "pareto":
            return ParetoSampler(space, known=dict((known or {}).items()), axes=axes, allowed=allowed, earlier=earlier, seed=seed)
        case "tacl2024":
            return ParetoSampler(space, known=dict((known or {}).items()), axes=axes, allowed=allowed, seed=seed, **TACL2024)
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
