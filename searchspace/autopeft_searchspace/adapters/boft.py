"""BOFT: a rotation in blocks as in OFT, of shuffled inputs, with trained scales of the outputs; size is the block.

    diag(s) W B x, B block-diagonal and orthogonal up to a permutation        Liu et al., ICLR 2024 (arXiv 2311.06243), section 4

With one butterfly factor, which is all that peft has without its CUDA extension.
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
class Boft(LinearAdapter):
    name = "boft"
    title = "Trained rotations of shuffled blocks"
    source = "Liu et al., ICLR 2024 (arXiv 2311.06243)"
    memory_like = "dense"
    supports = Supports(merge=True, quantised_base=True, layers=True, roles=True, identity_at_start=True, plain_peft=True, innermost=True)
    rate = 3e-3
    takes_transposed = False

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """d_in * block + d_out."""
        return module.d_in * component.size + module.d_out

    def config(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> PeftConfig:
        from peft import BOFTConfig

        return BOFTConfig(boft_block_size=component.size)

    def sizes(self, shape: ModelShape) -> Sequence[int]:
        return divisors(common_divisor(shape), (2, 4, 8, 16, 32))

    def problem(self, component: Component, shape: ModelShape) -> str | None:
        return must_divide(component.size, [module.d_in for module in self.targets(component, shape)])
