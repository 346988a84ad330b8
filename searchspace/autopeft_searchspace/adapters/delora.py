"""DeLoRA: a low-rank update whose columns are normalised and whose overall size is one trained number.

W x + (lambda |W| / r) sum_i b_i a_i x / (|b_i| |a_i|)        Bini et al., ICLR 2025 (arXiv 2503.18225), equation 6

The first step already has the size lambda, whatever the learning rate, so that lambda is searched (the authors' runs have 4 or 12).
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
class Delora(LinearAdapter):
    name = "delora"
    title = "Low-rank update of bounded size"
    source = "Bini et al., ICLR 2025 (arXiv 2503.18225)"
    supports = Supports(
        merge=True,
        quantised_base=False,
        layers=True,
        roles=True,
        identity_at_start=True,
        plain_peft=True,
        innermost=True,
    )
    highest = 64
    rate = 5e-3
    options = {"lambda": (1, 4, 12)}  # noqa: RUF012
    neutral = {"lambda": 4}  # noqa: RUF012
    takes_transposed = False

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """rank * (d_in + d_out) + 1."""
        return component.size * (module.d_in + module.d_out) + 1

    def config(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> PeftConfig:
        from peft import DeloraConfig

        return DeloraConfig(r=component.size, delora_lambda=self.option(component, "lambda"))

    def stored_bytes(self, component: Component, shape: ModelShape) -> int:
        """Beside what trains, the norm of each input's weights."""
        return super().stored_bytes(component, shape) + 4 * sum(m.d_in for m in self.targets(component, shape))
