"""Standard errors of metrics."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from autopeft.spec import UNITS
from autopeft.training import Diverged
from autopeft.trial import Measurement

Array = np.ndarray[Any, Any]
RESAMPLES = 200


def check_finite(values: Array) -> None:
    """Raise Diverged unless all outputs of the model are numbers."""
    bad = int(np.size(values) - np.isfinite(values).sum())
    if bad:
        raise Diverged(f"{bad} of {np.size(values)} outputs are not finite")


def proportion(hits: Array) -> Measurement:
    """Share p of hits [n], standard error sqrt(p (1 - p) / n)."""
    share = float(np.mean(hits))
    return Measurement(share, standard_error=math.sqrt(share * (1 - share) / len(hits)))


def token_mean(sums: Array, tokens: Array) -> Measurement:
    """Mean per token, where the tokens of an example come together.

    sums, tokens: [n] per example. The standard error is that of a ratio estimator over clusters
    (Cochran 1977, Sampling Techniques, eq. 6.13, infinite population); None for a single example.
    """
    n, total = len(sums), float(tokens.sum())
    mean = float(sums.sum()) / total
    if n < 2:
        return Measurement(mean, UNITS["token_nll"])
    residuals = sums - mean * tokens
    return Measurement(mean, UNITS["token_nll"], math.sqrt(n / (n - 1) * float((residuals**2).sum())) / total)


def bootstrapped(statistic: Callable[[Array, Array], float], predicted: Array, actual: Array, *, seed: int = 0) -> Measurement:
    """A statistic of paired values [n] with its bootstrap standard error (Efron 1979).

    Resamples are the same for all predictions of the same n, so that comparisons share their noise.
    """
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, len(actual), (RESAMPLES, len(actual)))
    values = [statistic(predicted[rows], actual[rows]) for rows in draws]
    return Measurement(statistic(predicted, actual), standard_error=float(np.std(values, ddof=1)))
