"""Compacter: a serial bottleneck whose two matrices are sums of Kronecker products of rank one.

W = sum_i A_i (x) s_i t_i, i = 1 .. n, the n x n matrices A_i shared by all layers        Mahabadi et al., NeurIPS 2021
(arXiv 2106.04647), equations 4 and 5
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autopeft_searchspace.adapters.bottleneck import SerialBottleneck
from autopeft_searchspace.configuration import Component, Value
from autopeft_searchspace.linear import divisors
from autopeft_searchspace.registry import Base, register
from autopeft_searchspace.shape import ModelShape

TERMS = (2, 4, 8)


@register
class Compacter(SerialBottleneck):
    name = "compacter"
    title = "Bottleneck of shared Kronecker factors"
    source = "Mahabadi et al., NeurIPS 2021 (arXiv 2106.04647)"
    neutral = {"both": False}  # noqa: RUF012
    memory_like = "serial"

    def _choices(self, shape: ModelShape) -> dict[str, Sequence[Value]]:
        chosen = super()._choices(shape)
        return {"place": chosen["place"], "both": chosen["both"], "bias": chosen["bias"], "terms": divisors(shape.width, TERMS)}

    def sizes(self, shape: ModelShape) -> Sequence[int]:
        most = divisors(shape.width, TERMS)[-1]
        return [size for size in super().sizes(shape) if size % most == 0]

    def check(self, component: Component, shape: ModelShape) -> None:
        super().check(component, shape)
        if component.size % int(component.options["terms"]):
            raise ValueError(f"size of compacter must be a multiple of its terms ({component.options['terms']}), it is {component.size}")

    def trainable_parameters(self, component: Component, shape: ModelShape) -> int:
        """2 * (width + size), + size + width with biases, per sub-layer, and terms^3 shared."""
        biases = 1 if component.options["bias"] else 0
        each = sum((2 + biases) * (end.d_out + component.size) for _, end in self._spans(component, shape))
        return each + int(component.options["terms"]) ** 3

    def default_learning_rate(self, component: Component, shape: ModelShape) -> float:
        """3e-3, as in the paper, for every size."""
        return 3e-3

    def attach(self, component: Component, shape: ModelShape, base: Base | None = None) -> Mapping[str, Any]:
        import torch
        from torch import nn

        from autopeft_searchspace.tuners.parts import Bottleneck, Kronecker, SerialPart

        terms = int(component.options["terms"])
        shared = nn.Parameter(torch.randn(terms, terms, terms) / terms)

        def linear(d_in: int, d_out: int, bias: bool) -> nn.Module:
            return Kronecker(shared, d_in, d_out, bias)

        ends = [end for _, end in self._spans(component, shape)]
        bias = bool(component.options["bias"])
        return {end.path: SerialPart(Bottleneck(end.d_out, component.size, end.d_out, bias, linear=linear)) for end in ends}
