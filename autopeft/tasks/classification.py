"""One of several labels for a text or a pair of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from autopeft.data import Example, Splits
from autopeft.spec import TaskSpec
from autopeft.tasks import Batch, Encoded, Forward, Predictions, register, tokens
from autopeft.tasks.metrics import Array, bootstrapped, check_finite, proportion
from autopeft.trial import Measurement

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from autopeft.models.head import TaskModel


def confusion(predicted: Array, actual: Array, labels: int) -> Array:
    """How often each label (row) was predicted as which (column): [labels, labels]."""
    return np.bincount(actual * labels + predicted, minlength=labels**2).reshape(labels, labels)


def macro_f1(table: Array) -> float:
    """Mean over labels of F1 = 2 hits / (times true + times predicted), labels that are neither left out."""
    sums = table.sum(axis=0) + table.sum(axis=1)
    return float(np.mean(2 * table.diagonal()[sums > 0] / sums[sums > 0]))


def matthews(table: Array) -> float:
    """Matthews correlation for several labels (Gorodkin 2004, eq. 8); 0 where all predictions or all
    labels are the same."""
    true, said, n = table.sum(axis=1).astype(float), table.sum(axis=0).astype(float), float(table.sum())
    spread = (n**2 - said @ said) * (n**2 - true @ true)
    return float((n * table.trace() - said @ true) / np.sqrt(spread)) if spread > 0 else 0.0


@register
class Classification:
    """Cross-entropy over the labels of the training split."""

    kind: ClassVar[str] = "classification"
    labels: tuple[str, ...]

    def __init__(self, spec: TaskSpec, splits: Splits) -> None:
        self.spec, self.labels, self.outputs = spec, splits.labels, len(splits.labels)

    def encode(self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Encoded]:
        index = {label: i for i, label in enumerate(self.labels)}
        return tokens.encode_texts(examples, [index[example["label"]] for example in examples], tokenizer, max_length)

    def collate(self, encoded: Sequence[Encoded], pad_id: int, device: torch.device | str) -> Batch:
        labels = torch.tensor([e.target for e in encoded])
        return tokens.to_device({**tokens.inputs(encoded, pad_id), "labels": labels}, device)

    def loss(self, model: Forward, batch: Batch) -> Tensor:
        return F.cross_entropy(model(batch).float(), batch["labels"])

    def predict(self, model: TaskModel, encoded: Sequence[Encoded], batch_size: int, device: torch.device | str) -> Predictions:
        return Predictions(tokens.head_outputs(model, encoded, batch_size, device))

    def score(self, metric: str, predictions: Predictions, encoded: Sequence[Encoded]) -> Measurement:
        hits = self.per_example("accuracy", predictions, encoded)
        if metric == "accuracy":
            return proportion(hits)
        of_table = {"macro_f1": macro_f1, "matthews": matthews}[metric]
        predicted, actual = predictions.values.argmax(axis=1), np.array([e.target for e in encoded])
        return bootstrapped(lambda said, true: of_table(confusion(said, true, self.outputs)), predicted, actual)

    def per_example(self, metric: str, predictions: Predictions, encoded: Sequence[Encoded]) -> Any:
        check_finite(predictions.values)
        if metric != "accuracy":
            return None
        return (predictions.values.argmax(axis=1) == np.array([e.target for e in encoded])).astype(float)

    def notes(self) -> Mapping[str, Any]:
        return {"labels": list(self.labels)}
