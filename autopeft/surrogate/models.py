"""Surrogates by name, and the probability that a configuration can be trained at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from scipy.special import ndtr

from autopeft.surrogate.posterior import Floats, Surrogate

MODELS = ("gp", "trees", "saas", "saas-nuts")


def surrogate(name: str, groups: Sequence[int], size: int | None, seed: int) -> Surrogate:
    """The surrogate called `name`. groups, size: of features, for `gp` (`fit_gp`); seed: of what draws.

    gp         Gaussian process, one lengthscale per group of features
    trees      extremely randomised trees
    saas       Gaussian process with a sparse prior of each feature's lengthscale, four most probable fits
    saas-nuts  the same, sampled: the method of AutoPEFT; needs the extra `saas`
    """
    from autopeft.surrogate.gp import fit_gp
    from autopeft.surrogate.saas import fit_ensemble, fit_nuts
    from autopeft.surrogate.trees import fit_trees

    by_name: dict[str, Surrogate] = {
        "gp": partial(fit_gp, groups=groups, size=size),
        "trees": partial(fit_trees, seed=seed),
        "saas": fit_ensemble,
        "saas-nuts": partial(fit_nuts, seed=seed),
    }
    return by_name[name]


def feasibility(fit: Surrogate, feasible: Floats, infeasible: Floats) -> Callable[[Floats], Floats]:
    """Probability [c] that X [c, d] is feasible: a surrogate of the labels 1 and 0, cut at one half (least
    squares classification: Rasmussen and Williams 2006, section 6.5)."""
    X = np.concatenate([feasible, infeasible])
    labels = np.concatenate([np.ones(len(feasible)), np.zeros(len(infeasible))])
    posterior = fit(X, labels, np.zeros(len(X)))

    def probability(X: Floats) -> Floats:
        mean, variance = posterior.predict(X)
        return np.asarray(ndtr((mean - 0.5) / np.sqrt(variance + 0.05)))

    return probability
