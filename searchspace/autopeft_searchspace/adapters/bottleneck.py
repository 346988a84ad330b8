"""Bottleneck adapters: a small network beside a frozen module, serial (on its output) or parallel (on its input).

With D: width -> size, U: size -> width and f = relu:

    serial    h = F(x); h + U f(D h)     Houlsby et al., ICML 2019, section 2.1; after one sub-layer, Pfeiffer et al., EACL 2021
    parallel  F(x) + U f(D x)            He et al., ICLR 2022, section 3.3 (there with a scale)

    compacter serial, D and U sums of Kronecker products that share their small factors
              Mahabadi et al., NeurIPS 2021 (arXiv 2106.04647), section 3

F is the feed-forward or the attention of a block, or each of both (Houlsby et al. after both, serial;
LLM-Adapters, arXiv 2304.01933, has either), taken before dropout, residual and layer norm; x is what it
reads. U starts at zero, so that all start as the base model; or D and U start small (Houlsby et al.).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from autopeft_searchspace.checks import check_options, check_roles
from autopeft_searchspace.configuration import Component, Value
from autopeft_searchspace.dims import Dimension, option_dimension, size_dimension, width_grid
from autopeft_searchspace.registry import AdapterType, Base, Supports, register
from autopeft_searchspace.shape import LinearShape, ModelShape

if TYPE_CHECKING:
    from peft import PeftConfig

ENDS = {"feed_forward": ("ff_out",), "attention": ("o",)}
"""Place -> role of the module whose output the sub-layer ends with."""
STARTS = {"feed_forward": ("ff_in",), "attention": ("q", "qkv")}
"""Place -> roles of the module, the first that exists, whose input the sub-layer starts with."""

VARIANTS: dict[str, Sequence[Value]] = {
    "activation": ("relu", "gelu", "silu", "tanh"),
    "norm": (False, True),
    "start": ("zero", "small"),
}


def _module(roles: Sequence[str], layer: int, shape: ModelShape) -> LinearShape:
    """The module of the first of `roles` that the model has; `check` has seen to it that it has one."""
    return next(shape.modules[role][layer] for role in roles if role in shape.modules)


class Bottleneck(AdapterType):
    """What serial and parallel bottlenecks share; they differ in what they read."""

    supports = Supports(merge=False, quantised_base=True, layers=True, roles=False, identity_at_start=True, plain_peft=False)
    neutral = {"both": False, "activation": "relu", "norm": False, "start": "zero"}  # noqa: RUF012
    reads: ClassVar[Mapping[str, Sequence[str]]]

    def _places(self, shape: ModelShape) -> list[str]:
        return [place for place in ENDS if {*ENDS[place]} & {*shape.roles} and {*self.reads[place]} & {*shape.roles}]

    def _spans(self, component: Component, shape: ModelShape) -> list[tuple[LinearShape, LinearShape]]:
        """Of each adapted sub-layer the module whose data is read, and the one whose output is added to."""
        places = self._places(shape) if component.options.get("both") else [str(component.options["place"])]
        return [
            (_module(self.reads[place], layer, shape), _module(ENDS[place], layer, shape)) for layer in component.layers for place in places
        ]

    @abstractmethod
    def _width_read(self, start: LinearShape) -> int:
        """Features of the data that D reads."""

    def _choices(self, shape: ModelShape) -> dict[str, Sequence[Value]]:
        both = (False, True) if len(self._places(shape)) > 1 else (False,)
        return {"place": self._places(shape), "bias": (False, True), "both": both, **VARIANTS}

    def _bottleneck(self, component: Component, d_in: int, d_out: int) -> Any:
        from autopeft_searchspace.tuners.parts import Bottleneck

        options = {**self.neutral, **component.options}
        return Bottleneck(
            d_in,
            component.size,
            d_out,
            bool(options["bias"]),
            activation=str(options["activation"]),
            norm=bool(options["norm"]),
            small=options["start"] == "small",
        )

    def unavailable(self, shape: ModelShape) -> str | None:
        return None if self._places(shape) else "neither its feed-forward nor its attention ends in a module that was recognised"

    def sizes(self, shape: ModelShape) -> Sequence[int]:
        return width_grid(shape.width)

    def dimensions(self, shape: ModelShape) -> Sequence[Dimension]:
        return (
            size_dimension(f"{self.name}.size", self.sizes(shape)),
            *(option_dimension(f"{self.name}.{option}", values) for option, values in self._choices(shape).items()),
        )

    def component(self, values: Mapping[str, Value], layers: tuple[int, ...], shape: ModelShape) -> Component | None:
        size = int(values.get(f"{self.name}.size", 0))
        if not size or not layers:
            return None
        chosen = {option: values.get(f"{self.name}.{option}", self.neutral.get(option)) for option in self._choices(shape)}
        if chosen.get("both"):
            chosen["place"] = self._places(shape)[0]
        options = {name: value for name, value in chosen.items() if value is not None and value != self.neutral.get(name, None)}
        return Component(self.name, size, layers, options=options)

    def values(self, component: Component, shape: ModelShape) -> dict[str, Value]:
        options = {**{o: self.neutral[o] for o in self._choices(shape) if o in self.neutral}, **component.options}
        return {f"{self.name}.size": component.size, **{f"{self.name}.{option}": value for option, value in options.items()}}

    def check(self, component: Component, shape: ModelShape) -> None:
        check_options(component, self._choices(shape), optional=self.neutral)
        check_roles(component, ())
        if component.options.get("both") and component.options["place"] != self._places(shape)[0]:
            raise ValueError(f"with both, place of {self.name} must be {self._places(shape)[0]!r}, it is {component.options['place']!r}")

    def trainable_parameters(self, component: Component, shape: ModelShape) -> int:
        """(width read + width written) * size, + size + width written with biases, + 2 * width read with a norm, per sub-layer."""
        total = 0
        for start, end in self._spans(component, shape):
            read = self._width_read(start)
            total += (read + end.d_out) * component.size
            total += component.size + end.d_out if component.options["bias"] else 0
            total += 2 * read if component.options.get("norm") else 0
        return total

    def default_learning_rate(self, component: Component, shape: ModelShape) -> float:
        """4e-3 (48 / size)^(1/2) (384 / width), within 1e-4 .. 1e-2.

        Measured on MiniLM (width 384, six layers, feed-forward, biases; mean pooling, BLiMP agreement,
        batch 32, 75 steps, one seed): validation accuracy (standard error .009; head only .53) by rate

            size            1e-3   3e-3   5e-3   1e-2   3e-2
            serial      6   .553   .695          .898   .500
            serial     48   .659   .895          .908   .500
            serial    384   .907   .884          .500
            parallel   48                 .889
        """
        rate = 4e-3 * (48 / component.size) ** 0.5 * (384 / shape.width)
        return float(min(max(rate, 1e-4), 1e-2))

    def peft_config(self, component: Component, shape: ModelShape) -> PeftConfig | None:
        return None


@register
class SerialBottleneck(Bottleneck):
    name = "serial"
    title = "Bottleneck after a sub-layer"
    source = "Houlsby et al., ICML 2019 (arXiv 1902.00751); Pfeiffer et al., EACL 2021 (arXiv 2005.00247)"
    reads = ENDS

    def _width_read(self, start: LinearShape) -> int:
        return start.d_out

    def attach(self, component: Component, shape: ModelShape, base: Base | None = None) -> Mapping[str, Any]:
        from autopeft_searchspace.tuners.parts import SerialPart

        ends = [end for _, end in self._spans(component, shape)]
        return {end.path: SerialPart(self._bottleneck(component, end.d_out, end.d_out)) for end in ends}


@register
class ParallelBottleneck(Bottleneck):
    name = "parallel"
    title = "Bottleneck beside a sub-layer"
    source = "He et al., ICLR 2022 (arXiv 2110.04366)"
    reads = STARTS

    def _width_read(self, start: LinearShape) -> int:
        return start.d_in

    def attach(self, component: Component, shape: ModelShape, base: Base | None = None) -> Mapping[str, Any]:
        from autopeft_searchspace.tuners.parts import ParallelPart, TapPart

        parts: dict[str, Any] = {}
        for start, end in self._spans(component, shape):
            parts[start.path] = tap = TapPart()
            parts[end.path] = ParallelPart(tap, self._bottleneck(component, start.d_in, end.d_out))
        return parts
