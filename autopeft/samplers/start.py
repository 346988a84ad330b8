"""The first points of a study, spread out: what a surrogate learns most from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from autopeft.samplers.domain import Domain, Floats, Point
from autopeft.surrogate.covariance import group_weights

POOL = 64
"""Random points from which the next one is chosen."""


def farthest(
    domain: Domain, points: Sequence[Point], items: Sequence[Any], taken: Sequence[Any], known: Mapping[Any, Callable[[Any], float]]
) -> int:
    """Which of `points`, of the kinds that were `taken` least often, is farthest from the nearest of the points `taken`,
    in the encoding and in the ranks of what is known, each of which weighs as much as all dimensions together."""
    every, every_items = [*points, *taken], [*items, *(domain.item(p) for p in taken)]
    X = domain.encode(every, every_items) * group_weights(domain.groups())
    parts = [X / max(1.0, len(set(domain.groups()))) ** 0.5, *(_ranks([f(item) for item in every_items]) for f in known.values())]
    features = np.column_stack(parts)
    mine, theirs = features[: len(points)], features[len(points) :]
    if not len(theirs):
        return 0
    often = Counter(domain.kind(p) for p in taken)
    counts = np.array([often[domain.kind(p)] for p in points])
    distance = ((mine[:, None] - theirs[None]) ** 2).sum(-1).min(1)
    return int(np.argmax(np.where(counts == counts.min(), distance, -1.0)))


def _ranks(values: Sequence[float]) -> Floats:
    return np.argsort(np.argsort(values, kind="stable"), kind="stable") / max(1, len(values) - 1)
