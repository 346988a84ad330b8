"""Gaussian copula: values as normal quantiles of their ranks (Salinas, Shen and Perrone, ICML 2020)."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri
from scipy.stats import rankdata

from autopeft.surrogate.posterior import Floats


def to_normal(Y: Floats) -> Floats:
    """Each column of Y [n, m] as normal quantiles of its ranks, equal values alike, moved so that the worst is
    a tenth of a standard deviation above 0, where the reference point is."""
    if not len(Y):
        return Y
    Z = ndtri((rankdata(Y, axis=0) - 0.5) / len(Y))
    return np.asarray(Z - Z.min(0) + 0.1)
