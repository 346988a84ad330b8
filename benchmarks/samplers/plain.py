"""plain-I: the same kind of problem said in plain Optuna distributions and conditions, without any space of
ours: one of six adapter types with its own size, rank and placement dimensions, twelve layer bits, learning
rate; 27 dimensions. Quality, parameters and memory, the last two computed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from problem import Problem

from autopeft.front import Axes, Axis

TYPES = ("serial", "parallel", "prefix", "lora", "ia3", "bitfit")
UNIT = {"serial": 1536, "parallel": 1536, "prefix": 1536, "lora": 1536, "ia3": 5376, "bitfit": 9000}
SIZED = ("serial", "parallel", "prefix", "lora")
LAYERS, HEAD_ONLY, FULL_PARAMETERS, FULL_MEMORY = 12, 0.60, 1.1e8, 6e9

DISTRIBUTIONS: dict[str, BaseDistribution] = {
    "type": CategoricalDistribution(TYPES),
    **{f"{type}.size": IntDistribution(1, 256, log=True) for type in SIZED},
    "serial.place": CategoricalDistribution(["attention", "feed_forward"]),
    "parallel.place": CategoricalDistribution(["attention", "feed_forward"]),
    "lora.alpha_ratio": FloatDistribution(0.25, 8.0, log=True),
    **{f"lora.{role}": CategoricalDistribution([True, False]) for role in ("q", "k", "v", "o", "ff_in", "ff_out")},
    **{f"layers.{i}": CategoricalDistribution([True, False]) for i in range(LAYERS)},
    "learning_rate": FloatDistribution(1 / 16, 16.0, log=True),
}
CONDITIONS = {name: lambda p, own=name.partition(".")[0]: p["type"] == own for name in DISTRIBUTIONS if name.partition(".")[0] in SIZED}


def _layers(p: Mapping[str, Any]) -> list[int]:
    return [i for i in range(LAYERS) if p[f"layers.{i}"]]


def _copies(p: Mapping[str, Any]) -> int:
    return max(1, sum(bool(p[f"lora.{role}"]) for role in ("q", "k", "v", "o", "ff_in", "ff_out"))) if p["type"] == "lora" else 1


def parameters(p: Mapping[str, Any]) -> float:
    return float(UNIT[p["type"]] * p.get(f"{p['type']}.size", 1) * _copies(p) * len(_layers(p)))


def memory(p: Mapping[str, Any]) -> float:
    adapted = _layers(p)
    deep = LAYERS - min(adapted, default=LAYERS)
    return 0.9e9 + 8e7 * deep + 2e7 * len(adapted) * (0.4 + 0.3 * _copies(p)) + 12 * parameters(p)


@cache
def plain(instance: int) -> Problem:
    rng = np.random.default_rng([instance, 77])
    gains = dict(zip(TYPES, rng.uniform(0.12, 0.36, len(TYPES)), strict=True))
    shifts = dict(zip(TYPES, rng.normal(0, 0.8, len(TYPES)), strict=True))
    weights = np.exp(rng.uniform(-1, 2) * np.arange(LAYERS) / LAYERS + rng.normal(0, 0.5, LAYERS))
    weights /= weights.sum()
    places = {(type, place): rng.uniform(0.7, 1.1) for type in ("serial", "parallel") for place in ("attention", "feed_forward")}
    roles = {role: rng.uniform(0.5, 1.5) for role in ("q", "k", "v", "o", "ff_in", "ff_out")}
    alpha, middle = rng.uniform(-0.5, 1.5), rng.uniform(4.0, 5.2)

    def quality(p: Mapping[str, Any]) -> float:
        if not (adapted := _layers(p)):
            return HEAD_ONLY
        type, on = p["type"], [role for role in roles if p.get(f"lora.{role}")]
        filled = 1 / (1 + math.exp(-1.3 * (math.log10(parameters(p)) - middle)))
        placed = places.get((type, p.get(f"{type}.place", "")), 1.0)
        if type == "lora":
            placed = min(1.3, sum(roles[r] for r in on) / max(1, len(on)) * len(on) ** 0.25)
            placed *= math.exp(-0.5 * ((math.log(p["lora.alpha_ratio"]) - alpha) / 2) ** 2)
        off = math.log(p["learning_rate"]) - shifts[type]
        return HEAD_ONLY + gains[type] * float(weights[adapted].sum()) ** 0.5 * filled * placed * math.exp(-0.5 * (off / 1.1) ** 2)

    smallest = float(min(UNIT.values()))
    axes = (Axis("quality", HEAD_ONLY, 1.0), Axis("parameters", FULL_PARAMETERS, smallest, smallest), Axis("memory", FULL_MEMORY, 0.0))
    return Problem(
        name=f"plain-{instance}",
        directions=("maximize", "minimize", "minimize"),
        space=DISTRIBUTIONS,
        conditions=CONDITIONS,
        known={1: parameters, 2: memory},
        truth=lambda p: (quality(p), parameters(p), memory(p)),
        axes=Axes(axes),
        noise=(float(rng.uniform(0.004, 0.012)), 0.0, 0.0),
    )
