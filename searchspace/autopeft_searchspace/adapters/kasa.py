"""KaSA: LoRA with trained singular values, after the r smallest ones have been cut from the weight.

    (W - W_r) x + s B diag(e) A x, W_r the r smallest singular triplets of W        Wang et al., ICLR 2025 (arXiv 2412.06071), section 3

Cutting changes the function, so that it does not start as the base model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autopeft_searchspace.configuration import Component
from autopeft_searchspace.dims import powers_of_two
from autopeft_searchspace.linear import below_narrowest, narrowest
from autopeft_searchspace.low_rank import LowRank
from autopeft_searchspace.registry import Supports, register
from autopeft_searchspace.shape import LinearShape, ModelShape


@register
class Kasa(LowRank):
    name = "kasa"
    title = "LoRA with singular values, noise cut from the weight"
    source = "Wang et al., ICLR 2025 (arXiv 2412.06071)"
    supports = Supports(
        merge=True,
        quantised_base=False,
        layers=True,
        roles=True,
        identity_at_start=False,
        plain_peft=True,
        composition=False,
    )
    takes_transposed = False

    def settings(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> dict[str, Any]:
        from peft import KasaConfig

        return {"kasa_config": KasaConfig()}

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """rank * (d_in + d_out) + rank."""
        return super().per_module(component, module, shape) + component.size

    def sizes(self, shape: ModelShape) -> Sequence[int]:
        """Below the narrowest module: at least one singular value of its weight has to stay."""
        return powers_of_two(min(self.highest, narrowest(shape) - 1))

    def problem(self, component: Component, shape: ModelShape) -> str | None:
        return below_narrowest(component.size, self.targets(component, shape))

    def changes_base(self, component: Component) -> bool:
        return True
