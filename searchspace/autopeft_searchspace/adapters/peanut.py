"""PEANuT: the update is what a small network makes of the weight itself.

W x + (g(W' A) B)' x, g a network of `depth` layers of width r        Zhong et al. 2024 (arXiv 2410.01870)
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
class Peanut(LinearAdapter):
    name = "peanut"
    title = "A small network that makes the update from the weight"
    source = "Zhong et al. 2024 (arXiv 2410.01870)"
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
    options = {"depth": (0, 1, 2)}  # noqa: RUF012
    highest = 64
    rate = 2e-3
    takes_transposed = False

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """2 * rank * d_out + 2 * depth * rank^2."""
        return 2 * component.size * module.d_out + 2 * int(component.options["depth"]) * component.size**2

    def config(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> PeftConfig:
        from peft import PeanutConfig

        return PeanutConfig(r=component.size, depth=int(component.options["depth"]))
