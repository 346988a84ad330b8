"""The merge guard: merged where outputs stay, refused with the weights as they were where they do not."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import tiny
import torch
from peft.tuners.lora.layer import Linear

from autopeft.models.roles import find_shape
from autopeft_searchspace.build import MergeError, adapt, merge
from autopeft_searchspace.configuration import Component, Configuration

pytestmark = pytest.mark.filterwarnings("ignore")
LORA = Component("lora", 4, (0, 2), ("q", "ff_in"), {"alpha": 8})
OFT = Component("oft", 4, (0, 1), ("q", "v"))


def with_effect(*components: Component) -> Any:
    backbone = tiny.build("bert")
    model = adapt(backbone, Configuration(components, 1e-3), find_shape(backbone), task_type=None).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += torch.randn(parameter.shape, generator=generator) * 0.2
    return backbone, model


@pytest.mark.parametrize("components", [(LORA,), (OFT,), (LORA, OFT)], ids=["lora", "oft", "both"])
def test_what_merges_keeps_its_outputs(components: tuple[Component, ...]) -> None:
    _, model = with_effect(*components)
    before = model(**tiny.batch()).last_hidden_state
    merged = merge(model, tiny.batch())
    assert not any("lora" in name or "oft" in name or "composed" in name for name, _ in merged.named_parameters())
    torch.testing.assert_close(merged(**tiny.batch()).last_hidden_state, before, atol=1e-4, rtol=1e-4)


def test_a_wrong_merge_is_an_error_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    _, model = with_effect(LORA)
    untouched, before = copy.deepcopy(model.state_dict()), model(**tiny.batch()).last_hidden_state
    right = Linear.get_delta_weight
    monkeypatch.setattr(Linear, "get_delta_weight", lambda self, adapter: right(self, adapter) * 1.5)
    with pytest.raises(MergeError, match="outputs after merging differ by up to"):
        merge(model, tiny.batch())
    monkeypatch.undo()
    assert all(torch.equal(value, untouched[name]) for name, value in model.state_dict().items())
    assert torch.equal(model(**tiny.batch()).last_hidden_state, before)


def test_what_cannot_merge_says_so() -> None:
    _, model = with_effect(LORA, Component("serial", 4, (1,), (), {"place": "feed_forward", "bias": True}))
    before = model(**tiny.batch()).last_hidden_state
    with pytest.raises(MergeError, match="cannot be merged: serial is no change of a weight"):
        merge(model, tiny.batch())
    assert torch.equal(model(**tiny.batch()).last_hidden_state, before)
