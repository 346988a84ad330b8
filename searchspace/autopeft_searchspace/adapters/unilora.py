"""Uni-LoRA: all factors of all modules are read off one trained vector, each entry by a fixed random index.

W x + B A x, vec(all A, all B) = P theta        (arXiv 2506.00799), equation 3
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

RANK = 4
"""Of the factors that the vector fills."""


@register
class UniLora(LinearAdapter):
    name = "unilora"
    title = "One short vector spread over all LoRA factors"
    source = "Uni-LoRA (arXiv 2506.00799)"
    memory_like = "dense"
    supports = Supports(merge=True, quantised_base=False, layers=True, roles=True, identity_at_start=False, plain_peft=True)
    rate = 5e-3

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """None of its own."""
        return 0

    def config(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> PeftConfig:
        from peft import UniLoraConfig

        return UniLoraConfig(theta_d_length=component.size, r=RANK)

    def sizes(self, shape: ModelShape) -> Sequence[int]:
        return powers_of_two(min(2**14, RANK * 2 * narrowest(shape)), 16)

    def shared(self, component: Component, shape: ModelShape) -> int:
        """The vector."""
        return component.size
