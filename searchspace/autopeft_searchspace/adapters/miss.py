"""MiSS (Bone): inputs are summed in groups, and one small trained matrix maps the sums; `bat` weighs it by the weight.

    W x + D (sum of r-wide pieces of x)        Kang & Yin 2024 (arXiv 2409.15371), equations 3 and 6

`bat`: W + W_block D_block + D_block for r x r blocks, so that r must divide both widths.
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
class Miss(LinearAdapter):
    name = "miss"
    title = "One shared row block for all blocks of inputs"
    source = "Kang & Yin 2024 (arXiv 2409.15371)"
    memory_like = "scaling"
    supports = Supports(merge=True, quantised_base=True, layers=True, roles=True, identity_at_start=True, plain_peft=True, innermost=True)
    options = {"bat": (False, True)}  # noqa: RUF012
    rate = 2e-3
    takes_transposed = False

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """r * d_out."""
        return component.size * module.d_out

    def config(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> PeftConfig:
        from peft import MissConfig

        return MissConfig(r=component.size, init_weights="bat" if component.options["bat"] else True)

    def sizes(self, shape: ModelShape) -> Sequence[int]:
        return divisors(common_divisor(shape), powers_of_two(min(256, common_divisor(shape))))

    def problem(self, component: Component, shape: ModelShape) -> str | None:
        return must_divide(component.size, [d for m in self.targets(component, shape) for d in (m.d_in, m.d_out)])
