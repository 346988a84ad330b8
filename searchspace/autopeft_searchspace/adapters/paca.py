"""PaCA: some columns of the weight train; size is how many.

W x + D x_C, C chosen at random        Woo et al., ICLR 2025 (arXiv 2503.01905)

Of its inputs the backward pass needs those of C alone. D starts at zero, so that the factor alpha / rank of the
reference implementation is one of the learning rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autopeft_searchspace.configuration import Component
from autopeft_searchspace.linear import OwnLinearAdapter
from autopeft_searchspace.registry import Base, Supports, register
from autopeft_searchspace.shape import LinearShape, ModelShape


@register
class Paca(OwnLinearAdapter):
    name = "paca"
    title = "Trained columns of the weight, chosen at random"
    source = "Woo et al., ICLR 2025 (arXiv 2503.01905)"
    memory_like = ""
    supports = Supports(merge=True, quantised_base=True, layers=True, roles=True, identity_at_start=True, plain_peft=False)
    rate = 5e-3
    """Measured on MiniLM (size 16 on q,v, BLiMP agreement, 150 steps of 32, one seed): validation accuracy (standard
    error .008) .60 at a third of it, .91 at it, .93 at three times, .50 at nine times."""

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """size * d_out."""
        return component.size * module.d_out

    def problem(self, component: Component, shape: ModelShape) -> str | None:
        least = min(module.d_in for module in self.targets(component, shape))
        return None if component.size <= least else f"its narrowest module has {least} columns"

    def attach(self, component: Component, shape: ModelShape, base: Base | None = None) -> Mapping[str, Any]:
        from autopeft_searchspace.tuners.entries import ColumnsPart

        return {m.path: ColumnsPart(m.d_in, component.size, m.d_out) for m in self.targets(component, shape)}

    def stored_bytes(self, component: Component, shape: ModelShape) -> int:
        """Beside what trains, the place of each column in 64 bits."""
        return 4 * self.trainable_parameters(component, shape) + 8 * component.size * len(self.targets(component, shape))
