"""The shape of a base model: which module plays which role in every transformer block.

Roles are found by the names that modules have in the common architectures, then, for what is left,
by sizes and order. A guess by size is logged as a warning and can be put right by `roles`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from autopeft.errors import ModelError, near
from autopeft.models.quantised import weights_of
from autopeft_searchspace.shape import ROLES, LinearShape, ModelShape, NormShape

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

logger = logging.getLogger("autopeft")

NAMES: dict[str, tuple[str, ...]] = {
    "q": ("query", "q_proj", "q_lin", "query_proj", "attn.q", "attention.q", "wq"),
    "k": ("key", "k_proj", "k_lin", "key_proj", "attn.k", "attention.k", "wk"),
    "v": ("value", "v_proj", "v_lin", "value_proj", "attn.v", "attention.v", "wv"),
    "qkv": ("c_attn", "query_key_value", "qkv_proj", "Wqkv", "qkv"),
    "o": ("attention.output.dense", "o_proj", "out_proj", "out_lin", "attn.o", "attn.c_proj", "attn.Wo", "attention.wo",
          "attention.dense", "attn.dense", "self_attention.dense"),
    "ff_gate": ("gate_proj",),
    "ff_in": ("intermediate.dense", "fc1", "lin1", "up_proj", "c_fc", "dense_h_to_4h", "fc_in", "gate_up_proj", "mlp.Wi", "ffn"),
    "ff_out": ("output.dense", "fc2", "lin2", "down_proj", "mlp.c_proj", "dense_4h_to_h", "fc_out", "mlp.Wo", "ffn_output"),
}  # fmt: skip
"""Role -> endings of module names, tried in this order; `attn.q` also ends `self_attn.q`."""

CROSS_ATTENTION = ("crossattention", "cross_attn", "encoder_attn", "encdecattention")

Sizes = dict[str, tuple[int, int]]
"""Name inside a layer -> (input features, output features)."""


def find_shape(backbone: PreTrainedModel, roles: Mapping[str, str] | None = None) -> ModelShape:
    """Layers, module roles and sizes of a loaded or weightless (`meta`) model, with or without a task head.

    roles: role -> name of its module inside a layer, e.g. `{"ff_out": "mlp.last"}`; for
        architectures that are not recognised. An empty name says that the model lacks the role.
    Raises ModelError where no transformer block or no role is found, or `roles` names what is not there.
    """
    from autopeft_searchspace.tuners.prefix import takes_prefix

    base = backbone.base_model
    config = base.config
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(f"{config.model_type} is an encoder-decoder; encoders and decoders are supported")
    stack, blocks = _blocks(base)
    sizes = [_linear_sizes(block) for block in blocks]
    everywhere = {name: size for name, size in sizes[0].items() if all(other.get(name) == size for other in sizes)}
    names = _find_roles(everywhere, dict(roles or {}), config.hidden_size, config.model_type)
    modules = {
        role: tuple(_linear_shape(block, f"{stack}.{i}", names[role], everywhere[names[role]]) for i, block in enumerate(blocks))
        for role in ROLES
        if role in names
    }
    attention = _attention_name(names)
    found = [block.get_submodule(attention) for block in blocks] if attention is not None else []
    prefixable = found and all(takes_prefix(module, getattr(config, "_attn_implementation", None)) for module in found)
    return ModelShape(
        architecture=config.model_type,
        kind="decoder" if _is_causal(config.model_type, found) else "encoder",
        width=config.hidden_size,
        layers=len(blocks),
        key_value_width=_key_value_width(names, everywhere, config.hidden_size),
        total_parameters=sum(weights_of(p) for p in base.parameters()),
        modules=modules,
        attention_paths=tuple(f"{stack}.{i}.{attention}" for i in range(len(blocks))) if prefixable else (),
        norms=tuple(_norms(block, f"{stack}.{i}") for i, block in enumerate(blocks)),
        key_value_heads=int(getattr(config, "num_key_value_heads", None) or getattr(config, "num_attention_heads", None) or 0),
    )


def _linear_shape(block: nn.Module, path: str, name: str, size: tuple[int, int]) -> LinearShape:
    from transformers.pytorch_utils import Conv1D

    module = block.get_submodule(name)
    return LinearShape(f"{path}.{name}", *size, bias=module.bias is not None, transposed=isinstance(module, Conv1D))


def transformer_blocks(backbone: PreTrainedModel, shape: ModelShape) -> list[nn.Module]:
    """The blocks that `shape` describes, by the paths of their modules: `encoder.layer.3.attention...`."""
    paths = [module.path.split(".") for module in next(iter(shape.modules.values()))]
    depth = next(i for i, part in enumerate(paths[0]) if part.isdigit())
    return [backbone.base_model.get_submodule(".".join(path[: depth + 1])) for path in paths]


def _norms(block: nn.Module, path: str) -> tuple[NormShape, ...]:
    """Modules of a block whose class is called a norm and that have a vector of weights."""
    found = []
    for name, module in block.named_modules():
        weights = dict(module.named_parameters(recurse=False))
        if "norm" in type(module).__name__.lower() and "weight" in weights and all(p.ndim == 1 for p in weights.values()):
            found.append(NormShape(f"{path}.{name}", sum(p.numel() for p in weights.values())))
    return tuple(found)


def _blocks(base: PreTrainedModel) -> tuple[str, Sequence[nn.Module]]:
    """Path and members of the transformer stack: the longest list of like blocks, of these the largest."""
    from torch import nn

    lists = {
        name: list(module)
        for name, module in base.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) and len({type(block) for block in module}) == 1 and _linear_sizes(module[0])
    }
    if not lists:
        raise ModelError(f"no transformer blocks found in {type(base).__name__}: it has no list of like modules with linear layers")
    weights = {name: sum(p.numel() for block in blocks for p in block.parameters()) for name, blocks in lists.items()}
    best = max(lists, key=lambda name: (len(lists[name]), weights[name], -len(name)))
    return best, lists[best]


def _linear_sizes(block: nn.Module) -> Sizes:
    """Linear modules of a block; the weight of a `Conv1D` (GPT-2) is [in, out]."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    found: Sizes = {}
    for name, module in block.named_modules():
        if any(part in CROSS_ATTENTION for part in name.lower().split(".")):
            continue
        if isinstance(module, nn.Linear):
            found[name] = (module.in_features, module.out_features)
        elif isinstance(module, Conv1D):
            found[name] = (module.nx, module.nf)
    return found


