"""Batches of unlike lengths made one, and made alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from autopeft.tasks import Batch
from autopeft.tasks.causal_lm import NOT_COUNTED

FINEST = 8
"""Lengths up to 64 tokens are rounded up to multiples of this, longer ones to an eighth of the power of two below them."""


def padded_length(length: int) -> int:
    """The length that batches of `length` tokens are padded to where few shapes are to recur often."""
    each = max(FINEST, 2 ** (max(1, length - 1).bit_length() - 4))
    return -(-length // each) * each


def alike(batches: Mapping[int, Batch], pad_id: int, most: int) -> dict[int, Batch]:
    """All at the same one of few lengths; trials that share a batch still do. most: tokens that the model is given, at most."""
    longest = max(batch["input_ids"].shape[1] for batch in batches.values())
    length = max(longest, min(padded_length(longest), most))
    made: dict[int, Batch] = {}
    for batch in batches.values():
        if id(batch) not in made:
            made[id(batch)] = _padded(batch, length, pad_id)
    return {number: made[id(batch)] for number, batch in batches.items()}


def merge(batches: Sequence[Batch], pad_id: int) -> tuple[Batch, int]:
    """Inputs of batches one below the other, padded on the right to the longest, and the first position with logits (0 without)."""
    longest = max(batch["input_ids"].shape[1] for batch in batches)
    inputs = [_inputs(batch, longest, pad_id) for batch in batches]
    merged = {name: torch.cat([each[name] for each in inputs]) for name in inputs[0]}
    if "logits_to_keep" not in batches[0]:
        return merged, 0
    ranges = [kept_range(batch) for batch in batches]
    first, last = min(first for first, _ in ranges), max(last for _, last in ranges)
    merged["logits_to_keep"] = torch.arange(first, last + 1, device=merged["input_ids"].device)
    return merged, first


def kept_range(batch: Batch) -> tuple[int, int]:
    """First and last position of which a batch wants logits: the last is the one before its last token."""
    last = batch["labels"].shape[1] - 2
    return last + 1 - len(batch["logits_to_keep"]), last


def _padded(batch: Batch, length: int, pad_id: int) -> Batch:
    """A batch with its labels; of a language model more positions get logits, where no label counts."""
    made = {"labels": batch["labels"], **_inputs(batch, length, pad_id)}
    if "logits_to_keep" in batch:
        made["labels"] = _longer(batch["labels"], length, NOT_COUNTED)
        first = kept_range(batch)[0] // FINEST * FINEST
        made["logits_to_keep"] = torch.arange(first, length - 1, device=batch["labels"].device)
    return made


def _inputs(batch: Batch, length: int, pad_id: int) -> Batch:
    fill = {"input_ids": pad_id, "attention_mask": 0, "token_type_ids": 0}
    return {name: _longer(batch[name], length, value) for name, value in fill.items() if name in batch}


def _longer(tensor: Tensor, length: int, value: int) -> Tensor:
    return F.pad(tensor, (0, length - tensor.shape[1]), value=value)
