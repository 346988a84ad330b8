"""RandLoRA: a sum of fixed random low-rank matrices, scaled by trained diagonals, which together have full rank.

    W x + s sum_i B_i L_i A_i G_i x, i = 1 .. ceil(min(d_in, d_out) / r)        Albert et al., ICLR 2025 (arXiv 2502.00987), equation 4

The smaller r, the more terms and weights.
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
class RandLora(LinearAdapter):
    name = "randlora"
    title = "A trained mix of random matrices, of full rank"
    source = "Albert et al., ICLR 2025 (arXiv 2502.00987)"
    supports = Supports(merge=True, quantised_base=True, layers=True, roles=True, identity_at_start=True, plain_peft=True)
    rate = 2e-4
    """Its right diagonals start at one over the width, and are to move less than that in a few steps."""

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """ceil(narrow / r) * (r + narrow), narrow = min(d_in, d_out)."""
        return -(-min(module.d_in, module.d_out) // component.size) * (component.size + min(module.d_in, module.d_out))

    def config(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> PeftConfig:
        from peft import RandLoraConfig

        return RandLoraConfig(r=component.size, randlora_alpha=20 * component.size, save_projection=False)

    def sizes(self, shape: ModelShape) -> Sequence[int]:
        return [size for size in super().sizes(shape) if size >= 4]
