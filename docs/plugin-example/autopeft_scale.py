"""An adapter type of another package: one trained scale per output of chosen modules, built by no tuner of peft.

Installed beside autopeft, it is found by the entry point in `pyproject.toml`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autopeft_searchspace.configuration import Component
from autopeft_searchspace.linear import LinearAdapter
from autopeft_searchspace.registry import Base, Supports, register
from autopeft_searchspace.shape import LinearShape, ModelShape


@register
class Scale(LinearAdapter):
    name = "scale"
    title = "Outputs scaled by trained numbers"
    source = "example of a plug-in"
    supports = Supports(merge=True, quantised_base=True, layers=True, roles=True, identity_at_start=True, plain_peft=False)
    rate = 1e-2

    def sizes(self, shape: ModelShape) -> Sequence[int]:
        return (1,)

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """d_out."""
        return module.d_out

    def config(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> Any:
        raise NotImplementedError("peft has no such type")

    def peft_config(self, component: Component, shape: ModelShape) -> None:
        return None

    def attach(self, component: Component, shape: ModelShape, base: Base | None = None) -> Mapping[str, Any]:
        import torch
        from torch import Tensor, nn

        from autopeft_searchspace.tuners.parts import Call, Part

        class ScalePart(Part):
            """(1 + g) * h for the output h of a module, g starting at zero."""

            mergeable = True

            def __init__(self, width: int) -> None:
                super().__init__()
                self.scale = nn.Parameter(torch.zeros(width))

            def forward(self, call: Call, x: Tensor) -> Tensor:
                return call(x) * (1 + self.scale)

        return {module.path: ScalePart(module.d_out) for module in self.targets(component, shape)}
