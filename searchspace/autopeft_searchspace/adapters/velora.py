"""VeLoRA: LoRA that keeps its inputs compressed, one number for each group of features, until the backward pass.

gradient of A from groups of x projected on one fixed direction        Miles et al., NeurIPS 2024 (arXiv 2405.17991), section 3
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autopeft_searchspace.configuration import Component
from autopeft_searchspace.low_rank import LowRank
from autopeft_searchspace.registry import Supports, register
from autopeft_searchspace.shape import LinearShape, ModelShape

GROUPS = 16
"""Groups of features, of each of which one number is kept."""


@register
class Velora(LowRank):
    name = "velora"
    title = "LoRA that keeps compressed activations for its backward pass"
    source = "Miles et al., NeurIPS 2024 (arXiv 2405.17991)"
    supports = Supports(
        merge=True,
        quantised_base=False,
        layers=True,
        roles=True,
        identity_at_start=True,
        plain_peft=True,
        composition=False,
    )

    def settings(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> dict[str, Any]:
        from peft import VeloraConfig

        return {"velora_config": VeloraConfig(num_groups=GROUPS)}

    def stored_bytes(self, component: Component, shape: ModelShape) -> int:
        """Beside what trains, the direction on which each module's groups are projected."""
        return super().stored_bytes(component, shape) + 4 * sum(-(-m.d_in // GROUPS) for m in self.targets(component, shape))
