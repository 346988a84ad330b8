"""Covariance of adapters: Matern 5/2 over groups of features, with a variance that may grow with size.

Features that are alike (one bit per layer, one per module role, the columns of a category) share one
lengthscale and count together as much as one feature. What an adapter changes may grow with its size:
the standard deviation is multiplied by exp(growth (size - 0.4)). Without it, tiny adapters keep looking as
uncertain as large ones and a search spends itself on them, since there they would gain the most
hypervolume.

    r2(a, b) = sum over features j of (a_j - b_j)^2 / (members of j's group * lengthscale of j's group^2)
    k(a, b)  = variance g(a) g(b) (1 + sqrt(5) r + 5/3 r2) exp(-sqrt(5) r)    (Rasmussen and Williams 2006, eq. 4.17)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autopeft.surrogate.posterior import Floats

GROWTH_CENTRE = 0.4
ROOT5 = 5**0.5


@dataclass(frozen=True)
class Covariance:
    """scales: [d] what each feature is multiplied by. growth, size: the growth of the standard deviation with
    feature `size`, or size None. variance: where size is at its centre."""

    scales: Floats
    growth: float = 0.0
    size: int | None = None
    variance: float = 1.0

    def __call__(self, A: Floats, B: Floats) -> Floats:
        """A [a, d], B [c, d] -> [a, c]"""
        return matern(squared_distances(A * self.scales, B * self.scales)) * self._factor(A)[:, None] * self._factor(B)

    def diagonal(self, X: Floats) -> Floats:
        """Prior variance of each row of X [n, d]. [n]"""
        return self._factor(X) ** 2

    def _factor(self, X: Floats) -> Floats:
        size = np.zeros(len(X)) if self.size is None else self.growth * (X[:, self.size] - GROWTH_CENTRE)
        return np.asarray(self.variance**0.5 * np.exp(size))


def matern(r2: Floats) -> Floats:
    r = ROOT5 * np.sqrt(r2)
    return np.asarray((1 + r + 5 / 3 * r2) * np.exp(-r))


def matern_slope(r2: Floats) -> Floats:
    """Derivative of `matern` by -r2."""
    r = ROOT5 * np.sqrt(r2)
    return np.asarray(5 / 6 * (1 + r) * np.exp(-r))


def squared_distances(A: Floats, B: Floats) -> Floats:
    return np.maximum((A**2).sum(1)[:, None] + (B**2).sum(1) - 2 * A @ B.T, 0.0)


def group_weights(groups: Sequence[int]) -> Floats:
    """1 / sqrt(members of its group), per feature. [d]"""
    members = np.bincount(np.asarray(groups, dtype=int))
    return np.asarray(1 / np.sqrt(members[np.asarray(groups, dtype=int)]))
