"""A completion for a prompt: the loss counts the completion alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from autopeft.batches import evaluation_batches
from autopeft.data import Example, Splits
from autopeft.errors import DataError, ModelError
from autopeft.spec import TaskSpec
from autopeft.tasks import Batch, Encoded, Forward, Predictions, register, tokens
from autopeft.tasks.metrics import check_finite, proportion, token_mean
from autopeft.trial import Measurement

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from autopeft.models.head import TaskModel

NOT_COUNTED = -100
"""Label of tokens that the loss leaves out."""


def find_answer(text: str, pattern: str) -> str:
    """The group of the first match, without commas and outer white space; empty where none matches."""
    match = re.search(pattern, text)
    return (match.group(1) or "").replace(",", "").strip() if match else ""


@register
class CausalLm:
    """Next-token cross-entropy over the completion and the end-of-text token behind it.

    A line break joins prompt and completion unless white space stands between them.
    """

    kind: ClassVar[str] = "causal_lm"
    labels: tuple[str, ...]

    def __init__(self, spec: TaskSpec, splits: Splits) -> None:
        self.spec, self.labels, self.outputs = spec, (), 0
        if spec.metric == "exact_match":
            for example in (*splits.search, *splits.confirm, *splits.test):
                if not find_answer(example["completion"], spec.answer_pattern):
                    raise DataError(
                        f"answer_pattern {spec.answer_pattern!r} finds no answer in the completion {example['completion'][-60:]!r}"
                    )

    def encode(self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Encoded]:
        """A prompt that is too long loses its start, so that the completion stays; a completion that
        alone is too long loses its end."""
        if not examples:
            return []
        prompts = [_opened(example["prompt"], example["completion"]) for example in examples]
        completions = [example["completion"] for example in examples]
        begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
        if end is None:
            raise ModelError("causal_lm needs a tokeniser with an end-of-text token")
        always_begins = begin is not None and tokenizer("a")["input_ids"][:1] == [begin]
        before = tokenizer(prompts, add_special_tokens=False)["input_ids"]
        after = tokenizer(completions, add_special_tokens=False)["input_ids"]
        encoded = []
        for prompt, completion, text in zip(before, after, completions, strict=True):
            start = [begin] if always_begins else [] if prompt else [end if begin is None else begin]
            counted = [*completion, end][: max_length - 1]
            room = max_length - len(start) - len(counted)
            ids = [*start, *prompt[max(0, len(prompt) - room) :], *counted]
            encoded.append(Encoded(tuple(ids), text, completion=len(counted)))
        return encoded

    def collate(self, encoded: Sequence[Encoded], pad_id: int, device: torch.device | str) -> Batch:
        """Labels are the tokens themselves, `NOT_COUNTED` outside completions; `logits_to_keep` are the
        positions [kept] from which some example's completion is predicted."""
        labels = tokens.pad([[NOT_COUNTED] * (e.length - e.completion) + list(e.input_ids[-e.completion :]) for e in encoded], NOT_COUNTED)
        first = min(e.length - e.completion for e in encoded)
        kept = torch.arange(first - 1, labels.shape[1] - 1)
        return tokens.to_device({**tokens.inputs(encoded, pad_id), "labels": labels, "logits_to_keep": kept}, device)

    def loss(self, model: Forward, batch: Batch) -> Tensor:
        losses, counted = _token_losses(model, batch)
        return losses.sum() / counted.sum()

    def predict(self, model: TaskModel, encoded: Sequence[Encoded], batch_size: int, device: torch.device | str) -> Predictions:
        if self.spec.metric == "exact_match":
            return Predictions(self._answers(model, encoded, batch_size, device))
        sums, counts = np.zeros(len(encoded)), np.zeros(len(encoded))
        with tokens.evaluating(model):
            for indices in evaluation_batches([e.length for e in encoded], batch_size):
                batch = self.collate([encoded[i] for i in indices], model.pad_id, device)
                losses, counted = _token_losses(model, batch)
                sums[indices] = losses.double().sum(dim=1).cpu().numpy()
                counts[indices] = counted.sum(dim=1).cpu().numpy()
        return Predictions(sums, counts)

    def _answers(self, model: TaskModel, encoded: Sequence[Encoded], batch_size: int, device: torch.device | str) -> Any:
        """The answer in each greedy completion, [n] strings."""
        answers = np.full(len(encoded), "", dtype=object)
        prompts = [e.input_ids[: -e.completion] for e in encoded]
        with tokens.evaluating(model):
            for indices in evaluation_batches([len(prompt) for prompt in prompts], batch_size):
                texts = model.generate([prompts[i] for i in indices], self.spec.max_new_tokens, device)
                answers[indices] = [find_answer(text, self.spec.answer_pattern) for text in texts]
        return answers

    def score(self, metric: str, predictions: Predictions, encoded: Sequence[Encoded]) -> Measurement:
        if metric == "exact_match":
            return proportion(self.per_example(metric, predictions, encoded))
        check_finite(predictions.values)
        assert predictions.tokens is not None
        return token_mean(predictions.values, predictions.tokens)

    def per_example(self, metric: str, predictions: Predictions, encoded: Sequence[Encoded]) -> Any:
        if metric == "exact_match":
            wanted = [find_answer(str(e.target), self.spec.answer_pattern) for e in encoded]
            return np.array([said == right for said, right in zip(predictions.values, wanted, strict=True)], dtype=float)
        check_finite(predictions.values)
        assert predictions.tokens is not None
        return predictions.values / predictions.tokens.mean()

    def notes(self) -> Mapping[str, Any]:
        return {}


def following(batch: Batch) -> Tensor:
    """The label that logits at each kept position are to say, [n, kept]: that of the next token."""
    return batch["labels"][:, batch["logits_to_keep"] + 1]


def _opened(prompt: str, completion: str) -> str:
    joined = not prompt or prompt[-1].isspace() or completion[:1].isspace()
    return prompt if joined else f"{prompt}\n"


def _token_losses(model: Forward, batch: Batch) -> tuple[Tensor, Tensor]:
    """Loss of each token in float32, 0 where it is not counted, and whether it is: both [n, kept].

    Logits at position t say token t + 1. Models that cannot leave out logits give all of them.
    """
    kept = batch["logits_to_keep"]
    logits = model(batch)
    if logits.shape[1] != len(kept):
        logits = logits[:, kept]
    wanted = following(batch)
    losses = F.cross_entropy(logits.float().flatten(0, 1), wanted.flatten(), ignore_index=NOT_COUNTED, reduction="none")
    return losses.view_as(wanted), wanted != NOT_COUNTED
