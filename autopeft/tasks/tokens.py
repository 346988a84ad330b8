"""From texts to padded tensors and through the model: what the kinds of task share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from autopeft.batches import evaluation_batches
from autopeft.data import Example
from autopeft.errors import DataError
from autopeft.tasks import Batch, Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from autopeft.models.head import TaskModel


def encode_texts(
    examples: Sequence[Example], targets: Sequence[int | float], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[Encoded]:
    """Texts, or pairs of texts, with their targets. Pairs are joined as the tokeniser does it, by a
    line break where it has no separator."""
    texts = [str(example["text"]) for example in examples]
    pairs = [str(example["text_pair"]) for example in examples] if examples and "text_pair" in examples[0] else None
    if pairs is not None and tokenizer.sep_token is None:
        texts, pairs = [f"{a}\n{b}" for a, b in zip(texts, pairs, strict=True)], None
    rows = tokenizer(texts, pairs, truncation=True, max_length=max_length) if texts else {"input_ids": []}
    if not all(rows["input_ids"]):
        raise DataError(f"no tokens are left of the text {texts[[bool(ids) for ids in rows['input_ids']].index(False)]!r}")
    segments = rows["token_type_ids"] if pairs is not None and "token_type_ids" in rows else [None] * len(texts)
    return [
        Encoded(tuple(ids), target, None if kinds is None else tuple(kinds))
        for ids, target, kinds in zip(rows["input_ids"], targets, segments, strict=True)
    ]


def pad(rows: Sequence[Sequence[int]], value: int, *, left: bool = False) -> Tensor:
    """Rows of unlike length as one [rows, longest] integer tensor."""
    longest = max(map(len, rows))
    fill = [[value] * (longest - len(row)) for row in rows]
    return torch.tensor([[*more, *row] if left else [*row, *more] for row, more in zip(rows, fill, strict=True)])


def inputs(encoded: Sequence[Encoded], pad_id: int) -> Batch:
    """Model inputs of a batch, padded on the right, without labels."""
    ids = [e.input_ids for e in encoded]
    batch = {"input_ids": pad(ids, pad_id), "attention_mask": pad([[1] * len(row) for row in ids], 0)}
    if encoded[0].segments is not None:
        batch["token_type_ids"] = pad([e.segments or () for e in encoded], 0)
    return batch


def to_device(batch: Batch, device: torch.device | str) -> Batch:
    """Copies to a CUDA device do not wait."""
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


@contextlib.contextmanager
def evaluating(model: TaskModel) -> Iterator[None]:
    """Eval mode without gradients; afterwards the mode from before."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def head_outputs(model: TaskModel, encoded: Sequence[Encoded], batch_size: int, device: torch.device | str) -> Any:
    """Outputs of the task head in the order of the examples: float32 numpy [n, outputs]."""
    rows: list[Tensor] = []
    order: list[int] = []
    with evaluating(model):
        for indices in evaluation_batches([e.length for e in encoded], batch_size):
            batch = to_device(inputs([encoded[i] for i in indices], model.pad_id), device)
            rows.append(model(batch).float())
            order += indices
    outputs = torch.cat(rows)
    back = torch.empty_like(outputs)
    back[torch.tensor(order, device=outputs.device)] = outputs
    return back.cpu().numpy()
