"""Prompts in a pack: their vectors go from block to block beside the text, which is all that other trials' rows have room for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from autopeft_searchspace.tuners.prompt import PromptPart


def prompt_of(module: nn.Module) -> PromptPart | None:
    """The prompt in front of a block."""
    return next((part for part in module.modules() if isinstance(part, PromptPart)), None)


class Aside(nn.Module):
    """A block with a prompt, which takes and gives the text alone: [batch, tokens, width] in and out.

    between: of one trial, the vectors [batch, n, width] on their way to the next block; at most one tensor.
    """

    def __init__(self, block: nn.Module, prompt: PromptPart, between: list[Tensor]) -> None:
        super().__init__()
        self.block, self.prompt, self._between = block, prompt, between

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        prompt, given = self.prompt, list(args)
        text = given.pop(0) if given else kwargs.pop("hidden_states")
        if prompt.carried:
            text = torch.cat([self._between.pop(), text], dim=1)
        self._between.clear()
        out = self.block(text, *given, **kwargs)
        if prompt.last:
            return out
        hidden = out[0] if isinstance(out, tuple) else out
        self._between.append(hidden[:, : prompt.size])
        return (hidden[:, prompt.size :], *out[1:]) if isinstance(out, tuple) else hidden[:, prompt.size :]
