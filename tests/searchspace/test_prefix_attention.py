"""The prefix against independent ways to compute the same: by hand, and as a filled key/value cache."""

from __future__ import annotations

import pytest
import tiny
import torch
from peft import get_peft_model
from torch import nn
from transformers import DynamicCache, PreTrainedModel

from autopeft.models.roles import find_shape
from autopeft_searchspace.configuration import Component
from autopeft_searchspace.shape import ModelShape
from autopeft_searchspace.tuners.register import register

register()

from autopeft_searchspace.tuners.composition import CompositionConfig  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")
TOKENS = 3


def with_prefix(
    backbone: PreTrainedModel, layers: tuple[int, ...] = (0, 1, 2), task_type: str | None = None
) -> tuple[nn.Module, ModelShape]:
    shape = find_shape(backbone)
    component = Component("prefix", TOKENS, layers).to_json()
    model = get_peft_model(backbone, CompositionConfig(components=[component], shape=shape.to_json(), task_type=task_type)).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model, shape


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("architecture", ["bert", "roberta", "mpnet", "distilbert"])
def test_encoders_by_hand(architecture: str, padded: bool, attention: str) -> None:
    """softmax(q [P_K; K]^T / sqrt(d) + bias) [P_V; V], head by head, against what reaches `o`."""
    backbone = tiny.build(architecture, attention=attention)
    batch = tiny.batch(padded=padded)
    model, shape = with_prefix(backbone, layers=(1,))
    seen: dict[str, torch.Tensor] = {}
    for role in ("q", "k", "v"):
        module = backbone.get_submodule(shape.modules[role][1].path)
        module.register_forward_hook(lambda module, args, out, role=role: seen.update({role: out}))
    layer = backbone.get_submodule(shape.attention_paths[1])
    layer.base_layer.register_forward_hook(lambda module, args, out: seen.update(out=out[0]))
    last = backbone.get_submodule(shape.modules["o"][1].path)
    last.register_forward_hook(lambda module, args, out: seen.update(mixed=args[0]))
    part = layer.composed_parts["default"]["prefix"]
    with torch.no_grad():
        hidden = model(**batch).last_hidden_state
        bias = backbone.encoder.compute_position_bias(hidden) if architecture == "mpnet" else torch.zeros(1, 4, 9, 9)
        for row in range(3):
            for head in range(4):
                columns = slice(8 * head, 8 * head + 8)
                keys = torch.cat([part.keys[:, columns], seen["k"][row][:, columns]])
                values = torch.cat([part.values[:, columns], seen["v"][row][:, columns]])
                scores = seen["q"][row][:, columns] @ keys.T / 8**0.5
                scores[:, TOKENS:] += bias[0, head]
                scores[:, TOKENS:][:, batch["attention_mask"][row] == 0] = -torch.inf
                expected = scores.softmax(dim=-1) @ values
                torch.testing.assert_close(seen["mixed"][row][:, columns], expected, atol=1e-5, rtol=1e-5)


def cache_of(backbone: PreTrainedModel, shape: ModelShape, rows: int) -> DynamicCache:
    """The prefixes of all layers as if they were keys and values of earlier tokens."""
    cache = DynamicCache()
    for number, path in enumerate(shape.attention_paths):
        part = backbone.get_submodule(path).composed_parts["default"]["prefix"]
        heads = shape.key_value_width // 8
        keys, values = (t.detach().view(TOKENS, heads, 8).transpose(0, 1).expand(rows, -1, -1, -1) for t in (part.keys, part.values))
        cache.update(keys, values, number)
    return cache


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt2", "opt"])
def test_decoders_as_a_cache_with_the_positions_of_the_text(architecture: str, padded: bool, attention: str) -> None:
    backbone = tiny.build(architecture, attention=attention)
    batch = tiny.batch(padded=padded)
    model, shape = with_prefix(backbone)
    visible = batch["attention_mask"].bool()
    with torch.no_grad():
        ours = model(**batch).last_hidden_state
        cache = cache_of(backbone, shape, 3)
        with model.disable_adapter():
            plain = model(**batch).last_hidden_state
            theirs = model(
                input_ids=batch["input_ids"],
                attention_mask=torch.cat([torch.ones(3, TOKENS, dtype=torch.long), batch["attention_mask"]], dim=1),
                position_ids=torch.arange(9).expand(3, 9),
                past_key_values=cache,
            ).last_hidden_state
    assert (plain - ours).abs().max() > 1e-2
    torch.testing.assert_close(ours[visible], theirs[visible], atol=1e-5, rtol=1e-5)


