"""The first configurations of a study: spread over adapter types, sizes, learning rates and layers."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from autopeft.samplers.limits import Computed, Limited, computed, within
from autopeft_searchspace.configuration import Configuration, Value
from autopeft_searchspace.space import Space

POOL = 48
"""Random points drawn per configuration wanted."""
WEIGHTS = (2.0, 1.0, 1.0)
"""Of log parameters, learning rate and share of layers in the distance to a target."""


def initial_design(
    space: Space,
    count: int,
    seed: int,
    known: Mapping[str, Computed] | None = None,
    limits: Limited | None = None,
) -> list[dict[str, Value]]:
    """`count` points (fewer where the space or the limits allow fewer), distinct as configurations.

    A Latin hypercube over log parameters, learning rate and share of adapted layers gives the targets;
    types take turns, alone at first; each target takes the nearest of many random points of its type.
    Deterministic.
    """
    rng = np.random.default_rng([seed, count])
    known = computed(known or {}, space)
    allowed = within(limits, known)
    pool: dict[str, tuple[dict[str, Value], Configuration]] = {}
    for _ in range(POOL * count):
        values = space.sample(rng)
        configuration = space.configuration(values)
        if not configuration.head_only and allowed(configuration):
            pool.setdefault(configuration.key, (values, configuration))
    if not pool:
        return []
    points, configurations = zip(*pool.values(), strict=True)
    where = np.array([_coordinates(c, known, space) for c in configurations])
    where = (where - where.min(0)) / np.where(np.ptp(where, 0) > 0, np.ptp(where, 0), 1.0)
    targets = (np.stack([rng.permutation(count) for _ in range(where.shape[1])], axis=1) + 0.5) / count
    free = np.ones(len(points), dtype=bool)
    chosen: list[int] = []
    for turn, target in enumerate(targets[: len(points)]):
        wanted, others = space.types[turn % len(space.types)], turn // len(space.types)
        lacks = np.array([wanted not in {part.type for part in c.components} for c in configurations])
        parts = np.array([len(c.components) for c in configurations])
        distance = np.abs(where - target) @ WEIGHTS + 4.0 * lacks + 0.5 * np.abs(parts - 1 - others % space.maximum_components)
        chosen.append(int(np.argmin(np.where(free, distance, np.inf))))
        free[chosen[-1]] = False
    return [points[i] for i in chosen]


def _coordinates(configuration: Configuration, known: Mapping[str, Computed], space: Space) -> tuple[float, float, float]:
    layers = {layer for component in configuration.components for layer in component.layers}
    return (
        math.log10(known["trainable_parameters"](configuration)),
        math.log10(configuration.learning_rate),
        len(layers) / space.shape.layers,
    )
