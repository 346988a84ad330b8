"""Learnable masks on attention heads and feed-forward units: one number per head, or group of heads that
share keys, and per unit, which multiplies what it hands on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from autopeft_searchspace.shape import ModelShape


class Masks(nn.Module):
    """heads: [groups] per layer; units: [units] per layer; all 1 at the start.

    A mask multiplies the input of the module that reads all heads (`o`) or units (`ff_out`), which is the
    same as multiplying the attention probabilities of the head, or the unit.
    """

    def __init__(self, base: Any, shape: ModelShape) -> None:
        super().__init__()
        number = shape.key_value_heads
        like = next(base.parameters())
        self.heads = nn.ParameterList([torch.ones(number, device=like.device) for _ in range(shape.layers)])
        self.units = nn.ParameterList([torch.ones(m.d_in, device=like.device) for m in shape.modules["ff_out"]])
        self._handles = []
        for layer in range(shape.layers):
            for role, masks in (("o", self.heads), ("ff_out", self.units)):
                module = base.get_submodule(shape.modules[role][layer].path)
                self._handles.append(module.register_forward_pre_hook(_masking(masks, layer)))

    def penalise(self, weight: float) -> None:
        """Add the gradient of weight * sum |mask|."""
        for mask in self.parameters():
            if mask.grad is not None:
                mask.grad += weight * mask.detach().sign()

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()


def _masking(masks: nn.ParameterList, layer: int) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    def hook(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        mask = masks[layer]
        x = args[0]
        return (x * mask.repeat_interleave(x.shape[-1] // mask.numel()).to(x.dtype), *args[1:])

    return hook
