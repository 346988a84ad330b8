"""A space: the dimensions of one study, when each is active, and the configuration each point means.

A point is a dict of dimension name -> value (a `Value` of that dimension). Inactive dimensions may
be missing. Equivalent points have one `Configuration`, whose `key` tells them apart from others.

    <type>.size          rank, width or tokens; 0 = this type is off
    <type>.<option>      active while <type>.size > 0
    layers.<i>           adapted blocks, shared by all components; active while any size > 0
    roles.<role>         adapted modules, where a space has one choice for all components in place of
                         <type>.roles.<role>; active while a type that has roles is on
    learning_rate        factor on the default rate lr0(type, size) of the components
    strategy             which layers train when, where a space asks for it
    <strategy>.<setting> active while `strategy` names it
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import resources
from typing import Any

import numpy as np
import yaml

from autopeft_searchspace import groups
from autopeft_searchspace.configuration import MAXIMUM_COMPONENTS, OPTIMIZERS, Component, Configuration, Strategy, Value
from autopeft_searchspace.dims import Dimension, bit_dimension, choice_dimension, real_dimension
from autopeft_searchspace.low_rank import LowRank
from autopeft_searchspace.prior import Prior
from autopeft_searchspace.registry import AdapterType, adapter_type, adapter_types
from autopeft_searchspace.shape import ROLES, ModelShape
from autopeft_searchspace.strategies import NONE, STRATEGIES, settings_of, strategy_dimensions, strategy_type
from autopeft_searchspace.strategies import check as check_strategy

FAMILIES = {"bottleneck": ("serial", "parallel", "compacter")}
"""Names that stand for several types in a list of them."""
HEAD_ONLY_LEARNING_RATE = 5e-3
BASE_LEARNING_RATE = 1e-4
"""Where weights of the base model itself train."""
LEARNING_RATE_FACTORS = real_dimension("learning_rate", 1 / 8, 8, steps=13)


class OutsideSpace(ValueError):
    """A configuration that no point of the space stands for."""


@dataclass(frozen=True)
class Space:
    """name: of the preset. types: adapter types in the order of their components.
    learning_rate: a fixed rate, or None where it is searched as a factor.
    left_out: type -> why this model cannot take it.
    shared_roles: whether there is one choice of roles for all components.
    sized_groups: whether sizes differ between groups of modules (`groups`).
    prior: importance of layers and roles, by which points are drawn; None where all are drawn evenly."""

    name: str
    shape: ModelShape
    types: tuple[str, ...]
    dimensions: tuple[Dimension, ...]
    learning_rate: float | None
    left_out: Mapping[str, str]
    maximum_components: int = MAXIMUM_COMPONENTS
    shared_roles: bool = False
    sized_groups: bool = False
    prior: Prior | None = None

    @cached_property
    def by_name(self) -> dict[str, Dimension]:
        return {dimension.name: dimension for dimension in self.dimensions}

    @cached_property
    def _adapters(self) -> tuple[AdapterType, ...]:
        return tuple(adapter_type(name) for name in self.types)

    @property
    def cardinality(self) -> int:
        """Number of points, equivalent ones counted apart (as AutoPEFT counts 5,451,776)."""
        return math.prod(dimension.cardinality for dimension in self.dimensions)

    @cached_property
    def _needs(self) -> dict[str, tuple[str, ...]]:
        """Dimension -> the sizes of which one must be above 0 for it to matter; none where it always does."""
        sizes = tuple(f"{type}.size" for type in self.types)
        placed = tuple(f"{adapter.name}.size" for adapter in self._adapters if adapter.supports.layers)
        needs: dict[str, tuple[str, ...]] = {d.name: (f"{d.name.partition('.')[0]}.size",) for d in self.dimensions}
        needs |= {d.name: placed for d in self.dimensions if d.name.startswith("layers.")}
        with_roles = tuple(f"{adapter.name}.size" for adapter in self._adapters if adapter.supports.roles)
        needs |= dict.fromkeys(groups.NAMES, tuple(f"{adapter.name}.size" for adapter in self._adapters if adapter.apart))
        needs |= {"optimizer": tuple(f"{adapter.name}.size" for adapter in self._adapters if adapter.pairs)}
        needs |= {d.name: with_roles for d in self.dimensions if d.name.startswith("roles.")}
        return needs | dict.fromkeys((*sizes, "learning_rate", "strategy"), ())

    def is_active(self, name: str, values: Mapping[str, Value]) -> bool:
        """Whether dimension `name` matters, given the sizes and the strategy in `values`."""
        owner = name.partition(".")[0]
        if owner in STRATEGIES:
            return values.get("strategy") == owner
        needs = self._needs[name]
        return not needs or any(map(values.get, needs))

    def active(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """`values` without inactive dimensions, in the order of the space."""
        return {d.name: values[d.name] for d in self.dimensions if self.is_active(d.name, values)}

    def problem(self, values: Mapping[str, Value]) -> str | None:
        """Why the point has no configuration, or None where it has one."""
        on = [type for type in self.types if values.get(f"{type}.size")]
        if len(on) > self.maximum_components:
            return f"{len(on)} components ({', '.join(on)}), at most {self.maximum_components} can be combined"
        name = str(values.get("strategy", NONE))
        components = self._components(values) if len(on) > 1 or name != NONE else ()
        if why := clash(components, self.shape):
            return why
        return None if name == NONE else strategy_type(name).problem(components, self.shape)

    def _components(self, values: Mapping[str, Value]) -> tuple[Component, ...]:
        layers = tuple(i for i in range(self.shape.layers) if values.get(f"layers.{i}", True))
        on = [adapter for adapter in self._adapters if values.get(f"{adapter.name}.size")]
        if self.shared_roles:
            roles = {role: values.get(f"roles.{role}", False) for role in self.shape.roles}
            values = {**values, **{f"{adapter.name}.roles.{role}": chosen for adapter in on for role, chosen in roles.items()}}
        found: list[Component | None] = []
        for adapter in on:
            if self.sized_groups and adapter.apart:
                found += groups.split(adapter, values, layers, self.shape, self.by_name[f"{adapter.name}.size"].values)
            else:
                found.append(adapter.component(values, layers, self.shape))
        return tuple(component for component in found if component is not None)

    def configuration(self, values: Mapping[str, Value]) -> Configuration:
        """The configuration of a point; ValueError where `problem` names one."""
        if why := self.problem(values):
            raise ValueError(why)
        components = self._components(values)
        strategy = settings_of(str(values.get("strategy", NONE)), values)
        optimizer = str(values.get("optimizer", OPTIMIZERS[0]))
        if why_not(optimizer, components, strategy):
            optimizer = OPTIMIZERS[0]
        if self.learning_rate is not None:
            return Configuration(components, self.learning_rate, strategy, optimizer)
        rate = default_learning_rate(components, self.shape, strategy) * float(values["learning_rate"])
        return Configuration(components, float(f"{rate:.3g}"), strategy, optimizer)

    def values(self, configuration: Configuration) -> dict[str, Value]:
        """A point that stands for `configuration`; its learning rate may be rounded to the grid.

        Raises `OutsideSpace` where a type, size, option or placement is not in the space.
        """
        if self.sized_groups:
            return self._grouped_values(configuration)
        for component in configuration.components:
            if component.type not in self.types:
                raise OutsideSpace(f"adapter type {component.type!r} is not in space {self.name!r}")
        layers = {component.layers for component in configuration.components if adapter_type(component.type).supports.layers}
        if len(layers) > 1:
            raise OutsideSpace("components in different layers; this space has one choice of layers for all")
        if self.shared_roles and len({c.roles for c in configuration.components if c.roles}) > 1:
            raise OutsideSpace("components on different roles; this space has one choice of roles for all")
        values: dict[str, Value] = {f"{type}.size": 0 for type in self.types}
        for component in configuration.components:
            values.update(self._own_values(component))
        for i in range(self.shape.layers) if layers else ():
            values[f"layers.{i}"] = i in next(iter(layers))
        if "optimizer" in self.by_name or configuration.optimizer != OPTIMIZERS[0]:
            values["optimizer"] = configuration.optimizer
        if self.learning_rate is None:
            usual = default_learning_rate(configuration.components, self.shape, configuration.strategy)
            values["learning_rate"] = self.by_name["learning_rate"].nearest(configuration.learning_rate / usual)
        if configuration.strategy or "strategy" in self.by_name:
            values["strategy"] = configuration.strategy.name if configuration.strategy else NONE
        if configuration.strategy:
            values |= {f"{configuration.strategy.name}.{name}": value for name, value in configuration.strategy.settings.items()}
        for name, value in list(values.items()):
            if name not in self.by_name:
                if name.startswith("layers.") and value:  # this space adapts every layer
                    del values[name]
                    continue
                type_name, _, option = name.partition(".")
                if type_name in STRATEGIES or type_name in ("strategy", "optimizer"):
                    raise OutsideSpace(f"space {self.name!r} has no dimension {name!r}")
                if value == adapter_type(type_name).neutral.get(option):
                    del values[name]
                    continue
                raise OutsideSpace(f"space {self.name!r} has no dimension {name!r}")
            try:
                self.by_name[name].index(value)
            except ValueError as error:
                raise OutsideSpace(str(error)) from None
        return self.active(values)

    def _grouped_values(self, configuration: Configuration) -> dict[str, Value]:
        """As `values`, where a type may have a size for each group: the components of a type are put together,
        and the factors and the size that make them again are found by trying."""
        together = [_put_together(group) for group in groups.joined(configuration.components)]
        even = replace(self, sized_groups=False, dimensions=tuple(d for d in self.dimensions if d.name not in groups.NAMES))
        whole = even.values(replace(configuration, components=tuple(together)))
        shown = [name for name in groups.NAMES if name in self.by_name]
        for factors in groups.all_factors():
            values: dict[str, Value] = {**whole, **{name: factors[name] for name in shown}}
            for component in together:
                name = f"{component.type}.size"
                fitting = (
                    size
                    for size in self.by_name[name].values
                    if size and self._makes({**values, name: size}, configuration, component.type)
                )
                values[name] = next(fitting, 0)
            if all(values[f"{component.type}.size"] for component in together):
                return self.active(values)
        raise OutsideSpace("sizes of groups that no factors give")

    def _makes(self, values: Mapping[str, Value], configuration: Configuration, type_name: str) -> bool:
        """Whether values give just those components of one type that a configuration has."""
        made = self._components(
            {name: 0 if name.endswith(".size") and name != f"{type_name}.size" else value for name, value in values.items()}
        )
        return list(made) == [component for component in configuration.components if component.type == type_name]

    def _own_values(self, component: Component) -> dict[str, Value]:
        """Values that a component stands for, with roles where this space has them."""
        values = adapter_type(component.type).values(component, self.shape)
        if not self.shared_roles:
            return values
        own = f"{component.type}.roles."
        return {f"roles.{name.removeprefix(own)}" if name.startswith(own) else name: value for name, value in values.items()}

    def sample(self, rng: np.random.Generator) -> dict[str, Value]:
        """A random point, drawn so that every number of components, every size and every number of
        layers is equally likely (independent bits would nearly always adapt half of the layers).
        Drawn again where components clash."""
        while True:
            values = self._draw(rng)
            if self.problem(values) is None:
                return values

    def _draw(self, rng: np.random.Generator) -> dict[str, Value]:
        values: dict[str, Value] = {d.name: d.values[rng.integers(d.cardinality)] for d in self.dimensions}
        without = values.get("strategy", NONE)
        if without != NONE and not strategy_type(str(without)).adapters and all(0 in self.by_name[f"{t}.size"].values for t in self.types):
            return self.active({**values, **{f"{type}.size": 0 for type in self.types}})
        sizes = [self.by_name[f"{type}.size"] for type in self.types]
        can_be_on = [d for d in sizes if any(d.values)]
        most = min(self.maximum_components, len(can_be_on))
        must_be_on = [d for d in sizes if all(d.values)]
        count = int(rng.integers(1, most + 1))
        optional = [d for d in can_be_on if d not in must_be_on]
        extra = rng.permutation(len(optional))[: max(0, count - len(must_be_on))]
        on = {d.name for d in must_be_on} | {optional[i].name for i in extra}
        for d in sizes:
            choices = [v for v in d.values if v] if d.name in on else [0]
            values[d.name] = choices[rng.integers(len(choices))]
        layers = [d for d in self.dimensions if d.name.startswith("layers.") and d.cardinality == 2]
        if layers:
            count = int(rng.integers(1, len(layers) + 1))
            numbers = [int(d.name.partition(".")[2]) for d in layers]
            chosen = (
                self.prior.draw_layers(numbers, count, rng) if self.prior else {numbers[i] for i in rng.permutation(len(layers))[:count]}
            )
            values.update({d.name: number in chosen for number, d in zip(numbers, layers, strict=True)})
        if self.prior:
            roles = [d for d in self.dimensions if "roles" in d.name.split(".") and d.cardinality == 2]
            values.update({d.name: bool(rng.random() < self.prior.role_share(d.name.rpartition(".")[2])) for d in roles})
        return self.active(values)

    def points(self) -> Iterator[dict[str, Value]]:
        """Every point once per active combination; only for spaces small enough to be listed."""

        def extend(position: int, values: dict[str, Value]) -> Iterator[dict[str, Value]]:
            if position == len(order):
                if self.problem(values) is None:
                    yield dict(values)
                return
            dimension = order[position]
            if not self.is_active(dimension.name, values):
                yield from extend(position + 1, values)
                return
            for value in dimension.values:
                yield from extend(position + 1, {**values, dimension.name: value})

        order = sorted(self.dimensions, key=lambda d: not d.name.endswith(".size"))
        return extend(0, {})


def _put_together(group: Sequence[Component]) -> Component:
    """One component where all of a group stand, with the first one's size and options."""
    layers = tuple(sorted({layer for component in group for layer in component.layers}))
    roles = tuple(role for role in ROLES if any(role in component.roles for component in group))
    return replace(group[0], layers=layers, roles=roles)


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
    return Configuration(tuple(found), configuration.learning_rate, optimizer=optimizer)


