"""A space: the dimensions of one study, when each is active, and the configuration each point means.

A point is a dict of dimension name -> value (a `Value` of that dimension). Inactive dimensions may
be missing. Equivalent points have one `Configuration`, whose `key` tells them apart from others.

    <type>.size          rank, width or tokens; 0 = this type is off
    <type>.<option>      active while <type>.size > 0
    layers.<i>           adapted blocks, shared by all components; active while any size > 0
    top_layers           in place of the bits: how many blocks are adapted, the most important ones of the prior
    roles.<role>         adapted modules, where a space has one choice for all components in place of
                         <type>.roles.<role>; active while a type that has roles is on
    learning_rate        factor on the default rate lr0(type, size) of the components
    strategy             which layers train when, where a space asks for it
    <strategy>.<setting> active while `strategy` names it
    quantisation         of the base model, where a space offers several; active while a type that trains on a quantised one is on
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from autopeft_searchspace import groups
from autopeft_searchspace.configuration import MAXIMUM_COMPONENTS, OPTIMIZERS, QUANTISATIONS, Component, Configuration, Value, ranges
from autopeft_searchspace.dims import Dimension
from autopeft_searchspace.drawing import draw
from autopeft_searchspace.prior import Prior
from autopeft_searchspace.registry import AdapterType, adapter_type
from autopeft_searchspace.rules import clash, default_learning_rate, not_on, why_not
from autopeft_searchspace.shape import ROLES, ModelShape
from autopeft_searchspace.strategies import NONE, STRATEGIES, settings_of, strategy_type

TOP_LAYERS = "top_layers"


class OutsideSpace(ValueError):
    """A configuration that no point of the space stands for."""


@dataclass(frozen=True)
class Space:
    """name: of the preset. types: adapter types in the order of their components.
    learning_rate: a fixed rate, or None where it is searched as a factor.
    left_out: type -> why this model cannot take it.
    shared_roles: whether there is one choice of roles for all components.
    sized_groups: whether sizes differ between groups of modules (`groups`).
    quantisations: of the base model, those that are offered; without `none` all configurations are on a quantised base.
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
    quantisations: tuple[str, ...] = QUANTISATIONS[:1]
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
        needs |= {d.name: placed for d in self.dimensions if d.name.startswith("layers.") or d.name == TOP_LAYERS}
        with_roles = tuple(f"{adapter.name}.size" for adapter in self._adapters if adapter.supports.roles)
        needs |= dict.fromkeys(groups.NAMES, tuple(f"{adapter.name}.size" for adapter in self._adapters if adapter.apart))
        needs |= {"optimizer": tuple(f"{adapter.name}.size" for adapter in self._adapters if adapter.pairs)}
        needs |= {d.name: with_roles for d in self.dimensions if d.name.startswith("roles.")}
        quantised = tuple(f"{adapter.name}.size" for adapter in self._adapters if adapter.supports.quantised_base)
        needs |= {"quantisation": quantised if QUANTISATIONS[0] in self.quantisations else ()}
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
        always = QUANTISATIONS[0] not in self.quantisations
        components = self._components(values) if len(on) > 1 or name != NONE or always else ()
        if why := clash(components, self.shape):
            return why
        if always and (why := not_on(self.quantisations[0], components, settings_of(name, values), self.shape)):
            return why
        return None if name == NONE else strategy_type(name).problem(components, self.shape)

    def most_important(self, number: int) -> tuple[int, ...]:
        """That many layers, ascending: the most important ones of the prior, or without any the last ones."""
        scores = self.prior.layers if self.prior else range(self.shape.layers)
        return tuple(sorted(sorted(range(self.shape.layers), key=lambda layer: (-scores[layer], -layer))[:number]))

    def _components(self, values: Mapping[str, Value]) -> tuple[Component, ...]:
        layers = tuple(i for i in range(self.shape.layers) if values.get(f"layers.{i}", True))
        if TOP_LAYERS in self.by_name:
            layers = self.most_important(int(values.get(TOP_LAYERS, self.shape.layers)))
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
        quantisation = str(values.get("quantisation", self.quantisations[0])) if components else self.quantisations[0]
        if not_on(quantisation, components, strategy, self.shape):
            quantisation = QUANTISATIONS[0]
        if self.learning_rate is not None:
            return Configuration(components, self.learning_rate, strategy, optimizer, quantisation)
        rate = default_learning_rate(components, self.shape, strategy) * float(values["learning_rate"])
        return Configuration(components, float(f"{rate:.3g}"), strategy, optimizer, quantisation)

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
        adapted = next(iter(layers), ())
        if TOP_LAYERS in self.by_name:
            if adapted != self.most_important(len(adapted)):
                raise OutsideSpace(f"layers {ranges(adapted)} are not the {len(adapted)} most important ones")
            values[TOP_LAYERS] = len(adapted) or self.shape.layers
        for i in range(self.shape.layers) if adapted and TOP_LAYERS not in self.by_name else ():
            values[f"layers.{i}"] = i in adapted
        if "optimizer" in self.by_name or configuration.optimizer != OPTIMIZERS[0]:
            values["optimizer"] = configuration.optimizer
        if "quantisation" in self.by_name or configuration.quantisation != self.quantisations[0]:
            values["quantisation"] = configuration.quantisation
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
                if type_name in STRATEGIES or type_name in ("strategy", "optimizer", "quantisation"):
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
        """A random point (`drawing.draw`), drawn again where components clash."""
        while True:
            values = draw(self, rng)
            if self.problem(values) is None:
                return values

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
