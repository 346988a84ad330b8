"""RoSA: a low-rank update and a sparse one, the latter where gradients are largest.

W x + s B A x + S x, S in the entries with the largest mean squared gradient        Nikdan et al., ICML 2024 (arXiv 2401.04679), section 4

Its mask is taken from gradients of the first training batches, before anything is trained (the paper also
warms the low-rank part up first); without batches it is drawn at random.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from autopeft_searchspace.configuration import Component
from autopeft_searchspace.dims import powers_of_two
from autopeft_searchspace.linear import SCALING, OwnLinearAdapter, narrowest
from autopeft_searchspace.registry import Base, Supports, register
from autopeft_searchspace.shape import LinearShape, ModelShape

if TYPE_CHECKING:
    from autopeft_searchspace.tuners.starts import Seen


@register
class Rosa(OwnLinearAdapter):
    name = "rosa"
    title = "Low-rank update and a sparse one where gradients are largest"
    source = "Nikdan et al., ICML 2024 (arXiv 2401.04679)"
    memory_like = "dense"
    supports = Supports(merge=True, quantised_base=False, layers=True, roles=True, identity_at_start=True, plain_peft=False)
    rate = 3e-3
    options = {"sparse": (0.5, 1, 2)}  # noqa: RUF012

    def sizes(self, shape: ModelShape) -> Sequence[int]:
        return powers_of_two(min(64, max(1, narrowest(shape) // 4)))

    def entries(self, component: Component, module: LinearShape) -> int:
        """Entries of a module that train: `sparse` for each weight of the low-rank update."""
        return int(float(component.options["sparse"]) * component.size * (module.d_in + module.d_out))

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """(1 + sparse) * rank * (d_in + d_out), the sparse part rounded down."""
        return component.size * (module.d_in + module.d_out) + self.entries(component, module)

    def problem(self, component: Component, shape: ModelShape) -> str | None:
        full = [m.path for m in self.targets(component, shape) if self.entries(component, m) > m.d_in * m.d_out]
        return f"{full[0]} has fewer entries than would train" if full else None

    def attach(self, component: Component, shape: ModelShape, base: Base | None = None) -> Mapping[str, Any]:
        from autopeft_searchspace.tuners.entries import SparsePart

        targets = self.targets(component, shape)
        return {m.path: SparsePart(m.d_in, component.size, m.d_out, self.entries(component, m), SCALING) for m in targets}

    def stored_bytes(self, component: Component, shape: ModelShape) -> int:
        """Beside what trains, the place of each entry in 64 bits."""
        places = sum(self.entries(component, module) for module in self.targets(component, shape))
        return 4 * self.trainable_parameters(component, shape) + 8 * places

    def starts_from_data(self, component: Component) -> bool:
        return True

    def start(self, component: Component, layer: Any, seen: Seen) -> None:
        layer.choose(seen.squared_gradient)
