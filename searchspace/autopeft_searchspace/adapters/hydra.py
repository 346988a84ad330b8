"""Hydra: LoRA beside a module and LoRA behind it.

h + s B A x + s B' A' h,  h = W x + b; B and B' zero at the start        Kim et al. 2023 (arXiv 2309.06922), section 3

Both merge: W + s (B A + B' A' W), and b likewise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autopeft_searchspace.configuration import Component
from autopeft_searchspace.linear import SCALING
from autopeft_searchspace.low_rank import LowRank
from autopeft_searchspace.registry import Base, Supports, register
from autopeft_searchspace.shape import LinearShape, ModelShape


@register
class Hydra(LowRank):
    name = "hydra"
    title = "Low-rank updates beside and behind a module"
    source = "Kim et al. 2023 (arXiv 2309.06922)"
    supports = Supports(merge=True, quantised_base=True, layers=True, roles=True, identity_at_start=True, plain_peft=False)
    highest = 128

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """rank * (d_in + d_out) beside, 2 * rank * d_out behind."""
        return component.size * (module.d_in + 3 * module.d_out)

    def peft_config(self, component: Component, shape: ModelShape) -> None:
        return None

    def attach(self, component: Component, shape: ModelShape, base: Base | None = None) -> Mapping[str, Any]:
        from autopeft_searchspace.tuners.parts import HydraPart

        return {m.path: HydraPart(m.d_in, component.size, m.d_out, SCALING) for m in self.targets(component, shape)}
