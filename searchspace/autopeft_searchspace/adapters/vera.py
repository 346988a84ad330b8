"""VeRA: one pair of random matrices for all modules, with trained scalings of rows.

W x + diag(b) B diag(d) A x, A and B random and fixed, b starting at zero        Kopiczko et al., ICLR 2024 (arXiv 2310.11454), equation 2
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
class Vera(LinearAdapter):
    name = "vera"
    title = "Trained scalings of shared random matrices"
    source = "Kopiczko et al., ICLR 2024 (arXiv 2310.11454)"
    supports = Supports(merge=True, quantised_base=True, layers=True, roles=True, identity_at_start=True, plain_peft=True)
    highest = 1024
    rate = 1e-2

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """rank + d_out."""
        return component.size + module.d_out

    def config(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> PeftConfig:
        from peft import VeraConfig

        return VeraConfig(r=component.size, save_projection=False)

    def sizes(self, shape: ModelShape) -> Sequence[int]:
        return [size for size in powers_of_two(self.highest) if size >= 16]
