"""Packs of language models take their losses without the logits of all trials, where nothing but a product makes those."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from packing.test_pack import CPU, Setting, assert_same, lora
from torch import nn

from autopeft.packing.pack import Pack
from autopeft.packing.vocabulary import losses, plain_vocabulary
from autopeft.tasks.causal_lm import following
from autopeft_searchspace.configuration import Configuration


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "qwen2"])
def test_the_output_is_told_where_it_is_a_product(architecture: str, tmp_path: Path) -> None:
    model: Any = Setting(tmp_path, architecture, "causal_lm").model
    output = model.backbone.get_output_embeddings()
    assert plain_vocabulary(model) is output.weight
    assert model.backbone.get_output_embeddings() is output


def test_what_more_happens_to_logits_is_seen(tmp_path: Path) -> None:
    model: Any = Setting(tmp_path, "llama", "causal_lm").model

    def cap(module: nn.Module, inputs: Any, output: Any) -> Any:
        output.logits = torch.tanh(output.logits * 5)
        return output

    hook = model.backbone.register_forward_hook(cap)
    assert plain_vocabulary(model) is None
    hook.remove()
    assert plain_vocabulary(model) is not None
    model.backbone.lm_head.bias = nn.Parameter(torch.ones(model.backbone.config.vocab_size))
    assert plain_vocabulary(model) is None


def test_other_models_have_none(tmp_path: Path) -> None:
    assert plain_vocabulary(Setting(tmp_path, "bert", "classification").model) is None


def test_the_loss_is_that_of_the_task(tmp_path: Path) -> None:
    setting = Setting(tmp_path, "llama", "causal_lm")
    weight = plain_vocabulary(setting.model)
    assert weight is not None
    batches = {4: setting.batch([0, 1]), 2: setting.batch([3, 4, 5])}
    hidden = {n: torch.randn(*following(batch).shape, weight.shape[1]) for n, batch in batches.items()}
    found = losses(hidden, batches, weight)
    for number, batch in batches.items():
        logits = hidden[number] @ weight.T
        assert found[number].item() == pytest.approx(setting.task.loss(lambda _, logits=logits: logits, batch).item(), abs=1e-6)


def test_a_pack_learns_the_same_with_and_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting(tmp_path, "gpt2", "causal_lm")
    trials = {n: (Configuration((lora(4, (1, 2), ("qkv",) if n else ("o",)),), 1e-2), n) for n in range(2)}
    batches = {n: [setting.batch([step % 6, (step + n) % 6]) for step in range(8)] for n in trials}
    assert Pack(setting.model, setting.shape, setting.task, CPU)._vocabulary is not None
    mine, models = setting.packed(trials, batches)
    monkeypatch.setattr("autopeft.packing.vocabulary.plain_vocabulary", lambda model: None)
    theirs, others = setting.packed(trials, batches)
    for number in trials:
        assert mine[number] == pytest.approx(theirs[number], abs=1e-5)
        assert_same(models[number], others[number])
