"""PVeRA: VeRA whose low-dimensional values are drawn, in training, from a distribution with trained mean and spread.

W x + diag(b) B z, z ~ N(diag(d_1) A x, exp(diag(d_2) A x)); the mean when evaluated        (arXiv 2512.07703)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from autopeft_searchspace.configuration import Component
from autopeft_searchspace.dims import powers_of_two
from autopeft_searchspace.linear import LinearAdapter
from autopeft_searchspace.registry import Supports, register
from autopeft_searchspace.shape import LinearShape, ModelShape

if TYPE_CHECKING:
    from peft import PeftConfig


@register
class Pvera(LinearAdapter):
    name = "pvera"
    title = "VeRA with a distribution over what is scaled"
    source = "PVeRA (arXiv 2512.07703)"
    supports = Supports(merge=True, quantised_base=True, layers=True, roles=True, identity_at_start=True, plain_peft=True)
    highest = 1024
    rate = 1e-2

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """2 * rank + d_out."""
        return 2 * component.size + module.d_out

    def config(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> PeftConfig:
        from peft import PveraConfig

        return PveraConfig(r=component.size, save_projection=False)

    def sizes(self, shape: ModelShape) -> Sequence[int]:
        return [size for size in powers_of_two(self.highest) if size >= 16]
