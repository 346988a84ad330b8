"""LoHa: the element-wise product of two low-rank matrices, of rank up to r^2.

W x + (alpha / r) ((B_1 A_1) * (B_2 A_2)) x        Hyeon-Woo et al., ICLR 2022 (arXiv 2108.06098), proposition 1
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
class Loha(LinearAdapter):
    name = "loha"
    title = "Hadamard product of two low-rank updates"
    source = "Hyeon-Woo et al., ICLR 2022 (arXiv 2108.06098)"
    memory_like = "dense"
    supports = Supports(merge=True, quantised_base=False, layers=True, roles=True, identity_at_start=True, plain_peft=True)
    highest = 32
    takes_transposed = False

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """2 * rank * (d_in + d_out)."""
        return 2 * component.size * (module.d_in + module.d_out)

    def takes_ranks(self, component: Component) -> bool:
        return True

    def config(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> PeftConfig:
        from peft import LoHaConfig

        return LoHaConfig(r=component.size, alpha=self.alpha(component))
