"""Configurations as files that other programs read: one format per file of this package.

A format is a function `write(record, trial, folder)` that puts its files into an empty folder. The
decorator `register` makes it known; every file here is imported on first use.
"""

from __future__ import annotations

import importlib
import pkgutil
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from autopeft.errors import AutopeftError, near
from autopeft.record import StudyRecord
from autopeft.trial import Trial

Write = Callable[[StudyRecord, Trial, Path], None]
_FORMATS: dict[str, Write] = {}


def register(name: str) -> Callable[[Write], Write]:
    """Function decorator: makes an export format known under `name`."""

    def add(write: Write) -> Write:
        if name in _FORMATS:
            raise ValueError(f"export format {name!r} is registered twice")
        _FORMATS[name] = write
        return write

    return add


def formats() -> dict[str, Write]:
    """All export formats by name."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return dict(_FORMATS)


def format_called(name: str) -> Write:
    """The format called `name`; AutopeftError with near names if there is none."""
    known = formats()
    if name not in known:
        raise AutopeftError(f"unknown export format {name!r}{near(name, known)}")
    return known[name]


def export(record: StudyRecord, trial: Trial, to: str, folder: Path) -> list[Path]:
    """Write `trial`'s configuration in the format `to` into `folder`; returns the files.

    Files appear together at the end, so that an error writes nothing. Raises AutopeftError for an
    unknown format, one that cannot hold the configuration, or a folder in which other files stand.
    """
    write = format_called(to)
    partial = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.tmp"
    try:
        partial.mkdir(parents=True)
        write(record, trial, partial)
        names = sorted(path.name for path in partial.iterdir())
        if folder.is_dir() and (others := [p.name for p in folder.iterdir() if p.name not in names]):
            raise AutopeftError(f"{folder} holds other files ({', '.join(sorted(others)[:3])}); give another folder with --output")
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            (partial / name).replace(folder / name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return [folder / name for name in names]
