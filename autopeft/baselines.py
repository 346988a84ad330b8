"""The known defaults that every search runs first, so that its front can be compared with them."""

from __future__ import annotations

from dataclasses import replace

from autopeft_searchspace.configuration import QUANTISATIONS, Component, Configuration
from autopeft_searchspace.registry import adapter_type
from autopeft_searchspace.rules import HEAD_ONLY_LEARNING_RATE, default_learning_rate
from autopeft_searchspace.shape import ModelShape

TRIALS_FOR_THREE_RATES = 40
OTHER_RATES = (1 / 3, 3.0)
HEAD_ONLY, REFERENCE = "head only", "LoRA r=8 on q,v"
AT_THREE_RATES = (HEAD_ONLY, REFERENCE)


def baselines(shape: ModelShape, budget_trials: int | None, quantisation: str = QUANTISATIONS[0]) -> list[tuple[str, Configuration]]:
    """(label, configuration) of each default this model can take, in the order in which they run.

    Head only; LoRA r=8 on q,v; LoRA r=16 on all linear layers; bottleneck 64; prefix 20; each at its
    family's default learning rate, LoRA with alpha = rank as is peft's default. From a budget of 40
    trials on, the head alone and LoRA r=8 run at three rates: what everything is compared with should
    be at its best.

    quantisation: of the base model that all of them are on.
    """
    layers = tuple(range(shape.layers))
    query_value = tuple(role for role in shape.roles if role in ("q", "v", "qkv"))
    wanted = [
        (REFERENCE, Component("lora", 8, layers, query_value, {"alpha": 8})),
        ("LoRA r=16 on all linear layers", Component("lora", 16, layers, shape.roles, {"alpha": 16})),
        ("bottleneck 64", Component("serial", 64, layers, (), {"place": "feed_forward", "bias": True})),
        ("prefix 20", Component("prefix", 20, layers)),
    ]
    found = [(HEAD_ONLY, Configuration((), HEAD_ONLY_LEARNING_RATE))]
    for label, component in wanted:
        if adapter_type(component.type).unavailable(shape) is None:
            found.append((label, Configuration((component,), default_learning_rate([component], shape))))
    if budget_trials is None or budget_trials >= TRIALS_FOR_THREE_RATES:
        for label, configuration in [f for f in found if f[0] in AT_THREE_RATES]:
            for factor in OTHER_RATES:
                rate = float(f"{configuration.learning_rate * factor:.3g}")
                found.append((f"{label}, learning rate {rate:g}", replace(configuration, learning_rate=rate)))
    return [(label, replace(configuration, quantisation=quantisation)) for label, configuration in found]
