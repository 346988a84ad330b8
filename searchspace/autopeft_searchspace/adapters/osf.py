"""OSF: the smallest singular triplets of a weight train, the largest stay; size is the number that trains.

W_fixed x + U diag(s) V' x        Nayak et al. 2025 (arXiv 2504.07097)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from autopeft_searchspace.configuration import Component
from autopeft_searchspace.dims import powers_of_two
from autopeft_searchspace.linear import LinearAdapter, below_narrowest, narrowest
from autopeft_searchspace.registry import Supports, register
from autopeft_searchspace.shape import LinearShape, ModelShape

if TYPE_CHECKING:
    from peft import PeftConfig


@register
class Osf(LinearAdapter):
    name = "osf"
    title = "All but the main singular directions trained"
    source = "Nayak et al. 2025 (arXiv 2504.07097)"
    supports = Supports(
        merge=True,
        quantised_base=False,
        layers=True,
        roles=True,
        identity_at_start=True,
        plain_peft=True,
        composition=False,
    )
    highest = 256
    rate = 1e-3
    takes_transposed = False

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """rank * (d_in + d_out + 1)."""
        return component.size * (module.d_in + module.d_out + 1)

    def config(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> PeftConfig:
        from peft import OSFConfig

        return OSFConfig(rank_pattern={t.path: min(t.d_in, t.d_out) - component.size for t in targets})

    def sizes(self, shape: ModelShape) -> Sequence[int]:
        """Below the narrowest module: at least one singular direction of its weight has to stay."""
        return powers_of_two(min(self.highest, narrowest(shape) - 1))

    def problem(self, component: Component, shape: ModelShape) -> str | None:
        return below_narrowest(component.size, self.targets(component, shape))

    def changes_base(self, component: Component) -> bool:
        return True
