"""LoRA: a low-rank update of chosen linear modules.

W x + (alpha / r) B A x,   A: d_in -> r random, B: r -> d_out zero        Hu et al., ICLR 2022 (arXiv 2106.09685), section 4.1

Other ways to start, all of which keep the function (the part of W that A and B take over is taken out
of W): the r largest singular triplets (PiSSA, arXiv 2404.02948), the QR factors (OLoRA, arXiv
2406.01775), orthonormal rows and columns. And three that look at training batches first: at what the
modules read (EVA, which keeps W), at that and W (CorDA), or at the gradient of W (LoRA-GA).

LoftQ (arXiv 2310.08659) is not among them: peft 0.21 computes it on CUDA alone, so it could not be tested.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from autopeft_searchspace.checks import check_options, check_roles
from autopeft_searchspace.configuration import Component, Value
from autopeft_searchspace.dims import Dimension
from autopeft_searchspace.low_rank import LowRank
from autopeft_searchspace.registry import Supports, register
from autopeft_searchspace.shape import LinearShape, ModelShape

if TYPE_CHECKING:
    from autopeft_searchspace.tuners.starts import Seen

ALPHA_RATIOS = (1, 2, 4)
"""alpha / rank, that is the scaling of the update."""
CHANGING_THE_BASE = ("pissa", "olora", "orthogonal", "corda", "lora_ga")
FROM_DATA = ("eva", "corda", "lora_ga")


@register
class Lora(LowRank):
    name = "lora"
    title = "Low-rank update of linear modules"
    source = "Hu et al., ICLR 2022 (arXiv 2106.09685)"
    pairs = True
    memory_like = ""
    supports = Supports(merge=True, quantised_base=True, layers=True, roles=True, identity_at_start=True, plain_peft=True)
    options = {"init": ("default", "gaussian", "eva", *CHANGING_THE_BASE)}  # noqa: RUF012
    neutral = {"init": "default"}  # noqa: RUF012

    def dimensions(self, shape: ModelShape) -> Sequence[Dimension]:
        size, *others = super().dimensions(shape)
        return (size, Dimension("lora.alpha_ratio", ALPHA_RATIOS, ordered=True, log=True), *others)

    def component(self, values: Mapping[str, Value], layers: tuple[int, ...], shape: ModelShape) -> Component | None:
        found = super().component(values, layers, shape)
        if found is None:
            return None
        alpha = int(values["lora.alpha_ratio"]) * found.size
        options = {name: value for name, value in found.options.items() if not (value == "orthogonal" and found.size % 2)}
        return Component(found.type, found.size, found.layers, found.roles, {"alpha": alpha, **options})

    def values(self, component: Component, shape: ModelShape) -> dict[str, Value]:
        ratio = float(component.options["alpha"]) / component.size
        found = super().values(component, shape)
        del found["lora.alpha"]
        return found | {"lora.alpha_ratio": int(ratio) if ratio.is_integer() else ratio}

    def check(self, component: Component, shape: ModelShape) -> None:
        check_roles(component, shape.roles)
        alpha = component.options.get("alpha")
        if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not alpha > 0:
            raise ValueError(f"option alpha of lora must be a number above 0, it is {alpha!r}")
        check_options(component, {"alpha": (alpha,), **self.options}, optional=self.neutral)
        if self.option(component, "init") == "orthogonal" and component.size % 2:
            raise ValueError(f"lora with init orthogonal needs an even size, it is {component.size}")

    def changes_base(self, component: Component) -> bool:
        return self.option(component, "init") in CHANGING_THE_BASE

    def trains_quantised(self, component: Component) -> bool:
        return super().trains_quantised(component) and not self.starts_from_data(component)

    def alpha(self, component: Component) -> float:
        return float(component.options["alpha"])

    def settings(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> dict[str, Any]:
        init = self.option(component, "init")
        return {} if init in ("default", *FROM_DATA) else {"init_lora_weights": init}

    def starts_from_data(self, component: Component) -> bool:
        return self.option(component, "init") in FROM_DATA

    def start(self, component: Component, layer: Any, seen: Seen) -> None:
        from autopeft_searchspace.tuners import starts

        rank = component.size
        match self.option(component, "init"):
            case "eva":
                zero = seen.weight.new_zeros(len(seen.weight), rank)
                starts.set_factors(layer, zero, starts.eva(seen, rank), keep_function=False)
            case "corda":
                root = (self.alpha(component) / rank) ** 0.5  # the update, scaled, is to be the principal part
                up, down = starts.corda(seen, rank)
                starts.set_factors(layer, up / root, down / root, keep_function=True)
            case "lora_ga":
                starts.set_factors(layer, *starts.lora_ga(seen, rank), keep_function=True)
