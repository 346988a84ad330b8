"""What layer strategies leave of the counts: weights that train in a step on average, and the base that is left."""

from __future__ import annotations

from dataclasses import replace

from autopeft_searchspace.configuration import Component, Configuration
from autopeft_searchspace.rules import trainable_parameters
from autopeft_searchspace.shape import LinearShape, ModelShape
from autopeft_searchspace.strategies import active_layers, pruned, strategy_type


def mean_trained_parameters(configuration: Configuration, shape: ModelShape) -> float:
    """Weights without the task head that train in a step, on average over a run.

    Layers that are drawn count as if all were drawn as often, which is exact for random layers and what IST
    starts from; modules and ranks that Light-PEFT prunes as if all were of one size, of which one stays.
    """
    whole, strategy = trainable_parameters(configuration, shape), configuration.strategy
    if strategy is None:
        return float(whole)
    if strategy.name == "lisa":
        blocks = sum(_block(shape, layer) for layer in range(shape.layers))
        return whole - blocks + blocks * int(strategy.settings["layers"]) / shape.layers
    if strategy_type(strategy.name).prunes:
        estimation, modules, ranks = (float(strategy.settings[name]) for name in ("estimation", "modules", "ranks"))
        modules_and_ranks = [(_modules(component), component.size) for component in configuration.components]
        number = sum(n for n, _ in modules_and_ranks)
        kept = number - min(pruned(modules, number), number - 1)
        left = max(1, round(kept / number * sum(n * size for n, size in modules_and_ranks)))
        return whole * (estimation + (1 - estimation) * kept / number * (1 - min(pruned(ranks, left), left - 1) / left))
    layers = sorted({layer for component in configuration.components for layer in component.layers})
    active = active_layers(float(strategy.settings["active"]), len(layers))
    if not strategy_type(strategy.name).topmost:
        return whole * active / len(layers)
    numbers = range(1, active + 1) if strategy.settings["growing"] else (active,)
    return sum(_of_layers(configuration, layers[-n:], shape) for n in numbers) / len(numbers)


def base_parameters(configuration: Configuration, shape: ModelShape) -> float:
    """Weights of the base model that the trained model keeps, without task head and adapter.

    Fewer than the whole where attention heads (with shared keys and values: their groups) and feed-forward units are pruned.
    """
    strategy = configuration.strategy
    if strategy is None or not strategy_type(strategy.name).prunes:
        return float(shape.total_parameters)
    number = max(1, shape.key_value_heads)
    gone = min(pruned(float(strategy.settings["heads"]), number), number - 1)
    left = shape.total_parameters
    for layer in range(shape.layers):
        left -= sum(_outputs(shape.modules[role][layer]) * gone // number for role in ("q", "k", "v"))
        left -= _inputs(shape.modules["o"][layer]) * gone // number
    growing = [role for role in ("ff_in", "ff_gate") if role in shape.modules]
    first = shape.modules["ff_out"][0]
    unit = first.d_out + sum(_outputs(shape.modules[role][0]) // shape.modules[role][0].d_out for role in growing)
    units = first.d_in * shape.layers
    return float(left - unit * min(pruned(float(strategy.settings["units"]), units), units - shape.layers))


def _modules(component: Component) -> int:
    """Modules of LoRA, or sub-layers with a bottleneck."""
    return len(component.layers) * (len(component.roles) or 1 + bool(component.options.get("both")))


def _outputs(module: LinearShape) -> int:
    """Weights that go with the outputs of a linear module: its matrix and bias."""
    return module.d_out * (module.d_in + module.bias)


def _inputs(module: LinearShape) -> int:
    """Weights that go with its inputs: a bias stays whatever is pruned."""
    return module.d_out * module.d_in


def _block(shape: ModelShape, layer: int) -> int:
    linear = sum(_outputs(modules[layer]) for modules in shape.modules.values())
    return linear + (sum(norm.weights for norm in shape.norms[layer]) if shape.norms else 0)


def _of_layers(configuration: Configuration, layers: list[int], shape: ModelShape) -> int:
    kept = [replace(c, layers=tuple(layer for layer in c.layers if layer in layers)) for c in configuration.components]
    return trainable_parameters(replace(configuration, components=tuple(c for c in kept if c.layers), strategy=None), shape)
