"""TinyLoRA: a random projection of u trained numbers into the r x r core between singular vectors.

W x + U_r S_r (sum_i v_i P_i) V_r' x, P_i random and fixed        (arXiv 2602.04118), on LoRA-XS (arXiv 2405.17604)
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
class TinyLora(LinearAdapter):
    name = "tinylora"
    title = "A handful of trained numbers per module"
    source = "TinyLoRA (arXiv 2602.04118)"
    supports = Supports(merge=True, quantised_base=False, layers=True, roles=True, identity_at_start=True, plain_peft=True)
    highest = 64
    rate = 1e-2
    takes_transposed = False

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """u."""
        return component.size

    def config(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> PeftConfig:
        from peft import TinyLoraConfig

        return TinyLoraConfig(u=component.size, r=2, save_projection=False)

    def stored_bytes(self, component: Component, shape: ModelShape) -> int:
        """Beside the numbers, the two singular directions of each module."""
        return super().stored_bytes(component, shape) + 4 * 2 * sum(m.d_in + m.d_out for m in self.targets(component, shape))
