"""GraLoRA: the weight cut into k x k blocks, each with a LoRA of its own of rank r / k.

sum over blocks of B_ij A_ij x_j        Jung et al. 2025 (arXiv 2505.20355), section 3
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from autopeft_searchspace.configuration import Component, Value
from autopeft_searchspace.linear import LinearAdapter, common_divisor, must_divide
from autopeft_searchspace.registry import Supports, register
from autopeft_searchspace.shape import LinearShape, ModelShape

if TYPE_CHECKING:
    from peft import PeftConfig


@register
class Gralora(LinearAdapter):
    name = "gralora"
    title = "A grid of small LoRA blocks"
    source = "Jung et al. 2025 (arXiv 2505.20355)"
    supports = Supports(merge=True, quantised_base=False, layers=True, roles=True, identity_at_start=True, plain_peft=True)
    options = {"blocks": (2, 4)}  # noqa: RUF012

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """rank * (d_in + d_out)."""
        return component.size * (module.d_in + module.d_out)

    def config(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> PeftConfig:
        from peft import GraloraConfig

        return GraloraConfig(r=component.size, alpha=2 * component.size, gralora_k=int(component.options["blocks"]))

    def sizes(self, shape: ModelShape) -> Sequence[int]:
        return [size for size in super().sizes(shape) if size >= 4]

    def choices(self, shape: ModelShape) -> Mapping[str, Sequence[Value]]:
        return {"blocks": [k for k in self.options["blocks"] if common_divisor(shape) % int(k) == 0] or [1]}

    def problem(self, component: Component, shape: ModelShape) -> str | None:
        blocks = int(component.options["blocks"])
        return must_divide(blocks, [component.size, *(d for m in self.targets(component, shape) for d in (m.d_in, m.d_out))])
