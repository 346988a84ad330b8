"""A made-up fine-tuning problem with known truth: what samplers are compared on.

Twelve layers, four adapter types in compositions of up to three, learning rate: the `default` space
on a BERT-base-like shape. Quality rises with the logarithm of the parameters and saturates, late layers
matter more than early ones, every family has its own gain and best learning rate, two families
together gain less than their sum; noise has a standard error of 0.7 points. Memory is exact and no
function of the parameters alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from autopeft.front import Axes, study_axes
from autopeft.spec import StudySpec
from autopeft.trial import Measurement, Observation, Origin, Trial, TrialState
from autopeft_searchspace.configuration import Configuration
from autopeft_searchspace.shape import LinearShape, ModelShape
from autopeft_searchspace.space import Space, build_space, default_learning_rate, trainable_parameters

LAYERS, WIDTH, WIDE = 12, 768, 3072
FULL_MEMORY = 6.0e9
NOISE = 0.007


def bert_shape(layers: int = LAYERS) -> ModelShape:
    sizes = {
        "q": (WIDTH, WIDTH),
        "k": (WIDTH, WIDTH),
        "v": (WIDTH, WIDTH),
        "o": (WIDTH, WIDTH),
        "ff_in": (WIDTH, WIDE),
        "ff_out": (WIDE, WIDTH),
    }
    modules = {role: tuple(LinearShape(f"layer.{i}.{role}", *size) for i in range(layers)) for role, size in sizes.items()}
    return ModelShape(
        "bert",
        "encoder",
        WIDTH,
        layers,
        WIDTH,
        7_100_000 * layers + 24_000_000,
        modules,
        tuple(f"layer.{i}.attention" for i in range(layers)),
    )


@dataclass(frozen=True)
class Problem:
    """seed: of the truth, which differs in gains, best learning rates and important layers."""

    space: Space
    spec: StudySpec
    seed: int

    def memory(self, configuration: Configuration) -> float:
        """Bytes: activations down to the lowest adapted layer, kept inputs and optimiser state per component."""
        shape = self.space.shape
        lowest = min((c.layers[0] for c in configuration.components), default=shape.layers)
        kept = sum(
            len(c.layers) * {"serial": 1.0, "parallel": 1.2, "prefix": 0.7}.get(c.type, 0.5 * max(1, len(c.roles)))
            for c in configuration.components
        )
        return 0.9e9 + 8.0e7 * (shape.layers - lowest) + 2.0e7 * kept + 12.0 * trainable_parameters(configuration, shape)

    def known(self) -> dict[str, Callable[[Configuration], float]]:
        return {"trainable_parameters": lambda c: float(trainable_parameters(c, self.space.shape)), "peak_memory_bytes": self.memory}

    def truth(self, configuration: Configuration) -> float:
        rng = np.random.default_rng(self.seed)
        shape, names = self.space.shape, sorted(self.space.types)
        gains = dict(zip(names, rng.uniform(0.10, 0.24, len(names)), strict=True))
        shifts = dict(zip(names, rng.normal(0, 0.5, len(names)), strict=True))
        weights = np.exp(1.5 * np.arange(shape.layers) / shape.layers + rng.normal(0, 0.5, shape.layers))
        role_gain = {role: rng.uniform(0.5, 1.5) for role in shape.roles}
        left, rate_loss = 1.0, 0.0
        lr0 = default_learning_rate(configuration.components, shape)
        for c in configuration.components:
            layer_share = float(weights[list(c.layers)].sum() / weights.sum()) ** 0.5
            count = trainable_parameters(Configuration((c,), 1.0), shape)
            filled = 1 / (1 + math.exp(-1.3 * (math.log10(count) - 4.6)))
            placed = 1.0 if not c.roles else min(1.3, sum(role_gain[r] for r in c.roles) / len(c.roles) * len(c.roles) ** 0.25)
            left *= 1 - min(0.6, 2 * gains[c.type] * layer_share * filled * placed)
            off = math.log(configuration.learning_rate / lr0) - shifts[c.type]
            rate_loss = max(rate_loss, 1 - math.exp(-0.5 * (off / 1.1) ** 2))
        return 0.60 + 0.5 * (1 - left) * (1 - 0.8 * rate_loss)

    def trial(self, number: int, configuration: Configuration, origin: Origin, noise: float = NOISE) -> Trial:
        """A complete trial, its noise drawn from (seed, number)."""
        value = self.truth(configuration) + noise * np.random.default_rng([self.seed, number, 7]).standard_normal()
        measured = {"search.accuracy": Measurement(float(value), "", noise)}
        observation = Observation(configuration.key, 0, 100, 100, "made up", measured)
        computed = {name: function(configuration) for name, function in self.known().items()}
        return Trial(number, configuration, origin, TrialState.COMPLETE, computed, (observation,))

    def axes(self) -> Axes:
        head = self.trial(0, Configuration((), 5e-3), Origin.BASELINE, noise=0.0)
        axes = study_axes(self.spec, self.space, [head], FULL_MEMORY)
        assert axes is not None  # head-only is complete
        return axes

    def true_values(self, trials: list[Trial]) -> np.ndarray:
        """Noise-free objectives. [n, 3]"""
        return np.array([[self.truth(t.configuration), *t.computed.values()] for t in trials])


def problem(sampler: str, seed: int, preset: str = "default") -> Problem:
    spec = StudySpec.model_validate(
        {
            "name": "made-up",
            "model": {"base": "made-up"},
            "task": {"kind": "classification"},
            "data": {"train": "none"},
            "sampler": sampler,
            "seeds": {"search": seed},
        }
    )
    return Problem(build_space(preset, bert_shape()), spec, seed)
