"""Adapter types of Hugging Face peft that change chosen linear modules: what they all share.

A subclass is one file in `adapters/`: sizes, options, trained weights per module, config class and
default learning rate. Alone, peft builds it; in a composition its layers become parts
(`tuners/native.py`). Where a size must divide the widths of modules, the grid of powers of two is
snapped once, to divisors of all widths of the model, so that every point of the space can be built.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from autopeft_searchspace.checks import check_options, check_roles
from autopeft_searchspace.configuration import Component, Value
from autopeft_searchspace.dims import Dimension, bit_dimension, option_dimension, powers_of_two, size_dimension
from autopeft_searchspace.registry import AdapterType, Base
from autopeft_searchspace.shape import LinearShape, ModelShape

if TYPE_CHECKING:
    from peft import PeftConfig


SCALING = 2
"""alpha / rank of types that do not search it: the learning rate is searched."""


class LinearAdapter(AdapterType):
    """options: option -> its values; ordered by size where they are numbers.
    highest: largest size searched. rate: default learning rate, whatever the size.
    takes_transposed: whether peft puts the type on modules whose weight is [in, out]."""

    options: ClassVar[Mapping[str, tuple[Value, ...]]] = {}
    highest: ClassVar[int] = 256
    rate: ClassVar[float] = 5e-3
    takes_transposed: ClassVar[bool] = True
    memory_like = "low_rank"

    # what a subclass says

    @abstractmethod
    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """Weights that train on one module."""

    @abstractmethod
    def config(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> PeftConfig:
        """The config of peft; without target modules, unless they must be given in another way than by their paths."""

    def shared(self, component: Component, shape: ModelShape) -> int:
        """Weights that train once for all modules."""
        return 0

    def sizes(self, shape: ModelShape) -> Sequence[int]:
        """Sizes to search, without 0: powers of two up to `highest` and the narrowest module."""
        return powers_of_two(min(self.highest, narrowest(shape)))

    def choices(self, shape: ModelShape) -> Mapping[str, Sequence[Value]]:
        """`options` on this model."""
        return self.options

    def problem(self, component: Component, shape: ModelShape) -> str | None:
        """Why a model cannot take this size, or None where it can."""
        return None

    def alpha(self, component: Component) -> float:
        """Of types whose update is scaled by alpha / rank."""
        return SCALING * component.size

    def takes_ranks(self, component: Component) -> bool:
        """Whether peft has a pattern of ranks and alphas for it."""
        return False

    # the contract

    def unavailable(self, shape: ModelShape) -> str | None:
        transposed = any(module.transposed for modules in shape.modules.values() for module in modules)
        if transposed and not self.takes_transposed and not self.supports.composition:
            return f"peft builds it on linear modules alone, and those of {shape.architecture} have transposed weights"
        return super().unavailable(shape)

    def dimensions(self, shape: ModelShape) -> Sequence[Dimension]:
        return (
            size_dimension(f"{self.name}.size", self.sizes(shape)),
            *(option_dimension(f"{self.name}.{option}", values) for option, values in self.choices(shape).items()),
            *(bit_dimension(f"{self.name}.roles.{role}") for role in shape.roles),
        )

    def component(self, values: Mapping[str, Value], layers: tuple[int, ...], shape: ModelShape) -> Component | None:
        size = int(values.get(f"{self.name}.size", 0))
        roles = tuple(role for role in shape.roles if values.get(f"{self.name}.roles.{role}"))
        if not size or not layers or not roles:
            return None
        options = {option: values.get(f"{self.name}.{option}", self.neutral.get(option)) for option in self.choices(shape)}
        return Component(self.name, size, layers, roles, self._canonical(options))

    def _canonical(self, options: Mapping[str, Any]) -> dict[str, Value]:
        return {name: value for name, value in options.items() if name not in self.neutral or value != self.neutral[name]}

    def values(self, component: Component, shape: ModelShape) -> dict[str, Value]:
        options = {**{name: self.neutral[name] for name in self.choices(shape) if name in self.neutral}, **component.options}
        return {
            f"{self.name}.size": component.size,
            **{f"{self.name}.{option}": value for option, value in options.items()},
            **{f"{self.name}.roles.{role}": role in component.roles for role in shape.roles},
        }

    def check(self, component: Component, shape: ModelShape) -> None:
        check_roles(component, shape.roles)
        check_options(component, self.choices(shape), optional=self.neutral)
        if why := self.problem(component, shape):
            raise ValueError(f"{self.name} of size {component.size} cannot be put on {', '.join(component.roles)}: {why}")

    def option(self, component: Component, name: str) -> Value:
        """An option of the component, also where it is left out."""
        return component.options[name] if name in component.options else self.neutral[name]

    def targets(self, component: Component, shape: ModelShape) -> list[LinearShape]:
        return [shape.modules[role][layer] for layer in component.layers for role in component.roles]

    def spots(self, component: Component, shape: ModelShape) -> Mapping[str, bool]:
        return {module.path: True for module in self.targets(component, shape)}

    def sized_for(self, weights: int, like: Component, shape: ModelShape) -> Component:
        options = {name: values[0] for name, values in self.choices(shape).items() if name not in self.neutral}
        sizes = self.sizes(shape)
        found = [Component(self.name, size, like.layers, like.roles, options) for size in sizes]
        return min(found, key=lambda component: abs(self.trainable_parameters(component, shape) - weights))

    def trainable_parameters(self, component: Component, shape: ModelShape) -> int:
        """`per_module` over the adapted modules, and what is `shared`."""
        each = sum(self.per_module(component, module, shape) for module in self.targets(component, shape))
        return each + self.shared(component, shape)

    def default_learning_rate(self, component: Component, shape: ModelShape) -> float:
        """`rate`, for every size: a place to start from, which the searched factor multiplies; measured where the type's file says so."""
        return self.rate

    def peft_config(self, component: Component, shape: ModelShape) -> PeftConfig | None:
        targets = self.targets(component, shape)
        if any(module.transposed for module in targets) and not self.takes_transposed:
            return None
        config = self.config(component, targets, shape)
        config.target_modules = config.target_modules or [module.path for module in targets]
        if hasattr(config, "fan_in_fan_out"):
            config.fan_in_fan_out = any(module.transposed for module in targets)
        return config

    def pattern_config(self, components: Sequence[Component], shape: ModelShape) -> PeftConfig | None:
        """One config with `rank_pattern` and `alpha_pattern`, where nothing but rank and alpha differs."""
        first = components[0]
        if not self.takes_ranks(first) or any({**c.options, "alpha": 0} != {**first.options, "alpha": 0} for c in components):
            return None
        config: Any = self.peft_config(first, shape)
        if config is None:
            return None
        paths = {module.path: component for component in components for module in self.targets(component, shape)}
        config.target_modules = list(paths)
        config.rank_pattern = {path: component.size for path, component in paths.items() if component.size != first.size}
        alphas = {path: self.alpha(component) for path, component in paths.items()}
        config.alpha_pattern = {path: alpha for path, alpha in alphas.items() if path in config.rank_pattern or alpha != self.alpha(first)}
        return config

    def attach(self, component: Component, shape: ModelShape, base: Base | None = None) -> Mapping[str, Any]:
        from autopeft_searchspace.tuners.native import native_parts

        targets = self.targets(component, shape)
        return native_parts(self.config(component, targets, shape), targets, base, mergeable=self.supports.merge)


