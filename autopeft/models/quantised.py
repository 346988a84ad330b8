"""Base models whose frozen linear weights are kept in 8 or 4 bits by bitsandbytes.

    int8   LLM.int8(): one byte a weight and a scale for each output; inputs are rounded too, outlier features apart
    nf4    QLoRA: half a byte a weight and a float32 scale for each 64 of them; computed with after they are widened again

Embeddings, norms, biases and the task head stay as they are.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from autopeft.errors import ModelError
from autopeft_searchspace.configuration import QUANTISATIONS

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig

NONE = QUANTISATIONS[0]
BLOCK = 64
"""Weights of nf4 that share a scale."""


@dataclass(frozen=True)
class Quantisation:
    """How a base model is loaded. name: one of `QUANTISATIONS`. device: where it is to be.
    precision: `fp32` or `bf16`, in which nf4 weights are computed with."""

    name: str = NONE
    device: str = "cpu"
    precision: str = "fp32"

    def arguments(self, whole: Sequence[str]) -> dict[str, Any]:
        """Of `from_pretrained`. whole: modules that are not quantised. ModelError where bitsandbytes is not installed."""
        if self.name == NONE:
            return {}
        require(self.name)
        from transformers import BitsAndBytesConfig

        found: BitsAndBytesConfig = BitsAndBytesConfig(**settings(self.name, self.precision), llm_int8_skip_modules=list(whole))
        return {"quantization_config": found, "device_map": {"": self.device}}


def settings(name: str, precision: str) -> dict[str, Any]:
    """Arguments of transformers' `BitsAndBytesConfig`, as words and numbers."""
    if name == "int8":
        return {"load_in_8bit": True}
    compute = {"fp32": "float32", "bf16": "bfloat16"}[precision]
    return {"load_in_4bit": True, "bnb_4bit_quant_type": name, "bnb_4bit_compute_dtype": compute}


def loading_code(name: str, precision: str, whole: Sequence[str]) -> str:
    """`BitsAndBytesConfig(...)` as Python for people's scripts; empty where nothing is quantised. whole: as in `Quantisation.arguments`."""
    if name == NONE:
        return ""
    arguments = {**settings(name, precision), "llm_int8_skip_modules": list(whole)}
    return f"BitsAndBytesConfig({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"


def code_of(model: Any) -> str:
    """`loading_code` of a model that was loaded so; empty for any other."""
    found = getattr(model.config, "quantization_config", None)
    if found is None:
        return ""
    name = "int8" if found.load_in_8bit else found.bnb_4bit_quant_type
    return loading_code(name, "bf16" if found.bnb_4bit_compute_dtype is torch.bfloat16 else "fp32", found.llm_int8_skip_modules)


def require(name: str) -> None:
    """Raise ModelError where the packages for it are missing."""
    if name != NONE and importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError(f"quantisation {name} needs bitsandbytes; install it with `pip install 'autopeft[quant]'`")


def settle(model: nn.Module) -> None:
    """Make a loaded model compute the same in training and in evaluation.

    On CPUs with AVX512-BF16 bitsandbytes repacks 4-bit weights for good when they are first evaluated, after which
    gradients no longer pass.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def weights_of(parameter: Tensor) -> int:
    """Number of weights that a parameter stands for: two in each byte of a 4-bit one."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else math.prod(state.shape)


def stand_in(base: nn.Module, name: str) -> None:
    """Replace the linear modules of a model on the meta device by ones that take as much memory as quantised ones,
    for tracing; bitsandbytes is not needed."""
    if name == NONE:
        return
    for path, module in list(base.named_modules()):
        if type(module) is nn.Linear:
            parent, _, leaf = path.rpartition(".")
            setattr(base.get_submodule(parent), leaf, StandIn(module, name))


class StandIn(nn.Linear):
    """Has the tensors of a quantised linear module, and makes those that it makes; its numbers mean nothing."""

    def __init__(self, module: nn.Linear, name: str) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features, self.name = module.in_features, module.out_features, name
        device, count = module.weight.device, module.weight.numel()
        packed = (self.out_features, self.in_features) if name == "int8" else ((count + 1) // 2, 1)
        scales = self.out_features if name == "int8" else -(-count // BLOCK)
        self.weight = nn.Parameter(torch.empty(packed, dtype=torch.int8 if name == "int8" else torch.uint8, device=device), False)
        self.bias = module.bias
        self.register_buffer("scales", torch.empty(scales, device=device))

    def forward(self, x: Tensor) -> Tensor:
        return _Widened.apply(x, self.weight, self.scales, self.bias, self.in_features, self.name)


class _Widened(torch.autograd.Function):
    """x W^T + b as bitsandbytes allocates for it: W is widened in each pass and kept by neither; int8 keeps its input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, scales: Tensor, bias: Tensor | None, d_in: int, name: str) -> Tensor:
        ctx.weight, ctx.scales, ctx.shape = weight, scales, (weight.numel() * (2 if name == "nf4" else 1) // d_in, d_in)
        ctx.held = x if name == "int8" and ctx.needs_input_grad[0] else None
        return nn.functional.linear(x, x.new_empty(ctx.shape), None if bias is None else bias.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        return gradient @ gradient.new_empty(ctx.shape), None, None, None, None, None
