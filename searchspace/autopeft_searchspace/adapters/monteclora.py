"""MonteCLoRA: LoRA whose first factor is a weighted mean of samples from a trained distribution, in training only.

A <- A + sum_i w_i Z_i, Z_i ~ N(0, S), S (Wishart) and w (Dirichlet) trained        Seth et al. 2024 (arXiv 2411.04358)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autopeft_searchspace.configuration import Component
from autopeft_searchspace.low_rank import LowRank
from autopeft_searchspace.registry import Supports, register
from autopeft_searchspace.shape import LinearShape, ModelShape

SAMPLES = 8
"""Matrices drawn for each module."""


@register
class MontecLora(LowRank):
    name = "monteclora"
    title = "LoRA averaged over sampled factors"
    source = "Seth et al. 2024 (arXiv 2411.04358)"
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

    def settings(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> dict[str, Any]:
        from peft.tuners.lora import MontecloraConfig

        return {"monteclora_config": MontecloraConfig(num_samples=SAMPLES, buffer_size=1)}

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """rank * (d_in + d_out) + rank + samples."""
        return super().per_module(component, module, shape) + component.size + SAMPLES

    def stored_bytes(self, component: Component, shape: ModelShape) -> int:
        """Beside what trains, the state of each module's sampler."""
        return super().stored_bytes(component, shape) + 4 * (component.size**2 + SAMPLES) * len(self.targets(component, shape))
