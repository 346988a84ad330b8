"""Greedy completions are those of running the model on ever longer inputs, whatever adapter it has."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_base
import torch

from autopeft.models.roles import find_shape
from autopeft_searchspace.build import adapt
from autopeft_searchspace.configuration import Component, Configuration


@pytest.mark.parametrize(
    "component",
    [
        Component("prompt", 4, (0, 1, 2), ()),
        Component("prefix", 3, (1, 2)),
        Component("lora", 2, (0,), ("q", "v"), {"alpha": 2}),
    ],
    ids=lambda component: component.type,
)
def test_completions_are_greedy(component: Component, tmp_path: Path) -> None:
    model, _, _ = tiny_base.load(tiny_base.save_base(tmp_path, "llama", "causal_lm"), "causal_lm")
    model.backbone = adapt(model.backbone, Configuration((component,), 1e-3), find_shape(model.backbone), task_type=model.task_type)
    model.eval()
    prompt = [5, 6, 7]
    tokens = list(prompt)
    with torch.no_grad():
        for _ in range(4):
            batch = {"input_ids": torch.tensor([tokens]), "attention_mask": torch.ones(1, len(tokens), dtype=torch.int64)}
            tokens.append(int(model(batch)[0, -1].argmax()))
    eos = model.tokenizer.eos_token_id
    new = tokens[len(prompt) :]
    new = new[: new.index(eos)] if eos in new else new
    expected = model.tokenizer.decode(new, skip_special_tokens=True)
    assert model.generate([prompt], 4, "cpu") == [expected]
