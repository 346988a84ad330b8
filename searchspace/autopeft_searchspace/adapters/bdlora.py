"""BD-LoRA: LoRA of which B is block-diagonal, so that its weights and its products fall by the number of blocks.

W x + s diag(B_1 .. B_n) A x        (arXiv 2510.23346)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autopeft_searchspace.configuration import Component
from autopeft_searchspace.linear import must_divide
from autopeft_searchspace.low_rank import LowRank
from autopeft_searchspace.registry import Supports, register
from autopeft_searchspace.shape import LinearShape, ModelShape

BLOCKS = 2
"""Blocks of the second factor."""


@register
class BdLora(LowRank):
    name = "bdlora"
    title = "LoRA whose second factor is block-diagonal"
    source = "BD-LoRA (arXiv 2510.23346)"
    supports = Supports(
        merge=True,
        quantised_base=False,
        layers=True,
        roles=True,
        identity_at_start=True,
        plain_peft=True,
        composition=False,
    )
    takes_transposed = False

    def sizes(self, shape: ModelShape) -> Sequence[int]:
        return [size for size in super().sizes(shape) if size % BLOCKS == 0]

    def problem(self, component: Component, shape: ModelShape) -> str | None:
        return must_divide(BLOCKS, [component.size, *(m.d_out for m in self.targets(component, shape))])

    def settings(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> dict[str, Any]:
        from peft.tuners.lora import BdLoraConfig

        return {"use_bdlora": BdLoraConfig(target_modules_bd_b=[t.path for t in targets], nblocks=BLOCKS, match_strict=False)}

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """rank * d_in + rank * d_out / blocks."""
        return component.size * module.d_in + component.size * module.d_out // BLOCKS