def test_sdpa_and_eager_agree_within_a_sliding_window() -> None:
    results = []
    for attention in ("sdpa", "eager"):
        model, _ = with_prefix(tiny.build("mistral", attention=attention))
        with torch.no_grad():
            results.append(model(**tiny.batch(length=14)).last_hidden_state)
    visible = tiny.batch(length=14)["attention_mask"].bool()
    torch.testing.assert_close(results[0][visible], results[1][visible], atol=1e-5, rtol=1e-5)


def test_later_tokens_stay_invisible() -> None:
    for architecture in tiny.DECODERS:
        model, _ = with_prefix(tiny.build(architecture))
        ids = tiny.batch(padded=False)["input_ids"]
        changed = ids.clone()
        changed[:, -1] = (changed[:, -1] + 1) % tiny.VOCABULARY
        with torch.no_grad():
            one, other = (model(input_ids=x).last_hidden_state for x in (ids, changed))
        torch.testing.assert_close(one[:, :-1], other[:, :-1], atol=1e-6, rtol=1e-6)
        assert (one[:, -1] - other[:, -1]).abs().max() > 1e-4


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("architecture", tiny.DECODERS)
def test_generation_with_a_cache_is_generation_without(architecture: str, attention: str) -> None:
    backbone = tiny.build(architecture, "causal_lm", attention=attention)
    batch = tiny.batch(padded=False)
    batch["attention_mask"][-1, :3] = 0  # generation pads on the left
    model, _ = with_prefix(backbone, task_type="CAUSAL_LM")
    settings = {"max_new_tokens": 8, "do_sample": False, "return_dict_in_generate": True, "output_logits": True, "eos_token_id": None}
    cached = model.generate(**batch, **settings, use_cache=True)
    fresh = model.generate(**batch, **settings, use_cache=False)
    assert torch.equal(cached.sequences, fresh.sequences)
    torch.testing.assert_close(torch.stack(cached.logits), torch.stack(fresh.logits), atol=1e-5, rtol=1e-5)
    assert cached.past_key_values.get_seq_length() == 9 + 8 - 1  # no prefix in it
    with model.disable_adapter():
        without = model.generate(**batch, **settings)
    assert (torch.stack(without.logits) - torch.stack(cached.logits)).abs().max() > 1e-3


def test_attention_that_masks_in_another_way_is_refused() -> None:
    backbone = tiny.build("llama")
    model, _ = with_prefix(backbone)
    backbone.config._attn_implementation = "flash_attention_2"
    with pytest.raises(ValueError, match="sdpa or eager, this model has 'flash_attention_2'"):
        model(**tiny.batch())
    assert find_shape(tiny.build("llama")).attention_paths
    other = tiny.build("llama")
    other.config._attn_implementation = "flash_attention_2"
    assert find_shape(other).attention_paths == ()


def test_configs_are_put_back_even_after_an_error() -> None:
    backbone = tiny.build("bert")
    model, shape = with_prefix(backbone)
    module = backbone.get_submodule(shape.attention_paths[0]).base_layer
    module.value = nn.Linear(3, 3)
    with pytest.raises(RuntimeError):
        model(**tiny.batch())
    assert module.config is backbone.config


@pytest.mark.gpu
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("architecture", ["bert", "mpnet", "llama", "mistral", "gpt2"])
def test_cuda_is_the_cpu(architecture: str, attention: str) -> None:
    model, _ = with_prefix(tiny.build(architecture, attention=attention))
    batch = tiny.batch()
    visible = batch["attention_mask"].bool()
    with torch.no_grad():
        expected = model(**batch).last_hidden_state[visible]
        on_device = {name: value.to("cuda") for name, value in batch.items()}
        model.to("cuda")
        exact = model(**on_device).last_hidden_state.cpu()[visible]
        with torch.autocast("cuda", torch.bfloat16):
            rough = model(**on_device).last_hidden_state.float().cpu()[visible]
    torch.testing.assert_close(exact, expected, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(rough, expected, atol=0.2, rtol=0.1)
