"""The Python API: `autopeft.search`, `autopeft.load`, `autopeft.apply` (see `applying`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autopeft import record
from autopeft.coordinator import Progress
from autopeft.coordinator import search as run
from autopeft.record import StudyRecord
from autopeft.spec import StudySpec
from autopeft.spec_file import make_spec, read_spec
from autopeft.trial import Trial


class Silent:
    """Progress that nobody looks at."""

    def plan(self, lines: list[str]) -> None:
        """Nothing is shown."""

    def say(self, text: str) -> None:
        """Nothing is shown."""

    def step(self, number: int, step: int, of: int, loss: float) -> None:
        """Nothing is shown."""

    def started(self, trial: Trial, record: StudyRecord) -> None:
        """Nothing is shown."""

    def ended(self, trial: Trial, record: StudyRecord) -> None:
        """Nothing is shown."""


def search(
    spec: str | Path | Mapping[str, Any] | StudySpec,
    study: str | Path | None = None,
    *,
    budget: str | None = None,
    fresh: bool = False,
    progress: Progress | None = None,
) -> StudyRecord:
    """Run or resume a search and return the study.

    spec: path of a `study.yaml`, or its content; paths in a content start from the current folder.
    study: the study's folder, `studies/<name>` by default. budget: instead of the spec's.
    fresh: start again instead of resuming. progress: what to tell while it runs.

    Call it under `if __name__ == "__main__":`; trials run in child processes.
    Raises `autopeft.errors.AutopeftError`.
    """
    if isinstance(spec, (str, Path)):
        settled, folder = read_spec(spec, flags={"--budget": budget})
    else:
        content = spec.model_dump() if isinstance(spec, StudySpec) else spec
        settled, folder = make_spec(content, flags={"--budget": budget}), Path.cwd()
    return run(settled, folder, Path(study or Path("studies", settled.name)), progress or Silent(), fresh=fresh)


def load(study: str | Path) -> StudyRecord:
    """The study in a folder, live or recorded: `load(study).front` are its Pareto-optimal trials."""
    return record.read(Path(study))
