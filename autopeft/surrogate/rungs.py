"""What a value at a rung says of the value at the end: the end is the rung plus a bias, learnt from the
trials that have both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FEWEST_PAIRS = 3


@dataclass(frozen=True)
class RungModel:
    """end = value at the rung + bias, give or take a standard deviation `spread`."""

    bias: float
    spread: float


def fit_rung(at_rung: Sequence[float], at_end: Sequence[float]) -> RungModel | None:
    """The model of paired values, or None with fewer than three pairs. The spread is inflated by
    sqrt(1 + 1/n), for the bias is learnt from the same n pairs."""
    gain = np.asarray(at_end, dtype=float) - np.asarray(at_rung, dtype=float)
    if len(gain) < FEWEST_PAIRS:
        return None
    return RungModel(float(gain.mean()), float(gain.std(ddof=1)) * float(np.sqrt(1 + 1 / len(gain))))
