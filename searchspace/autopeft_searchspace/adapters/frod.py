"""FRoD: the weights of a role share right directions V; a diagonal and a few other entries between them train.

(U (diag(l) + S) V') x; size is how many of a thousand entries of S train        AAAI 2026 (doi 10.1609/aaai.v40i31.39813)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from autopeft_searchspace.configuration import Component
from autopeft_searchspace.dims import powers_of_two
from autopeft_searchspace.linear import LinearAdapter
from autopeft_searchspace.registry import Supports, register
from autopeft_searchspace.shape import LinearShape, ModelShape

if TYPE_CHECKING:
    from peft import PeftConfig


@register
class Frod(LinearAdapter):
    name = "frod"
    title = "Trained sparse matrix between joint singular directions"
    source = "FRoD, AAAI 2026 (doi 10.1609/aaai.v40i31.39813)"
    traced_as = "fourierft"
    memory_like = "dense"
    supports = Supports(
        merge=True,
        quantised_base=False,
        layers=True,
        roles=True,
        identity_at_start=True,
        plain_peft=True,
        composition=False,
    )
    rate = 2e-3
    takes_transposed = False

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """d_in + size / 1000 of d_in^2."""
        return module.d_in + max(1, int(module.d_in**2 * component.size / 1000))

    def config(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> PeftConfig:
        from peft import FrodConfig

        return FrodConfig(sparse_rate=component.size / 1000, progressbar=False)

    def sizes(self, shape: ModelShape) -> Sequence[int]:
        return powers_of_two(128)

    def stored_bytes(self, component: Component, shape: ModelShape) -> int:
        """Beside what trains, of each role its directions, and in 64 bits the places of its entries and their size."""
        firsts = [shape.modules[role][component.layers[0]] for role in component.roles]
        shared = sum(4 * m.d_in**2 + 16 * (self.per_module(component, m, shape) - m.d_in) + 16 for m in firsts)
        return super().stored_bytes(component, shape) + shared
