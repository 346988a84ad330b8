"""IA3: outputs of attention projections, and inputs of the feed-forward's last module, are scaled.

diag(l) W x, or W diag(l) x for `ff_out`        Liu et al., NeurIPS 2022 (arXiv 2205.05638), section 3.3
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from autopeft_searchspace.configuration import Component
from autopeft_searchspace.linear import LinearAdapter
from autopeft_searchspace.registry import Supports, register
from autopeft_searchspace.shape import LinearShape, ModelShape

if TYPE_CHECKING:
    from peft import PeftConfig


@register
class Ia3(LinearAdapter):
    name = "ia3"
    title = "Trained scales of outputs"
    source = "Liu et al., NeurIPS 2022 (arXiv 2205.05638)"
    memory_like = "scaling"
    supports = Supports(merge=True, quantised_base=False, layers=True, roles=True, identity_at_start=True, plain_peft=True)
    rate = 1e-2

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """d_out, or d_in where inputs are scaled."""
        return module.d_in if module.path in _scaled_before(shape) else module.d_out

    def config(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> PeftConfig:
        from peft import IA3Config

        return IA3Config(feedforward_modules=[t.path for t in targets if t.path in _scaled_before(shape)])

    def sizes(self, shape: ModelShape) -> Sequence[int]:
        return (1,)

    def problem(self, component: Component, shape: ModelShape) -> str | None:
        return None if component.size == 1 else "it has one size, 1: a scale for each feature"


def _scaled_before(shape: ModelShape) -> set[str]:
    """Modules whose inputs are scaled in place of their outputs."""
    return {module.path for module in shape.modules.get("ff_out", ())}
