"""RoAd: pairs of outputs are rotated and scaled; size is the variant: 1, 2 or 4 numbers per output.

R h, R of 2 x 2 blocks [[a cos t, -b sin s], [c sin t, d cos s]]        Liao et al. 2024 (arXiv 2409.00119), table 1
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from autopeft_searchspace.configuration import Component
from autopeft_searchspace.linear import LinearAdapter, common_divisor, divisors
from autopeft_searchspace.registry import Supports, register
from autopeft_searchspace.shape import LinearShape, ModelShape

if TYPE_CHECKING:
    from peft import PeftConfig


@register
class Road(LinearAdapter):
    name = "road"
    title = "Trained rotations of pairs of outputs"
    source = "Liao et al. 2024 (arXiv 2409.00119)"
    memory_like = "scaling"
    supports = Supports(merge=True, quantised_base=True, layers=True, roles=True, identity_at_start=True, plain_peft=True)
    rate = 5e-3
    takes_transposed = False

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """variant * d_out."""
        return component.size * module.d_out

    def config(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> PeftConfig:
        from peft import RoadConfig

        return RoadConfig(variant=f"road_{component.size}", group_size=self.group(shape))

    def sizes(self, shape: ModelShape) -> Sequence[int]:
        return (1, 2, 4)

    def group(self, shape: ModelShape) -> int:
        """Outputs among which pairs are made: the divisor of all widths that is nearest to 64."""
        divisor = common_divisor(shape)
        return divisors(divisor, (min(64, divisor),))[-1]

    def problem(self, component: Component, shape: ModelShape) -> str | None:
        return None if component.size in (1, 2, 4) else "the variants are 1, 2 and 4"
