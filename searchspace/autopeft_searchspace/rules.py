"""What holds of a configuration on any model, whatever the space: what can share a model, how much trains, at which rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from autopeft_searchspace import groups
from autopeft_searchspace.configuration import MAXIMUM_COMPONENTS, OPTIMIZERS, QUANTISATIONS, Component, Configuration, Strategy
from autopeft_searchspace.low_rank import LowRank
from autopeft_searchspace.registry import adapter_type
from autopeft_searchspace.shape import ModelShape
from autopeft_searchspace.strategies import check as check_strategy
from autopeft_searchspace.strategies import strategy_type

HEAD_ONLY_LEARNING_RATE = 5e-3
BASE_LEARNING_RATE = 1e-4
"""Where weights of the base model itself train."""


def default_learning_rate(components: Sequence[Component], shape: ModelShape, strategy: Strategy | None = None) -> float:
    """lr0 of a composition: that of its most cautious component; of the head, or of the base model where a
    strategy trains that, where there is none."""
    rates = [adapter_type(c.type).default_learning_rate(c, shape) for c in components]
    if strategy and not components:
        return BASE_LEARNING_RATE
    return float(f"{min(rates, default=HEAD_ONLY_LEARNING_RATE):.3g}")


MOST_OF_MODEL = 10
"""An adapter of more than so many times the weights of its model is a slip of the hand, and would fill the memory."""


def trainable_parameters(configuration: Configuration, shape: ModelShape) -> int:
    """Exact number of weights that train at some time and are kept, without the task head: of the adapter, or
    the whole base model where a strategy trains that block by block."""
    if configuration.strategy and not strategy_type(configuration.strategy.name).adapters:
        return shape.total_parameters
    total = sum(adapter_type(c.type).trainable_parameters(c, shape) for c in configuration.components)
    if configuration.optimizer != "lora_fa":
        return total
    return total - sum(adapter_type(c.type).frozen_by_lora_fa(c, shape) for c in configuration.components)


def check(configuration: Configuration, shape: ModelShape) -> None:
    """Raise ValueError unless the model can take the configuration."""
    types = {c.type for c in configuration.components}
    if len(types) > MAXIMUM_COMPONENTS:
        raise ValueError(f"{len(types)} components, at most {MAXIMUM_COMPONENTS} can be combined")
    if not configuration.learning_rate > 0:
        raise ValueError(f"learning rate must be above 0, it is {configuration.learning_rate!r}")
    for component in configuration.components:
        adapter = adapter_type(component.type)
        if why := adapter.unavailable(shape):
            raise ValueError(f"{component.type} cannot be put on this model: {why}")
        if component.size < 1:
            raise ValueError(f"size of {component.type} must be at least 1, it is {component.size}")
        if component.size > shape.total_parameters:
            raise ValueError(
                f"size of {component.type} must be at most {shape.total_parameters:,}, the weights of the model, it is {component.size:,}"
            )
        if not component.layers or component.layers != tuple(sorted(set(component.layers))):
            raise ValueError(f"layers of {component.type} must be ascending and distinct, they are {list(component.layers)}")
        if not 0 <= component.layers[0] <= component.layers[-1] < shape.layers:
            raise ValueError(f"layers of {component.type} must lie in 0..{shape.layers - 1}, they are {list(component.layers)}")
        adapter.check(component, shape)
    if (
        why := groups.overlap(configuration.components)
        or clash(configuration.components, shape)
        or why_not(configuration.optimizer, configuration.components, configuration.strategy)
        or not_on(configuration.quantisation, configuration.components, configuration.strategy, shape)
    ):
        raise ValueError(why)
    if configuration.strategy:
        check_strategy(configuration.strategy, configuration.components, shape)
    if (count := trainable_parameters(configuration, shape)) > MOST_OF_MODEL * shape.total_parameters:
        most = MOST_OF_MODEL * shape.total_parameters
        raise ValueError(f"{count:,} trainable parameters, at most {most:,} are taken, {MOST_OF_MODEL} times those of the model")


def why_not(optimizer: str, components: Sequence[Component], strategy: Strategy | None = None) -> str | None:
    """Why components cannot be trained by an optimiser, or None where they can.

    Those of pairs know the two factors of every component that is built of some; a strategy has AdamW.
    """
    if optimizer not in OPTIMIZERS:
        return f"optimizer must be one of {', '.join(OPTIMIZERS)}, it is {optimizer!r}"
    if optimizer == OPTIMIZERS[0]:
        return None
    if strategy:
        return f"optimizer {optimizer} does not go with strategy {strategy.name}"
    if not any(adapter_type(c.type).pairs for c in components):
        names = ", ".join(c.type for c in components)
        return f"optimizer {optimizer} trains pairs of low-rank factors, of which there are none in {names or 'a task head'}"
    alike = [c.type for c in components if isinstance(adapter_type(c.type), LowRank) and not adapter_type(c.type).pairs]
    return f"optimizer {optimizer} is not made for the factors of {', '.join(alike)}" if alike else None


def not_on(quantisation: str, components: Sequence[Component], strategy: Strategy | None, shape: ModelShape) -> str | None:
    """Why components cannot train on a base model so quantised, or None where they can."""
    if quantisation not in QUANTISATIONS:
        return f"quantisation must be one of {', '.join(QUANTISATIONS)}, it is {quantisation!r}"
    if quantisation == QUANTISATIONS[0]:
        return None
    if any(module.transposed for modules in shape.modules.values() for module in modules):
        return f"quantisation {quantisation} is for linear modules, and those of {shape.architecture} have transposed weights"
    if strategy and (not strategy_type(strategy.name).adapters or strategy_type(strategy.name).prunes):
        return f"strategy {strategy.name} changes the weights of the base model, which {quantisation} keeps as they are"
    refused = [c for c in components if not adapter_type(c.type).trains_quantised(c)]
    named = ", ".join(" ".join([c.type, *(f"{name} {value}" for name, value in c.options.items())]) for c in refused)
    return f"{named} does not train on a quantised base, quantisation is {quantisation}" if refused else None


def clash(components: Sequence[Component], shape: ModelShape) -> str | None:
    """Why components cannot share a model, or None where they can.

    Some types stand alone: those that take something out of the base model's weights, and those that
    peft builds in a way of its own. Of those that compute with a module's own weight, which any other
    component below would change, a module takes one.
    """
    if len(components) < 2:
        return None
    for group in groups.joined(components):
        if len(group) > 1 and not adapter_type(group[0].type).apart:
            return f"{group[0].type} stands once in a model"
    weighed: dict[tuple[str, int], str] = {}
    for component in components:
        adapter = adapter_type(component.type)
        if not adapter.supports.composition or adapter.changes_base(component):
            return f"{component.type} as it is here stands alone, it was combined with {', '.join(c.type for c in components)}"
        if adapter.supports.innermost:
            for spot in ((role, layer) for role in component.roles for layer in component.layers):
                if spot in weighed:
                    return f"{weighed[spot]} and {component.type} both compute with the weight of {spot[0]} in layer {spot[1]}"
                weighed[spot] = component.type
    return None


def traced(configuration: Configuration, shape: ModelShape) -> Configuration:
    """What the memory predictor traces: types whose step cannot be traced replaced by the type that they
    name, and components without their variants, such as ways to start, which memory does not depend on."""
    found: list[Component] = []
    for component in configuration.components:
        adapter = adapter_type(component.type)
        usual = {name: value for name, value in component.options.items() if name not in adapter.neutral}
        component = replace(component, options=usual)
        if adapter.traced_as:
            taken = {c.type for c in (*configuration.components, *found)}
            name = next(name for name in (adapter.traced_as, "loha", "lokr", "randlora", "lora") if name not in taken)
            component = adapter_type(name).sized_for(adapter.trainable_parameters(component, shape), component, shape)
        found.append(component)
    optimizer = OPTIMIZERS[0] if why_not(configuration.optimizer, found) else configuration.optimizer
    return replace(configuration, components=tuple(found), optimizer=optimizer, strategy=None)
