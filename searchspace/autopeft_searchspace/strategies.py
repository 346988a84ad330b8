"""Layer strategies: what each is called, its settings, and which configurations it goes with.

How they train stands in `autopeft.layerwise`, one file each; here is what spaces and counts need, without torch.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autopeft_searchspace.configuration import Component, Strategy, Value
from autopeft_searchspace.dims import Dimension, choice_dimension, option_dimension
from autopeft_searchspace.registry import adapter_type
from autopeft_searchspace.shape import ModelShape

NONE = "none"
SHARES = (0.125, 0.25, 0.5, 0.75)
ALL_LAYERS = ("adalora",)
"""Types that need the gradients of all their layers in every step."""
COUNTS = ("redraw", "interval", "candidates", "layers")
"""Settings that count steps, candidates or layers."""


@dataclass(frozen=True)
class StrategyType:
    """published: every setting, at the value of the publication. choices: setting -> values that are searched.

    adapters: whether it chooses among layers that have adapters; else it trains the base model, without any.
    types: adapter types that it works with; () for every type whose layers share no trained weight.
    plain_adapter: whether what it trains is an adapter of the base model as it is.
    roles: module roles that the model must have. topmost: whether the highest layers train, not any.
    prunes: whether it learns masks on heads and units, and takes out those that matter least.
    """

    name: str
    title: str
    source: str
    published: Mapping[str, Value]
    choices: Mapping[str, tuple[Value, ...]]
    adapters: bool = True
    types: tuple[str, ...] = ()
    plain_adapter: bool = True
    roles: tuple[str, ...] = ()
    topmost: bool = False
    prunes: bool = False

    def unavailable(self, shape: ModelShape) -> str | None:
        """Why this model cannot take it, or None where it can."""
        if lacking := [role for role in self.roles if role not in shape.roles]:
            return f"{self.name} needs the module roles {', '.join(self.roles)}; {shape.architecture} lacks {', '.join(lacking)}"
        if any(shape.modules[role][0].transposed for role in self.roles):
            return f"{self.name} works on linear modules, and those of {shape.architecture} have transposed weights"
        return None

    def problem(self, components: Sequence[Component], shape: ModelShape) -> str | None:
        """Why it does not go with these components on this model, or None where it does."""
        if why := self.unavailable(shape):
            return why
        if not self.adapters:
            return f"{self.name} trains blocks of the base model in full and takes no adapter" if components else None
        if not components:
            return f"{self.name} chooses among the layers of an adapter, and there is none"
        if "active" in self.published and len({layer for component in components for layer in component.layers}) < 2:
            return f"{self.name} chooses among the layers of an adapter, and this one is in a single layer"
        for component in components:
            if self.types and component.type not in self.types:
                return f"{self.name} works on {', '.join(self.types)}, not on {component.type}"
            if adapter_type(component.type).schedules:
                return f"{self.name} trains layers now and then, and {component.type} follows a schedule of its own in every step"
            if component.type in ALL_LAYERS:
                return f"{component.type} moves ranks by the gradients of all layers, of which {self.name} trains some"
            if not trains_per_layer(component, shape):
                return f"{self.name} trains layers apart, and the layers of {component.type} share trained weights"
        return None


def trains_per_layer(component: Component, shape: ModelShape) -> bool:
    """Whether no trained weight of the component belongs to several layers: counts of single layers add up."""
    adapter = adapter_type(component.type)
    apart = sum(
        adapter.trainable_parameters(Component(component.type, component.size, (layer,), component.roles, component.options), shape)
        for layer in component.layers
    )
    return apart == adapter.trainable_parameters(component, shape)


STRATEGIES: dict[str, StrategyType] = {
    kind.name: kind
    for kind in (
        StrategyType(
            "random_layers",
            "A random share of the adapted layers trains",
            "the baseline that importance has to beat",
            {"active": 0.25, "redraw": 1, "drop_state": False},
            {"active": SHARES, "redraw": (1, 5, 10, 20, 50), "drop_state": (False, True)},
        ),
        StrategyType(
            "ist",
            "Layers that matter more are trained more often; importance is learnt on the way",
            "IST, Yao et al., EMNLP 2024 Findings (arXiv 2410.11772)",
            {"active": 0.25, "interval": 10, "candidates": 3, "damping": 0.25, "rate": 10.0, "redraw": 1, "drop_state": False},
            {
                "active": SHARES,
                "interval": (5, 10, 20, 50),
                "candidates": (2, 3, 4, 6),
                "damping": (0.0, 0.25, 0.5),
                "rate": (1.0, 3.0, 10.0, 30.0, 100.0),
                "redraw": (1, 5, 10, 20, 50),
                "drop_state": (False, True),
            },
        ),
        StrategyType(
            "lisa",
            "Random blocks of the base model trained in full, with embeddings and head",
            "LISA, Pan et al., 2024 (arXiv 2403.17919)",
            {"layers": 2, "interval": 20, "drop_state": True},
            {"layers": (1, 2, 4, 8), "interval": (5, 10, 20, 50, 100), "drop_state": (False, True)},
            adapters=False,
            plain_adapter=False,
        ),
        StrategyType(
            "frozen_below",
            "Only the highest layers train, from the start or one after another",
            "what fine-tuning of the last layers is for adapters",
            {"active": 0.25, "growing": False},
            {"active": SHARES, "growing": (False, True)},
            topmost=True,
        ),
        StrategyType(
            "light_peft",
            "Masks are learnt for a while, then heads, units, adapter modules and ranks are pruned",
            "Light-PEFT, Gu et al., ACL 2024 Findings (arXiv 2406.03792)",
            {"estimation": 0.04, "heads": 1 / 3, "units": 1 / 3, "modules": 0.75, "ranks": 0.5, "l1": 1e-4},
            {
                "estimation": (0.02, 0.04, 0.1, 0.2),
                "heads": (0.0, 0.25, 1 / 3, 0.5),
                "units": (0.0, 0.25, 1 / 3, 0.5),
                "modules": (0.0, 0.25, 0.5, 0.75),
                "ranks": (0.0, 0.25, 0.5, 0.75),
                "l1": (1e-5, 1e-4, 1e-3),
            },
            types=("lora", "rslora", "serial", "parallel"),
            prunes=True,
            plain_adapter=False,
            roles=("q", "k", "v", "o", "ff_in", "ff_out"),
        ),
    )
}


def strategy_type(name: str) -> StrategyType:
    """The strategy called `name`; ValueError with near names if there is none."""
    if name not in STRATEGIES:
        near = difflib.get_close_matches(name, STRATEGIES, n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else f"; there are {', '.join(STRATEGIES)}"
        raise ValueError(f"unknown layer strategy {name!r}{hint}")
    return STRATEGIES[name]


def published(name: str, **changes: Value) -> Strategy:
    """A strategy as it was published, with `changes`."""
    return Strategy(name, {**strategy_type(name).published, **changes})


def check(strategy: Strategy, components: Sequence[Component], shape: ModelShape) -> None:
    """Raise ValueError unless the strategy has its settings and goes with the components."""
    kind = strategy_type(strategy.name)
    if strategy.settings.keys() != kind.published.keys():
        raise ValueError(f"settings of {kind.name} must be {', '.join(kind.published)}; they are {', '.join(strategy.settings) or 'none'}")
    for name, value in strategy.settings.items():
        usual = kind.published[name]
        if isinstance(value, bool) != isinstance(usual, bool) or isinstance(value, str) != isinstance(usual, str):
            raise ValueError(f"{kind.name}.{name} must be of the kind of {usual!r}, it is {value!r}")
        if not isinstance(value, (bool, str)) and float(value) < 0:
            raise ValueError(f"{kind.name}.{name} must not be negative, it is {value!r}")
        if name in COUNTS and not (isinstance(value, int) and value >= 1):
            raise ValueError(f"{kind.name}.{name} must be a whole number from 1 on, it is {value!r}")
        if name == "layers" and int(value) > shape.layers:
            raise ValueError(f"{kind.name}.layers must be at most {shape.layers}, the layers of the model; it is {value}")
    if why := kind.problem(components, shape):
        raise ValueError(why)


def strategy_dimensions(names: Sequence[str], shape: ModelShape) -> list[Dimension]:
    """`strategy`, one of `names` or none, and `<name>.<setting>` of each that the model can take."""
    fitting = [kind for kind in map(strategy_type, names) if not kind.unavailable(shape)]
    settings = [
        option_dimension(f"{kind.name}.{setting}", [v for v in values if setting != "layers" or int(v) <= shape.layers])
        for kind in fitting
        for setting, values in kind.choices.items()
    ]
    return [choice_dimension("strategy", [NONE, *(kind.name for kind in fitting)]), *settings]


def active_layers(share: float, layers: int) -> int:
    """How many of `layers` a share is: rounded down, at least one.

    >>> active_layers(0.25, 12), active_layers(0.25, 3)
    (3, 1)
    """
    return max(1, int(share * layers))


def pruned(share: float, number: int) -> int:
    """How many of `number` things go out: the share rounded down.

    >>> pruned(1 / 3, 12), pruned(0.5, 5)
    (4, 2)
    """
    return int(share * number + 1e-9)


def layers_at_peak(strategy: Strategy, layers: Sequence[int]) -> tuple[int, ...]:
    """Of `layers`, ascending, those whose training at once takes most memory: activations are kept from the
    lowest of them on."""
    if "layers" in strategy.settings:
        return tuple(layers[: int(strategy.settings["layers"])])
    if "active" not in strategy.settings:
        return tuple(layers)
    count = active_layers(float(strategy.settings["active"]), len(layers))
    return tuple(layers[-count:] if strategy_type(strategy.name).topmost else layers[:count])


def settings_of(strategy: str, values: Mapping[str, Value]) -> Strategy | None:
    """The strategy that values of a point name, or None for none."""
    if strategy == NONE:
        return None
    kind = strategy_type(strategy)
    return Strategy(strategy, {name: values.get(f"{strategy}.{name}", usual) for name, usual in kind.published.items()})
