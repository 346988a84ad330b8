"""The contract of every adapter type, alone and in a composition, on an encoder and a decoder."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from peft import PeftModel, PeftType, get_peft_model
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedModel

from autopeft.models.roles import find_shape
from autopeft_searchspace.build import adapt, unadapt
from autopeft_searchspace.configuration import Component, Configuration
from autopeft_searchspace.not_offered import NOT_OFFERED
from autopeft_searchspace.registry import AdapterType, adapter_type, adapter_types
from autopeft_searchspace.rules import clash, trainable_parameters
from autopeft_searchspace.settings import build_space
from autopeft_searchspace.shape import ModelShape
from autopeft_searchspace.tuners.register import register

register()

from autopeft_searchspace.tuners.composition import CompositionConfig  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
TYPES = sorted(adapter_types())
STEPS = 12
HEADS = ("classifier", "score")


def one_of(adapter: AdapterType, shape: ModelShape, **values: Any) -> Component:
    """A component of small size on all roles of two of three layers, with the last of each option but variants."""
    dimensions = {d.name: d for d in adapter.dimensions(shape)}
    sizes = dimensions[f"{adapter.name}.size"].values
    found = {name: d.values[-1] for name, d in dimensions.items()} | {f"{adapter.name}.size": sizes[min(3, len(sizes) - 1)]}
    found |= {f"{adapter.name}.{option}": value for option, value in adapter.neutral.items()} | values
    component = adapter.component(found, (0, 2), shape)
    assert component is not None
    return component


def base(architecture: str) -> PreTrainedModel:
    """A small classifier without dropout, whose biases are not zero."""
    model = tiny.build(architecture, "classification")
    generator = torch.Generator().manual_seed(4)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad and not any(head in name for head in HEADS)}


@torch.no_grad()
def logits(model: nn.Module) -> torch.Tensor:
    return model(**tiny.batch()).logits


def train(model: nn.Module, learning_rate: float) -> tuple[list[float], set[str]]:
    """Losses of a few steps, and the tensors that a gradient reached."""
    weights = trained(model)
    optimizer = torch.optim.AdamW(weights.values(), lr=learning_rate)
    losses, reached = [], set()
    for _ in range(STEPS):
        loss = nn.functional.cross_entropy(10 * model(**tiny.batch()).logits, torch.tensor([0, 1, 2]))
        loss.backward()
        reached |= {name for name, p in weights.items() if p.grad is not None and p.grad.any()}
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses, reached


def built(way: str, backbone: PreTrainedModel, component: Component, shape: ModelShape) -> PeftModel:
    torch.manual_seed(0)
    if way == "alone":
        return adapt(backbone, Configuration((component,), 1e-3), shape, task_type="SEQ_CLS")
    return get_peft_model(backbone, CompositionConfig(components=[component.to_json()], shape=shape.to_json(), task_type="SEQ_CLS"))


@pytest.mark.slow
@pytest.mark.parametrize("way", ["alone", "composed"])
@pytest.mark.parametrize("architecture", ["bert", "llama", "gpt2"])
@pytest.mark.parametrize("kind", TYPES)
def test_contract(kind: str, architecture: str, way: str, tmp_path: Path) -> None:
    """Count, start, gradients, falling loss, only own weights change, save and reload, stored bytes, merge, taking apart."""
    adapter, backbone = adapter_type(kind), base(architecture)
    shape = find_shape(backbone)
    if why := adapter.unavailable(shape):
        pytest.skip(why)
    component = one_of(adapter, shape)
    if way == "composed" and (not adapter.supports.composition or adapter.changes_base(component)):
        pytest.skip("stands alone")
    before, untouched = logits(backbone), copy.deepcopy(backbone.state_dict())

    model = built(way, backbone, component, shape).eval()
    weights = trained(model)
    assert sum(p.numel() for p in weights.values()) == adapter.trainable_parameters(component, shape)
    assert (float((logits(model) - before).abs().max()) < 1e-5) == adapter.supports.identity_at_start or kind in ("unilora", "vblora")

    model.train()
    frozen = {name: p.detach().clone() for name, p in model.named_parameters() if name not in weights}
    losses, reached = train(model, 0.2 * adapter.default_learning_rate(component, shape))
    assert min(losses[1:]) < losses[0], losses
    assert reached == set(weights)
    assert all(torch.equal(p, frozen[name]) for name, p in model.named_parameters() if name in frozen)

    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in weights.values():
            parameter += torch.randn(parameter.shape, generator=generator) * 0.1
    model.eval()
    after = logits(model)
    assert (after - before).abs().max() > 1e-6

    model.save_pretrained(str(tmp_path))
    if json.loads((tmp_path / "adapter_config.json").read_text())["peft_type"] != "AUTOPEFT_COMPOSITION":
        assert adapter.supports.plain_peft
        saved = load_file(str(tmp_path / "adapter_model.safetensors"))
        size = sum(t.numel() * t.element_size() for name, t in saved.items() if not any(head in name for head in HEADS))
        assert size == adapter.stored_bytes(component, shape)
        assert (
            json.loads((tmp_path / "adapter_config.json").read_text())["peft_type"] != "AUTOPEFT_COMPOSITION"
        ) <= adapter.supports.plain_peft
    torch.manual_seed(9)
    loaded = PeftModel.from_pretrained(base(architecture), str(tmp_path)).eval()
    torch.testing.assert_close(logits(loaded), after, atol=1e-5, rtol=1e-5)

    try:
        merged = loaded.merge_and_unload(safe_merge=True)
    except (ValueError, NotImplementedError, AttributeError) as error:
        assert "bias" in str(error) or not adapter.supports.merge or (kind, way) == ("ln_tuning", "composed")  # noqa: PT017
    else:
        assert adapter.supports.merge
        torch.testing.assert_close(logits(merged), after, atol=1e-3, rtol=1e-3)

    if way == "alone":
        assert unadapt(model) is backbone
        assert backbone.state_dict().keys() == untouched.keys()
        assert all(torch.equal(value, untouched[name]) for name, value in backbone.state_dict().items())
        assert torch.equal(logits(backbone), before)


@pytest.mark.parametrize("architecture", ["bert", pytest.param("llama", marks=pytest.mark.slow)])
def test_closed_forms_count_what_is_built(architecture: str) -> None:
    """Every type at its smallest size."""
    backbone = base(architecture)
    shape = find_shape(backbone)
    for kind in TYPES:
        adapter = adapter_type(kind)
        if adapter.unavailable(shape):
            continue
        smallest = next(size for size in adapter.dimensions(shape)[0].values if size)
        component = one_of(adapter, shape, **{f"{kind}.size": smallest})
        model = adapt(backbone, Configuration((component,), 1e-3), shape, task_type=None)
        assert sum(p.numel() for p in trained(model).values()) == trainable_parameters(Configuration((component,), 1.0), shape), component
        backbone = unadapt(model)


def test_records_are_complete() -> None:
    assert len(TYPES) >= 45
    for kind in TYPES:
        adapter = adapter_type(kind)
        assert adapter.title
        assert adapter.source
        assert type(adapter).__module__.rpartition(".")[2] in (kind, "bottleneck"), "one type, one file"


def test_every_type_of_peft_is_offered_or_says_why_not() -> None:
    backbone = tiny.build("llama", device="meta")
    shape = find_shape(backbone)
    offered = {
        config.peft_type.value for kind in TYPES if (config := adapter_type(kind).peft_config(one_of(adapter_type(kind), shape), shape))
    }
    assert offered.isdisjoint(NOT_OFFERED)
    assert offered | NOT_OFFERED.keys() == {kind.value for kind in PeftType} - {"AUTOPEFT_COMPOSITION"}


def test_types_that_compute_with_the_weight_do_not_share_a_module() -> None:
    shape = find_shape(tiny.build("bert", device="meta"))

    def one(kind: str, *roles: str, layers: tuple[int, ...] = (0, 2)) -> Component:
        found = one_of(adapter_type(kind), shape)
        return Component(found.type, found.size, layers, roles, found.options)

    assert clash([one("dora", "q", "v"), one("hra", "v")], shape) == "dora and hra both compute with the weight of v in layer 0"
    assert clash([one("dora", "q"), one("hra", "v")], shape) is None
    assert clash([one("dora", "q"), one("hra", "q", layers=(1,))], shape) is None
    assert clash([one("dora", "q"), one("lora", "q")], shape) is None
    assert "kasa as it is here stands alone" in str(clash([one("kasa", "q"), one("lora", "v")], shape))


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["bert", "mpnet", "deberta_v2", "llama", "qwen2", "gpt2"])
def test_random_configurations_of_everything_are_built_as_counted(architecture: str) -> None:
    backbone = base(architecture)
    shape = find_shape(backbone)
    space = build_space("everything", shape)
    rng = np.random.default_rng(3)
    for _ in range(500):
        configuration = space.configuration(space.sample(rng))
        if not configuration.components:
            continue
        model = adapt(backbone, configuration, shape, task_type=None)
        assert sum(p.numel() for p in trained(model).values()) == trainable_parameters(configuration, shape), configuration.in_words()
        backbone = unadapt(model)


@pytest.mark.filterwarnings("ignore")
def test_no_type_cuts_off_another_on_the_same_module() -> None:
    """Beside LoRA on all modules, wherever a type lets it stand: gradients reach both."""
    deaf: list[str] = []
    for kind in TYPES:
        adapter, backbone = adapter_type(kind), base("bert")
        shape = find_shape(backbone)
        lora = Component("lora", 2, (0, 1, 2), shape.roles, {"alpha": 2})
        if kind == "lora" or adapter.unavailable(shape) or clash([lora, one_of(adapter, shape)], shape):
            continue
        torch.manual_seed(0)
        model = adapt(backbone, Configuration((lora, one_of(adapter, shape)), 1e-3), shape, task_type="SEQ_CLS").train()
        _, reached = train(model, 1e-3)
        if not all(any(f".composed_parts.default.{name}." in path for path in reached) for name in ("lora", kind)):
            deaf.append(kind)
    assert deaf == []
