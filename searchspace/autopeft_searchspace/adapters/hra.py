"""HRA: inputs pass through r trained Householder reflections, paired so that they start as the identity.

W (prod_i I - 2 u_i u_i' / |u_i|^2) x        Yuan et al., NeurIPS 2024 (arXiv 2405.17484), equation 4
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
class Hra(LinearAdapter):
    name = "hra"
    title = "A chain of trained reflections of the inputs"
    source = "Yuan et al., NeurIPS 2024 (arXiv 2405.17484)"
    memory_like = "dense"
    supports = Supports(
        merge=True,
        quantised_base=False,
        layers=True,
        roles=True,
        identity_at_start=True,
        plain_peft=True,
        innermost=True,
    )
    highest = 32
    rate = 3e-3
    takes_transposed = False

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """reflections * d_in."""
        return component.size * module.d_in

    def config(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> PeftConfig:
        from peft import HRAConfig

        return HRAConfig(r=component.size)

    def sizes(self, shape: ModelShape) -> Sequence[int]:
        return [size for size in super().sizes(shape) if size >= 2]

    def problem(self, component: Component, shape: ModelShape) -> str | None:
        return None if component.size % 2 == 0 else "the number of reflections must be even, so that they start as the identity"
