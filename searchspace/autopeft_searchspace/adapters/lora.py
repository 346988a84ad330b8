"""LoRA: a low-rank update of chosen linear modules.

W x + (alpha / r) B A x,   A: d_in -> r random, B: r -> d_out zero        Hu et al., ICLR 2022 (arXiv 2106.09685), section 4.1
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from autopeft_searchspace.checks import check_options, check_roles
from autopeft_searchspace.configuration import Component, Value
from autopeft_searchspace.dims import Dimension, bit_dimension, powers_of_two, size_dimension
from autopeft_searchspace.registry import AdapterType, Supports, register
from autopeft_searchspace.shape import LinearShape, ModelShape

if TYPE_CHECKING:
    from peft import PeftConfig

HIGHEST_RANK = 256
ALPHA_RATIOS = (1, 2, 4)
"""alpha / rank, that is the scaling of the update."""


@register
class Lora(AdapterType):
    name = "lora"
    title = "Low-rank update of linear modules"
    source = "Hu et al., ICLR 2022 (arXiv 2106.09685)"
    supports = Supports(merge=True, quantised_base=True, layers=True, roles=True, identity_at_start=True, plain_peft=True)

    def dimensions(self, shape: ModelShape) -> Sequence[Dimension]:
        return (
            size_dimension("lora.size", powers_of_two(min(HIGHEST_RANK, shape.width))),
            Dimension("lora.alpha_ratio", ALPHA_RATIOS, ordered=True, log=True),
            *(bit_dimension(f"lora.roles.{role}") for role in shape.roles),
        )

    def component(self, values: Mapping[str, Value], layers: tuple[int, ...], shape: ModelShape) -> Component | None:
        size = int(values.get("lora.size", 0))
        if not size or not layers:
            return None
        roles = tuple(role for role in shape.roles if values[f"lora.roles.{role}"])
        return Component(self.name, size, layers, roles, {"alpha": int(values["lora.alpha_ratio"]) * size}) if roles else None

    def values(self, component: Component, shape: ModelShape) -> dict[str, Value]:
        ratio = float(component.options["alpha"]) / component.size
        return {
            "lora.size": component.size,
            "lora.alpha_ratio": int(ratio) if ratio.is_integer() else ratio,
            **{f"lora.roles.{role}": role in component.roles for role in shape.roles},
        }

    def check(self, component: Component, shape: ModelShape) -> None:
        check_roles(component, shape.roles)
        alpha = component.options.get("alpha")
        if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not alpha > 0:
            raise ValueError(f"option alpha of lora must be a number above 0, it is {alpha!r}")
        check_options(component, {"alpha": (alpha,)})

    def trainable_parameters(self, component: Component, shape: ModelShape) -> int:
        """rank * (d_in + d_out) per adapted module."""
        return sum(component.size * (module.d_in + module.d_out) for module in self._targets(component, shape))

    def default_learning_rate(self, component: Component, shape: ModelShape) -> float:
        """5e-3 (8 / rank)^(3/4) (384 / width), within 1e-4 .. 1e-2, whatever alpha.

        Measured as for bottlenecks (see there), rank 8 on q and v: at 5e-3 validation accuracy is .892, .883
        and .888 with alpha 1, 2 and 4 times the rank; with 2 and 1e-2 it is .877.
        """
        rate = 5e-3 * (8 / component.size) ** 0.75 * (384 / shape.width)
        return float(min(max(rate, 1e-4), 1e-2))

    def peft_config(self, component: Component, shape: ModelShape) -> PeftConfig | None:
        from peft import LoraConfig

        targets = [module.path for module in self._targets(component, shape)]
        return LoraConfig(r=component.size, lora_alpha=component.options["alpha"], target_modules=targets)

    def attach(self, component: Component, shape: ModelShape) -> Mapping[str, Any]:
        from autopeft_searchspace.tuners.parts import LoraPart

        alpha = float(component.options["alpha"])
        return {module.path: LoraPart(module.d_in, component.size, module.d_out, alpha) for module in self._targets(component, shape)}

    def _targets(self, component: Component, shape: ModelShape) -> list[LinearShape]:
        return [shape.modules[role][layer] for layer in component.layers for role in component.roles]
