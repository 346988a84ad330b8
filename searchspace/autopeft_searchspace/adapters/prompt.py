"""Prompt: trained vectors that stand before the text from the first chosen layer on, with new ones in each further one.

    layer 0 alone     prompt tuning            Lester et al., EMNLP 2021 (arXiv 2104.08691), section 2
    all layers        deep prompts             Jia et al., ECCV 2022 (arXiv 2203.12119), section 3.2
    source encoded    P-tuning: from an MLP    Liu et al. 2021 (arXiv 2103.10385), section 3.2
    source factored   multitask prompt, for one task: P * u v^T        Wang et al., ICLR 2023 (arXiv 2303.02861), equation 2

Behind the last block the vectors are taken off again, so that task heads see the text alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from autopeft_searchspace.checks import check_options, check_roles
from autopeft_searchspace.configuration import Component, Value
from autopeft_searchspace.dims import Dimension, choice_dimension, powers_of_two, size_dimension
from autopeft_searchspace.registry import AdapterType, Base, Supports, register
from autopeft_searchspace.shape import ModelShape

if TYPE_CHECKING:
    from peft import PeftConfig

SOURCES = ("free", "encoded", "factored")


@register
class Prompt(AdapterType):
    name = "prompt"
    title = "Trained vectors before the text, from a layer on"
    source = "Lester et al., EMNLP 2021 (arXiv 2104.08691); deep as in Jia et al., ECCV 2022 (arXiv 2203.12119)"
    supports = Supports(merge=False, quantised_base=True, layers=True, roles=False, identity_at_start=False, plain_peft=False)
    apart = False
    neutral = {"source": "free"}  # noqa: RUF012

    def unavailable(self, shape: ModelShape) -> str | None:
        if not shape.attention_paths:
            return f"the attention of {shape.architecture}, as this model was loaded, takes no further tokens"
        return None if len(set(shape.block_paths)) == shape.layers else f"the layers of {shape.architecture} are not blocks of their own"

    def dimensions(self, shape: ModelShape) -> Sequence[Dimension]:
        return (size_dimension("prompt.size", powers_of_two(128)), choice_dimension("prompt.source", SOURCES))

    def component(self, values: Mapping[str, Value], layers: tuple[int, ...], shape: ModelShape) -> Component | None:
        size, source = int(values.get("prompt.size", 0)), values.get("prompt.source", "free")
        options = {} if source == "free" else {"source": source}
        return Component(self.name, size, layers, options=options) if size and layers else None

    def values(self, component: Component, shape: ModelShape) -> dict[str, Value]:
        return {"prompt.size": component.size, "prompt.source": component.options.get("source", "free")}

    def check(self, component: Component, shape: ModelShape) -> None:
        check_options(component, {"source": SOURCES}, optional=self.neutral)
        check_roles(component, ())

    def hidden(self, shape: ModelShape) -> int:
        """Width of the MLP of P-tuning."""
        return max(1, shape.width // 4)

    def trainable_parameters(self, component: Component, shape: ModelShape) -> int:
        """tokens * width per layer; encoded, of the MLP 2 * width * hidden + hidden^2 + 2 * hidden + width more;
        factored, tokens + width more."""
        hidden = self.hidden(shape)
        more = {
            "free": 0,
            "encoded": 2 * shape.width * hidden + hidden**2 + 2 * hidden + shape.width,
            "factored": component.size + shape.width,
        }
        return (component.size * shape.width + more[str(component.options.get("source", "free"))]) * len(component.layers)

    def default_learning_rate(self, component: Component, shape: ModelShape) -> float:
        """1e-2 for vectors of their own, 1e-3 for an MLP."""
        return 1e-3 if component.options.get("source") == "encoded" else 1e-2

    def peft_config(self, component: Component, shape: ModelShape) -> PeftConfig | None:
        return None

    def attach(self, component: Component, shape: ModelShape, base: Base | None = None) -> Mapping[str, Any]:
        from autopeft_searchspace.tuners import prompt

        def vectors() -> prompt.Vectors:
            match component.options.get("source", "free"):
                case "encoded":
                    return prompt.Encoded(component.size, shape.width, self.hidden(shape))
                case "factored":
                    return prompt.Factored(component.size, shape.width)
                case _:
                    return prompt.Vectors(component.size, shape.width)

        first, last = component.layers[0], shape.layers - 1
        return {
            shape.block_paths[layer]: prompt.PromptPart(
                component.size,
                layer,
                vectors() if layer in component.layers else None,
                carried=layer > first,
                last=layer == last,
                causal=shape.kind == "decoder",
            )
            for layer in range(first, shape.layers)
        }
