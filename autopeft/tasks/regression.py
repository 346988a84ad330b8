"""A number for a text or a pair of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor
from torch.nn import functional as F

from autopeft.data import Example, Splits
from autopeft.errors import DataError
from autopeft.spec import TaskSpec
from autopeft.tasks import Batch, Encoded, Forward, Predictions, register, tokens
from autopeft.tasks.metrics import Array, bootstrapped, check_finite
from autopeft.trial import Measurement

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from autopeft.models.head import TaskModel


def pearson(predicted: Array, actual: Array) -> float:
    """Linear correlation; 0 where all predictions or all numbers are the same."""
    if np.ptp(predicted) == 0 or np.ptp(actual) == 0:
        return 0.0
    return float(np.corrcoef(predicted, actual)[0, 1])


def spearman(predicted: Array, actual: Array) -> float:
    """Correlation of ranks, ties at their mean rank; 0 where `pearson` of the ranks is."""
    return pearson(rankdata(predicted), rankdata(actual))


@register
class Regression:
    """Mean squared error of targets standardised by mean and deviation of the training split."""

    kind: ClassVar[str] = "regression"
    labels: tuple[str, ...]

    def __init__(self, spec: TaskSpec, splits: Splits) -> None:
        numbers = np.array([example["label"] for example in splits.train])
        self.spec, self.labels, self.outputs = spec, (), 1
        self.mean, self.deviation = float(numbers.mean()), float(numbers.std())
        if self.deviation == 0:
            raise DataError(f"regression needs labels that differ; all in train are {self.mean:g}")

    def encode(self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Encoded]:
        targets = [(example["label"] - self.mean) / self.deviation for example in examples]
        return tokens.encode_texts(examples, targets, tokenizer, max_length)

    def collate(self, encoded: Sequence[Encoded], pad_id: int, device: torch.device | str) -> Batch:
        labels = torch.tensor([e.target for e in encoded], dtype=torch.float32)
        return tokens.to_device({**tokens.inputs(encoded, pad_id), "labels": labels}, device)

    def loss(self, model: Forward, batch: Batch) -> Tensor:
        return F.mse_loss(model(batch).float().squeeze(-1), batch["labels"])

    def predict(self, model: TaskModel, encoded: Sequence[Encoded], batch_size: int, device: torch.device | str) -> Predictions:
        standardised = tokens.head_outputs(model, encoded, batch_size, device)[:, 0].astype(np.float64)
        return Predictions(standardised * self.deviation + self.mean)

    def score(self, metric: str, predictions: Predictions, encoded: Sequence[Encoded]) -> Measurement:
        check_finite(predictions.values)
        statistic = {"pearson": pearson, "spearman": spearman}[metric]
        return bootstrapped(statistic, predictions.values, np.array([e.target for e in encoded]))

    def per_example(self, metric: str, predictions: Predictions, encoded: Sequence[Encoded]) -> Any:
        return None

    def notes(self) -> Mapping[str, Any]:
        return {"target_mean": self.mean, "target_deviation": self.deviation}
