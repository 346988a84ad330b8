"""AdaMSS: outputs are clustered by their left singular vectors, each cluster with a rank-one update; size is clusters.

rows of cluster k:  W_k x + b_k a_k V' x, V the r largest right singular vectors        Zheng et al., NeurIPS 2025 (openreview 8ZdWmpYxT0)

peft does not save the clusters but finds them again from W: a saved adapter belongs to the kind of device and the precision that it was
trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from autopeft_searchspace.configuration import Component
from autopeft_searchspace.linear import LinearAdapter, narrowest
from autopeft_searchspace.registry import Supports, register
from autopeft_searchspace.shape import LinearShape, ModelShape

if TYPE_CHECKING:
    from peft import PeftConfig


@register
class Adamss(LinearAdapter):
    name = "adamss"
    title = "Low-rank updates of clusters of outputs"
    source = "Zheng et al., NeurIPS 2025 (openreview 8ZdWmpYxT0)"
    traced_as = "rslora"
    supports = Supports(
        merge=True,
        quantised_base=False,
        layers=True,
        roles=True,
        identity_at_start=True,
        plain_peft=True,
        composition=False,
    )
    highest = 32
    rate = 5e-3
    takes_transposed = False

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """clusters * r + d_out."""
        return component.size * self.width(shape) + module.d_out

    def config(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> PeftConfig:
        from peft import AdamssConfig

        return AdamssConfig(r=self.width(shape), num_subspaces=component.size, subspace_rank=1)

    def width(self, shape: ModelShape) -> int:
        """Singular directions kept."""
        return min(100, narrowest(shape) // 2)

    def stored_bytes(self, component: Component, shape: ModelShape) -> int:
        """Beside what trains, the directions of each module, with one entry for its bias."""
        kept = sum(self.width(shape) * (m.d_in + m.bias) for m in self.targets(component, shape))
        return 4 * (self.trainable_parameters(component, shape) + kept)
