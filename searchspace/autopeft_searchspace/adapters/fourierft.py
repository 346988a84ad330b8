"""FourierFT: the update is the inverse Fourier transform of n trained coefficients at random places.

W x + scale Re(F^-1(E)) x        Gao et al., ICML 2024 (arXiv 2405.03003), equations 2 and 3

Coefficients start at 0 here: the paper's start, drawn with variance 1, makes an update as large as the weights of a narrow model.
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
class FourierFt(LinearAdapter):
    name = "fourierft"
    title = "Few trained Fourier coefficients of the update"
    source = "Gao et al., ICML 2024 (arXiv 2405.03003)"
    memory_like = "dense"
    supports = Supports(merge=True, quantised_base=False, layers=True, roles=True, identity_at_start=True, plain_peft=True)
    highest = 4096
    rate = 3e-2

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """One per coefficient."""
        return component.size

    def config(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> PeftConfig:
        from peft import FourierFTConfig

        return FourierFTConfig(n_frequency=component.size, init_weights=True)

    def sizes(self, shape: ModelShape) -> Sequence[int]:
        return powers_of_two(min(self.highest, narrowest(shape) ** 2), 16)
