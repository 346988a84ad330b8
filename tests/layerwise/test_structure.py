"""Real structured pruning: what is left computes what the masked model computes, on the disk too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from peft import PeftModel
from torch import Tensor

from autopeft.layerwise.base_files import save_base
from autopeft.layerwise.masks import Masks
from autopeft.layerwise.structure import Pruned, Pruning, load_pruned, save_pruning
from autopeft.models.roles import find_shape
from autopeft_searchspace.build import adapt
from autopeft_searchspace.configuration import Component, Configuration

UNITS = {0: tuple(range(5, 48)), 1: tuple(range(0, 48, 3)), 2: (7,)}
HEADS = {"bert": {0: (0, 2), 1: (1, 2, 3), 2: (3,)}, "mpnet": {0: (0, 2), 1: (1, 2, 3), 2: (3,)}, "llama": {0: (1,), 1: (0, 1), 2: (0,)}}


def adapted(architecture: str) -> tuple[Any, Any]:
    """A tiny model with LoRA everywhere and a bottleneck, both with random weights; and its shape."""
    model = tiny.build(architecture)
    shape = find_shape(model)
    lora = Component("lora", 2, (0, 1, 2), shape.roles, {"alpha": 4})
    serial = Component("serial", 3, (0, 1, 2), options={"place": "feed_forward", "bias": True})
    torch.manual_seed(1)
    found = adapt(model, Configuration((lora, serial), 1e-3), shape, task_type="FEATURE_EXTRACTION")
    for parameter in found.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
    return found.eval(), shape


def hidden(model: Any) -> Tensor:
    with torch.no_grad():
        return model(**tiny.batch()).last_hidden_state


@pytest.mark.parametrize("architecture", ["bert", "mpnet", "llama"])
def test_the_pruned_model_is_the_masked_model(architecture: str, tmp_path: Path) -> None:
    model, shape = adapted(architecture)
    base = model.get_base_model().base_model
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    whole = hidden(model)
    pruning = Pruning(HEADS[architecture], UNITS)
    masks = Masks(base, shape)
    for layer, kept in pruning.heads.items():
        masks.heads[layer].data = torch.tensor([float(i in kept) for i in range(shape.key_value_heads)])
    for layer, kept in pruning.units.items():
        masks.units[layer].data = torch.tensor([float(i in kept) for i in range(48)])
    masked = hidden(model)
    masks.remove()
    assert torch.equal(hidden(model), whole)
    assert not torch.allclose(masked, whole, atol=1e-3)

    pruned = Pruned(base, shape, pruning)
    torch.testing.assert_close(hidden(model), masked, rtol=1e-5, atol=1e-5)
    assert sum(p.numel() for p in model.parameters()) < sum(p.numel() for p in before.values())

    model.save_pretrained(tmp_path / "adapter")
    save_base(model, tmp_path / "base")
    save_pruning(tmp_path / "base", pruning)
    again = PeftModel.from_pretrained(load_pruned(tmp_path / "base"), tmp_path / "adapter").eval()
    torch.testing.assert_close(hidden(again), masked, rtol=1e-5, atol=1e-5)

    pruned.undo()
    frozen = {name: p for name, p in model.named_parameters() if not p.requires_grad}
    assert all(torch.equal(p, before[name]) for name, p in frozen.items())
