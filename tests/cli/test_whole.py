"""The path a new user takes, command by command, in processes of their own."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from small import MINILM, small_data

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
SMALL = ["--set", "fidelity.steps=6", "--set", "training.batch_size=8", "--set", "seeds.replicates=1", "--device", "cpu"]


def autopeft(folder: Path, *arguments: object, code: int = 0) -> Any:
    """What `autopeft ... --json` gives."""
    command = [sys.executable, "-m", "autopeft", *map(str, arguments), "--json"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=1000)
    assert result.returncode == code, result.stderr
    return json.loads(result.stdout) if result.stdout else result.stderr


def test_from_data_to_an_adapter(tmp_path: Path) -> None:
    small_data(tmp_path / "rows")
    assert autopeft(tmp_path, "init", "--model", MINILM, "--data", "rows", "--name", "mine")["task"] == "classification"
    assert autopeft(tmp_path, "doctor", "study.yaml")["ready"]
    assert autopeft(tmp_path, "estimate", "study.yaml", *SMALL)["total_steps"] == 6
    assert autopeft(tmp_path, "estimate", "study.yaml", *SMALL, "--max-memory", "1MB", code=3).startswith("error: ")
    assert not (tmp_path / "studies").exists()
    found = autopeft(tmp_path, "search", "study.yaml", *SMALL, "--budget", "8trials")
    assert found["states"]["COMPLETE"] >= 5
    assert (tmp_path / found["report"]).read_text().lower().startswith("<!doctype html>")
    status = autopeft(tmp_path, "status", "studies/mine")
    assert sum(status["states"].values()) == 8
    assert status["picks"] == found["picks"]
    adapter = autopeft(tmp_path, "export", "studies/mine", "--pick", "1")
    assert "studies/mine/exports/1-peft/adapter_config.json" in adapter["files"]
    trained = autopeft(tmp_path, "train", "studies/mine", "--pick", "1", "--seeds", "2")
    assert len(trained["tests"]) == 2
    assert all((tmp_path / folder / "adapter_model.safetensors").exists() for folder in trained["adapters"].values())
    more = autopeft(tmp_path, "search", "--study", "studies/mine", *SMALL, "--budget", "9trials")
    assert sum(more["states"].values()) == 9


def test_an_interrupted_search_says_so_and_goes_on(tmp_path: Path) -> None:
    small_data(tmp_path / "rows")
    arguments = ["search", "--model", MINILM, "--data", "rows", "--name", "mine", *SMALL, "--budget", "7trials"]
    command = [sys.executable, "-m", "autopeft", *arguments]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("trial   1"):
                break
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
        said = process.stderr.read()
        assert process.wait(300) == 130, said
    assert "Traceback" not in said
    assert (tmp_path / "studies" / "mine" / "study.db").exists()
    assert not autopeft(tmp_path, "status", "studies/mine")["running"]
    assert sum(autopeft(tmp_path, *arguments)["states"].values()) == 7


def test_a_study_in_use_is_refused(tmp_path: Path) -> None:
    from filelock import FileLock

    small_data(tmp_path / "rows")
    (tmp_path / "studies" / "mine").mkdir(parents=True)
    with FileLock(tmp_path / "studies" / "mine" / "study.lock"):
        said = autopeft(tmp_path, "search", "--model", MINILM, "--data", "rows", "--name", "mine", *SMALL, code=4)
    assert "studies/mine" in said
    assert [path.name for path in (tmp_path / "studies" / "mine").iterdir()] == ["study.lock"]
