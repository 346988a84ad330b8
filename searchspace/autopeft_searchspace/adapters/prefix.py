"""Prefix: trained keys and values that every query of a layer sees before those of the text.

    softmax(q [P_K; K]^T / sqrt(d)) [P_V; V]        Li & Liang, ACL 2021 (arXiv 2101.00190), section 4.2

trained directly, without their reparametrisation. Per layer, and without moving the positions of the
text: position ids, rotary embeddings and the key/value cache never see the prefix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from autopeft_searchspace.checks import check_options, check_roles
from autopeft_searchspace.configuration import Component, Value
from autopeft_searchspace.dims import Dimension, size_dimension, width_grid
from autopeft_searchspace.registry import AdapterType, Base, Supports, register
from autopeft_searchspace.shape import ModelShape

if TYPE_CHECKING:
    from peft import PeftConfig


@register
class Prefix(AdapterType):
    """Keys and values start as small normal noise: not as the base model, since softmax counts them."""

    name = "prefix"
    title = "Trained keys and values before the text, per layer"
    source = "Li & Liang, ACL 2021 (arXiv 2101.00190); per layer as in Mao et al., ACL 2022 (arXiv 2110.07577)"
    supports = Supports(merge=False, quantised_base=True, layers=True, roles=False, identity_at_start=False, plain_peft=False)

    def unavailable(self, shape: ModelShape) -> str | None:
        if shape.attention_paths:
            return None
        return f"the attention of {shape.architecture}, as this model was loaded, takes no further keys and values"

    def dimensions(self, shape: ModelShape) -> Sequence[Dimension]:
        return (size_dimension("prefix.size", width_grid(shape.width)),)

    def component(self, values: Mapping[str, Value], layers: tuple[int, ...], shape: ModelShape) -> Component | None:
        size = int(values.get("prefix.size", 0))
        return Component(self.name, size, layers) if size and layers else None

    def values(self, component: Component, shape: ModelShape) -> dict[str, Value]:
        return {"prefix.size": component.size}

    def check(self, component: Component, shape: ModelShape) -> None:
        check_options(component, {})
        check_roles(component, ())

    def trainable_parameters(self, component: Component, shape: ModelShape) -> int:
        """2 * tokens * (key/value heads * head size) per layer."""
        return 2 * component.size * shape.key_value_width * len(component.layers)

    def default_learning_rate(self, component: Component, shape: ModelShape) -> float:
        """1e-2 for every size.

        Measured as for bottlenecks (see there; standard error .014, head only .53): validation accuracy by rate

            tokens   3e-3   1e-2   3e-2
                 1          .545
                12   .549   .584   .516
                96          .566

        In so few steps a prefix learns little, from normal noise of 0.5 as little (.598) as from 0.02.
        """
        return 1e-2

    def peft_config(self, component: Component, shape: ModelShape) -> PeftConfig | None:
        return None

    def attach(self, component: Component, shape: ModelShape, base: Base | None = None) -> Mapping[str, Any]:
        from autopeft_searchspace.tuners.prefix import PrefixPart

        return {shape.attention_paths[layer]: PrefixPart(component.size, shape.key_value_width) for layer in component.layers}
