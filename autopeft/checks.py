"""What must be in order before a search: packages, device, memory, disk, and the model and data named.

Every check that fails says how to mend it.
"""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import Any

from autopeft.errors import AutopeftError, SpecError
from autopeft.spec import PROBE, StudySpec
from autopeft_searchspace.shape import ModelShape
from autopeft_searchspace.space import TOP_LAYERS, Space

SMALL_MEMORY, LEAST_MEMORY = 4e9, 1e9
SMALL_DISK, LEAST_DISK = 5e9, 0.5e9
"""Bytes below which a check warns, and below which it fails."""


class Level(StrEnum):
    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True)
class Check:
    """name: what was looked at. detail: what was found. mend: how to put it right, empty where it is OK."""

    name: str
    level: Level
    detail: str
    mend: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def machine_checks(studies: Path, device: str = "auto") -> Iterator[Check]:
    """Checks that need no model and no data. studies: the folder that studies will be written to."""
    yield Check("python", Level.OK, f"{platform.python_version()} on {platform.platform(terse=True)}")
    yield from _packages()
    yield from _devices(device)
    from autopeft.device import free_memory_bytes

    yield _enough("memory", free_memory_bytes(), SMALL_MEMORY, LEAST_MEMORY, "close other programs, or take a smaller model or batch")
    place = _existing(studies)
    yield _enough(f"disk at {place}", shutil.disk_usage(place).free, SMALL_DISK, LEAST_DISK, "free disk space, or give another --study")
    yield _writable(place)


def study_checks(spec: StudySpec, folder: Path) -> Iterator[Check]:
    """Checks of a study's model and data. folder: what the spec's paths start from."""
    yield _attempt("model", lambda: _model(spec, folder), "put model.base, model.roles or space right in the spec")
    yield _attempt("tokeniser", lambda: _tokenizer(spec, folder), "the model's folder needs tokenizer.json or vocabulary files")
    yield _attempt("data", lambda: _data(spec, folder), "put data right in the spec, or the file named above")


def require_study(spec: StudySpec, folder: Path) -> ModelShape:
    """Raise what a search would stumble over later: AutopeftError of data, model or space. Quick, and
    writes nothing. folder: what the spec's paths start from. Returns the shape of the base model."""
    _data(spec, folder)
    return _shape_and_space(spec, folder)[0]


def _model(spec: StudySpec, folder: Path) -> str:
    shape, space = _shape_and_space(spec, folder)
    return (
        f"{shape.architecture} {shape.kind}, {shape.total_parameters:,} parameters, {shape.layers} layers, "
        f"roles {' '.join(shape.roles)}; space {space.name} of {', '.join(space.types)}"
    )


def _shape_and_space(spec: StudySpec, folder: Path) -> tuple[ModelShape, Space]:
    from autopeft.models.quantised import NONE, require
    from autopeft.models.shape import load_shape
    from autopeft_searchspace.settings import build_space

    shape = load_shape(spec.model, folder)
    try:
        space = build_space(spec.space.preset, shape, spec.space.change)
    except ValueError as error:
        raise SpecError(f"space: {error}") from None
    for quantisation in space.quantisations:
        require(quantisation)
    if TOP_LAYERS in space.by_name and not spec.importance:
        raise SpecError(f"space.layers 'top' ranks layers by importance; set importance to {PROBE!r} or a study's folder")
    if spec.importance == PROBE and NONE not in space.quantisations:
        raise SpecError(f"importance {PROBE!r} takes gradients of the base model's weights; quantisation must offer {NONE!r} for that")
    return shape, space


def _tokenizer(spec: StudySpec, folder: Path) -> str:
    from autopeft.models.load import load_tokenizer

    return f"{len(load_tokenizer(spec.model, folder)):,} tokens"


def _data(spec: StudySpec, folder: Path) -> str:
    from autopeft.data import read_data

    splits = read_data(spec.data, spec.task, folder)
    labels = f", {len(splits.labels)} labels" if splits.labels else ""
    return f"{', '.join(f'{n:,} {split}' for split, n in splits.counts.items() if n)}{labels}"


def _packages() -> Iterator[Check]:
    """Whether what the installed autopeft requires is there in a version it takes."""
    from packaging.requirements import Requirement

    good = []
    for text in metadata.requires("autopeft") or ():
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield Check(requirement.name, Level.FAIL, f"not installed, {requirement.specifier} is needed", f"pip install '{text}'")
            continue
        if requirement.specifier.contains(version, prereleases=True):
            good.append(f"{requirement.name} {version}")
        else:
            yield Check(requirement.name, Level.FAIL, f"{version}, {requirement.specifier} is needed", f"pip install '{text}'")
    yield Check("packages", Level.OK, ", ".join(good))


def _devices(wanted: str) -> Iterator[Check]:
    import torch

    from autopeft.device import does_bf16_well, find_devices

    try:
        names = find_devices(wanted)
    except AutopeftError as error:
        yield Check("device", Level.FAIL, str(error), "give a device that is there with --device, or leave it at auto")
        return
    for name in names:
        device = torch.device(name)
        precision = "bf16" if does_bf16_well(device) else "fp32, bf16 is slow here"
        if device.type == "cuda":
            free, total = torch.cuda.mem_get_info(device)
            detail = f"{torch.cuda.get_device_name(device)}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free, {precision}"
            low = free < LEAST_MEMORY
            yield Check(name, Level.WARN if low else Level.OK, detail, "end what else runs on this GPU" if low else "")
        else:
            detail = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, {precision}"
            if torch.version.cuda is None and Path("/proc/driver/nvidia").exists():
                yield Check(name, Level.WARN, f"{detail}; there is an NVIDIA GPU", "install a CUDA build of torch to use it")
            else:
                yield Check(name, Level.OK, detail)


def _enough(name: str, free: int, small: float, least: float, mend: str) -> Check:
    level = Level.FAIL if free < least else Level.WARN if free < small else Level.OK
    return Check(name, level, f"{free / 1e9:.1f} GB free", "" if level is Level.OK else mend)


def _writable(folder: Path) -> Check:
    """Whether files can be made and a database in write-ahead mode can be used."""
    name = f"writing to {folder}"
    try:
        with tempfile.TemporaryDirectory(prefix=".autopeft-", dir=folder) as inside:
            connection = sqlite3.connect(Path(inside, "check.db"))
            mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            connection.execute("CREATE TABLE t (x)")
            connection.close()
    except (OSError, sqlite3.Error) as error:
        return Check(name, Level.FAIL, str(error), "give a folder that can be written to with --study, or change its permissions")
    if mode != "wal":
        return Check(name, Level.WARN, f"SQLite falls back to {mode}", "a study on a local disk is faster and safer")
    return Check(name, Level.OK, "files and database")


def _existing(folder: Path) -> Path:
    """`folder`, or the nearest folder above it that exists."""
    return next(path for path in (folder.resolve(), *folder.resolve().parents) if path.is_dir())


def _attempt(name: str, look: Callable[[], str], mend: str) -> Check:
    try:
        return Check(name, Level.OK, look())
    except (AutopeftError, OSError) as error:
        return Check(name, Level.FAIL, str(error), mend)
