"""AdaLoRA: LoRA as P diag(e) Q, whose ranks are cut while it trains, module by module; size is the mean rank that is left.

W x + s P diag(e) Q x, e zero at the start        Zhang et al., ICLR 2023 (arXiv 2303.10512), section 3

It starts with half as much rank again; after a tenth of the steps it cuts the triplets whose weights matter
least to the loss (equations 8 to 12, a cubic schedule), until the last three tenths, which train what is left.
P and Q are kept near orthogonal by a penalty on the loss (equation 7).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from autopeft_searchspace.configuration import Component
from autopeft_searchspace.dims import powers_of_two
from autopeft_searchspace.linear import SCALING, LinearAdapter, narrowest
from autopeft_searchspace.registry import Supports, register
from autopeft_searchspace.shape import LinearShape, ModelShape

if TYPE_CHECKING:
    from peft import PeftConfig

UNSET_STEPS = 10**9
"""Until the training loop says how many steps there are (`autopeft.updates`)."""


@register
class AdaLora(LinearAdapter):
    name = "adalora"
    title = "LoRA whose ranks are cut while it trains"
    source = "Zhang et al., ICLR 2023 (arXiv 2303.10512)"
    supports = Supports(
        merge=True,
        quantised_base=True,
        layers=True,
        roles=True,
        identity_at_start=True,
        plain_peft=True,
        composition=False,
    )
    rate = 1e-2
    schedules = True

    def initial(self, component: Component) -> int:
        """Rank of each module at the start."""
        return -(-3 * component.size // 2)

    def per_module(self, component: Component, module: LinearShape, shape: ModelShape) -> int:
        """initial rank * (d_in + d_out + 1), of which two thirds are left at the end."""
        return self.initial(component) * (module.d_in + module.d_out + 1)

    def sizes(self, shape: ModelShape) -> Sequence[int]:
        return powers_of_two(min(64, max(2, narrowest(shape) // 2)), 2)

    def config(self, component: Component, targets: Sequence[LinearShape], shape: ModelShape) -> PeftConfig:
        from peft import AdaLoraConfig

        initial = self.initial(component)
        return AdaLoraConfig(
            init_r=initial, target_r=component.size, lora_alpha=SCALING * initial, total_step=UNSET_STEPS, orth_reg_weight=0.1
        )
