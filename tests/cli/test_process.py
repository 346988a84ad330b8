"""What only a process of its own can show: start-up time, what is imported, colour, pipes, signals."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"torch", "transformers", "peft", "optuna", "botorch", "pandas", "plotly", "sklearn", "datasets", "scipy", "numpy", "rich"}


def autopeft(*arguments: str, **more: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", "from autopeft.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120, **more)  # type: ignore[call-overload, no-any-return]


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    """In seconds of processor time, so that a busy machine does not count."""
    code = (
        "import sys; sys.argv = ['autopeft', '--help']\n"
        "from autopeft.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "import time\n"
        f"print(time.process_time(), sorted({HEAVY!r} & sys.modules.keys()))"
    )
    seconds = []
    for _ in range(3):
        shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        used, _, heavy = shown.splitlines()[-1].partition(" ")
        assert heavy == "[]"
        assert "search" in shown
        seconds.append(float(used))
    assert min(seconds) < 0.7


@pytest.mark.parametrize("module", ["autopeft", "autopeft.spec", "autopeft.spec_file", "autopeft.trial", "autopeft.errors"])
def test_light_modules_stay_light(module: str) -> None:
    code = f"import sys, {module}; print(sorted({HEAVY - {'numpy'}!r} & sys.modules.keys()))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_version_and_exit_codes() -> None:
    assert autopeft("--version").stdout.count(".") == 2
    assert autopeft("search").returncode == 2
    assert autopeft("nothing").returncode == 2
    assert autopeft("schema").returncode == 0


def test_no_colour_without_a_terminal() -> None:
    for environment in ({}, {"NO_COLOR": "1"}, {"FORCE_COLOR": "1", "NO_COLOR": "1"}):
        result = autopeft("search", "nowhere.yaml", env={**os.environ, **environment})
        assert "\033" not in result.stderr + result.stdout
        assert result.stderr.startswith("error: there is no spec file nowhere.yaml")


def test_a_reader_that_stops_reading_is_no_error() -> None:
    command = [sys.executable, "-c", "from autopeft.cli import main; main()", "schema"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        error = process.stderr.read()
        assert process.wait(60) == 0
    assert error == b""


def test_variables_of_the_environment_reach_the_spec(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": f"t {i}", "label": i % 2}) + "\n" for i in range(40)))
    result = autopeft("search", "--model", "m", "--data", "rows.jsonl", cwd=tmp_path, env={**os.environ, "AUTOPEFT_BUDGET": "much"})
    assert result.returncode == 2
    assert result.stderr.startswith("error: AUTOPEFT_BUDGET: a budget is like 40trials")
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]
