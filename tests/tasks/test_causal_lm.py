"""Completions: what is counted, what is cut, what is generated."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tiny
import tiny_base
import torch

from autopeft.errors import DataError, ModelError
from autopeft.spec import TaskSpec
from autopeft.tasks import task_for
from autopeft.tasks.causal_lm import NOT_COUNTED, find_answer

DATA = tiny_base.splits("causal_lm")
ANSWERS = {"metric": "exact_match", "answer_pattern": r"# (.+)", "max_new_tokens": 6}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_base.save_base(tmp_path_factory.mktemp("llama"), "llama", "causal_lm")


def words(encoded, tokenizer):
    return " ".join(tokenizer.convert_ids_to_tokens(list(encoded.input_ids)))


def encode(prompt, completion, max_length=16, *, begins=True):
    tokenizer = tiny_base.tokenizer(begins=begins)
    task = task_for(TaskSpec(kind="causal_lm"), DATA)
    encoded = task.encode([{"prompt": prompt, "completion": completion}], tokenizer, max_length)[0]
    return words(encoded, tokenizer), encoded.completion


def test_an_example_is_start_prompt_completion_end():
    assert encode("what is the sum 3 ?", "it # 3") == ("<s> what is the sum 3 ? <unk> # 3 </s>", 4)
    assert encode("a b", "c", begins=False) == ("a b c </s>", 2)


def test_a_long_prompt_loses_its_start_and_a_long_completion_its_end():
    assert encode("a b c d e f", "x y", 6) == ("<s> e f x y </s>", 3)
    assert encode("a b c d e f", "x y", 6, begins=False) == ("d e f x y </s>", 3)
    assert encode("a b c", "u v w x y z", 5) == ("<s> u v w x", 4)
    assert encode("a b c", "u v w x y z", 5, begins=False) == ("c u v w x", 4)


def test_an_empty_prompt_still_has_something_to_predict_from():
    assert encode("", "x y", begins=False) == ("<s> x y </s>", 3)


def test_prompt_and_completion_are_joined_by_a_line_break_unless_there_is_white_space():
    seen = []

    class Spy:
        bos_token_id, eos_token_id = None, 2

        def __call__(self, texts, **settings):
            seen.append(texts)
            return {"input_ids": [[5] * len(texts)] * len(texts)}

    task_for(TaskSpec(kind="causal_lm"), DATA).encode(
        [{"prompt": p, "completion": c} for p, c in (("a", "b"), ("a ", "b"), ("a", "\tb"), ("", "b"))], Spy(), 16
    )
    assert seen[0] == ["a\n", "a ", "a", ""]


def test_a_tokeniser_without_end_is_refused():
    tokenizer = tiny_base.tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="end-of-text token"):
        task_for(TaskSpec(kind="causal_lm"), DATA).encode(DATA.train, tokenizer, 16)


def test_labels_are_the_completion_alone():
    tokenizer = tiny_base.tokenizer()
    task = task_for(TaskSpec(kind="causal_lm"), DATA)
    encoded = task.encode([{"prompt": "a b c", "completion": "d"}, {"prompt": "a", "completion": "x y"}], tokenizer, 16)
    batch = task.collate(encoded, 0, "cpu")
    d, x, y = tokenizer.convert_tokens_to_ids(["d", "x", "y"])
    no = NOT_COUNTED
    assert batch["labels"].tolist() == [[no, no, no, no, d, 2], [no, no, x, y, 2, no]]
    assert batch["attention_mask"].tolist() == [[1] * 6, [1, 1, 1, 1, 1, 0]]
    assert batch["logits_to_keep"].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("architecture", tiny.DECODERS)
def test_loss_is_the_mean_over_counted_tokens(architecture, tmp_path):
    """Against log-probabilities added up one by one from unpadded full logits."""
    model, task, _ = tiny_base.load(tiny_base.save_base(tmp_path, architecture, "causal_lm"), "causal_lm")
    examples = [{"prompt": "a b c", "completion": "d"}, {"prompt": "a", "completion": "x y z"}, {"prompt": "a b", "completion": "x"}]
    encoded = task.encode(examples, model.tokenizer, 16)
    terms = []
    for e in encoded:
        ids = torch.tensor([e.input_ids])
        chances = model.backbone(input_ids=ids).logits[0].log_softmax(-1)
        terms.append([-chances[t - 1, ids[0, t]].item() for t in range(e.length - e.completion, e.length)])
    loss = task.loss(model, task.collate(encoded, model.pad_id, "cpu"))
    assert loss.item() == pytest.approx(np.mean([nll for row in terms for nll in row]), rel=1e-4)
    said = task.predict(model, encoded, 2, "cpu")
    assert said.values == pytest.approx([sum(row) for row in terms], rel=1e-4)
    assert list(said.tokens) == [2, 4, 2]
    assert task.score("token_nll", said, encoded).value == pytest.approx(loss.item(), rel=1e-4)


def test_generation_is_greedy_and_does_not_see_padding(base):
    model, _, _ = tiny_base.load(base, "causal_lm")
    prompts = [[1, 5, 6, 7, 8], [1, 9]]
    together = model.generate(prompts, 6, "cpu")
    assert together == [model.generate([p], 6, "cpu")[0] for p in prompts]
    ids = torch.tensor([prompts[1]])
    for _ in range(6):
        ids = torch.cat([ids, model.backbone(input_ids=ids).logits[:, -1:].argmax(-1)], dim=1)
    by_hand = ids[0, 2:].tolist()
    by_hand = by_hand[: by_hand.index(2)] if 2 in by_hand else by_hand
    assert together[1] == model.tokenizer.decode(by_hand, skip_special_tokens=True)


def test_exact_match_after_learning_the_answers(base):
    """A tiny decoder learns six completions by heart; its answers are then right, and wrong before."""
    model, task, _ = tiny_base.load(base, "causal_lm", task=ANSWERS)
    encoded = task.encode(DATA.train, model.tokenizer, 16)
    before = task.score("exact_match", task.predict(model, encoded, 4, "cpu"), encoded)
    assert before.value < 0.5
    model.backbone.requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    batch = task.collate(encoded, model.pad_id, "cpu")
    model.train()
    for _ in range(80):
        task.loss(model, batch).backward()
        optimizer.step()
        optimizer.zero_grad()
    said = task.predict(model, encoded, 4, "cpu")
    assert list(said.values) == ["0", "1", "2", "3", "4", "5"]
    assert task.score("exact_match", said, encoded).value == 1
    assert list(task.per_example("exact_match", said, encoded)) == [1] * 6


def test_answers_of_gsm8k():
    pattern = TaskSpec(kind="causal_lm").answer_pattern
    assert find_answer("She has 3*4=<<3*4=12>>12.\n#### 1,234 ", pattern) == "1234"
    assert find_answer("#### 72\n#### 73", pattern) == "72"
    assert find_answer("no answer", pattern) == ""


def test_references_without_an_answer_are_an_error():
    bad = dataclasses.replace(DATA, confirm=({"prompt": "p", "completion": "no answer"},))
    with pytest.raises(DataError, match=r"answer_pattern '# \(\.\+\)' finds no answer in the completion 'no answer'"):
        task_for(TaskSpec(kind="causal_lm", **ANSWERS), bad)
