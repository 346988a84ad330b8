"""Which dimensions matter for which objective, from the surrogate.

The importance of a dimension is its total effect (Sobol; estimator of Jansen, Computer Physics Communications
1999): the share of an objective's variance over random configurations that is lost where the dimension is
known,

    T_j = E[(f(x) - f(x with j drawn anew))^2] / (2 Var f)

with everything that depends on j drawn anew too. Shares add up to more than 1 where dimensions interact. For
a learnt objective f is a posterior path, and the interval is that of the paths: wide where too little was
observed. A computed objective has none. Of 256 configurations each, so that shares are good to a tenth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from autopeft.samplers.domain import Domain, Floats, Point
from autopeft.surrogate.gp import fit_gp
from autopeft.surrogate.posterior import Paths

POINTS, ANCHORS, PATHS = 256, 64, 32
"""Random configurations; how many of them a path is drawn at, beside the observations; paths."""
FEWEST = 8
"""Observations that an importance is told from."""
LEVEL = 0.9


@dataclass(frozen=True)
class Importance:
    """share: median over paths. low, high: their central 90 %; equal to share where the objective is computed."""

    objective: str
    dimension: str
    share: float
    low: float
    high: float


def importance(
    domain: Domain,
    kinds: Mapping[str, str],
    learnt: Mapping[str, tuple[Sequence[Point], Floats, Floats]],
    computed: Mapping[str, Callable[[Any], float]],
    seed: int = 0,
) -> list[Importance]:
    """Importances, the largest first within each objective.

    kinds: dimension -> the name it counts under. learnt: objective -> (points, values [n], noise variances [n]);
    objectives with fewer than 8 observations, or all alike, are left out. computed: objective -> function of an item.
    """
    rng = np.random.default_rng(seed)
    base = [domain.draw(rng) for _ in range(POINTS)]
    moved = {
        kind: [_redrawn(domain, p, [n for n in kinds if kinds[n] == kind], rng) for p in base] for kind in dict.fromkeys(kinds.values())
    }
    found: list[Importance] = []
    for objective, function in computed.items():
        found += _shares(objective, partial(_computed, domain, function), base, moved)
    for objective, (points, y, noise) in learnt.items():
        if len(y) < FEWEST or np.ptp(y) == 0:
            continue
        posterior = fit_gp(_encode(domain, points), y, noise, domain.groups(), domain.size_feature())
        anchors = [*points, *base[:ANCHORS]]
        paths = posterior.paths(_encode(domain, anchors), PATHS, rng)
        found += _shares(objective, partial(_drawn, domain, paths), base, moved)
    return found


def _shares(
    objective: str, values: Callable[[list[Point]], Floats], base: list[Point], moved: Mapping[str, list[Point]]
) -> list[Importance]:
    """values: f at points, one row per path."""
    at = values(base)
    spread = np.maximum(at.var(1), 1e-300)
    found = []
    for kind, points in moved.items():
        total = ((at - values(points)) ** 2).mean(1) / (2 * spread)
        low, share, high = np.quantile(total, [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2])
        found.append(Importance(objective, kind, float(share), float(low), float(high)))
    return sorted(found, key=lambda i: -i.share)


def _computed(domain: Domain, function: Callable[[Any], float], points: Sequence[Point]) -> Floats:
    return np.array([[function(domain.item(p)) for p in points]])


def _drawn(domain: Domain, paths: Paths, points: Sequence[Point]) -> Floats:
    return paths.predict(_encode(domain, points))[0]


def _redrawn(domain: Domain, point: Point, names: Sequence[str], rng: np.random.Generator) -> Point:
    """`point` with `names` taken from a random point, and what depends on them drawn; itself where that is invalid."""
    other = domain.draw(rng)
    changed = {name: value for name, value in point.items() if name not in names} | {n: other[n] for n in names if n in other}
    try:
        moved = domain.complete(changed, rng)
    except KeyError:  # a size that the random point has not: cannot be, sizes are always active
        return point
    return moved if domain.is_valid(moved) else point


def _encode(domain: Domain, points: Sequence[Point]) -> Floats:
    return domain.encode(points, [domain.item(p) for p in points])
