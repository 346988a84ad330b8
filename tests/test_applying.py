"""`autopeft.apply` in a user's own script: heads, task types, files, errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from peft import PeftModel

import autopeft
from autopeft.errors import ModelError, SpecError
from autopeft_searchspace.configuration import Component, Configuration

pytestmark = pytest.mark.filterwarnings("ignore:Could not find a config file", "ignore:.is_gradient_checkpointing.:FutureWarning")
SERIAL = Component("serial", 4, (0, 1), (), {"place": "feed_forward", "bias": True})
LORA = Component("lora", 4, (0, 1), ("v",), {"alpha": 8})
FOUND = Configuration((SERIAL, LORA), 3e-3)


def trained_modules(model: torch.nn.Module) -> set[str]:
    """Modules that train whole, by their names in the model before it was adapted."""
    trained = [name for name, p in model.named_parameters() if p.requires_grad and "modules_to_save" in name]
    return {name.split(".modules_to_save")[0].removeprefix("base_model.model.") for name in trained}


HEADS = {"bert": {"classifier"}, "distilbert": {"pre_classifier", "classifier"}, "deberta_v2": {"pooler", "classifier"}, "llama": {"score"}}


@pytest.mark.parametrize(("architecture", "heads"), HEADS.items())
def test_classifiers_train_their_head(architecture: str, heads: set[str], tmp_path: Path) -> None:
    for number, configuration in enumerate((FOUND, Configuration((LORA,), 1e-3))):
        model = autopeft.apply(tiny.build(architecture, "classification"), configuration)
        assert isinstance(model, PeftModel)
        assert trained_modules(model) == heads
        assert model.active_peft_config.task_type == "SEQ_CLS"
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
        labels = torch.tensor([0, 1, 2])
        losses = []
        for _ in range(4):
            loss = model(**tiny.batch(), labels=labels).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        assert losses[-1] < losses[0]
        model.save_pretrained(str(tmp_path / str(number)))
        loaded = PeftModel.from_pretrained(tiny.build(architecture, "classification"), str(tmp_path / str(number))).eval()
        with torch.no_grad():
            assert torch.equal(loaded(**tiny.batch()).logits, model.eval()(**tiny.batch()).logits)


def test_language_models_keep_their_vocabulary_head() -> None:
    model = autopeft.apply(tiny.build("llama", "causal_lm"), FOUND)
    assert trained_modules(model) == set()
    assert model.active_peft_config.task_type == "CAUSAL_LM"
    assert all("layers." in name for name, p in model.named_parameters() if p.requires_grad)
    assert model.generate(**tiny.batch(padded=False), max_new_tokens=2, do_sample=False).shape[0] == 3


def test_head_only() -> None:
    model = autopeft.apply(tiny.build("bert", "classification"), {"components": [], "learning_rate": 5e-3})
    assert trained_modules(model) == {"classifier"}
    with pytest.raises(ModelError, match="trains the task head alone, and BertModel has none"):
        autopeft.apply(tiny.build("bert"), Configuration((), 5e-3))


def test_dicts_and_files_give_the_same_model(tmp_path: Path) -> None:
    path = tmp_path / "configuration.json"
    path.write_text(json.dumps(FOUND.to_json()))
    given: list[Any] = [FOUND, FOUND.to_json(), path, str(path)]
    names = [[name for name, p in autopeft.apply(tiny.build("bert"), g).named_parameters() if p.requires_grad] for g in given]
    assert names[0]
    assert all(n == names[0] for n in names)


def test_it_is_a_function_however_the_package_is_imported() -> None:
    import autopeft.applying

    assert autopeft.apply is autopeft.applying.apply
    with pytest.raises(AttributeError, match="has no attribute 'aply'"):
        autopeft.aply  # noqa: B018


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is no JSON"),
        ("[]", "must be an object with components and learning_rate, it is list"),
        ('{"component": [], "learning_rate": 1}', "unknown key 'component'; did you mean components"),
        ('{"components": []}', "key 'learning_rate' is missing"),
        ('{"components": [{"type": "lora"}], "learning_rate": 1}', "key 'size' is missing"),
        ('{"components": [3], "learning_rate": 1}', "components must be a list of objects"),
    ],
)
def test_unreadable_configurations(content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text(content)
    with pytest.raises(SpecError, match=said):
        autopeft.apply(tiny.build("bert"), path)


def test_missing_file_and_impossible_configuration(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"none\.json: No such file"):
        autopeft.apply(tiny.build("bert"), tmp_path / "none.json")
    with pytest.raises(ModelError, match="prefix cannot be put on this model"):
        autopeft.apply(tiny.build("deberta_v2"), Configuration((Component("prefix", 2, (0,)),), 1e-3))
    with pytest.raises(ModelError, match="unknown adapter type 'loar'; did you mean lora"):
        autopeft.apply(tiny.build("bert"), {"components": [{"type": "loar", "size": 1, "layers": [0]}], "learning_rate": 1})


def test_adapters_that_start_from_data_take_losses(tmp_path: Path) -> None:
    """And are saved with what was taken out of the base model's weights."""
    found = Configuration((Component("lora", 4, (0, 2), ("q", "v"), {"alpha": 8, "init": "lora_ga"}),), 1e-3)
    with pytest.raises(ModelError, match="lora starts from training batches, and none were given"):
        autopeft.apply(tiny.build("bert"), found)
    model = autopeft.apply(tiny.build("bert"), found, losses=[lambda m: m(**tiny.batch()).last_hidden_state.pow(2).mean()])
    after = model.eval()(**tiny.batch()).last_hidden_state
    autopeft.save(model, str(tmp_path))
    loaded = PeftModel.from_pretrained(tiny.build("bert"), str(tmp_path)).eval()
    torch.testing.assert_close(loaded(**tiny.batch()).last_hidden_state, after, atol=1e-4, rtol=1e-4)
