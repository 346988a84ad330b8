"""Prompt: trained vectors that stand before the text from one block to the last, and are taken off behind it.

Parts go around whole blocks: they lengthen what goes in, open the mask for the vectors, and give them
the position of the first token (rotary embeddings leave it as it is). Text keeps its own positions.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autopeft_searchspace.tuners.parts import Part

POSITIONAL = ("attention_mask", "position_embeddings", "position_bias")
"""Arguments of a block that have an entry per token."""


class Vectors(nn.Module):
    """n free vectors [n, width], uniform in [-0.5, 0.5] at the start (Lester et al. 2021, section 3.2)."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.free = nn.Parameter(torch.rand(size, width) - 0.5)

    def forward(self) -> Tensor:
        return self.free


class Factored(Vectors):
    """P * u v^T, P [n, width], u [n] and v [width] (Wang et al. 2023, equation 2), u and v one at the start."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__(size, width)
        self.tokens, self.features = nn.Parameter(torch.ones(size)), nn.Parameter(torch.ones(width))

    def forward(self) -> Tensor:
        return self.free * self.tokens.unsqueeze(1) * self.features


class Encoded(Vectors):
    """An MLP of two hidden layers on free vectors (Liu et al. 2021, section 3.2, in its form without LSTM)."""

    def __init__(self, size: int, width: int, hidden: int) -> None:
        super().__init__(size, width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, width))

    def forward(self) -> Tensor:
        out: Tensor = self.mlp(self.free)
        return out


class PromptPart(Part):
    """Around the block of `layer`. carried: whether vectors come from the block before. vectors: what takes
    their place, or stands there first; None to carry on with those. last: take them off behind the block.
    causal: whether tokens see only those before them."""

    takes_cache = False

    def __init__(self, size: int, layer: int, vectors: Vectors | None, *, carried: bool, last: bool, causal: bool) -> None:
        super().__init__()
        self.size, self.layer, self.vectors, self.carried, self.last, self.causal = size, layer, vectors, carried, last, causal

    def forward(self, call: Any, *args: Any, **kwargs: Any) -> Any:
        """call: the block itself; no other part goes around one. [batch, tokens, width] -> [batch, n + tokens, width]."""
        bound = inspect.signature(type(call).forward).bind_partial(call, *args, **kwargs)
        given = {name: value for name, value in bound.arguments.items() if name not in ("self", "kwargs")}
        given |= bound.arguments.get("kwargs", {})
        hidden = given.pop(next(iter(given)))
        if (cache := given.get("past_key_values")) is not None and cache.get_seq_length(self.layer):
            raise RuntimeError("a prompt cannot be used with a cache of keys and values: generate with use_cache=False")
        if self.vectors is not None:
            text = hidden[:, self.size :] if self.carried else hidden
            own = self.vectors().to(hidden.dtype)
            hidden = torch.cat([own.expand(len(text), -1, -1), text], dim=1)
        for name in POSITIONAL:
            if given.get(name) is not None:
                given[name] = getattr(self, f"_{name}")(given[name])
        out = call(hidden, **given)
        if not self.last:
            return out
        return (out[0][:, self.size :], *out[1:]) if isinstance(out, tuple) else out[:, self.size :]

    def _attention_mask(self, mask: Tensor) -> Tensor:
        """[batch or 1, heads or 1, tokens, tokens], boolean or additive: the prompt is seen by all, and sees
        what the last token sees, or of a causal model the vectors before."""
        if mask.ndim != 4:
            raise ValueError(f"a prompt needs an attention mask of four dimensions, it has shape {tuple(mask.shape)}")
        is_bool = mask.dtype == torch.bool
        wide = F.pad(mask, (self.size, 0), value=True if is_bool else 0.0)
        rows = wide[..., -1:, :].expand(*wide.shape[:2], self.size, -1)
        if self.causal:
            ahead = torch.ones(self.size, wide.shape[-1], dtype=torch.bool, device=mask.device).triu(1)
            rows = ~ahead.expand_as(rows) if is_bool else torch.zeros_like(rows).masked_fill(ahead, torch.finfo(mask.dtype).min)
        return torch.cat([rows, wide], dim=-2)

    def _position_embeddings(self, embeddings: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Cosines and sines [batch or 1, tokens, size], 1 and 0 for the prompt."""
        cosine, sine = embeddings
        return F.pad(cosine, (0, 0, self.size, 0), value=1.0), F.pad(sine, (0, 0, self.size, 0))

    def _position_bias(self, bias: Tensor) -> Tensor:
        """[batch or 1, heads, tokens, tokens], 0 for the prompt."""
        return F.pad(bias, (self.size, 0, self.size, 0))
