"""What earlier studies say of a value, believed as far as it has held so far.

    trend(x) = location + scale * belief * (z(x) - mean of z),   z(x) = sum_k w_k z_k(x) / sum_k w_k

z_k is study k's prediction in its own standard deviations; location is the mean of the values y that the present
study has, scale their standard deviation over that of z at the same points, which may be few and alike (those of an
earlier front, say). w_k is the rank correlation of z_k with y, shrunk towards `HOPE` as if `PSEUDO`
further observations had shown that, and 0 where it is negative; belief is the largest w_k. A surrogate of
the differences from the trend learns what is new here, so that an earlier study that misleads loses its weight within
about ten observations. (Weighting by how a model ranks the new observations: Feurer, Letham and Bakshy,
"Scalable meta-learning for Bayesian optimization", 2018; the trend as a prior mean: Golovin et al., KDD 2017.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from autopeft.surrogate.posterior import Floats, Paths, Posterior, spread

HOPE, PSEUDO = 0.6, 3.0
LEAST_VARIED = 1e-12
LEAST_SPREAD = 0.25
"""Of z, in standard deviations of an earlier study, where the scale is told from."""


@dataclass(frozen=True)
class Trend:
    """weights: how far each of `models` is believed, 0 to 1."""

    models: Sequence[Posterior]
    weights: Floats
    location: float
    slope: float

    def __call__(self, X: Floats) -> Floats:
        """The trend at X [c, d]. [c]"""
        if not self.weights.any():
            return np.full(len(X), self.location)
        z = np.stack([model.predict(X)[0] for model in self.models])
        return self.location + self.slope * np.average(z, axis=0, weights=self.weights)


@dataclass(frozen=True)
class TrendPaths:
    """Paths of what differs from the trend, with the trend added."""

    trend: Trend
    paths: Paths
    values: Floats

    def predict(self, X: Floats) -> tuple[Floats, Floats]:
        mean, variance = self.paths.predict(X)
        return mean + self.trend(X), variance


def fit_trend(models: Sequence[Posterior], X: Floats, y: Floats) -> Trend:
    """models: of standardised values of earlier studies; y [n] at X [n, d]: what the present study has."""
    found = []
    Z = np.stack([model.predict(X)[0] for model in models]) if models else np.empty((0, len(y)))
    for z in Z:
        varied = len(y) > 1 and np.ptp(z) > LEAST_VARIED and np.ptp(y) > LEAST_VARIED
        correlation = float(spearmanr(z, y).statistic) if varied else 0.0
        found.append(max(0.0, (len(y) * correlation + PSEUDO * HOPE) / (len(y) + PSEUDO)))
    weights = np.array(found)
    if not weights.any():
        return Trend(models, weights, float(y.mean()), 0.0)
    mixed = np.average(Z, axis=0, weights=weights)
    slope = float(weights.max() * y.std() / max(mixed.std(), LEAST_SPREAD))
    return Trend(models, weights, float(y.mean() - slope * mixed.mean()), slope)


def standardised(y: Floats) -> Floats:
    return np.asarray((y - y.mean()) / spread(y))
