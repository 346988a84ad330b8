"""PSOFT: a trained rotation, with trained scales on both sides, inside the span of the r largest singular directions.

W x + A (diag(a) R diag(b) - I) B x, A B the best rank-r fit of W        Wu et al., ICLR 2026 (arXiv 2505.11235)

peft does not save A and B but finds them again from W, whose singular vectors have no fixed sign: a saved adapter belongs to the kind of
device and the precision that it was trained on.
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
class Psoft(LinearAdapter):
    name = "psoft"
    title = "Orthogonal rotation inside the main subspace"
    source = "Wu et al., ICLR 2026 (arXiv 2505.11235)"
    supports = Supports(
        merge=True,
        quantised_base=False,
        layers=True,
        roles=True,
        identity_at_start=True,
        plain_peft=True,
        composition=False,
    )
    takes_transposed = False
    rate = 5e-3

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """r * (r - 1) / 2 + 2 * r."""
        return component.size * (component.size - 1) // 2 + 2 * component.size

    def config(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> PeftConfig:
        from peft import PsoftConfig

        return PsoftConfig(r=component.size, psoft_alpha=component.size)

    def sizes(self, shape: ModelShape) -> Sequence[int]:
        return [size for size in super().sizes(shape) if size >= 4]
