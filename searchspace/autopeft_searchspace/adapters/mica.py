"""MiCA: LoRA of which one side is fixed to the r smallest singular directions of the weight.

W x + s U_r A x, U_r the left singular vectors of the r smallest singular values, A starting at zero        Rüdiger & Raschka 2026
(arXiv 2604.01694)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autopeft_searchspace.configuration import Component
from autopeft_searchspace.low_rank import LowRank
from autopeft_searchspace.registry import Supports, register
from autopeft_searchspace.shape import LinearShape, ModelShape


@register
class Mica(LowRank):
    name = "mica"
    title = "LoRA whose fixed side is the smallest singular vectors"
    source = "Rüdiger & Raschka 2026 (arXiv 2604.01694)"
    traced_as = "rslora"
    supports = Supports(
        merge=True,
        quantised_base=False,
        layers=True,
        roles=True,
        identity_at_start=True,
        plain_peft=True,
        composition=False,
    )
    takes_transposed = False

    def settings(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> dict[str, Any]:
        return {"init_lora_weights": "mica"}

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """rank * d_in."""
        return component.size * module.d_in

    def stored_bytes(self, component: Component, shape: ModelShape) -> int:
        """Beside A, the fixed directions."""
        return 4 * component.size * sum(m.d_in + m.d_out for m in self.targets(component, shape))
