"""Lily: each module has its own A; all modules of the same size share a few B, mixed by a router.

W x + s sum_e p_e B_e A x, p = softmax(R A x)        Zhong et al., ACL 2025 Findings (arXiv 2407.09946)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from autopeft_searchspace.configuration import Component
from autopeft_searchspace.linear import LinearAdapter
from autopeft_searchspace.registry import Supports, register
from autopeft_searchspace.shape import LinearShape, ModelShape

if TYPE_CHECKING:
    from peft import PeftConfig

EXPERTS = 4
"""Shared B of each size of module."""


@register
class Lily(LinearAdapter):
    name = "lily"
    title = "LoRA whose second factors are shared and mixed across layers"
    source = "Zhong et al., ACL 2025 Findings (arXiv 2407.09946)"
    supports = Supports(merge=False, quantised_base=False, layers=True, roles=True, identity_at_start=True, plain_peft=True)
    highest = 64
    rate = 3e-3
    takes_transposed = False

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """A and the router: rank * d_in + experts * rank."""
        return component.size * (module.d_in + EXPERTS)

    def config(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> PeftConfig:
        from peft import LilyConfig

        paths = "|".join(re.escape(target.path) for target in targets)
        return LilyConfig(r=component.size, stride_A=1, num_B=EXPERTS, target_modules=rf"(.*\.)?({paths})")

    def shared(self, component: Component, shape: ModelShape) -> int:
        """The shared B of each size of module: experts * rank * d_out."""
        sizes = {(module.d_in, module.d_out) for module in self.targets(component, shape)}
        return sum(EXPERTS * component.size * d_out for _, d_out in sizes)

    def stored_bytes(self, component: Component, shape: ModelShape) -> int:
        """Of each module all that it uses: peft writes what is shared once per module."""
        each = sum(m.d_in + EXPERTS + EXPERTS * m.d_out for m in self.targets(component, shape))
        return 4 * component.size * each
