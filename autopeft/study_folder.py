"""A study's folder: who may open it, whether a spec still describes it, what is cleaned up."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from autopeft import storage
from autopeft.errors import AutopeftError, SpecError, StudyLocked
from autopeft.ledger import Ledger
from autopeft.spec import StudySpec

LOCK = "study.lock"
REPORT = "report.html"
MAY_CHANGE = ("name", "budget", "constraints", "sampler", "seeds", "device", "workers", "executor")
"""Settings with which a study may be resumed that differ from those it was made with."""


@contextmanager
def opened(study: Path) -> Iterator[bool]:
    """Hold the study's lock; gives whether the folder is new. Where it is and nothing was entered
    before an AutopeftError, it is removed again. Raises StudyLocked."""
    new = not study.exists()
    study.mkdir(parents=True, exist_ok=True)
    lock = FileLock(study / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise StudyLocked(f"study {study} is open in another process; wait for it, or give another folder with --study") from None
    try:
        yield new
    except AutopeftError:
        if new and not storage.exists(study):
            shutil.rmtree(study, ignore_errors=True)
        raise
    finally:
        lock.release()


def is_open(study: Path) -> bool:
    """Whether a live process holds the study."""
    if not (study / LOCK).exists():
        return False
    lock = FileLock(study / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def clear(study: Path) -> None:
    """Remove what a search wrote, so that the study starts afresh; the spec and the user's files stay."""
    storage.clear(study)
    for path in (study / REPORT, study / "worker.log", study / "memory.json"):
        path.unlink(missing_ok=True)
    for folder in ("trials", "train"):
        shutil.rmtree(study / folder, ignore_errors=True)


def stored_environment(spec: StudySpec, study: Path) -> dict[str, Any] | None:
    """The environment that the study was made with, None where there is no study yet.

    Raises SpecError naming each setting in which `spec` differs from what the study was made with.
    """
    if not storage.exists(study):
        return None
    with Ledger(study) as ledger:  # to be written: a search that was killed may have left it without tables
        made_with, environment = ledger.fact("spec"), ledger.fact("environment")
    if made_with is None or environment is None:
        return None
    old, new = (_flat(s.model_dump(mode="json")) for s in (StudySpec.model_validate(made_with), spec))
    changed = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name) and name.split(".")[0] not in MAY_CHANGE]
    if changed:
        listed = "\n".join(f"  {name}: was {old.get(name)!r}, is {new.get(name)!r}" for name in changed)
        raise SpecError(
            f"study {study} was made with other settings; resume it with the same, "
            f"start again with --fresh, or give another folder with --study:\n{listed}"
        )
    return environment


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            found.update(_flat(value, f"{prefix}{name}."))
        else:
            found[f"{prefix}{name}"] = value
    return found
