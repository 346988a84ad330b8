"""C3A: the update is made of circulant blocks, applied by fast Fourier transforms; size is blocks across the narrowest width.

    W x + circular convolution of each block's trained kernel with its part of x
    Chen et al., ACL 2025 Findings (arXiv 2407.19342), section 3

Kernels start at Xavier's initialisation, so that it does not start as the base model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from autopeft_searchspace.configuration import Component
from autopeft_searchspace.dims import powers_of_two
from autopeft_searchspace.linear import LinearAdapter, common_divisor, divisors, must_divide
from autopeft_searchspace.registry import Supports, register
from autopeft_searchspace.shape import LinearShape, ModelShape

if TYPE_CHECKING:
    from peft import PeftConfig


@register
class C3a(LinearAdapter):
    name = "c3a"
    title = "Update of circulant blocks"
    source = "Chen et al., ACL 2025 Findings (arXiv 2407.19342)"
    memory_like = "scaling"
    supports = Supports(merge=True, quantised_base=False, layers=True, roles=True, identity_at_start=False, plain_peft=True)
    highest = 64
    rate = 3e-1
    """A product is divided by the width; peft's own comparison (method_comparison) has this rate."""
    takes_transposed = False

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """d_in * d_out / block."""
        return module.d_in * module.d_out // self.block(component, shape)

    def config(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> PeftConfig:
        from peft import C3AConfig

        return C3AConfig(block_size=self.block(component, shape))

    def sizes(self, shape: ModelShape) -> Sequence[int]:
        divisor = common_divisor(shape)
        return divisors(divisor, powers_of_two(min(self.highest, divisor)))

    def block(self, component: Component, shape: ModelShape) -> int:
        return common_divisor(shape) // component.size

    def problem(self, component: Component, shape: ModelShape) -> str | None:
        return must_divide(component.size, [common_divisor(shape)])
