from __future__ import annotations

import json

import pytest
import tiny
import tiny_base
import torch

from autopeft.errors import ModelError
from autopeft.models.head import masked_mean
from autopeft.models.roles import find_shape
from autopeft_searchspace.build import adapt, unadapt
from autopeft_searchspace.configuration import Component, Configuration

CASES = [(a, "classification", "auto") for a in tiny.ARCHITECTURES] + [(a, "classification", "own") for a in tiny.ENCODERS]
CASES += [(a, "causal_lm", "auto") for a in tiny.DECODERS]


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """Architecture -> base model folder."""
    folder = tmp_path_factory.mktemp("bases")
    return {a: tiny_base.save_base(folder / a, a, "causal_lm" if a in tiny.DECODERS else "none") for a in tiny.ARCHITECTURES}


@pytest.fixture(params=CASES, ids="-".join)
def loaded(request, bases):
    architecture, kind, head = request.param
    return tiny_base.load(bases[architecture], kind, model={"head": head})[:2]


def batch_of(model, task):
    encoded = task.encode(tiny_base.splits(task.kind).train, model.tokenizer, 16)
    return task.collate(encoded, model.pad_id, "cpu")


def put_on(model):
    """LoRA of rank 2 on attention in the first and last layer; returns how many weights that adds."""
    shape = find_shape(model.backbone)
    roles = ("qkv",) if "qkv" in shape.modules else ("q", "v")
    lora = Configuration((Component("lora", 2, (0, 2), roles, {"alpha": 4}),), 1e-3)
    model.backbone = adapt(model.backbone, lora, shape, task_type=model.task_type, modules_to_save=model.modules_to_save)
    model.open_head()
    return sum(2 * (m.d_in + m.d_out) for role in roles for m in (shape.modules[role][0], shape.modules[role][2]))


def test_masked_mean_by_hand():
    hidden = torch.tensor([[[1.0, 2], [3, 4], [100, 100]], [[1, 1], [9, 9], [9, 9]]])
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    assert masked_mean(hidden, mask).tolist() == [[2, 3], [1, 1]]


def test_without_base_dropout_train_and_eval_mode_agree(loaded):
    model, task = loaded
    batch = batch_of(model, task)
    with torch.no_grad():
        model.eval()
        calm = model(batch)
        model.train()
        assert torch.equal(model(batch), calm)


@pytest.mark.parametrize("architecture", [a for a in tiny.ARCHITECTURES if a not in ("llama", "qwen2", "mistral")])
def test_base_dropout_comes_back(architecture, bases):
    model, task, _ = tiny_base.load(bases[architecture])
    batch = batch_of(model, task)
    model.train()
    model.set_base_dropout(True)
    assert not torch.equal(model(batch), model(batch))
    model.set_base_dropout(False)
    assert torch.equal(model(batch), model(batch))


def test_attention_dropout_held_as_a_number_is_turned_off(tmp_path):
    model, task, _ = tiny_base.load(tiny_base.save_base(tmp_path, "llama", "causal_lm", attention_dropout=0.5))
    batch = batch_of(model, task)
    model.train()
    assert torch.equal(model(batch), model(batch))
    model.set_base_dropout(True)
    assert not torch.equal(model(batch), model(batch))


def test_head_starts_equal_for_equal_seeds_with_and_without_adapter(loaded):
    model, task = loaded
    batch = batch_of(model, task)
    model.reset_head(7)
    first = model(batch)
    model.reset_head(8)
    has_head = task.kind != "causal_lm"
    assert torch.equal(model(batch), first) != has_head
    put_on(model)
    model.reset_head(7)
    assert torch.allclose(model(batch), first, atol=1e-5)  # LoRA starts as the identity
    model.backbone = unadapt(model.backbone)
    model.reset_head(7)
    assert torch.equal(model(batch), first)


def test_only_head_and_adapter_train(loaded):
    model, task = loaded
    has_head = task.kind != "causal_lm"
    head = list(model.head_parameters())
    assert bool(head) == has_head
    assert list(model.adapter_parameters()) == []
    added = put_on(model)
    assert sum(p.numel() for p in model.adapter_parameters()) == added
    assert sum(p.numel() for p in model.head_parameters()) == sum(p.numel() for p in head)
    trainable = {id(p) for p in model.parameters() if p.requires_grad}
    assert trainable == {id(p) for p in (*model.head_parameters(), *model.adapter_parameters())}
    task.loss(model, batch_of(model, task)).backward()
    assert all(p.grad is not None for p in model.head_parameters())


def test_head_is_saved_and_loaded(loaded, tmp_path):
    model, task = loaded
    if task.kind == "causal_lm":
        model.save_head(tmp_path)
        assert not (tmp_path / "head.json").exists()
        return
    batch = batch_of(model, task)
    put_on(model)
    model.reset_head(3)
    before = model(batch)
    model.save_head(tmp_path)
    model.reset_head(4)
    assert not torch.allclose(model(batch), before)
    model.load_head(tmp_path)
    assert torch.equal(model(batch), before)
    assert json.loads((tmp_path / "head.json").read_text()) == {"head": model.head_kind, "labels": ["x", "y", "z"]}


def test_heads_that_do_not_fit(bases, tmp_path):
    model, _, _ = tiny_base.load(bases["bert"])
    with pytest.raises(ModelError, match="no task head can be read from"):
        model.load_head(tmp_path)
    numbers, _, _ = tiny_base.load(bases["bert"], "regression")
    numbers.save_head(tmp_path)
    with pytest.raises(ModelError, match=r"is for \{'head': 'mean', 'target_mean': 2.5"):
        model.load_head(tmp_path)
    model.save_head(tmp_path)
    (tmp_path / "head.safetensors").write_bytes(b"junk")
    with pytest.raises(ModelError, match="no task head can be read from"):
        model.load_head(tmp_path)


def test_saved_adapter_loads_in_plain_peft(bases, tmp_path):
    from peft import PeftModel
    from transformers import AutoModel

    model, task, _ = tiny_base.load(bases["bert"])
    put_on(model)
    with torch.no_grad():
        for parameter in model.adapter_parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(0))
    model.backbone.save_pretrained(tmp_path / "adapter")
    plain = PeftModel.from_pretrained(AutoModel.from_pretrained(bases["bert"]), tmp_path / "adapter").eval()
    batch = batch_of(model, task)
    expected = model.eval().backbone(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    found = plain(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    assert torch.equal(found, expected)
