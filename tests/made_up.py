"""Trials, specs and a small model shape that need no model: what tests of front, promotion and samplers use."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from autopeft.spec import StudySpec
from autopeft.trial import Measurement, Observation, Origin, Trial, TrialState
from autopeft_searchspace.configuration import Component, Configuration
from autopeft_searchspace.dims import Dimension
from autopeft_searchspace.settings import build_space
from autopeft_searchspace.shape import LinearShape, ModelShape
from autopeft_searchspace.space import Space

HEAD_ONLY = Configuration((), 5e-3)
STEPS = 90


def spec(**changes: Any) -> StudySpec:
    settings = {
        "name": "made-up",
        "model": {"base": "none"},
        "task": {"kind": "classification"},
        "data": {"train": "none"},
        "objectives": [
            {"name": "accuracy", "direction": "maximize"},
            {"name": "trainable_parameters", "direction": "minimize"},
        ],
    }
    return StudySpec.model_validate({**settings, **changes})


def shape(layers: int = 2, width: int = 8) -> ModelShape:
    modules = {
        role: tuple(LinearShape(f"layer.{i}.{role}", width, width) for i in range(layers))
        for role in ("q", "k", "v", "o", "ff_in", "ff_out")
    }
    return ModelShape("bert", "encoder", width, layers, width, 100_000, modules, tuple(f"layer.{i}.attention" for i in range(layers)))


def small_space(**change: Any) -> Space:
    """LoRA on q alone: 2 sizes, two layer bits, 3 rates: 18 configurations with an adapter."""
    fixed = {f"lora.roles.{role}": role == "q" for role in shape().roles}
    settings = {"lora.size": [0, 1, 2], "lora.alpha_ratio": 1, "learning_rate": "search", **fixed, **change}
    space = build_space("lora", shape(), settings)
    rates = Dimension("learning_rate", (0.5, 1.0, 2.0), ordered=True, log=True)
    return replace(space, dimensions=tuple(rates if d.name == "learning_rate" else d for d in space.dimensions))


def lora(size: int = 1, layers: tuple[int, ...] = (0, 1), rate: float = 1e-3) -> Configuration:
    return Configuration((Component("lora", size, layers, ("q",), {"alpha": size}),), rate)


def trial(
    number: int,
    quality: float | None,
    parameters: float,
    *,
    error: float | None = 0.01,
    rung: float | None = None,
    memory: float = 1e6,
    state: TrialState = TrialState.COMPLETE,
    origin: Origin = Origin.SAMPLER,
    configuration: Configuration | None = None,
    metric: str = "accuracy",
) -> Trial:
    """quality: at the end. rung: at a third of the steps."""
    configuration = configuration or lora(rate=1e-3 * (1 + number))
    observations = [
        Observation(configuration.key, 0, step, STEPS, "made up", {f"search.{metric}": Measurement(value, "", error)})
        for step, value in ((STEPS // 3, rung), (STEPS, quality))
        if value is not None
    ]
    computed = {"trainable_parameters": float(parameters), "peak_memory_bytes": float(memory)}
    return Trial(number, configuration, origin, state, computed, tuple(observations), seconds=10.0)


def head_only(quality: float = 0.5, **settings: Any) -> Trial:
    return trial(0, quality, 0, origin=Origin.BASELINE, configuration=HEAD_ONLY, **settings)


def calibrated(device_type: str, total_steps: int, seconds_used: float = 0.0) -> dict[str, Any]:
    """What a study's environment says of time: a second for each step, half a second for each evaluation."""
    times = {"seconds_used": seconds_used, "total_steps": total_steps, "seconds_per_step": 1.0, "evaluation_seconds": 0.5}
    return {**times, "recipe": {"device_type": device_type}}
