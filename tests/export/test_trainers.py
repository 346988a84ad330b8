"""Exports to other trainers: scripts that run, and files that the tools' own parsers take."""

import ast
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import synthetic
import tiny
import yaml
from tiny_base import save_base

from autopeft.errors import AutopeftError
from autopeft.export import export
from autopeft.models.roles import find_shape
from autopeft.record import StudyRecord
from autopeft.trial import Trial
from autopeft_searchspace.configuration import Component, Configuration
from autopeft_searchspace.strategies import published

LORA = Component("lora", 4, (0, 2), ("q", "v"), {"alpha": 8})
SERIAL = Component("serial", 8, (0, 1), (), {"place": "feed_forward", "bias": True})
TOOLS = {
    "axolotl": ["axolotl==0.19.0", "pillow"],
    "llamafactory": ["llamafactory==0.9.5", "omegaconf", "antlr4-python3-runtime"],
}
"""Package and what its parser alone needs beside ours; their pins of other packages differ from ours."""


def record_on(architecture: str, *components: Component, kind: str = "causal_lm") -> tuple[StudyRecord, Trial]:
    """A study of two steps on a tiny model, and a trial with these components."""
    record = synthetic.record(8)
    shape = find_shape(tiny.build(architecture, device="meta"))
    data = record.spec.model_dump(mode="json", exclude={"objectives"})
    data |= {"task": {"kind": kind}, "model": {"base": "org/base"}}
    environment = {**record.environment, "total_steps": 2}
    trial = replace(record.trials[5], configuration=Configuration(components, 1e-3))
    return replace(record, shape=shape, spec=type(record.spec).model_validate(data), environment=environment), trial


def run(*command: object, **environment: str) -> str:
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **environment},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("to", "architecture", "kind", "head"),
    [
        ("trl", "llama", "causal_lm", "causal_lm"),
        ("transformers", "llama", "causal_lm", "causal_lm"),
        ("transformers", "bert", "classification", "none"),
        ("transformers", "bert", "regression", "none"),
    ],
)
def test_scripts_train_any_configuration(tmp_path: Path, to: str, architecture: str, kind: str, head: str) -> None:
    record, trial = record_on(architecture, SERIAL, LORA, kind=kind)
    export(record, trial, to, tmp_path / "out")
    base = save_base(tmp_path / "base", architecture, head)
    rows = {
        "causal_lm": [{"prompt": "a b", "completion": " c"}],
        "classification": [{"text": "a b", "label": "yes"}, {"text": "b", "label": "no"}],
        "regression": [{"text": "a b", "label": 0.5}],
    }[kind]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows * 4))
    run(sys.executable, tmp_path / "out" / "train.py", tmp_path / "train.jsonl", tmp_path / "adapter", base)
    assert (tmp_path / "adapter" / "adapter_model.safetensors").stat().st_size > 0
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["peft_type"]


def test_names_in_scripts_stay_text(tmp_path: Path) -> None:
    record, trial = record_on("bert", LORA, kind="classification")
    hostile = '"; import os  # \\'
    record = replace(record, environment={**record.environment, "data": {"labels": [hostile, "b"]}})
    spec = record.spec.model_copy(update={"model": record.spec.model.model_copy(update={"base": hostile})})
    export(replace(record, spec=spec), trial, "transformers", tmp_path / "out")
    text = (tmp_path / "out" / "train.py").read_text()
    parts = list(ast.walk(ast.parse(text)))
    assert [part.value for part in parts if isinstance(part, ast.Constant)].count(hostile) == 2
    assert "os" not in [alias.name for part in parts if isinstance(part, ast.Import) for alias in part.names]


def test_yaml_says_what_the_trial_was(tmp_path: Path) -> None:
    record, trial = record_on("llama", LORA)
    export(record, trial, "axolotl", tmp_path / "a")
    export(record, trial, "llamafactory", tmp_path / "l")
    one, two = (yaml.safe_load((tmp_path / f).read_text()) for f in ("a/axolotl.yaml", "l/llamafactory.yaml"))
    targets = [f"layers.{i}.self_attn.{m}_proj" for i in (0, 2) for m in "qv"]
    assert (one["lora_r"], one["lora_alpha"], one["lora_target_modules"]) == (4, 8, targets)
    assert (two["lora_rank"], two["lora_alpha"], two["lora_target"]) == (4, 8, ",".join(targets))
    assert one["learning_rate"] == two["learning_rate"] == 1e-3
    assert one["base_model"] == two["model_name_or_path"] == "org/base"


