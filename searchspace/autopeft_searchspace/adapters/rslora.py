"""rsLoRA: LoRA with alpha / sqrt(r) in place of alpha / r, so that high ranks learn as fast as low ones.

    W x + (alpha / sqrt(r)) B A x        Kalajdzievski 2023 (arXiv 2312.03732), theorem 3.2

alpha is the same for all ranks, 4: at rank 4 this is LoRA with alpha twice the rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autopeft_searchspace.configuration import Component
from autopeft_searchspace.low_rank import LowRank
from autopeft_searchspace.registry import Supports, register
from autopeft_searchspace.shape import LinearShape, ModelShape


@register
class RsLora(LowRank):
    name = "rslora"
    title = "LoRA scaled by the root of its rank"
    source = "Kalajdzievski 2023 (arXiv 2312.03732)"
    pairs = True
    supports = Supports(merge=True, quantised_base=True, layers=True, roles=True, identity_at_start=True, plain_peft=True)

    def settings(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> dict[str, Any]:
        return {"use_rslora": True}

    def alpha(self, component: Component) -> float:
        return 4.0

    def default_learning_rate(self, component: Component, shape: ModelShape) -> float:
        """4e-3 (384 / width), within 1e-4 .. 1e-2, for all ranks: that is what the scaling is for."""
        return float(min(max(4e-3 * 384 / shape.width, 1e-4), 1e-2))
