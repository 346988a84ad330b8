"""HiRA: the weight times a low-rank matrix, element by element, so that the update has high rank.

(W + W * (B A)) x        Huang et al., ICLR 2025, "HiRA: parameter-efficient Hadamard high-rank adaptation", equation 3
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
class Hira(LinearAdapter):
    name = "hira"
    title = "Hadamard product of the weight and a low-rank matrix"
    source = "HiRA (Huang et al., ICLR 2025)"
    memory_like = "dense"
    supports = Supports(merge=True, quantised_base=True, layers=True, roles=True, identity_at_start=True, plain_peft=True, innermost=True)
    rate = 1e-2

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """rank * (d_in + d_out)."""
        return component.size * (module.d_in + module.d_out)

    def config(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> PeftConfig:
        from peft import HiraConfig

        return HiraConfig(r=component.size)
