"""Expected hypervolume improvement, exact in one uncertain objective.

For one path, let the base points have values Y [b, m], column 0 the uncertain objective, the others
known; all maximised, reference point 0. A candidate with known coordinates z and uncertain coordinate
y improves the hypervolume by the integral over t from 0 to y of the volume (in the known objectives)
of the box below z that no base point with a value above t dominates. Cut the known objectives into
cells, each with the `level` at which it stops being dominated:

    HVI(y) = sum over cells of  volume(cell below z) * max(0, y - level)
    EHVI   = sum over cells of  volume(cell below z) * psi(level),
    psi(a) = E max(0, y - a) = sigma phi(u) + (mu - a) Phi(u),  u = (mu - a) / sigma

which is exact, needs no sampling of y, and costs one Gaussian term per cell. Values of base points are
uncertain too, so the expectation is averaged over joint paths (noisy EHVI: Daulton, Balandat and
Bakshy, NeurIPS 2021); running trials are base points, which makes it the sequential q-NEHVI. Where
further objectives are uncertain, each path draws their values and column 0 stays exact: the same
expectation as BoTorch's qLogNEHVI, with one of its dimensions integrated instead of drawn. Its smooth
logarithms are for gradients; here the logarithm only keeps apart what underflows (`log_tail`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from autopeft.surrogate.posterior import Floats


class Cells(NamedTuple):
    """lower, upper: [cells, m - 1] corners in the known objectives, in runs of equal level.
    level: [runs]. start: [runs] the first cell of each run."""

    lower: Floats
    upper: Floats
    level: Floats
    start: NDArray[np.int64]


def cells(Y: Floats) -> Cells:
    """Disjoint cells that fill the known objectives above 0, for base points Y [b, m]."""
    Y = Y[(Y > 0).all(1)]
    known = Y.shape[1] - 1
    lower, upper = np.zeros((1, known)), np.full((1, known), np.inf)
    done: list[tuple[Floats, Floats, float]] = []
    for y, *point in Y[np.argsort(-Y[:, 0], kind="stable")]:
        z = np.array(point)
        hit = (lower < z).all(1)
        if not hit.any():
            continue
        low, high = lower[hit], upper[hit]
        below = np.minimum(high, z)
        done.append((low, below, y))
        free_lower, free_upper = [lower[~hit]], [upper[~hit]]
        for j in range(known):  # what is left of a hit cell: above z in j, below it in the axes before j
            left = high[:, j] > z[j]
            corner = low[left].copy()
            corner[:, j] = z[j]
            free_lower.append(corner)
            free_upper.append(np.concatenate([below[left, :j], high[left, j:]], axis=1))
        lower, upper = np.concatenate(free_lower), np.concatenate(free_upper)
    if len(lower):  # always, but for a single objective
        done.append((lower, upper, 0.0))
    lowers, uppers, levels = zip(*done, strict=True)
    start = np.cumsum([0, *(len(low) for low in lowers[:-1])])
    return Cells(np.concatenate(lowers), np.concatenate(uppers), np.array(levels), start)


def expected_improvement(mean: Floats, variance: Floats, known: Floats, region: Cells) -> Floats:
    """EHVI [c] of candidates with uncertain coordinate N(mean [c], variance [c]) and known coordinates
    `known` [c, m - 1], over one path's cells."""
    by_level = _volumes(known, region)
    return np.asarray((by_level * _expected_excess(mean[:, None], np.sqrt(variance)[:, None], region.level)).sum(1))


def log_tail(mean: Floats, variance: Floats, known: Floats, region: Cells) -> Floats:
    """What log EHVI [c] tends to far below every level, where EHVI is 0 in double precision: the exponent of the
    Gaussian term that falls slowest, -u^2 / 2. So that the least hopeless candidate is told from the others (the
    purpose of LogEI: Ament et al., NeurIPS 2023). -inf where nothing is left to gain."""
    u = (mean[:, None] - region.level) / np.sqrt(np.maximum(variance, 1e-300))[:, None]
    u = np.where(_volumes(known, region) > 0, np.minimum(u, 0.0), -np.inf)
    return np.asarray(-0.5 * u.max(1) ** 2)


def _volumes(known: Floats, region: Cells) -> Floats:
    """Volume below each candidate of the cells of each level. [c, runs]"""
    volume = np.ones((len(known), len(region.lower)))
    for j in range(known.shape[1]):
        volume *= np.clip(known[:, j, None] - region.lower[:, j], 0.0, region.upper[:, j] - region.lower[:, j])
    return np.asarray(np.add.reduceat(volume, region.start, axis=1))


def _expected_excess(mean: Floats, sd: Floats, level: Floats) -> Floats:
    """psi(level): E max(0, y - level) for y ~ N(mean, sd^2); sd may be 0."""
    gap = mean - level
    u = np.clip(gap / np.maximum(sd, 1e-300), -40.0, 40.0)  # beyond, density and tail are 0 in double precision
    density = np.exp(-0.5 * u * u) / np.sqrt(2 * np.pi)
    return np.maximum(sd * density + gap * ndtr(u), 0.0)
