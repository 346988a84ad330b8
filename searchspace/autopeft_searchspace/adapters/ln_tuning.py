"""LN tuning: the layer norms of chosen layers train, and nothing else.

Zhao et al., ICLR 2024 (arXiv 2312.11420)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from autopeft_searchspace.checks import check_options, check_roles
from autopeft_searchspace.configuration import Component, Value
from autopeft_searchspace.dims import Dimension, size_dimension
from autopeft_searchspace.registry import AdapterType, Base, Supports, register
from autopeft_searchspace.shape import ModelShape, NormShape

if TYPE_CHECKING:
    from peft import PeftConfig


@register
class LnTuning(AdapterType):
    """Copies of the norms train; merging puts them in the place of the norms."""

    name = "ln_tuning"
    title = "The layer norms trained"
    source = "Zhao et al., ICLR 2024 (arXiv 2312.11420)"
    supports = Supports(merge=True, quantised_base=True, layers=True, roles=False, identity_at_start=True, plain_peft=True)

    def unavailable(self, shape: ModelShape) -> str | None:
        if not all(shape.norms) or not shape.norms:
            return f"no layer norms were found in the layers of {shape.architecture}"
        return super().unavailable(shape)

    def dimensions(self, shape: ModelShape) -> Sequence[Dimension]:
        return (size_dimension("ln_tuning.size", (1,)),)

    def component(self, values: Mapping[str, Value], layers: tuple[int, ...], shape: ModelShape) -> Component | None:
        return Component(self.name, 1, layers) if values.get("ln_tuning.size") and layers else None

    def values(self, component: Component, shape: ModelShape) -> dict[str, Value]:
        return {"ln_tuning.size": 1}

    def check(self, component: Component, shape: ModelShape) -> None:
        check_options(component, {})
        check_roles(component, ())
        if component.size != 1:
            raise ValueError(f"ln_tuning has one size, 1: the norms as they are; it is {component.size}")

    def _norms(self, component: Component, shape: ModelShape) -> list[NormShape]:
        return [norm for layer in component.layers for norm in shape.norms[layer]]

    def trainable_parameters(self, component: Component, shape: ModelShape) -> int:
        """Weights and biases of the norms."""
        return sum(norm.weights for norm in self._norms(component, shape))

    def default_learning_rate(self, component: Component, shape: ModelShape) -> float:
        return 5e-3

    def spots(self, component: Component, shape: ModelShape) -> Mapping[str, bool]:
        return {norm.path: True for norm in self._norms(component, shape)}

    def peft_config(self, component: Component, shape: ModelShape) -> PeftConfig | None:
        from peft import LNTuningConfig

        return LNTuningConfig(target_modules=[norm.path for norm in self._norms(component, shape)])

    def attach(self, component: Component, shape: ModelShape, base: Base | None = None) -> Mapping[str, Any]:
        from peft import LNTuningConfig
        from torch import nn

        from autopeft_searchspace.tuners.native import parts_around

        norms = self._norms(component, shape)
        modules: dict[str, nn.Module] = {n.path: base(n.path) if base else nn.LayerNorm(n.weights // 2) for n in norms}
        return parts_around(LNTuningConfig(), modules, mergeable=False)
