"""OFT: blocks of inputs are rotated by trained orthogonal matrices; size is the block.

W diag(R_1 .. R_n) x, R_i orthogonal by Cayley's formula        Qiu et al., NeurIPS 2023 (arXiv 2306.07280), section 3
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from autopeft_searchspace.configuration import Component
from autopeft_searchspace.linear import LinearAdapter, common_divisor, divisors, must_divide
from autopeft_searchspace.registry import Supports, register
from autopeft_searchspace.shape import LinearShape, ModelShape

if TYPE_CHECKING:
    from peft import PeftConfig


@register
class Oft(LinearAdapter):
    name = "oft"
    title = "Trained rotations of blocks of inputs"
    source = "Qiu et al., NeurIPS 2023 (arXiv 2306.07280)"
    memory_like = "scaling"
    supports = Supports(merge=True, quantised_base=True, layers=True, roles=True, identity_at_start=True, plain_peft=True)
    rate = 3e-3
    takes_transposed = False

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """d_in * (block - 1) / 2."""
        return module.d_in * (component.size - 1) // 2

    def config(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> PeftConfig:
        from peft import OFTConfig

        return OFTConfig(oft_block_size=component.size)

    def sizes(self, shape: ModelShape) -> Sequence[int]:
        return divisors(common_divisor(shape), (4, 8, 16, 32, 64, 128))

    def problem(self, component: Component, shape: ModelShape) -> str | None:
        return must_divide(component.size, [module.d_in for module in self.targets(component, shape)])
