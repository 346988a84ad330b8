"""Poly: several low-rank skills in each module, mixed by trained gates; MHR: with gates for each piece of the features.

h + x A B,  A = sum_s w_s A_s,  B = sum_s w_s B_s,  w the normalised sigmoids of z        Ponti et al. 2022 (arXiv 2202.13914),
equations 4 and 5; with `splits` above 1, Caccia et al., NeurIPS 2023 (arXiv 2211.03831), equation 4

Both mix per task. A study has one task, so there is one row of gates, and they are not drawn at random.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autopeft_searchspace.configuration import Component, Value
from autopeft_searchspace.dims import powers_of_two
from autopeft_searchspace.linear import OwnLinearAdapter, common_divisor, narrowest
from autopeft_searchspace.registry import Base, Supports, register
from autopeft_searchspace.shape import LinearShape, ModelShape

SPLITS = (1, 2, 4)


@register
class Poly(OwnLinearAdapter):
    name = "poly"
    title = "Low-rank skills mixed by trained gates"
    source = "Ponti et al. 2022 (arXiv 2202.13914); with splits, Caccia et al., NeurIPS 2023 (arXiv 2211.03831)"
    supports = Supports(merge=True, quantised_base=True, layers=True, roles=True, identity_at_start=True, plain_peft=False)
    rate = 5e-3
    neutral = {"splits": 1}  # noqa: RUF012

    def choices(self, shape: ModelShape) -> Mapping[str, Sequence[Value]]:
        return {"skills": (2, 4, 8), "splits": [n for n in SPLITS if common_divisor(shape) % n == 0]}

    def sizes(self, shape: ModelShape) -> Sequence[int]:
        return powers_of_two(min(32, narrowest(shape)))

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """skills * rank * (d_in + d_out) + skills * splits."""
        skills = int(component.options["skills"])
        return skills * (component.size * (module.d_in + module.d_out) + int(self.option(component, "splits")))

    def attach(self, component: Component, shape: ModelShape, base: Base | None = None) -> Mapping[str, Any]:
        from autopeft_searchspace.tuners.skills import SkillsPart

        skills, splits = int(component.options["skills"]), int(self.option(component, "splits"))
        return {m.path: SkillsPart(m.d_in, component.size, m.d_out, skills, splits) for m in self.targets(component, shape)}
