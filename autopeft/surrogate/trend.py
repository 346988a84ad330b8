"""What earlier studies say of a value, believed as far as it has held so far.

    trend(x) = location + scale * belief * sum_k w_k z_k(x) / sum_k w_k

z_k is study k's prediction in its own standard deviations; location and scale are those of the values y that
the present study has. w_k is the rank correlation of z_k with y, shrunk towards `HOPE` as if `PSEUDO`
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

from autopeft.surrogate.posterior import Floats, Paths, Posterior

HOPE, PSEUDO = 0.6, 3.0
LEAST_VARIED = 1e-12


@dataclass(frozen=True)
class Trend:
    """weights: how far each of `models` is believed, 0 to 1."""

    models: Sequence[Posterior]
    weights: Floats
    location: float
    scale: float

    def __call__(self, X: Floats) -> Floats:
        """The trend at X [c, d]. [c]"""
        if not self.weights.any():
            return np.full(len(X), self.location)
        z = np.stack([model.predict(X)[0] for model in self.models])
        return self.location + self.scale * float(self.weights.max()) * np.average(z, axis=0, weights=self.weights)


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
    for model in models:
        z = model.predict(X)[0]
        varied = len(y) > 1 and np.ptp(z) > LEAST_VARIED and np.ptp(y) > LEAST_VARIED
        correlation = float(spearmanr(z, y).statistic) if varied else 0.0
        found.append(max(0.0, (len(y) * correlation + PSEUDO * HOPE) / (len(y) + PSEUDO)))
    return Trend(models, np.array(found), float(y.mean()), float(y.std()))


def standardised(y: Floats) -> Floats:
    return np.asarray((y - y.mean()) / (y.std() or 1.0))