def presets() -> dict[str, dict[str, Any]]:
    """Presets by name, as written in `presets/*.yaml`."""
    folder = resources.files("autopeft_searchspace.presets")
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".yaml")), key=lambda f: f.name)
    return {f.name.removesuffix(".yaml"): yaml.safe_load(f.read_text("utf-8")) for f in files}


def build_space(preset: str, shape: ModelShape, change: Mapping[str, Any] | None = None) -> Space:
    """The space of a preset on a model.

    change: `types` (list of adapter types, or `all`), `strategies` (list of layer strategies, or `all`),
        `optimizers` (list of `OPTIMIZERS`, or `all`), `layers` (`bits` or `all`), `learning_rate` (`search` or a number),
        `maximum_components`, `variants` (whether refinements of types, such as `lora.init`, are searched, or only those that
        are named), `roles` (`own` choices of each type, or one `shared` by all), `sizes` (`one` of each type, or factors for
        `groups` of modules), and any dimension's name with the value or the list of
        values it is restricted to, e.g. `{"lora.size": [0, 4, 8], "serial.place": "attention"}`, or
        the range of its numbers, e.g. `{"prefix.size": {"maximum": 128}}`; 0 = off stays in a range.
    Raises ValueError naming the rule, the value and near names.
    """
    known = presets()
    if preset not in known:
        raise ValueError(f"unknown preset {preset!r}{_near(preset, known)}")
    change = change or {}
    settings: dict[str, Any] = {key: value for key, value in known[preset].items() if key != "title"} | {**change}
    names = _type_names(settings.pop("types"))
    layers, rate = settings.pop("layers"), settings.pop("learning_rate")
    most = settings.pop("maximum_components", MAXIMUM_COMPONENTS)
    variants, roles, sizes = settings.pop("variants", False), settings.pop("roles", "own"), settings.pop("sizes", "one")
    strategies = settings.pop("strategies", [])
    optimizers = settings.pop("optimizers", [])
    optimizers = list(OPTIMIZERS) if optimizers == "all" else optimizers
    if layers not in ("bits", "all"):
        raise ValueError(f"layers must be 'bits' or 'all', it is {layers!r}")
    if rate != "search" and not (isinstance(rate, (int, float)) and rate > 0):
        raise ValueError(f"learning_rate must be 'search' or a number above 0, it is {rate!r}")
    if not isinstance(most, int) or not 1 <= most <= MAXIMUM_COMPONENTS:
        raise ValueError(f"maximum_components must be 1 to {MAXIMUM_COMPONENTS}, it is {most!r}")
    if roles not in ("own", "shared"):
        raise ValueError(f"roles must be 'own' or 'shared', it is {roles!r}")
    if not isinstance(optimizers, list) or not set(optimizers) <= set(OPTIMIZERS):
        raise ValueError(f"optimizers must be 'all' or a list of {', '.join(OPTIMIZERS)}, it is {optimizers!r}")
    if sizes not in ("one", "groups"):
        raise ValueError(f"sizes must be 'one' or 'groups', it is {sizes!r}")
    left_out = {name: why for name in names if (why := adapter_type(name).unavailable(shape))}
    types = tuple(name for name in names if name not in left_out)
    if not types:
        raise ValueError(f"no adapter type of preset {preset!r} fits this model: {left_out}")
    dimensions = [
        dimension
        for name in types
        for dimension in adapter_type(name).dimensions(shape)
        if variants or dimension.name in settings or dimension.name.partition(".")[2] not in adapter_type(name).neutral
    ]
    if roles == "shared":
        dimensions = [d for d in dimensions if not d.name.partition(".")[2].startswith("roles.")]
        dimensions += [bit_dimension(f"roles.{role}") for role in shape.roles]
    if layers == "bits":
        dimensions += [bit_dimension(f"layers.{i}") for i in range(shape.layers)]
    if optimizers and any(adapter_type(name).pairs for name in types):
        dimensions.append(choice_dimension("optimizer", [name for name in OPTIMIZERS if name in optimizers]))
    if sizes == "groups":
        with_roles = any(adapter_type(name).supports.roles for name in types)
        dimensions += [d for d in groups.dimensions() if with_roles or d.name != "sizes.feed_forward"]
    if rate == "search":
        dimensions.append(LEARNING_RATE_FACTORS)
    if strategies:
        dimensions += strategy_dimensions(list(STRATEGIES) if strategies == "all" else strategies, shape)
    by_name = {d.name: d for d in dimensions}
    for name, wanted in settings.items():
        type_name = name.partition(".")[0]
        if type_name in left_out or (name not in change and type_name in adapter_types() and type_name not in types):
            continue
        if name not in by_name:
            raise ValueError(f"space has no dimension {name!r}{_near(name, by_name)}")
        by_name[name] = _restrict(by_name[name], wanted)
    fixed = None if rate == "search" else float(rate)
    return Space(preset, shape, types, tuple(by_name.values()), fixed, left_out, most, roles == "shared", sizes == "groups")


