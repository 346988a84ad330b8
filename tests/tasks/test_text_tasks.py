"""Classification and regression: encoding, batches, losses, predictions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tiny_base
import torch

from autopeft.data import Splits
from autopeft.errors import DataError
from autopeft.spec import TaskSpec
from autopeft.tasks import task_for

PAIRS = tuple({"text": f"a b {i}", "text_pair": "c d", "label": "xy"[i % 2]} for i in range(4))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_base.save_base(tmp_path_factory.mktemp("bert"), "bert")


def test_pairs_keep_their_segments():
    task = task_for(TaskSpec(kind="classification"), Splits(PAIRS, PAIRS, PAIRS, (), ("x", "y"), ""))
    encoded = task.encode(PAIRS, tiny_base.tokenizer(pairs=True), 16)
    # <s> a b 0 </s> c d </s>
    assert encoded[0].segments == (0, 0, 0, 0, 0, 1, 1, 1)
    assert [e.target for e in encoded] == [0, 1, 0, 1]
    batch = task.collate(encoded, 0, "cpu")
    assert batch["token_type_ids"].shape == batch["input_ids"].shape == (4, 8)


def test_pairs_are_joined_by_a_line_break_without_a_separator():
    task = task_for(TaskSpec(kind="classification"), Splits(PAIRS, PAIRS, PAIRS, (), ("x", "y"), ""))
    tokenizer = tiny_base.tokenizer()
    encoded = task.encode(PAIRS, tokenizer, 16)
    assert encoded[0].segments is None
    assert tokenizer.convert_ids_to_tokens(list(encoded[0].input_ids)) == ["<s>", "a", "b", "0", "c", "d"]


def test_batches_are_padded_on_the_right_to_the_longest():
    data = tiny_base.splits("classification")
    task = task_for(TaskSpec(kind="classification"), data)
    encoded = task.encode(data.train, tiny_base.tokenizer(), 16)
    batch = task.collate(encoded[:3], 0, "cpu")
    assert [e.length for e in encoded[:3]] == [4, 5, 6]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 0], [1] * 6]
    assert batch["input_ids"][0, 4:].tolist() == [0, 0]
    assert batch["labels"].tolist() == [0, 1, 2]
    assert "token_type_ids" not in batch


def test_long_texts_are_cut():
    data = tiny_base.splits("classification")
    task = task_for(TaskSpec(kind="classification"), data)
    assert max(e.length for e in task.encode(data.train, tiny_base.tokenizer(), 4)) == 4


def test_a_text_without_tokens_is_an_error():
    data = tiny_base.splits("classification")
    task = task_for(TaskSpec(kind="classification"), data)
    with pytest.raises(DataError, match=r"no tokens are left of the text '\\u200b '"):
        task.encode([{"text": "a", "label": "x"}, {"text": "\u200b ", "label": "x"}], _drops_unknown(), 4)


def _drops_unknown():
    def tokenizer(texts, pairs, **settings):
        return {"input_ids": [[5] if text == "a" else [] for text in texts]}

    tokenizer.sep_token = None
    return tokenizer


def test_losses_by_hand(base):
    model, task, _ = tiny_base.load(base)
    encoded = task.encode(tiny_base.splits("classification").train, model.tokenizer, 16)
    batch = task.collate(encoded, model.pad_id, "cpu")
    logits = model(batch)
    by_hand = [math.log(sum(math.exp(v) for v in row)) - row[e.target] for row, e in zip(logits.tolist(), encoded, strict=True)]
    assert task.loss(model, batch).item() == pytest.approx(sum(by_hand) / 6, rel=1e-5)
    model, task, _ = tiny_base.load(base, "regression")
    encoded = task.encode(tiny_base.splits("regression").train, model.tokenizer, 16)
    batch = task.collate(encoded, model.pad_id, "cpu")
    standardised = (np.arange(6) - 2.5) / np.arange(6).std()
    assert batch["labels"].numpy() == pytest.approx(standardised, rel=1e-5)
    squares = (model(batch)[:, 0].detach().numpy() - standardised) ** 2
    assert task.loss(model, batch).item() == pytest.approx(squares.mean(), rel=1e-4)


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_predictions_keep_the_order_whatever_the_batches(base, kind):
    model, task, _ = tiny_base.load(base, kind)
    encoded = task.encode(tiny_base.splits(kind).train, model.tokenizer, 16)
    model.train()
    one_by_one = np.concatenate([task.predict(model, [e], 1, "cpu").values for e in encoded])
    assert task.predict(model, encoded, 4, "cpu").values == pytest.approx(one_by_one, abs=1e-5)
    assert model.training


def test_regression_predicts_in_the_unit_of_the_data(base):
    model, task, _ = tiny_base.load(base, "regression")
    encoded = task.encode(tiny_base.splits("regression").train, model.tokenizer, 16)
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.fill_(1.0)
    assert task.predict(model, encoded, 4, "cpu").values == pytest.approx(np.full(6, 2.5 + np.arange(6).std()))
