"""BEFT: a trained vector is added to the outputs, as training the module's bias would (BitFit).

    W x + b + v        Ben Zaken et al., ACL 2022 (arXiv 2106.10199); of value projections, Huang et al., ACL 2026 (arXiv 2509.15974)

It merges where the module has a bias.
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
class Beft(LinearAdapter):
    name = "beft"
    title = "Trained vector added to outputs"
    source = "Huang et al., ACL 2026 (arXiv 2509.15974); Ben Zaken et al., ACL 2022 (arXiv 2106.10199)"
    memory_like = "scaling"
    supports = Supports(merge=True, quantised_base=True, layers=True, roles=True, identity_at_start=True, plain_peft=True)
    rate = 1e-2
    takes_transposed = False

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """d_out."""
        return module.d_out

    def config(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> PeftConfig:
        from peft import BeftConfig

        return BeftConfig()

    def sizes(self, shape: ModelShape) -> Sequence[int]:
        return (1,)

    def problem(self, component: Component, shape: ModelShape) -> str | None:
        return None if component.size == 1 else "it has one size, 1: a number for each output"
