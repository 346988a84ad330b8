"""`autopeft list`: the studies of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from autopeft.cli.console import Output, table, verb

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder that holds study folders.")]


@verb
def list_(out: Output, folder: Folder = Path("studies")) -> None:
    """The studies of a folder.

    Each with its trials, best quality and state.
    """
    from autopeft.errors import AutopeftError

    if not folder.is_dir():
        raise AutopeftError(f"there is no folder {folder}")
    found = [_study(path.parent) for path in sorted(folder.glob("*/study.yaml"))]
    rows = [[s["study"], s["trials"], s["best"], s["state"]] for s in found]
    out.result(found, table(["study", "trials", "best", "state"], rows) if found else f"no studies in {folder}")


def _study(path: Path) -> dict[str, Any]:
    """A study in short; one that was never started, or cannot be read, says so."""
    from autopeft import picks, record, study_folder
    from autopeft.errors import AutopeftError
    from autopeft.report import words

    try:
        read = record.read(path)
        state = "running" if study_folder.is_open(path) else "idle"
    except AutopeftError as error:
        return {"study": str(path), "trials": 0, "best": "-", "state": str(error).splitlines()[0]}
    best = "-"
    if read.complete:
        value = picks.find(read, "best").value(read.spec.quality, read.spec.quality)
        best = f"{words.name(read.spec.quality)} {words.value(read.spec.quality, value.value if value else None)}"
    return {"study": str(path), "trials": len(read.trials), "best": best, "state": state}
