"""Kinds of task, one per file: how examples become tokens, what the loss is, how outputs are scored.

A kind registers under its name with `register`; `task_for` finds it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from torch import Tensor

from autopeft.data import Example, Splits
from autopeft.spec import TaskSpec
from autopeft.trial import Measurement

if TYPE_CHECKING:
    from torch import device as Device
    from transformers import PreTrainedTokenizerBase

    from autopeft.models.head import TaskModel

Batch = dict[str, Tensor]
"""`input_ids` and `attention_mask` [examples, tokens], `token_type_ids` for pairs, and `labels`."""
Forward = Callable[[Batch], Tensor]
"""What gives logits for a batch: a `TaskModel`, or whoever has them already."""


@dataclass(frozen=True)
class Encoded:
    """One example as tokens.

    target: class index, number as the model is trained on it, or completion text.
    segments: token type ids, where the model tells sentence pairs apart by them.
    completion: how many of the last tokens the loss counts (causal_lm).
    """

    input_ids: tuple[int, ...]
    target: int | float | str
    segments: tuple[int, ...] | None = None
    completion: int = 0

    @property
    def length(self) -> int:
        return len(self.input_ids)


@dataclass(frozen=True)
class Predictions:
    """What a model says, in the order of the examples.

    values: [n, labels] logits, [n] numbers in the data's unit, [n] negative log-likelihoods of whole
        completions in nats, or [n] answers. tokens: [n] tokens behind each likelihood, else None.
    """

    values: np.ndarray[Any, Any]
    tokens: np.ndarray[Any, Any] | None = None


class Task(Protocol):
    """A kind of task for certain data.

    outputs: columns of the task head; 0 where the model's own vocabulary is the output.
    """

    kind: ClassVar[str]
    spec: TaskSpec
    labels: tuple[str, ...]
    outputs: int

    def __init__(self, spec: TaskSpec, splits: Splits) -> None: ...

    def encode(self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Encoded]:
        """Tokens of each example, at most `max_length`. Raises DataError for one that has none."""

    def collate(self, encoded: Sequence[Encoded], pad_id: int, device: Device | str) -> Batch:
        """A training batch, padded on the right to its longest example."""

    def loss(self, model: Forward, batch: Batch) -> Tensor:
        """Mean loss of a batch, computed in float32: scalar."""

    def predict(self, model: TaskModel, encoded: Sequence[Encoded], batch_size: int, device: Device | str) -> Predictions:
        """Outputs needed for the spec's metric, in eval mode, without gradients; autocast is the caller's."""

    def score(self, metric: str, predictions: Predictions, encoded: Sequence[Encoded]) -> Measurement:
        """The metric over all examples with its standard error. Raises Diverged where outputs are not finite."""

    def per_example(self, metric: str, predictions: Predictions, encoded: Sequence[Encoded]) -> np.ndarray[Any, Any] | None:
        """[n] values whose mean is the metric, for paired comparisons; None where it is no mean."""

    def notes(self) -> Mapping[str, Any]:
        """What is needed to use saved weights: kept beside the task head as JSON."""


_KINDS: dict[str, type[Task]] = {}


def register(kind: type[Task]) -> type[Task]:
    """Class decorator: makes a kind of task known under its `kind`."""
    if kind.kind in _KINDS:
        raise ValueError(f"kind of task {kind.kind!r} is registered twice")
    _KINDS[kind.kind] = kind
    return kind


def task_for(spec: TaskSpec, splits: Splits) -> Task:
    """The task that `spec` describes, for these data: labels and scales come from the training split."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return _KINDS[spec.kind](spec, splits)
