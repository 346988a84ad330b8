"""GLoRA: scale and shift of weight and bias, each through a low-rank path or a number.

    (W + W * A + B) x + b + W C + b * D + E, A, B and C of rank r, D and E numbers        Chavan et al. 2023 (arXiv 2306.07967), equation 7

C, D and E are there where the module has a bias.
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
class Glora(LinearAdapter):
    name = "glora"
    title = "Weight and bias scaled and shifted through low-rank paths"
    source = "Chavan et al. 2023 (arXiv 2306.07967)"
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
    takes_transposed = False

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """2 * rank * (d_in + d_out), and with a bias rank * (d_in + 1) + 2 more."""
        return 2 * component.size * (module.d_in + module.d_out) + (component.size * (module.d_in + 1) + 2 if module.bias else 0)

    def config(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> PeftConfig:
        from peft import GloraConfig

        return GloraConfig(r=component.size)

    def stored_bytes(self, component: Component, shape: ModelShape) -> int:
        """Beside what trains, zeros in the place of C, D and E where there is no bias."""
        zeros = sum(m.d_in + 2 * m.d_out for m in self.targets(component, shape) if not m.bias)
        return super().stored_bytes(component, shape) + 4 * zeros
