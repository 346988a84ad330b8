"""VB-LoRA: pieces of A and B are mixes of a few vectors of one bank; size is the number of vectors.

piece = sum of the top k vectors, weighted by a softmax of trained logits        Li et al., NeurIPS 2024 (arXiv 2405.15179), equation 3
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from autopeft_searchspace.configuration import Component
from autopeft_searchspace.dims import powers_of_two
from autopeft_searchspace.linear import LinearAdapter, common_divisor, divisors
from autopeft_searchspace.registry import Supports, register
from autopeft_searchspace.shape import LinearShape, ModelShape

if TYPE_CHECKING:
    from peft import PeftConfig

RANK, TOP = 4, 2
"""Rank of the factors, and vectors mixed in each piece, as in the paper."""


@register
class VbLora(LinearAdapter):
    name = "vblora"
    title = "LoRA factors put together from a shared bank of vectors"
    source = "Li et al., NeurIPS 2024 (arXiv 2405.15179)"
    traced_as = "rslora"
    supports = Supports(merge=True, quantised_base=False, layers=True, roles=True, identity_at_start=False, plain_peft=True)
    rate = 5e-3

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """The logits: rank * (d_in + d_out) / length * vectors."""
        return RANK * (module.d_in + module.d_out) // self.length(shape) * component.size

    def config(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> PeftConfig:
        from peft import VBLoRAConfig

        return VBLoRAConfig(r=RANK, num_vectors=component.size, vector_length=self.length(shape), topk=TOP)

    def sizes(self, shape: ModelShape) -> Sequence[int]:
        return powers_of_two(512, 16)

    def length(self, shape: ModelShape) -> int:
        """Entries of a vector: the divisor of all widths that is nearest to 256."""
        divisor = common_divisor(shape)
        return divisors(divisor, (min(256, divisor),))[-1]

    def shared(self, component: Component, shape: ModelShape) -> int:
        """The bank: vectors * length."""
        return component.size * self.length(shape)
