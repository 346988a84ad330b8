"""LoKr: a Kronecker product whose larger factor is of low rank.

    W x + (alpha / r) (C (x) B A) x, C of the smaller factors of d_out and d_in        Yeh et al., ICLR 2024 (arXiv 2309.14859), section 3.2

Where the rank is no less than half of the larger factor's size, peft stores that factor whole.
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

FACTOR = 16
"""Largest size of the small factor."""


@register
class Lokr(LinearAdapter):
    name = "lokr"
    title = "Kronecker product of a small matrix and a low-rank one"
    source = "Yeh et al., ICLR 2024 (arXiv 2309.14859)"
    memory_like = "dense"
    supports = Supports(merge=True, quantised_base=False, layers=True, roles=True, identity_at_start=True, plain_peft=True)
    highest = 64
    takes_transposed = False

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """C, and the second factor: whole, or rank * (its rows + its columns)."""
        return _count(component.size, module)

    def takes_ranks(self, component: Component) -> bool:
        return True

    def config(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> PeftConfig:
        from peft import LoKrConfig

        return LoKrConfig(r=component.size, alpha=self.alpha(component), decompose_factor=FACTOR)


def _count(rank: int, module: LinearShape) -> int:
    (out_small, out_large), (in_small, in_large) = _factors(module.d_out), _factors(module.d_in)
    second = out_large * in_large if rank >= max(out_large, in_large) / 2 else rank * (out_large + in_large)
    return out_small * in_small + second


def _factors(width: int) -> tuple[int, int]:
    """(small, large) with product `width`: `FACTOR` where it divides, else its largest divisor below that and the root."""
    small = FACTOR if width % FACTOR == 0 else max(d for d in range(1, min(FACTOR, int(width**0.5)) + 1) if width % d == 0)
    return small, width // small
