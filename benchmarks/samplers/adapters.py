"""Made-up fine-tuning problems: a family of instances on our own spaces.

Quality rises with the logarithm of the parameters and saturates, some layers matter more than others,
every adapter type has its own gain and best learning rate, two types together gain less than their sum.
Instances differ in all of that, in depth and width of the model, and in the noise of the metric.
Memory is exact and no function of the parameters alone.

    peft-I      preset `default`: 4 types, layer bits, module roles, learning rate; quality, parameters, memory
    faint-I     the same, adapters gain a third of that and the metric is three times as noisy, as in a short study
    autopeft-I  preset `autopeft`: the paper's space; quality, parameters
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from problem import Problem

from autopeft.front import Axes, Axis, smallest_adapter
from autopeft_searchspace.configuration import Configuration
from autopeft_searchspace.rules import default_learning_rate, trainable_parameters
from autopeft_searchspace.settings import build_space
from autopeft_searchspace.shape import LinearShape, ModelShape
from autopeft_searchspace.space import Space

HEAD_ONLY = 0.60


def bert_shape(layers: int, width: int) -> ModelShape:
    sizes = {**dict.fromkeys("qkvo", (width, width)), "ff_in": (width, 4 * width), "ff_out": (4 * width, width)}
    modules = {role: tuple(LinearShape(f"layer.{i}.{role}", *size) for i in range(layers)) for role, size in sizes.items()}
    attention = tuple(f"layer.{i}.attention" for i in range(layers))
    return ModelShape("bert", "encoder", width, layers, width, 12 * width**2 * layers + 31_000 * width, modules, attention)


class Truth:
    """What is true of one instance."""

    def __init__(self, space: Space, rng: np.random.Generator, faint: bool = False) -> None:
        self.space, shape, names = space, space.shape, sorted(space.types)
        self.gains = dict(zip(names, rng.uniform(0.10, 0.24, len(names)), strict=True))
        self.shifts = dict(zip(names, rng.normal(0, 0.5, len(names)), strict=True))
        tilt = rng.uniform(-1.0, 2.0)  # late layers matter more in most models, not in all
        weights = np.exp(tilt * np.arange(shape.layers) / shape.layers + rng.normal(0, 0.5, shape.layers))
        self.layers = weights / weights.sum()
        self.roles = {role: rng.uniform(0.5, 1.5) for role in shape.roles}
        self.middle = math.log10(smallest_adapter(space)) + rng.uniform(1.0, 2.0)
        self.noise = float(rng.uniform(0.004, 0.012))
        self.rate_matters, self.worth = space.learning_rate is None, 0.5
        if faint:
            self.worth, self.noise = self.worth / 3, 3 * self.noise

    def parameters(self, configuration: Configuration) -> float:
        return float(trainable_parameters(configuration, self.space.shape))

    def memory(self, configuration: Configuration) -> float:
        """Bytes: activations down to the lowest adapted layer, kept inputs and optimiser state."""
        shape = self.space.shape
        unit = shape.total_parameters / 110e6
        lowest = min((c.layers[0] for c in configuration.components), default=shape.layers)
        weight = {"serial": 1.0, "parallel": 1.2, "prefix": 0.7}
        kept = sum(len(c.layers) * weight.get(c.type, 0.5 * max(1, len(c.roles))) for c in configuration.components)
        share = (shape.layers - lowest + 0.25 * kept) / shape.layers
        return unit * (0.9e9 + 9.6e8 * share) + 12.0 * self.parameters(configuration)

    def quality(self, configuration: Configuration) -> float:
        left, rate_loss = 1.0, 0.0
        lr0 = default_learning_rate(configuration.components, self.space.shape)
        for c in configuration.components:
            count = trainable_parameters(Configuration((c,), 1.0), self.space.shape)
            filled = 1 / (1 + math.exp(-1.3 * (math.log10(count) - self.middle)))
            placed = 1.0 if not c.roles else min(1.3, sum(self.roles[r] for r in c.roles) / len(c.roles) * len(c.roles) ** 0.25)
            layer_share = float(self.layers[list(c.layers)].sum()) ** 0.5
            left *= 1 - min(0.6, 2 * self.gains[c.type] * layer_share * filled * placed)
            off = math.log(configuration.learning_rate / lr0) - self.shifts[c.type] if self.rate_matters else 0.0
            rate_loss = max(rate_loss, 1 - math.exp(-0.5 * (off / 1.1) ** 2))
        return HEAD_ONLY + self.worth * (1 - left) * (1 - 0.8 * rate_loss)


@cache
def adapters(preset: str, instance: int) -> Problem:
    faint = preset == "faint"
    rng = np.random.default_rng([instance, len("peft" if faint else preset)])
    layers, width = (6, 12, 24)[rng.integers(3)], (384, 768, 1024)[rng.integers(3)]
    space = build_space(preset if preset == "autopeft" else "default", bert_shape(int(layers), int(width)))
    truth = Truth(space, rng, faint)
    floor = float(smallest_adapter(space))
    axes = [Axis("accuracy", HEAD_ONLY, 1.0), Axis("trainable_parameters", float(space.shape.total_parameters), floor, floor)]
    known: dict[int, Any] = {1: truth.parameters}
    if preset != "autopeft":
        axes.append(Axis("peak_memory_bytes", 6e9 * space.shape.total_parameters / 110e6, 0.0))
        known[2] = truth.memory
    return Problem(
        name=f"{preset}-{instance}",
        directions=("maximize", *("minimize",) * len(known)),
        space=space,
        known=known,
        truth=lambda c: [truth.quality(c), *(f(c) for f in known.values())],
        axes=Axes(tuple(axes)),
        noise=(truth.noise, *(0.0 for _ in known)),
    )
