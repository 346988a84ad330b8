"""The documentation: every code block works, every page is in the site, every generated part comes out."""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from autopeft.cli import app
from autopeft.spec import StudySpec
from autopeft_searchspace.registry import adapter_types

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))


def blocks(language: str) -> list[Any]:
    found = re.compile(rf"^```{language}\n(.*?)^```", re.M | re.S)
    return [
        pytest.param(text, id=f"{page.stem}-{i}")
        for page in [*PAGES, ROOT / "README.md"]
        for i, text in enumerate(found.findall(page.read_text("utf-8")))
    ]


def generated() -> Any:
    spec = importlib.util.spec_from_file_location("generated", ROOT / "docs" / "generated.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("text", blocks("sh"))
def test_commands_are_ones_that_there_are(text: str) -> None:
    """Parsed as the command line parses them: unknown commands, options and values are errors."""
    group: Any = typer.main.get_command(app)
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["autopeft"]:
            command = group.commands[words[1]]
            command.make_context(words[1], words[2:])


@pytest.mark.parametrize("text", blocks("yaml"))
def test_specs_are_valid(text: str) -> None:
    StudySpec.model_validate(yaml.safe_load(text))


@pytest.mark.parametrize("text", [b for b in blocks("python") if not str(b.id).startswith("README")])
def test_python_blocks_run(tmp_path: Path, text: str) -> None:
    study = Path("studies/agreement-minilm")
    (tmp_path / study).mkdir(parents=True)
    for name in ("study.yaml", "observations.csv", "environment.json"):
        shutil.copy(ROOT / study / name, tmp_path / study / name)
    paths = os.pathsep.join(str(ROOT / part) for part in ("", "searchspace", "kernels"))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    done = subprocess.run([sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True, timeout=280, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]


def test_generated_parts_name_every_type_command_and_setting() -> None:
    made = generated()
    types = made.on_page_markdown("{{ adapters }}")
    assert [line[3:] for line in types.splitlines() if line.startswith("## ")] == sorted(adapter_types())
    commands = made.on_page_markdown("{{ commands }}")
    assert "## autopeft search" in commands
    assert "`--budget`" in commands
    assert "`data.max_length`" in made.on_page_markdown("{{ settings }}")


def test_every_page_is_in_the_site() -> None:
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    assert {page.name for page in PAGES} == set(re.findall(r"[\w-]+\.md", text))