def test_a_quantised_base_is_loaded_so(tmp_path: Path) -> None:
    for bits, code in (
        ("int8", "load_in_8bit=True"),
        ("nf4", "load_in_4bit=True, bnb_4bit_quant_type='nf4', bnb_4bit_compute_dtype='float32'"),
    ):
        record, trial = record_on("llama", LORA)
        trial = replace(trial, configuration=replace(trial.configuration, quantisation=bits))
        for to in ("trl", "transformers", "peft", "axolotl", "llamafactory", "configuration"):
            export(record, trial, to, tmp_path / bits / to)
        for file in ("trl/train.py", "transformers/train.py"):
            text = (tmp_path / bits / file).read_text()
            assert f"quantised = BitsAndBytesConfig({code}, llm_int8_skip_modules=['lm_head', 'embed_out'])\n" in text
            assert ast.parse(text)
        assert f"quantization_config=BitsAndBytesConfig({code}" in (tmp_path / bits / "peft" / "README.md").read_text()
        assert json.loads((tmp_path / bits / "configuration" / "configuration.json").read_text())["quantisation"] == bits
        one, two = (yaml.safe_load((tmp_path / bits / f).read_text()) for f in ("axolotl/axolotl.yaml", "llamafactory/llamafactory.yaml"))
        assert one.get("load_in_8bit", False) == (bits == "int8")
        assert one.get("load_in_4bit", False) == (bits == "nf4") == (one["adapter"] == "qlora")
        assert two["quantization_bit"] == {"int8": 8, "nf4": 4}[bits]


@pytest.mark.parametrize("to", list(TOOLS))
def test_what_a_tool_cannot_say_is_refused(tmp_path: Path, to: str) -> None:
    for components, kind, said in (
        ((LORA,), "classification", "trains language models, the task of this study is classification"),
        ((SERIAL, LORA), "causal_lm", "takes a single LoRA that plain peft has"),
        ((), "causal_lm", "takes a single LoRA"),
    ):
        record, trial = record_on("llama", *components, kind=kind)
        with pytest.raises(AutopeftError, match=said):
            export(record, trial, to, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("to", [*TOOLS, "trl", "transformers"])
def test_what_no_tool_trains_is_refused(tmp_path: Path, to: str) -> None:
    plain = Configuration((LORA,), 1e-3)
    from_data = replace(LORA, options={"alpha": 8, "init": "corda"})
    for configuration, said in (
        (replace(plain, optimizer="lora_plus"), "with the optimiser lora_plus"),
        (replace(plain, strategy=published("ist")), "under the strategy ist"),
        (Configuration((from_data,), 1e-3), "from a start that is made from training batches"),
    ):
        record, trial = record_on("llama", LORA)
        with pytest.raises(AutopeftError, match=f"{said}; `autopeft train` does"):
            export(record, replace(trial, configuration=configuration), to, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_llamafactory_has_no_word_for_an_initialisation(tmp_path: Path) -> None:
    record, trial = record_on("llama", replace(LORA, options={"alpha": 8, "init": "pissa"}))
    export(record, trial, "axolotl", tmp_path / "a")
    with pytest.raises(AutopeftError, match="llamafactory has no setting for init_lora_weights"):
        export(record, trial, "llamafactory", tmp_path / "l")


CHECKS = {
    "axolotl": """
from axolotl.utils.schemas.config import AxolotlInputConfig
made = AxolotlInputConfig(**given)
unknown = set(given) - set(AxolotlInputConfig.model_fields)
assert not unknown, unknown
assert (made.adapter, made.lora_r, made.learning_rate) == ("lora", 4, 1e-3), made
""",
    "llamafactory": """
from llamafactory.hparams import get_train_args
model, data, training, finetuning, generating = get_train_args(given)
assert (finetuning.lora_rank, finetuning.lora_alpha, training.learning_rate) == (4, 8, 1e-3)
assert finetuning.lora_target == given["lora_target"].split(",")
import sys, types, llamafactory
package = sys.modules["llamafactory.data"] = types.ModuleType("llamafactory.data")  # whose own imports want audio and more
package.__path__ = [llamafactory.__path__[0] + "/data"]
from llamafactory.data.parser import get_dataset_list
(train,) = get_dataset_list(["train"], given["dataset_dir"])
assert (train.prompt, train.response) == ("prompt", "completion")
""",
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both tools without what they depend on: their parsers run on what is installed here."""
    folder = tmp_path_factory.mktemp("tools")
    wanted = [name for names in TOOLS.values() for name in names]
    done = subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", folder, *wanted], capture_output=True)
    if done.returncode:
        pytest.skip("the tools cannot be installed here")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("to", list(TOOLS))
def test_the_tool_itself_takes_the_file(tmp_path: Path, installed: Path, to: str) -> None:
    record, trial = record_on("llama", LORA)
    export(record, trial, to, tmp_path / "out")
    given = f"import yaml\ngiven = yaml.safe_load(open('{to}.yaml'))\n"
    done = subprocess.run(
        [sys.executable, "-c", given + CHECKS[to]],
        capture_output=True,
        text=True,
        cwd=tmp_path / "out",
        timeout=280,
        env={**os.environ, "PYTHONPATH": str(installed), "DISABLE_VERSION_CHECK": "1", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
