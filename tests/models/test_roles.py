"""The shape of a model is found by names, else by sizes with a warning, else as given."""

from __future__ import annotations

import logging

import pytest
import tiny
import torch
from torch import nn
from transformers import AlbertConfig, AutoModel, GPTNeoXConfig, PhiConfig, T5Config
from transformers.pytorch_utils import Conv1D

from autopeft.errors import ModelError
from autopeft.models.roles import find_shape
from autopeft_searchspace.shape import LinearShape, ModelShape


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_every_module_is_where_the_shape_says(architecture: str) -> None:
    model = tiny.build(architecture, "classification")
    shape = find_shape(model)
    assert (shape.layers, shape.width) == (3, 32)
    assert shape.kind == ("encoder" if architecture in tiny.ENCODERS else "decoder")
    assert shape.total_parameters == sum(p.numel() for p in model.base_model.parameters()) < sum(p.numel() for p in model.parameters())
    attention = ("qkv",) if architecture == "gpt2" else ("q", "k", "v")
    gate = ("ff_gate",) if architecture in ("llama", "qwen2", "mistral") else ()
    assert shape.roles == (*attention, "o", "ff_in", *gate, "ff_out")
    for role, per_layer in shape.modules.items():
        assert len({module.path for module in per_layer}) == 3, role
        for module in per_layer:
            found = model.base_model.get_submodule(module.path)
            assert found(torch.zeros(1, module.d_in)).shape == (1, module.d_out)
    assert shape.key_value_width == (16 if architecture in ("llama", "qwen2", "mistral") else 32)
    assert len(shape.attention_paths) == (0 if architecture == "deberta_v2" else 3)
    assert ModelShape.from_json(shape.to_json()) == shape


def test_weightless_model_has_the_same_shape() -> None:
    assert find_shape(tiny.build("llama", "causal_lm", device="meta")) == find_shape(tiny.build("llama"))


def test_fused_conv1d_is_read_as_in_by_out() -> None:
    model = tiny.build("gpt2")
    assert isinstance(model.get_submodule("h.0.attn.c_attn"), Conv1D)
    assert find_shape(model).modules["qkv"][2] == LinearShape("h.2.attn.c_attn", 32, 96, transposed=True)


@pytest.mark.parametrize(
    ("config", "roles", "layers"),
    [
        (
            GPTNeoXConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64),
            ("qkv", "o", "ff_in", "ff_out"),
            2,
        ),
        (
            PhiConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64),
            ("q", "k", "v", "o", "ff_in", "ff_out"),
            2,
        ),
        (
            AlbertConfig(embedding_size=16, hidden_size=32, num_hidden_layers=4, num_attention_heads=4, intermediate_size=64),
            ("q", "k", "v", "o", "ff_in", "ff_out"),
            1,  # all its layers are one block
        ),
    ],
)
def test_further_architectures(config, roles, layers, caplog) -> None:
    with torch.device("meta"):
        shape = find_shape(AutoModel.from_config(config))
    assert (shape.roles, shape.layers) == (roles, layers)
    assert len(shape.attention_paths) == layers
    assert not caplog.records


def _renamed(names: dict[str, str]):
    """A BERT whose modules inside a layer bear other names."""
    model = tiny.build("bert")
    for layer in model.encoder.layer:
        for old, new in names.items():
            parent = layer.get_submodule(old.rpartition(".")[0])
            leaf = old.rpartition(".")[2]
            module = parent._modules.pop(leaf)
            parent.add_module(new, module)
    return model


def test_unknown_names_are_guessed_by_size_with_a_warning(caplog) -> None:
    renamed = {f"attention.self.{name}": f"{name}_x" for name in ("query", "key", "value")}
    renamed |= {"attention.output.dense": "mix", "intermediate.dense": "grow", "output.dense": "shrink"}
    with caplog.at_level(logging.WARNING, "autopeft"):
        shape = find_shape(_renamed(renamed))
    expected = {"q": "self.query_x", "k": "self.key_x", "v": "self.value_x", "o": "output.mix"}
    assert {role: shape.modules[role][0].path for role in expected} == {r: f"encoder.layer.0.attention.{n}" for r, n in expected.items()}
    assert shape.modules["ff_in"][1].path == "encoder.layer.1.intermediate.grow"
    assert shape.modules["ff_out"][1].path == "encoder.layer.1.output.shrink"
    assert "role ff_out is taken to be module 'output.shrink'" in caplog.text


def test_roles_can_be_given_and_taken_away() -> None:
    model = tiny.build("bert")
    shape = find_shape(model, {"q": "attention.self.key", "k": "attention.self.query", "o": ""})
    assert shape.modules["q"][0].path.endswith("self.key")
    assert shape.modules["k"][0].path.endswith("self.query")
    assert "o" not in shape.modules


@pytest.mark.parametrize(
    ("roles", "said"),
    [
        ({"ff_inn": "intermediate.dense"}, "unknown module role 'ff_inn'; did you mean ff_in"),
        (
            {"q": "attention.self.querry"},
            "no linear module 'attention.self.querry' in every layer of bert; did you mean attention.self.query",
        ),
        ({"q": "attention.self.key", "v": "attention.self.key"}, "one module has two roles"),
    ],
)
def test_wrong_roles_are_errors_with_near_names(roles: dict[str, str], said: str) -> None:
    with pytest.raises(ModelError, match=said.replace("(", r"\(")):
        find_shape(tiny.build("bert"), roles)


def test_models_without_blocks_or_of_two_stacks_are_refused() -> None:
    with torch.device("meta"), pytest.raises(ModelError, match="encoder-decoder"):
        find_shape(AutoModel.from_config(T5Config(d_model=32, num_layers=1, num_heads=2, d_ff=32, vocab_size=16)))
    model = tiny.build("bert")
    model.encoder.layer = nn.ModuleList()
    with pytest.raises(ModelError, match="no transformer blocks"):
        find_shape(model)
