"""DEFT: what the weight does along r trained directions P is replaced by a trained matrix R.

(W - Q S' W + Q R) x, Q = P and S = relu(P), or Q = S from a QR of P        Kumar et al., NeurIPS 2025
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
class Deft(LinearAdapter):
    name = "deft"
    title = "A projection taken out of the weight and trained anew"
    source = 'Kumar et al., NeurIPS 2025, "DEFT: decompositional efficient fine-tuning"'
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
    options = {"decomposition": ("relu", "qr")}  # noqa: RUF012
    highest = 64
    rate = 2e-3

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """rank * (d_in + d_out)."""
        return component.size * (module.d_in + module.d_out)

    def config(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> PeftConfig:
        from peft import DeftConfig

        return DeftConfig(r=component.size, decomposition_method=str(component.options["decomposition"]))
