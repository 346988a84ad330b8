import json
from dataclasses import replace
from pathlib import Path

import pytest
import synthetic
import tiny

from autopeft.errors import AutopeftError
from autopeft.export import export, format_called, formats
from autopeft.models.roles import find_shape
from autopeft.record import StudyRecord
from autopeft.trial import Trial
from autopeft_searchspace.configuration import Component, Configuration


def test_formats() -> None:
    assert {"peft", "configuration"} <= formats().keys()
    with pytest.raises(AutopeftError, match="unknown export format 'pefd'; did you mean peft"):
        format_called("pefd")


def record_on(architecture: str, *components: Component, task: str = "classification") -> tuple[StudyRecord, Trial]:
    record = synthetic.record(8)
    shape = find_shape(tiny.build(architecture, device="meta"))
    spec = record.spec.model_copy(update={"task": record.spec.task.model_copy(update={"kind": task})})
    trial = replace(record.trials[5], configuration=Configuration(components, 1e-3))
    return replace(record, shape=shape, spec=spec), trial


LORA = Component("lora", 4, (0, 2), ("q", "v"), {"alpha": 8})
SERIAL = Component("serial", 8, (0, 1), (), {"place": "feed_forward", "bias": True})


@pytest.mark.parametrize(("architecture", "task"), [("bert", "classification"), ("llama", "causal_lm"), ("llama", "classification")])
def test_plain_peft_trains_what_was_counted(tmp_path: Path, architecture: str, task: str) -> None:
    from peft import LoraConfig, PeftConfig, get_peft_model

    from autopeft_searchspace.rules import trainable_parameters

    record, trial = record_on(architecture, LORA, task=task)
    written = export(record, trial, "peft", tmp_path / "out")
    assert [path.name for path in written] == ["README.md", "adapter_config.json"]
    config = PeftConfig.from_pretrained(str(tmp_path / "out"))
    assert isinstance(config, LoraConfig)
    model = get_peft_model(tiny.build(architecture, task), config)
    trained = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}
    assert sum(n for name, n in trained.items() if "lora_" in name) == trainable_parameters(trial.configuration, record.shape)
    heads = [name for name in trained if "lora_" not in name]
    assert bool(heads) == (task == "classification")
    assert all("modules_to_save" in name for name in heads)


def test_a_composition_says_that_it_needs_autopeft(tmp_path: Path) -> None:
    record, trial = record_on("bert", SERIAL, LORA)
    export(record, trial, "peft", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "adapter_config.json", "configuration.json"]
    text = (tmp_path / "README.md").read_text()
    assert "import autopeft" in text
    assert trial.configuration.in_words() in text
    assert Configuration.from_json(json.loads((tmp_path / "configuration.json").read_text())) == trial.configuration


def test_a_composition_trains_from_its_file_after_import_autopeft(tmp_path: Path) -> None:
    from peft import PeftConfig, get_peft_model

    import autopeft  # noqa: F401
    from autopeft_searchspace.rules import trainable_parameters

    record, trial = record_on("bert", SERIAL, LORA)
    export(record, trial, "peft", tmp_path)
    model = get_peft_model(tiny.build("bert", "classification"), PeftConfig.from_pretrained(str(tmp_path)))
    adapter = sum(p.numel() for name, p in model.named_parameters() if p.requires_grad and "modules_to_save" not in name)
    assert adapter == trainable_parameters(trial.configuration, record.shape)


def test_configuration_alone(tmp_path: Path) -> None:
    record, trial = record_on("bert", LORA)
    (path,) = export(record, trial, "configuration", tmp_path)
    assert Configuration.from_json(json.loads(path.read_text())) == trial.configuration


def test_head_only_has_nothing_for_peft_and_nothing_is_left_behind(tmp_path: Path) -> None:
    record, trial = record_on("bert")
    with pytest.raises(AutopeftError, match="trial 5 trains the task head alone"):
        export(record, trial, "peft", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_other_files_are_not_mixed_with_but_an_export_is_renewed(tmp_path: Path) -> None:
    record, trial = record_on("bert", LORA)
    export(record, trial, "configuration", tmp_path / "out")
    export(record, trial, "configuration", tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(AutopeftError, match=r"holds other files \(notes.txt\)"):
        export(record, trial, "configuration", tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


def test_only_public_names_of_base_models_go_out(tmp_path: Path) -> None:
    record, trial = record_on("bert", LORA)
    for base, said in (("/home/someone/model", None), ("package:a/b", None), ("org/Model", "org/Model")):
        spec = record.spec.model_copy(update={"model": record.spec.model.model_copy(update={"base": base})})
        export(replace(record, spec=spec), trial, "peft", tmp_path / "out")
        assert json.loads((tmp_path / "out" / "adapter_config.json").read_text())["base_model_name_or_path"] == said
        assert base.startswith("org") or base not in (tmp_path / "out" / "README.md").read_text()
