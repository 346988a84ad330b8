"""Prefix: trained keys and values in front of those of an attention module.

transformers calls one function per attention module, chosen by `config._attn_implementation`, after
positions are rotated into keys and after the cache is updated. For the length of a call the module is
given a view of its config that names the function here; it prepends the prefix, opens the mask for it
and hands on to the function that the config really names. So neither positions nor the cache see it.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from autopeft_searchspace.tuners.parts import Part

IMPLEMENTATION = "autopeft_prefix"
STANDARD_DEVIATION = 0.02
MPNET = "MPNetSelfAttention"
SUPPORTED = ("sdpa", "eager", None)
"""Attention implementations that a prefix can go through; their masks have a column per key."""


def takes_prefix(attention: nn.Module, implementation: str | None) -> bool:
    """Whether keys and values can be prepended in this attention module: its masks have a column per
    key, and it asks transformers for its attention function, or is MPNet's, which is written out here."""
    code = getattr(inspect.unwrap(type(attention).forward), "__code__", None)
    asks = "ALL_ATTENTION_FUNCTIONS" in getattr(code, "co_names", ())
    return implementation in SUPPORTED and (asks or type(attention).__name__ == MPNET)


class PrefixPart(Part):
    """n trained keys and values [n, key/value heads * head size], small normal at the start."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.keys = nn.Parameter(torch.randn(size, width) * STANDARD_DEVIATION)
        self.values = nn.Parameter(torch.randn(size, width) * STANDARD_DEVIATION)

    @property
    def size(self) -> int:
        return self.keys.shape[0]

    def forward(self, call: Any, *args: Any, **kwargs: Any) -> Any:
        """call: the attention module itself; no other part goes around one."""
        if type(call).__name__ == MPNET:
            return _mpnet_attention(self, call, *args, **kwargs)
        config = call.config
        view = _View(config, self)
        call.config = view
        try:
            out = call(*args, **kwargs)
        finally:
            call.config = config
        if not view.was_read:
            raise RuntimeError(f"{type(call).__name__} did not ask for its attention function, so its prefix had no effect")
        return out

    def prepend(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """[batch, heads, keys, head size] -> [batch, heads, n + keys, head size], for keys and values."""
        batch, heads, _, head_size = key.shape

        def before(mine: Tensor, theirs: Tensor) -> Tensor:
            shaped = mine.view(self.size, heads, head_size).transpose(0, 1).to(theirs.dtype)
            return torch.cat([shaped.expand(batch, -1, -1, -1), theirs], dim=2)

        return before(self.keys, key), before(self.values, value)


class _View:
    """A config as it is, but for the attention implementation; knows the prefix to put in front."""

    def __init__(self, config: Any, part: PrefixPart) -> None:
        self.config, self.part, self.was_read = config, part, False

    @property
    def _attn_implementation(self) -> str:
        return IMPLEMENTATION

    def __getattr__(self, name: str) -> Any:
        return getattr(self.config, name)


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, Tensor | None]:
    """The attention function that `IMPLEMENTATION` names. Shapes: [batch, heads, tokens, head size]."""
    view: _View = module.config
    view.was_read = True
    name = view.config._attn_implementation
    if name not in SUPPORTED:
        raise ValueError(f"prefix needs attention implementation sdpa or eager, this model has {name!r}")
    if name == "sdpa":
        inner = ALL_ATTENTION_FUNCTIONS["sdpa"]
        said = kwargs.get("is_causal")
        causal = getattr(module, "is_causal", True) if said is None else said
        queries = query.shape[2]
        if attention_mask is None and causal and queries > 1:  # sdpa would mask by itself, aligned to the first key
            key, value = key[:, :, :queries], value[:, :, :queries]
            if kwargs.get("position_bias") is not None:
                kwargs["position_bias"] = kwargs["position_bias"][..., :queries]
            attention_mask = torch.ones(1, 1, queries, queries, dtype=torch.bool, device=key.device).tril()
    else:
        inner = inspect.unwrap(type(module).forward).__globals__["eager_attention_forward"]
    if kwargs.get("position_bias") is not None:
        kwargs["position_bias"] = F.pad(kwargs["position_bias"], (view.part.size, 0))
    key, value = view.part.prepend(key, value)
    return inner(module, query, key, value, _open(attention_mask, view.part.size), **kwargs)


def _open(mask: Tensor | None, size: int) -> Tensor | None:
    """A mask [batch or 1, heads or 1, queries, keys], boolean or additive, that also shows the prefix."""
    if mask is None:
        return None
    if mask.ndim != 4:
        raise ValueError(f"prefix needs an attention mask of four dimensions, it has shape {tuple(mask.shape)}")
    return F.pad(mask, (size, 0), value=True if mask.dtype == torch.bool else 0.0)


def _mpnet_attention(
    part: PrefixPart,
    module: Any,
    hidden_states: Tensor,
    attention_mask: Tensor | None = None,
    position_bias: Tensor | None = None,
    output_attentions: bool = False,
    **_: Any,
) -> tuple[Tensor, ...]:
    """MPNet's attention, which asks for no attention function, with the prefix at relative bias 0."""

    def heads(x: Tensor) -> Tensor:
        return x.unflatten(-1, (module.num_attention_heads, module.attention_head_size)).transpose(1, 2)

    query = heads(module.q(hidden_states))
    key, value = part.prepend(heads(module.k(hidden_states)), heads(module.v(hidden_states)))
    scores = query @ key.transpose(-1, -2) / module.attention_head_size**0.5
    for bias in (position_bias, attention_mask):
        if bias is not None:
            scores = scores + F.pad(bias, (part.size, 0))
    weights = module.dropout(scores.softmax(dim=-1))
    out = module.o((weights @ value).transpose(1, 2).flatten(2))
    return (out, weights) if output_attentions else (out,)


ALL_ATTENTION_FUNCTIONS.register(IMPLEMENTATION, _attention)
