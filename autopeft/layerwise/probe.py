"""A cheap look at which layers and roles matter, before a search: gradients of the base's own matrices.

The score of a module is the trace of its empirical Fisher information per weight, mean over batches of
|dL/dW|^2 / numel(W) (Kunstner et al., NeurIPS 2019, eq. 3, on mini-batches). The task head is trained
alone first, since gradients through random logits tell little. One block at a time requires gradients, so
that memory stays that of training one block; the base model is not changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from autopeft.device import autocast
from autopeft.training import Recipe
from autopeft_searchspace.prior import Prior
from autopeft_searchspace.shape import ModelShape

HEAD_STEPS = 24
BATCHES = 4


def probe(base: Any, shape: ModelShape, loss_of: Callable[[int], Tensor], batches: Sequence[int], recipe: Recipe) -> Prior:
    """Importance of every layer (sum over its roles, each relative to the role's mean over layers) and role.

    base: `PreTrainedModel.base_model`, frozen. loss_of: number of a batch -> its loss.
    """
    scores = {role: [0.0] * shape.layers for role in shape.roles}
    for layer in range(shape.layers):
        weights = {role: base.get_submodule(shape.modules[role][layer].path).weight for role in shape.roles}
        for weight in weights.values():
            weight.requires_grad_(True)
        for batch in batches:
            with autocast(recipe.device_type, recipe.precision):
                loss = loss_of(batch)
            loss.backward()
            for role, weight in weights.items():
                scores[role][layer] += float(weight.grad.float().square().mean()) / len(batches)
                weight.grad = None
        for weight in weights.values():
            weight.requires_grad_(False)
    return prior_of(scores)


def prior_of(scores: dict[str, list[float]]) -> Prior:
    """scores: role -> score per layer. Roles differ in scale, so that each counts relative to its own mean."""
    layers = len(next(iter(scores.values())))
    relative = {role: [value * layers / (sum(values) or 1.0) for value in values] for role, values in scores.items()}
    by_layer = tuple(sum(values[layer] for values in relative.values()) / len(relative) for layer in range(layers))
    return Prior(by_layer, {role: sum(values) / layers for role, values in scores.items()})
