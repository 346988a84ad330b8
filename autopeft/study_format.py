"""The number of the format that a study has: of the ledger's tables and of the files that `recorded` writes.

Whoever raises it adds a command that converts, and names it in `check_format`.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

from autopeft.errors import AutopeftError

FORMAT = 1
FIRST_FORMAT = 1
"""Of recorded studies without a number."""


def check_format(found: Any, environment: Any, folder: Path) -> None:
    """Raise AutopeftError, with what to do, where a study has another format than this version reads.

    environment: of the study, which names the version that made it; whatever was found in its place.
    """
    if found == FORMAT:
        return
    here = metadata.version("autopeft")
    try:
        made_with = str(environment["environment"]["versions"]["autopeft"])
    except (LookupError, TypeError):
        made_with = ""
    newer = isinstance(found, int) and found > FORMAT
    if made_with:
        who, what = f"autopeft {made_with}", f"pip install autopeft=={made_with}"
    elif newer:
        who, what = "a later version of autopeft", "pip install --upgrade autopeft"
    else:
        who, what = "an earlier version of autopeft", f"pip install 'autopeft<{here}'"
    raise AutopeftError(
        f"study {folder} has format {found}, made by {who}; this is autopeft {here}, which reads format {FORMAT}: "
        f"`{what}` reads it, or search anew in another folder with --study"
    )
