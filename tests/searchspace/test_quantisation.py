"""Quantisation of the base model as a dimension of a space."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from peft import PeftModel
from test_every_type import TYPES, built, logits, one_of, train, trained
from tiny_base import save_base
from torch import nn

from autopeft.models.quantised import Quantisation, settle
from autopeft.models.roles import find_shape
from autopeft_searchspace.build import unadapt
from autopeft_searchspace.configuration import Component, Configuration
from autopeft_searchspace.registry import adapter_type
from autopeft_searchspace.rules import check
from autopeft_searchspace.settings import build_space, offered

SHAPE = find_shape(tiny.build("bert", device="meta"))
LORA = Component("lora", 4, (0, 1, 2), ("q",), {"alpha": 4})
DORA = Component("dora", 4, (0, 1, 2), ("q",))


def test_it_is_searched_for_types_that_train_on_one() -> None:
    space = build_space("everything", SHAPE, {"quantisation": ["nf4", "none"]})
    assert space.by_name["quantisation"].values == ("none", "nf4")
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(300):
        configuration = space.configuration(space.sample(rng))
        able = all(adapter_type(c.type).trains_quantised(c) for c in configuration.components)
        assert able or configuration.quantisation == "none"
        again = space.configuration(space.values(configuration))
        assert replace(again, learning_rate=1.0) == replace(configuration, learning_rate=1.0)
        seen.add(configuration.quantisation)
    assert seen == {"none", "nf4"}
    assert not space.is_active("quantisation", {"dora.size": 4})
    assert space.is_active("quantisation", {"lora.size": 4})


def test_without_none_everything_is_on_a_quantised_base() -> None:
    space = build_space("everything", SHAPE, {"quantisation": "int8"})
    assert "quantisation" not in space.by_name
    assert "dora" in space.left_out
    assert "dora" not in space.types
    rng = np.random.default_rng(0)
    for _ in range(100):
        configuration = space.configuration(space.sample(rng))
        assert configuration.quantisation == "int8"
        assert all(adapter_type(c.type).trains_quantised(c) for c in configuration.components)
    with pytest.raises(ValueError, match="does not train on a quantised base"):
        space.configuration(space.values(Configuration((replace(LORA, options={"alpha": 4, "init": "pissa"}),), 1e-3, quantisation="int8")))


def test_keys_say_it_only_where_it_is_not_the_usual() -> None:
    plain = Configuration((LORA,), 1e-3)
    quantised = replace(plain, quantisation="nf4")
    assert "quantisation" not in plain.to_json()
    assert Configuration.from_json(quantised.to_json()) == quantised
    assert quantised.key != plain.key
    assert quantised.in_words() == f"{plain.in_words()}, on an nf4 base"


def test_presets_do_not_quantise_by_themselves() -> None:
    assert offered("everything", {}) == ("none",)
    with pytest.raises(ValueError, match="quantisation must be one or a list of none, int8, nf4, it is 'q4'"):
        build_space("lora", SHAPE, {"quantisation": "q4"})


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
@pytest.mark.parametrize("bits", ["int8", "nf4"])
@pytest.mark.parametrize("architecture", ["bert", "llama"])
@pytest.mark.parametrize("kind", [kind for kind in TYPES if adapter_type(kind).supports.quantised_base])
def test_contract_on_a_quantised_base(kind: str, architecture: str, bits: str, tmp_path: Path) -> None:
    """Count, gradients, falling loss, save and reload, and the base model is as it was."""
    adapter = adapter_type(kind)
    folder = save_base(tmp_path / "base", architecture, "classification")
    arguments = Quantisation(bits).arguments(("classifier", "score"))

    def fresh() -> Any:
        model = type(tiny.build(architecture, "classification", device="meta")).from_pretrained(folder, dtype=torch.float32, **arguments)
        settle(model)
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        return model.eval()

    backbone = fresh()
    shape = find_shape(backbone)
    if why := adapter.unavailable(shape):
        pytest.skip(why)
    component = one_of(adapter, shape)
    check(Configuration((component,), 1e-3, quantisation=bits), shape)
    before = logits(backbone)
    model = built("alone", backbone, component, shape)
    weights = trained(model)
    assert sum(p.numel() for p in weights.values()) == adapter.trainable_parameters(component, shape)
    losses, reached = train(model.train(), 0.2 * adapter.default_learning_rate(component, shape))
    assert min(losses[1:]) < losses[0], losses
    assert reached == set(weights)
    after = logits(model.eval())
    model.save_pretrained(str(tmp_path / "adapter"))
    loaded = PeftModel.from_pretrained(fresh(), str(tmp_path / "adapter")).eval()
    torch.testing.assert_close(logits(loaded), after, atol=1e-5, rtol=1e-5)
    assert torch.equal(logits(unadapt(model)), before)
