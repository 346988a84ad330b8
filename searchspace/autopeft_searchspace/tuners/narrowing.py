"""Smaller parts: chosen ranks of a LoRA layer, or hidden units of a bottleneck, stay as they are trained."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping, Sequence
from typing import Any

from torch import Tensor, nn

from autopeft_searchspace.tuners.parts import ParallelPart, TapPart


def narrow_linear(linear: nn.Linear, *, rows: Sequence[int] | None = None, columns: Sequence[int] | None = None) -> None:
    """Keep these output features (rows of the weight) and input features (columns), in their order."""
    weight, bias = linear.weight, linear.bias
    if rows is not None:
        linear.weight = _part(linear.weight, weight.detach()[list(rows)])
        if bias is not None:
            linear.bias = _part(bias, bias.detach()[list(rows)])
        linear.out_features = len(rows)
    if columns is not None:
        linear.weight = _part(linear.weight, linear.weight.detach()[:, list(columns)])
        linear.in_features = len(columns)


def _part(parameter: nn.Parameter, values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.contiguous().clone(), requires_grad=parameter.requires_grad)


def down_and_up(part: Any) -> tuple[nn.Linear, nn.Linear]:
    """The two matrices between which the ranks or hidden units stand: of a LoRA layer of peft, or a bottleneck."""
    if hasattr(part, "lora_A"):
        (name,) = part.lora_A
        return part.lora_A[name], part.lora_B[name]
    return part.down, part.up


def narrow(part: Any, kept: Sequence[int]) -> None:
    """Keep these ranks of a LoRA layer, whose scaling stays, or these hidden units of a bottleneck."""
    down, up = down_and_up(part)
    narrow_linear(down, rows=kept)
    narrow_linear(up, columns=kept)
    if hasattr(part, "lora_A"):
        (name,) = part.lora_A
        part.r[name] = len(kept)
        part.lora_alpha[name] = part.scaling[name] * len(kept)


def innermost(part: Any) -> Any:
    """Of a part of a composition what has the two matrices, None where it has none."""
    found = getattr(part, "bottleneck", None) or getattr(part, "layer", None)
    return found if found is not None and (hasattr(found, "lora_A") or hasattr(found, "down")) else None


def drop_idle_taps(parts: Iterable[MutableMapping[str, Any]]) -> None:
    """Of all parts on all modules, take away the taps whose bottleneck is gone. parts: type -> part, per module."""
    everywhere = list(parts)
    taken = {id(part._tap[0]) for there in everywhere for part in there.values() if isinstance(part, ParallelPart)}
    for there in everywhere:
        for name in [name for name, part in there.items() if isinstance(part, TapPart) and id(part) not in taken]:
            del there[name]
