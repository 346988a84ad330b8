"""Super-Tuning: the largest entries of the weight train; size is how many of ten thousand.

(W + S) x, S at the entries of largest |W|        Ilin et al. 2026 (arXiv 2607.09287)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from autopeft_searchspace.configuration import Component
from autopeft_searchspace.dims import powers_of_two
from autopeft_searchspace.linear import LinearAdapter, narrowest
from autopeft_searchspace.registry import Supports, register
from autopeft_searchspace.shape import LinearShape, ModelShape

if TYPE_CHECKING:
    from peft import PeftConfig


@register
class SuperTuning(LinearAdapter):
    name = "supertuning"
    title = "The largest entries of the weight trained"
    source = "Ilin et al. 2026 (arXiv 2607.09287)"
    memory_like = "dense"
    supports = Supports(merge=True, quantised_base=False, layers=True, roles=True, identity_at_start=True, plain_peft=True, innermost=True)
    rate = 2e-3
    takes_transposed = False

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """size / 10,000 of the entries."""
        return int(module.d_in * module.d_out * (1 - (1 - component.size / 10_000)))

    def config(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> PeftConfig:
        from peft import SupertuningConfig

        return SupertuningConfig(sparsity=1 - component.size / 10_000)

    def sizes(self, shape: ModelShape) -> Sequence[int]:
        least = 2 * -(-10_000 // narrowest(shape) ** 2)
        return [size for size in powers_of_two(1024) if size >= least]

    def problem(self, component: Component, shape: ModelShape) -> str | None:
        empty = [m.path for m in self.targets(component, shape) if not self.per_module(component, m, shape)]
        return f"no entry of {empty[0]} would train" if empty else None

    def stored_bytes(self, component: Component, shape: ModelShape) -> int:
        """Of each entry its value and, in 32 bits, its place."""
        return 8 * self.trainable_parameters(component, shape)