def _type_names(wanted: Any) -> list[str]:
    """Adapter types of a list, in which `bottleneck` stands for all of these, or all there are for `all`."""
    if wanted == "all":
        return sorted(adapter_types())
    if not isinstance(wanted, list) or not wanted or not all(isinstance(name, str) for name in wanted):
        raise ValueError(f"types must be a list of distinct adapter types, it is {wanted!r}")
    names = [name for given in wanted for name in FAMILIES.get(given, (given,))]
    if len(set(names)) != len(names):
        raise ValueError(f"types must be a list of distinct adapter types, it is {wanted!r}")
    return names


def _restrict(dimension: Dimension, wanted: Any) -> Dimension:
    if isinstance(wanted, Mapping):
        wanted = _range(dimension, wanted)
    chosen = wanted if isinstance(wanted, list) else [wanted]
    indices = sorted({dimension.index(value) for value in chosen})
    return Dimension(dimension.name, tuple(dimension.values[i] for i in indices), dimension.ordered, dimension.log)


def _range(dimension: Dimension, bounds: Mapping[str, Any]) -> list[Value]:
    """Values of a dimension of numbers between `minimum` and `maximum`, and 0."""
    if not dimension.ordered or not bounds or not set(bounds) <= {"minimum", "maximum"}:
        raise ValueError(f"dimension {dimension.name!r} takes values or, of numbers, minimum and maximum; it was given {dict(bounds)}")
    low, high = bounds.get("minimum", -math.inf), bounds.get("maximum", math.inf)
    kept = [value for value in dimension.values if not value or low <= float(value) <= high]
    if not any(kept):
        raise ValueError(f"dimension {dimension.name!r} has no value in {dict(bounds)}; it has {list(dimension.values)}")
    return kept


def _near(name: str, names: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, names, n=3)
    return f"; did you mean {' or '.join(near)}?" if near else f"; there are {', '.join(sorted(names))}"


def available_types(shape: ModelShape) -> dict[str, str | None]:
    """Every adapter type, with why this model cannot take it or None where it can."""
    return {name: adapter.unavailable(shape) for name, adapter in sorted(adapter_types().items())}
