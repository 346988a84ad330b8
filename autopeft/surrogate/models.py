"""Surrogates by name, and the probability that a configuration can be trained at all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import ndtr

from autopeft.surrogate.posterior import Floats, Posterior, Surrogate

MODELS = ("auto", "gp", "trees")


def surrogates(name: str) -> tuple[Surrogate, ...]:
    """The surrogates that share the paths. `auto`: trees, which are ahead with few observations, and
    the GP, which is ahead with many."""
    from autopeft.surrogate.gp import fit_gp
    from autopeft.surrogate.trees import fit_trees

    by_name: dict[str, tuple[Surrogate, ...]] = {"gp": (fit_gp,), "trees": (fit_trees,), "auto": (fit_gp, fit_trees)}
    return by_name[name]


def feasibility(feasible: Floats, infeasible: Floats) -> Callable[[Floats], Floats]:
    """Probability [c] that X [c, d] is feasible: a GP on the labels 1 and 0, cut at one half (least
    squares classification: Rasmussen and Williams 2006, section 6.5)."""
    from autopeft.surrogate.gp import fit_gp

    X = np.concatenate([feasible, infeasible])
    labels = np.concatenate([np.ones(len(feasible)), np.zeros(len(infeasible))])
    posterior: Posterior = fit_gp(X, labels, np.zeros(len(X)), 0)

    def probability(X: Floats) -> Floats:
        mean, variance = posterior.predict(X)
        return np.asarray(ndtr((mean - 0.5) / np.sqrt(variance + 0.05)))

    return probability
