"""What the space needs to know of a base model: its layers, its module roles and their sizes.

A `ModelShape` is found once from a loaded (or weightless) model by `autopeft.models.roles` and is
plain data from there on: spaces, parameter counts and learning rates follow from it without torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

ROLES = ("q", "k", "v", "qkv", "o", "ff_in", "ff_gate", "ff_out")
"""Module roles inside a layer. `qkv` is one projection that computes queries, keys and values at
once (GPT-2); models have either `q`, `k`, `v` or `qkv`. `ff_gate` exists in gated feed-forwards."""


@dataclass(frozen=True)
class LinearShape:
    """One linear module of a layer.

    path: dotted name relative to the backbone (`model.base_model`), e.g. `layers.0.mlp.up_proj`.
    d_in, d_out: number of input and output features.
    bias: whether it adds one.
    transposed: whether its weight is [in, out], as in the `Conv1D` of GPT-2.
    """

    path: str
    d_in: int
    d_out: int
    bias: bool = True
    transposed: bool = False


@dataclass(frozen=True)
class NormShape:
    """A layer norm (or root-mean-square norm) inside a layer: where it is and how many weights it has."""

    path: str
    weights: int


@dataclass(frozen=True)
class ModelShape:
    """Layers and roles of a base model.

    architecture: Hugging Face `model_type`, e.g. `bert`.
    kind: `encoder` or `decoder`.
    width: hidden size.
    layers: number of transformer blocks.
    key_value_width: key/value heads times head size (differs from width with grouped queries).
    total_parameters: of the backbone, without any task head.
    modules: role -> one `LinearShape` per layer.
    attention_paths: the attention module of each layer, where keys and values can be prepended;
        empty where this architecture computes attention in a way that takes no prefix.
    norms: the norms of each layer, in their order.
    key_value_heads: attention heads of a layer, with grouped queries their groups; 0 where that is not known.
    """

    architecture: str
    kind: str
    width: int
    layers: int
    key_value_width: int
    total_parameters: int
    modules: Mapping[str, tuple[LinearShape, ...]]
    attention_paths: tuple[str, ...] = ()
    norms: tuple[tuple[NormShape, ...], ...] = ()
    key_value_heads: int = 0

    @cached_property
    def roles(self) -> tuple[str, ...]:
        """Roles this model has, in the order of `ROLES`."""
        return tuple(role for role in ROLES if role in self.modules)

    @property
    def block_paths(self) -> tuple[str, ...]:
        """The transformer block of each layer: the path of its modules up to the number, `encoder.layer.3`."""
        paths = [modules.path.split(".") for modules in next(iter(self.modules.values()))]
        depth = next((i for i, part in enumerate(paths[0]) if part.isdigit()), len(paths[0]) - 1)
        return tuple(".".join(path[: depth + 1]) for path in paths)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ModelShape:
        modules = {role: tuple(LinearShape(**module) for module in per_layer) for role, per_layer in data["modules"].items()}
        norms = tuple(tuple(NormShape(**norm) for norm in per_layer) for per_layer in data.get("norms", ()))
        return cls(**{**data, "modules": modules, "attention_paths": tuple(data["attention_paths"]), "norms": norms})