def _find_roles(sizes: Sizes, given: dict[str, str], width: int, architecture: str) -> dict[str, str]:
    """Role -> name inside a layer: as given, then by name, then by size."""
    for role, name in given.items():
        if role not in ROLES:
            raise ModelError(f"unknown module role {role!r}{near(role, ROLES)}")
        if name and name not in sizes:
            raise ModelError(f"role {role}: no linear module {name!r} in every layer of {architecture}{near(name, sizes)}")
    names = {role: name for role, name in given.items() if name}
    if len(set(names.values())) != len(names):
        raise ModelError(f"one module has two roles in {names}")
    wanted = [role for role in NAMES if role not in given]
    for role in wanted:
        if (role == "qkv" and "q" in names) or (role in ("q", "k", "v") and "qkv" in names):
            continue
        if (found := _by_name(NAMES[role], sizes, names)) is not None:
            names[role] = found
    guessed = _by_size(sizes, names, width, wanted)
    for role, name in guessed.items():
        logger.warning("%s: role %s is taken to be module %r by its size; if it is not, set model.roles", architecture, role, name)
    names.update(guessed)
    there_are = f"linear modules of a layer: {', '.join(sizes) or 'none'}"
    if not names:
        raise ModelError(f"no module role recognised in {architecture}; give them by model.roles; {there_are}")
    if lacking := [role for role in ("o", "ff_in", "ff_out") if role not in names and given.get(role) != ""]:
        logger.warning("%s: no module found for role %s; %s", architecture, ", ".join(lacking), there_are)
    return names


def _by_name(endings: Sequence[str], sizes: Sizes, taken: Mapping[str, str]) -> str | None:
    """The one free module whose name has the first ending that fits exactly one."""
    for ending in endings:
        dotted = [f".{name}" for name in sizes if name not in taken.values()]
        fits = [name for name in dotted if name.endswith((f".{ending}", f"_{ending}") if "." in ending else f".{ending}")]
        if len(fits) == 1:
            return fits[0][1:]
    return None


def _by_size(sizes: Sizes, taken: Mapping[str, str], width: int, wanted: Sequence[str]) -> dict[str, str]:
    """Roles of the modules that names did not settle.

    Feed-forward: the one that shrinks to the width, and before it the one or two (gated) that grow
    to the same size. Attention: of what is left, three that read the width and one that writes it.
    """
    free = {name: size for name, size in sizes.items() if name not in taken.values()}
    guess: dict[str, str] = {}
    shrinking = [name for name, (d_in, d_out) in free.items() if d_out == width < d_in]
    if "ff_out" in wanted and not {"ff_in", "ff_out"} & taken.keys() and len(shrinking) == 1:
        growing = [name for name, (d_in, d_out) in free.items() if d_in == width and d_out == free[shrinking[0]][0]]
        if len(growing) in (1, 2):
            guess |= {"ff_out": shrinking[0], "ff_in": growing[-1]} | ({"ff_gate": growing[0]} if len(growing) == 2 else {})
    if not {"q", "k", "v", "qkv", "o"} & taken.keys() and "o" in wanted:
        left = [name for name in free if name not in guess.values()]
        ins, outs = [free[name][0] for name in left], [free[name][1] for name in left]
        if len(left) == 4 and ins[:3] == [width] * 3 and outs[3] == width and ins[3] == outs[0] and outs[1] == outs[2]:
            guess |= dict(zip(("q", "k", "v", "o"), left, strict=True))
        elif len(left) == 2 and ins[0] == outs[1] == width and outs[0] > ins[1]:
            guess |= {"qkv": left[0], "o": left[1]}
    return {role: name for role, name in guess.items() if role in wanted}


def _attention_name(names: Mapping[str, str]) -> str | None:
    """The module that holds the query projection."""
    name = names.get("q") or names.get("qkv")
    return name.rpartition(".")[0] if name and "." in name else None


def _key_value_width(names: Mapping[str, str], sizes: Sizes, width: int) -> int:
    """Output of the key projection; of a fused one, what it has beyond the queries, by two."""
    if "k" in names:
        return sizes[names["k"]][1]
    if "qkv" in names and "o" in names:
        return (sizes[names["qkv"]][1] - sizes[names["o"]][0]) // 2
    return width


def _is_causal(architecture: str, attentions: Sequence[nn.Module]) -> bool:
    """What the attention modules say, else whether the architecture is one of language models only."""
    from transformers.models.auto import modeling_auto as auto

    said = getattr(attentions[0], "is_causal", None) if attentions else None
    if isinstance(said, bool):
        return said
    return architecture in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and architecture not in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
