"""What a surrogate must give: one fit, one posterior, joint paths of it."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def spread(y: Floats) -> float:
    """Standard deviation; 1 where all values are equal, which rounding would make a hair above 0."""
    return float(y.std()) if np.ptp(y) > 0 else 1.0


class Paths(Protocol):
    """Joint draws of the latent objective at base points, and what each says of other points.

    values: [s, b].
    """

    @property
    def values(self) -> Floats: ...

    def predict(self, X: Floats) -> tuple[Floats, Floats]:
        """Mean [s, c] and variance [s, c] at X [c, d], given each path's values at the base points."""


class Posterior(Protocol):
    def predict(self, X: Floats) -> tuple[Floats, Floats]:
        """Mean [c] and variance [c] of the latent objective at X [c, d]."""

    def paths(self, base: Floats, count: int, rng: np.random.Generator) -> Paths:
        """`count` joint draws at `base` [b, d]."""


class Surrogate(Protocol):
    def __call__(self, X: Floats, y: Floats, noise: Floats, /) -> Posterior:
        """Fit y [n] at X [n, d] in [0, 1], `noise` [n] the known variance of each y (0 where unknown)."""
