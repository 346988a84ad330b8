"""Smaller base models: attention heads and feed-forward units taken out of the matrices, not masked.

Where keys and values are shared by groups of query heads, a group goes as one, since every group must keep
the same number of queries. What is pruned can be saved, loaded and put back.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from autopeft import files
from autopeft.errors import ModelError
from autopeft.models.roles import find_shape
from autopeft_searchspace.shape import LinearShape, ModelShape
from autopeft_searchspace.tuners.narrowing import narrow_linear

PRUNING = "pruning.json"


@dataclass(frozen=True)
class Pruning:
    """heads: layer -> key/value heads that stay, with their queries. units: layer -> feed-forward units that stay."""

    heads: Mapping[int, tuple[int, ...]]
    units: Mapping[int, tuple[int, ...]]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Pruning:
        return cls(*({int(layer): tuple(kept) for layer, kept in data[part].items()} for part in ("heads", "units")))


def columns_of(kept: Sequence[int], width: int, number: int) -> list[int]:
    """Features of `kept` out of `number` equal stretches of `width` features.

    >>> columns_of((0, 2), 6, 3)
    [0, 1, 4, 5]
    """
    each = width // number
    return [each * group + i for group in kept for i in range(each)]


def kept_features(shape: ModelShape, pruning: Pruning) -> Iterator[tuple[LinearShape, list[int] | None, list[int] | None]]:
    """Linear modules that pruning makes smaller, with the outputs or the inputs that stay."""
    for layer, heads in pruning.heads.items():
        for role in ("q", "k", "v"):
            module = shape.modules[role][layer]
            yield module, columns_of(heads, module.d_out, shape.key_value_heads), None
        module = shape.modules["o"][layer]
        yield module, None, columns_of(heads, module.d_in, shape.key_value_heads)
    for layer, units in pruning.units.items():
        for role in ("ff_in", "ff_gate"):
            if role in shape.modules:
                yield shape.modules[role][layer], list(units), None
        yield shape.modules["ff_out"][layer], None, list(units)


def plain(module: Any) -> nn.Linear:
    """The linear module of the base model inside whatever stands around it."""
    while hasattr(module, "base_layer"):
        module = module.base_layer
    return module


class Pruned:
    """A base model after pruning, with the way back. base: `PreTrainedModel.base_model`, with or without adapters."""

    def __init__(self, base: Any, shape: ModelShape, pruning: Pruning) -> None:
        self._before: list[tuple[nn.Module, str, Any]] = []
        self.handles: list[Any] = []
        for module, rows, columns in kept_features(shape, pruning):
            self._narrow(base.get_submodule(module.path), rows=rows, columns=columns)
        for layer, kept in pruning.heads.items():
            self._tell_attention(base, shape, layer, kept)

    def _tell_attention(self, base: Any, shape: ModelShape, layer: int, kept: Sequence[int]) -> None:
        """How many heads it has now, and which of the biases of all heads are theirs."""
        number, width = shape.key_value_heads, shape.modules["o"][layer].d_in
        attention = plain(base.get_submodule(shape.modules["q"][layer].path.rpartition(".")[0]))
        heads = base.config.num_attention_heads // number * len(kept)
        for name, value in (("num_attention_heads", heads), ("all_head_size", width // number * len(kept))):
            if hasattr(attention, name):
                self._set(attention, name, value)
        if hasattr(base, "encoder") and hasattr(base.encoder, "compute_position_bias"):  # MPNet: a bias per head, made once for all layers
            index = torch.tensor(kept)
            self.handles.append(attention.register_forward_pre_hook(partial(_own_bias, index), with_kwargs=True))

    def _narrow(self, module: Any, *, rows: list[int] | None = None, columns: list[int] | None = None) -> None:
        """Of the base's matrix, and of LoRA around it: rows of B go with outputs, columns of A with inputs."""
        linear = plain(module)
        for name in ("weight", "bias", "in_features", "out_features"):
            self._before.append((linear, name, getattr(linear, name)))
        narrow_linear(linear, rows=rows, columns=columns)
        for layer in lora_layers(module):
            layer.in_features, layer.out_features = linear.in_features, linear.out_features
            if rows is not None:
                for up in layer.lora_B.values():
                    narrow_linear(up, rows=rows)
            if columns is not None:
                for down in layer.lora_A.values():
                    narrow_linear(down, columns=columns)

    def _set(self, module: nn.Module, name: str, value: Any) -> None:
        self._before.append((module, name, getattr(module, name)))
        setattr(module, name, value)

    def undo(self) -> None:
        """Give the base its own matrices back; adapters stay as they are, and must be taken off."""
        for handle in self.handles:
            handle.remove()
        for module, name, value in reversed(self._before):
            setattr(module, name, value)


def lora_layers(module: Any) -> list[Any]:
    """LoRA layers of peft around a module: itself, or those among the parts of a composition."""
    return [inner for inner in module.modules() if hasattr(inner, "lora_A")] if hasattr(module, "base_layer") else []


def _own_bias(kept: torch.Tensor, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Of MPNet's position bias [batch, heads, queries, keys] what belongs to the heads that stay."""
    found = list(args)
    if len(found) > 2 and found[2] is not None:
        found[2] = found[2].index_select(1, kept.to(found[2].device))
    elif kwargs.get("position_bias") is not None:
        bias = kwargs["position_bias"]
        kwargs = {**kwargs, "position_bias": bias.index_select(1, kept.to(bias.device))}
    return tuple(found), kwargs


def save_pruning(folder: Path, pruning: Pruning) -> None:
    files.write_json(folder / PRUNING, asdict(pruning))


def load_pruned(folder: Path) -> Any:
    """A pruned base model that `autopeft` wrote, in float32 on the CPU; its adapter goes on by `PeftModel.from_pretrained`.

    Raises ModelError where the folder holds none.
    """
    import transformers

    try:
        pruning = Pruning.from_json(json.loads((folder / PRUNING).read_text(encoding="utf-8")))
        state = load_file(str(folder / "model.safetensors"))
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"no pruned base model can be read from {folder}: {error}") from None
    config = transformers.AutoConfig.from_pretrained(folder)
    model = getattr(transformers, config.architectures[0])(config)
    Pruned(model.base_model, find_shape(model), pruning)
    missing, unexpected = model.load_state_dict(state, strict=False)
    if unexpected or any(not name.startswith(tuple(model._tied_weights_keys or ())) for name in missing):
        raise ModelError(f"the weights in {folder} are not those of its pruning: {sorted([*missing, *unexpected])[:3]}")
    return model.eval()
