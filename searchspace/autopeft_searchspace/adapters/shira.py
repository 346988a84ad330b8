"""SHiRA: some entries of the weight train; size counts them as LoRA's rank does.

(W + S) x, S with r (d_in + d_out) trained entries at random places        Bhardwaj et al., NeurIPS 2024 (arXiv 2406.13175), section 3
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
class Shira(LinearAdapter):
    name = "shira"
    title = "Trained entries of the weight at random places"
    source = "Bhardwaj et al., NeurIPS 2024 (arXiv 2406.13175)"
    traced_as = "fourierft"
    memory_like = "dense"
    supports = Supports(merge=True, quantised_base=True, layers=True, roles=True, identity_at_start=True, plain_peft=True, innermost=True)
    rate = 5e-3
    takes_transposed = False

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """r * (d_in + d_out)."""
        return component.size * (module.d_in + module.d_out)

    def config(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> PeftConfig:
        from peft import ShiraConfig

        return ShiraConfig(r=component.size, random_seed=0)

    def sizes(self, shape: ModelShape) -> Sequence[int]:
        return powers_of_two(min(self.highest, narrowest(shape) // 2))

    def stored_bytes(self, component: Component, shape: ModelShape) -> int:
        """Of each entry its value and, in 32 bits each, its row and column."""
        return 12 * self.trainable_parameters(component, shape)
