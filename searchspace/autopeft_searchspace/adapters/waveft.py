"""WaveFT: the update is the inverse wavelet transform of n trained coefficients at random places.

W x + scale D^-1(E) x, Haar wavelets        Bilican et al. 2025 (arXiv 2505.12532)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from autopeft_searchspace.configuration import Component
from autopeft_searchspace.dims import powers_of_two
from autopeft_searchspace.linear import LinearAdapter, narrowest
from autopeft_searchspace.registry import Supports, register
from autopeft_searchspace.shape import LinearShape, ModelShape

if TYPE_CHECKING:
    from peft import PeftConfig


@register
class WaveFt(LinearAdapter):
    name = "waveft"
    title = "Few trained wavelet coefficients of the update"
    source = "Bilican et al. 2025 (arXiv 2505.12532)"
    traced_as = "fourierft"
    memory_like = "dense"
    supports = Supports(merge=True, quantised_base=False, layers=True, roles=True, identity_at_start=True, plain_peft=True)
    highest = 4096
    rate = 4e-4
    """peft's scale of 25 makes a step of an entry of the weight 12.5 times as large."""

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """One per coefficient."""
        return component.size

    def config(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> PeftConfig:
        from peft import WaveFTConfig

        return WaveFTConfig(n_frequency=component.size)

    def sizes(self, shape: ModelShape) -> Sequence[int]:
        return powers_of_two(min(self.highest, narrowest(shape) ** 2), 16)
