"""The composition tuner against plain peft, against the formulas, and under what users do to models."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import tiny
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from autopeft.models.roles import find_shape
from autopeft_searchspace.build import adapt, unadapt
from autopeft_searchspace.configuration import Component, Configuration
from autopeft_searchspace.registry import adapter_type
from autopeft_searchspace.shape import ModelShape
from autopeft_searchspace.tuners.register import register

register()

from autopeft_searchspace.tuners.composition import CompositionConfig  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:Could not find a config file", "ignore:.(is_)?gradient_checkpointing:FutureWarning")
FEED_FORWARD = {"place": "feed_forward", "bias": True}
ATTENTION = {"place": "attention", "bias": True}


def composed(backbone: nn.Module, shape: ModelShape, *components: Component) -> PeftModel:
    return get_peft_model(backbone, CompositionConfig(components=[c.to_json() for c in components], shape=shape.to_json()))


def randomise(model: nn.Module, scale: float = 0.3) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)


def hidden(model: nn.Module, **batch: Any) -> torch.Tensor:
    return model(**(batch or tiny.batch())).last_hidden_state


@pytest.mark.parametrize("architecture", ["bert", "llama", "gpt2"])
def test_lora_in_a_composition_is_peft_lora_bit_for_bit(architecture: str) -> None:
    shape = find_shape(tiny.build(architecture))
    component = Component("lora", 4, (0, 2), shape.roles, {"alpha": 8})
    targets = [shape.modules[role][layer].path for layer in component.layers for role in component.roles]
    plain_config = LoraConfig(r=4, lora_alpha=8, target_modules=targets, fan_in_fan_out=architecture == "gpt2")
    plain = get_peft_model(tiny.build(architecture), plain_config)
    ours = composed(tiny.build(architecture), shape, component)

    def weights(model: nn.Module, *endings: str) -> list[nn.Parameter]:
        found = [p for path in targets for ending in endings for name, p in model.named_parameters() if name.endswith(path + ending)]
        assert len(found) == 2 * len(targets)
        return found

    pairs = list(
        zip(
            weights(plain, ".lora_A.default.weight", ".lora_B.default.weight"),
            weights(ours, ".composed_parts.default.lora.layer.lora_A.part.weight", ".composed_parts.default.lora.layer.lora_B.part.weight"),
            strict=True,
        )
    )
    assert all(theirs.std() > 0 and mine.std() > 0 for theirs, mine in pairs[::2])
    assert all(not theirs.any() and not mine.any() for theirs, mine in pairs[1::2])
    for theirs, mine in pairs:
        mine.data.copy_(theirs.data)
    optimizers = [torch.optim.AdamW([p for p in m.parameters() if p.requires_grad], lr=1e-2) for m in (plain, ours)]
    for step in range(3):
        for model, optimizer in zip((plain, ours), optimizers, strict=True):
            optimizer.zero_grad()
            hidden(model, **tiny.batch(seed=step)).square().mean().backward()
            optimizer.step()
        assert all(torch.equal(theirs.grad, mine.grad) for theirs, mine in pairs)
    assert torch.equal(hidden(plain), hidden(ours))


@pytest.mark.parametrize("architecture", ["bert", "llama", "gpt2"])
def test_merging_lora_keeps_the_function(architecture: str) -> None:
    backbone = tiny.build(architecture)
    shape = find_shape(backbone)
    model = composed(backbone, shape, Component("lora", 4, (0, 1), shape.roles, {"alpha": 8})).eval()
    before = hidden(model)
    randomise(model)
    adapted = hidden(model)
    assert (adapted - before).abs().max() > 1e-2
    model.merge_adapter()
    torch.testing.assert_close(hidden(model), adapted, atol=1e-4, rtol=1e-4)
    model.unmerge_adapter()
    torch.testing.assert_close(hidden(model), adapted, atol=1e-4, rtol=1e-4)
    merged = model.merge_and_unload(safe_merge=True)
    assert merged is backbone
    assert not any("composed" in name for name, _ in merged.named_modules())
    torch.testing.assert_close(hidden(merged), adapted, atol=1e-4, rtol=1e-4)


def test_merging_what_is_no_weight_change_is_refused_and_changes_nothing() -> None:
    backbone = tiny.build("bert")
    shape, untouched = find_shape(backbone), copy.deepcopy(backbone.state_dict())
    lora = Component("lora", 4, (0,), ("q",), {"alpha": 8})
    model = composed(backbone, shape, Component("serial", 4, (0,), (), FEED_FORWARD), lora)
    randomise(model)
    for call in (model.merge_and_unload, model.merge_adapter):
        with pytest.raises(ValueError, match="cannot be merged: serial is no change of a weight"):
            call()
    assert all(torch.equal(value, untouched[name]) for name, value in unadapt(model).state_dict().items())


def test_merging_infinite_weights_is_refused_if_asked() -> None:
    backbone = tiny.build("bert")
    model = composed(backbone, find_shape(backbone), Component("lora", 4, (0,), ("q",), {"alpha": 8}))
    randomise(model)
    next(p for p in model.parameters() if p.requires_grad).data[0] = float("inf")
    untouched = backbone.encoder.layer[0].attention.self.query.base_layer.weight.clone()
    with pytest.raises(ValueError, match="not finite"):
        model.merge_and_unload(safe_merge=True)
    assert torch.equal(backbone.encoder.layer[0].attention.self.query.base_layer.weight, untouched)


def bottleneck(part: Any, x: torch.Tensor) -> torch.Tensor:
    """U relu(D x), from the weights alone."""
    layers = part.bottleneck
    return torch.clamp(x @ layers.down.weight.T + layers.down.bias, min=0) @ layers.up.weight.T + layers.up.bias


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "llama", "gpt2", "opt"])
@pytest.mark.parametrize("options", [FEED_FORWARD, ATTENTION], ids=["feed_forward", "attention"])
def test_all_parts_on_one_module_follow_the_formula(architecture: str, options: dict[str, Any]) -> None:
    """h = W x + s B A x; then h + U f(D h) + U' f(D' x') with x' the input of the sub-layer."""
    backbone = tiny.build(architecture)
    shape = find_shape(backbone)
    end_role = "ff_out" if options is FEED_FORWARD else "o"
    start_role = "ff_in" if options is FEED_FORWARD else ("qkv" if "qkv" in shape.roles else "q")
    model = composed(
        backbone,
        shape,
        Component("parallel", 5, (1,), (), options),
        Component("serial", 4, (1,), (), options),
        Component("lora", 3, (1,), (end_role,), {"alpha": 6}),
    ).eval()
    randomise(model)
    end = backbone.get_submodule(shape.modules[end_role][1].path)
    start = backbone.get_submodule(shape.modules[start_role][1].path)
    parts = end.composed_parts["default"]
    assert list(parts) == ["lora", "serial", "parallel"]
    seen: dict[str, torch.Tensor] = {}
    start.register_forward_hook(lambda module, args, out: seen.update(start=args[0]))
    end.register_forward_hook(lambda module, args, out: seen.update(end=args[0], out=out))
    with torch.no_grad():
        hidden(model)
        lora = parts["lora"].layer
        h = end.base_layer(seen["end"]) + 2 * seen["end"] @ lora.lora_A.part.weight.T @ lora.lora_B.part.weight.T
        expected = h + bottleneck(parts["serial"], h) + bottleneck(parts["parallel"], seen["start"])
    torch.testing.assert_close(seen["out"], expected, atol=1e-5, rtol=1e-5)


def everything(shape: ModelShape) -> tuple[Component, ...]:
    prefix = (Component("prefix", 3, (0, 2)),) if shape.attention_paths else ()
    return (Component("serial", 4, (0, 2), (), ATTENTION), Component("parallel", 4, (0, 2), (), FEED_FORWARD), *prefix)


@pytest.mark.parametrize("architecture", ["bert", "mpnet", "llama", "gpt2"])
def test_gradient_checkpointing_changes_nothing(architecture: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        backbone = tiny.build(architecture)
        if checkpointing:
            if not backbone.supports_gradient_checkpointing:
                pytest.skip(f"{architecture} has no gradient checkpointing")
            backbone.gradient_checkpointing_enable({"use_reentrant": False})
        shape = find_shape(backbone)
        model = composed(backbone, shape, *everything(shape))
        for module in model.modules():  # checkpointing needs training mode; dropout would differ
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        randomise(model)
        model.train()
        hidden(model, **tiny.batch()).square().mean().backward()
        gradients.append([p.grad for p in model.parameters() if p.requires_grad])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("architecture", ["bert", "mpnet", "llama", "gpt2"])
def test_half_precision_bases_keep_adapters_in_float32(architecture: str) -> None:
    backbone = tiny.build(architecture).to(torch.bfloat16)
    shape = find_shape(backbone)
    lora = Component("lora", 2, (1,), shape.roles, {"alpha": 2})
    model = composed(backbone, shape, *everything(shape)[1:], lora)
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    out = hidden(model)
    assert out.dtype == torch.bfloat16
    out.float().square().mean().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("architecture", ["bert", "mpnet", "gpt2"])
def test_autocast(architecture: str) -> None:
    backbone = tiny.build(architecture)
    shape = find_shape(backbone)
    model = composed(backbone, shape, *everything(shape)).eval()
    randomise(model)
    exact = hidden(model)
    with torch.autocast("cpu", torch.bfloat16):
        rough = hidden(model)
    torch.testing.assert_close(rough.float(), exact, atol=0.2, rtol=0.1)


def test_copies_are_independent() -> None:
    backbone = tiny.build("bert")
    shape = find_shape(backbone)
    model = composed(backbone, shape, *everything(shape)).eval()
    randomise(model)
    twin = copy.deepcopy(model)
    randomise(twin, 0.1)
    expected = hidden(twin)
    backbone.get_submodule(shape.modules["ff_in"][0].path).composed_parts["default"]["parallel"].kept = None
    assert torch.equal(hidden(twin), expected)
    assert not torch.equal(hidden(model), expected)


def test_a_second_composition_is_refused() -> None:
    backbone = tiny.build("bert")
    shape = find_shape(backbone)
    model = composed(backbone, shape, *everything(shape))
    config = CompositionConfig(components=[everything(shape)[0].to_json()], shape=shape.to_json())
    with pytest.raises(ValueError, match="one composition at a time, it was given default, second"):
        model.add_adapter("second", config)


def test_loading_on_another_model_says_what_is_missing(tmp_path: Any) -> None:
    backbone = tiny.build("bert")
    shape = find_shape(backbone)
    composed(backbone, shape, *everything(shape)).save_pretrained(str(tmp_path))
    with pytest.raises(ValueError, match="does not fit LlamaModel: it was made for a bert of 3 layers, with modules such as"):
        PeftModel.from_pretrained(tiny.build("llama"), str(tmp_path))


def test_saved_on_a_bare_model_loads_on_one_with_a_head(tmp_path: Any) -> None:
    bare, headed = tiny.build("bert"), tiny.build("bert", "classification")
    headed.bert.load_state_dict(bare.state_dict())
    shape = find_shape(bare)
    model = adapt(bare, Configuration(everything(shape), 1e-3), shape, task_type=None).eval()
    randomise(model)
    expected = hidden(model)
    configuration = Configuration(everything(shape), 1e-3)
    adapted = adapt(headed, configuration, find_shape(headed), task_type="SEQ_CLS", modules_to_save=("classifier",))
    names = {name.removeprefix("base_model.model.bert.") for name, p in adapted.named_parameters() if "composed" in name}
    assert names == {name.removeprefix("base_model.model.") for name, p in model.named_parameters() if "composed" in name}
    with torch.no_grad():
        mine = dict(model.named_parameters())
        for name, parameter in adapted.named_parameters():
            if "composed" in name:
                parameter.copy_(mine[name.replace(".bert.", ".")])
    assert torch.equal(hidden(adapted.eval().base_model.model.bert, **tiny.batch()), expected)


class Int8Linear(nn.Linear):
    """A linear module whose weight is stored in 8 bits with one scale per output, as quantised bases have it."""

    @classmethod
    def of(cls, plain: nn.Linear) -> Int8Linear:
        new = cls(plain.in_features, plain.out_features)
        scale = plain.weight.detach().abs().amax(dim=1, keepdim=True) / 127
        new.weight = nn.Parameter((plain.weight.detach() / scale).round().to(torch.int8), requires_grad=False)
        new.register_buffer("scale", scale)
        new.bias = plain.bias
        return new

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.weight * self.scale, self.bias)


def test_every_type_trains_on_a_quantised_base_and_none_is_merged_into_it() -> None:
    backbone = tiny.build("llama")
    shape = find_shape(backbone)
    for per_layer in shape.modules.values():
        for module in per_layer:
            parent, _, leaf = module.path.rpartition(".")
            setattr(backbone.get_submodule(parent), leaf, Int8Linear.of(backbone.get_submodule(module.path)))
    assert find_shape(backbone).modules == shape.modules
    before = hidden(backbone)
    lora = Component("lora", 2, (0, 1), shape.roles, {"alpha": 4})
    serial, parallel, prefix = everything(shape)
    for components in ((serial, parallel, lora), (prefix, lora), (lora,)):
        assert all(adapter_type(c.type).supports.quantised_base for c in components)
        model = composed(backbone, shape, *components)
        randomise(model, 0.1)
        hidden(model).square().mean().backward()
        assert all(p.grad is not None and p.grad.any() for p in model.parameters() if p.requires_grad)
        if components == (lora,):
            with pytest.raises(ValueError, match="cannot merge into Int8Linear: its weight is not a plain matrix"):
                model.merge_and_unload()
        unadapt(model)
        assert torch.equal(hidden(backbone), before)


def test_a_prompt_around_a_prefix_around_lora_is_taken_apart() -> None:
    """Three levels: a block, the attention inside it, a linear module inside that."""
    backbone = tiny.build("bert")
    before = backbone(**tiny.batch()).last_hidden_state
    components = (Component("prompt", 2, (0, 1)), Component("prefix", 2, (0, 1)), Component("lora", 2, (0, 1), ("q",), {"alpha": 2}))
    model = adapt(backbone, Configuration(components, 1e-3), find_shape(backbone), task_type=None)
    assert not torch.equal(model(**tiny.batch()).last_hidden_state, before)
    assert unadapt(model) is backbone
    assert not any("composed" in name for name, _ in backbone.named_modules())
    assert torch.equal(backbone(**tiny.batch()).last_hidden_state, before)
