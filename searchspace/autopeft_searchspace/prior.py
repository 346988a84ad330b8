"""What is believed of layers and roles before a search: those that matter more are drawn more often."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

EVEN = 0.5
"""Share of every draw that stays even, so that what seems unimportant is tried too."""
LEAST = 0.1


@dataclass(frozen=True)
class Prior:
    """layers: importance of each layer, 0 or more. roles: the same of module roles. Only ratios matter."""

    layers: tuple[float, ...]
    roles: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Prior:
        return cls(tuple(data["layers"]), dict(data["roles"]))

    def layer_weights(self) -> tuple[float, ...]:
        """Probabilities with which a layer is drawn first; they add up to 1."""
        return mixed(self.layers)

    def role_share(self, role: str) -> float:
        """Probability that a role is adapted: 1/2 for one of mean importance, within 0.1 .. 0.9."""
        if role not in self.roles:
            return 0.5
        names = list(self.roles)
        weight = mixed([self.roles[name] for name in names])[names.index(role)]
        return min(1 - LEAST, max(LEAST, 0.5 * weight * len(names)))

    def draw_layers(self, layers: Sequence[int], number: int, rng: np.random.Generator) -> set[int]:
        """`number` distinct ones of `layers`, without replacement."""
        weights = self.layer_weights()
        found = np.array([weights[layer] for layer in layers])
        return {int(layer) for layer in rng.choice(layers, size=number, replace=False, p=found / found.sum())}


def mixed(scores: Sequence[float]) -> tuple[float, ...]:
    """Half even, half in proportion to `scores`; even where all are 0.

    >>> mixed([3.0, 1.0])
    (0.625, 0.375)
    """
    total = sum(scores)
    if total <= 0:
        return tuple(1 / len(scores) for _ in scores)
    return tuple(EVEN / len(scores) + (1 - EVEN) * score / total for score in scores)
