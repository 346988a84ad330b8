"""DoRA: a low-rank update of the direction of a weight, and its size trained apart.

m (W + s B A) / |W + s B A|, |.| of each row, m starting at |W|        Liu et al., ICML 2024 (arXiv 2402.09353), equation 5
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autopeft_searchspace.configuration import Component
from autopeft_searchspace.low_rank import LowRank
from autopeft_searchspace.registry import Supports, register
from autopeft_searchspace.shape import LinearShape, ModelShape


@register
class Dora(LowRank):
    name = "dora"
    title = "LoRA with the size of each output trained apart"
    source = "Liu et al., ICML 2024 (arXiv 2402.09353)"
    pairs = True
    memory_like = "dense"
    supports = Supports(
        merge=True,
        quantised_base=False,
        layers=True,
        roles=True,
        identity_at_start=True,
        plain_peft=True,
        innermost=True,
    )

    def settings(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> dict[str, Any]:
        return {"use_dora": True}

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """rank * (d_in + d_out) + d_out."""
        return super().per_module(component, module, shape) + module.d_out
