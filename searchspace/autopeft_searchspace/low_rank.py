"""LoRA and its variants: what they share, since in peft all are one config with other settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from autopeft_searchspace.configuration import Component
from autopeft_searchspace.linear import LinearAdapter
from autopeft_searchspace.shape import LinearShape, ModelShape

if TYPE_CHECKING:
    from peft import PeftConfig


class LowRank(LinearAdapter):
    """Rank r with B: r -> d_out starting at zero. A subclass names the settings that it adds."""

    def settings(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> dict[str, Any]:
        """Arguments of `LoraConfig` beside rank and alpha."""
        return {}

    def takes_ranks(self, component: Component) -> bool:
        return self.pairs and not self.changes_base(component)

    def config(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> PeftConfig:
        from peft import LoraConfig

        return LoraConfig(r=component.size, lora_alpha=self.alpha(component), **self.settings(component, targets, shape))

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """rank * (d_in + d_out)."""
        return component.size * (module.d_in + module.d_out)

    def frozen_by_lora_fa(self, component: Component, shape: ModelShape) -> int:
        """rank * d_in of each module."""
        return sum(component.size * module.d_in for module in self.targets(component, shape))

    def default_learning_rate(self, component: Component, shape: ModelShape) -> float:
        """5e-3 (8 / rank)^(3/4) (384 / width), within 1e-4 .. 1e-2, whatever alpha.

        Measured for LoRA as for bottlenecks (see there), rank 8 on q and v: at 5e-3 validation accuracy is
        .892, .883 and .888 with alpha 1, 2 and 4 times the rank; with 2 and 1e-2 it is .877.
        """
        rate = 5e-3 * (8 / component.size) ** 0.75 * (384 / shape.width)
        return float(min(max(rate, 1e-4), 1e-2))
