"""Full blocks: all linear modules of the first or the last blocks train whole.

(W + D) x + b + d, D and d zero at the start

With LoRA in the others this is the placement of ExPLoRA (Khanna et al. 2024, arXiv 2406.10973, section 4), where
the norms train too (`ln_tuning`). It is placed by how many blocks it takes and from which end, whatever
the layers of other components.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from autopeft_searchspace.checks import check_options, check_roles
from autopeft_searchspace.configuration import Component, Value
from autopeft_searchspace.dims import Dimension, choice_dimension, size_dimension
from autopeft_searchspace.registry import AdapterType, Base, Supports, register
from autopeft_searchspace.shape import LinearShape, ModelShape

if TYPE_CHECKING:
    from peft import PeftConfig


@register
class Full(AdapterType):
    name = "full"
    title = "Whole blocks trained, from the first or the last on"
    source = "Khanna et al. 2024 (arXiv 2406.10973)"
    supports = Supports(merge=True, quantised_base=True, layers=False, roles=False, identity_at_start=True, plain_peft=False)
    apart = False

    def dimensions(self, shape: ModelShape) -> Sequence[Dimension]:
        blocks = [count for count in (1, 2, 4) if count <= max(1, shape.layers // 2)]
        return (size_dimension("full.size", blocks), choice_dimension("full.position", ("first", "last")))

    def component(self, values: Mapping[str, Value], layers: tuple[int, ...], shape: ModelShape) -> Component | None:
        size = int(values.get("full.size", 0))
        start = 0 if values.get("full.position") == "first" else shape.layers - size
        return Component(self.name, 1, tuple(range(start, start + size))) if size else None

    def values(self, component: Component, shape: ModelShape) -> dict[str, Value]:
        return {"full.size": len(component.layers), "full.position": "first" if component.layers[0] == 0 else "last"}

    def check(self, component: Component, shape: ModelShape) -> None:
        check_options(component, {})
        check_roles(component, ())
        if component.size != 1:
            raise ValueError(f"size of full must be 1, since a block trains whole, it is {component.size}")

    def _modules(self, component: Component, shape: ModelShape) -> list[LinearShape]:
        return [shape.modules[role][layer] for layer in component.layers for role in shape.roles]

    def trainable_parameters(self, component: Component, shape: ModelShape) -> int:
        """d_in * d_out, + d_out with a bias, of every linear module of the blocks."""
        return sum(m.d_in * m.d_out + m.bias * m.d_out for m in self._modules(component, shape))

    def default_learning_rate(self, component: Component, shape: ModelShape) -> float:
        """3e-4 (384 / width), within 1e-5 .. 1e-3: near that of full fine-tuning."""
        return float(min(max(3e-4 * 384 / shape.width, 1e-5), 1e-3))

    def peft_config(self, component: Component, shape: ModelShape) -> PeftConfig | None:
        return None

    def attach(self, component: Component, shape: ModelShape, base: Base | None = None) -> Mapping[str, Any]:
        from autopeft_searchspace.tuners.entries import DeltaPart

        return {m.path: DeltaPart(m.d_in, m.d_out, m.bias) for m in self._modules(component, shape)}