class OwnLinearAdapter(LinearAdapter):
    """Types that peft does not have: a subclass says what to `attach`."""

    def peft_config(self, component: Component, shape: ModelShape) -> None:
        return None

    def config(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> PeftConfig:
        raise NotImplementedError(f"{self.name} is no type of peft")


def narrowest(shape: ModelShape) -> int:
    """The smallest number of input or output features of a module that has a role."""
    return min(min(m.d_in, m.d_out) for modules in shape.modules.values() for m in modules)


def below_narrowest(size: int, modules: Sequence[LinearShape]) -> str | None:
    """None where a rank leaves a singular value of every module's weight as it is, else why it does not."""
    least = min(min(module.d_in, module.d_out) for module in modules)
    return None if size < least else f"rank must be below the narrowest module, {least}, it is {size}"


def common_divisor(shape: ModelShape) -> int:
    """The largest number that divides the input and output features of every module that has a role."""
    return math.gcd(*(d for modules in shape.modules.values() for m in modules for d in (m.d_in, m.d_out)))


def divisors(number: int, wanted: Sequence[int]) -> tuple[int, ...]:
    """The divisors of `number` that are nearest (in logarithm) to those wanted, ascending, each once.

    >>> divisors(96, (4, 8, 64))
    (4, 8, 48)
    """
    fitting = [d for d in range(1, number + 1) if number % d == 0]
    return tuple(sorted({min(fitting, key=lambda d: abs(math.log(d / w))) for w in wanted if w <= number}))


def must_divide(size: int, widths: Sequence[int]) -> str | None:
    """None where `size` divides all of `widths`, else why it does not fit and what would."""
    if all(width % size == 0 for width in widths):
        return None
    near = divisors(math.gcd(*widths), (size, 2 * size, max(1, size // 2)))
    return f"it must divide {', '.join(map(str, sorted(set(widths))))}, as {' or '.join(map(str, near)) or 1} does"
