"""`study.yaml` to `StudySpec` and back.

A setting is taken from the first of: a flag of the command line or `--set a.b=c`; the environment
(`AUTOPEFT_BUDGET`, `AUTOPEFT_TRAINING__BATCH_SIZE`); the file; the default. Every error names the
rule, the value, the near names and the place: file and line, flag or variable.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel, ValidationError

from autopeft import files, marked_yaml
from autopeft.budget import Budget, parse_bytes, parse_parameters
from autopeft.errors import AutopeftError, SpecError, near
from autopeft.marked_yaml import Key
from autopeft.spec import PROBE, StudySpec, resolve
from autopeft.spec_errors import explain
from autopeft_searchspace.settings import presets

FLAGS = {
    "--name": "name",
    "--model": "model.base",
    "--data": "data.source",
    "--task": "task.kind",
    "--budget": "budget",
    "--max-memory": "constraints.maximum_memory",
    "--max-parameters": "constraints.maximum_parameters",
    "--sampler": "sampler",
    "--device": "device",
    "--executor": "executor.name",
    "--storage": "storage",
    "--seed": "seeds.search",
    "--preset": "space.preset",
    "--adapters": "space.change.types",
    "--warm-start": "warm_start",
}
"""Flags of the command line, each with the setting that it sets."""

PATHS = ("model.base", "data.source", "data.train", "data.validation", "data.test")
"""Settings that may name a file; relative to the spec's folder in a file, to the current one elsewhere."""

GENERIC_NAMES = ("data", "dataset", "datasets", "train", "model", "models", "package", "studies")
"""Parts of a path that say nothing about a study."""

PREFIX = "AUTOPEFT_"


def read_spec(
    path: str | Path, sets: Sequence[str] = (), *, flags: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None
) -> tuple[StudySpec, Path]:
    """The spec in a YAML file, or in `study.yaml` of a folder, and the folder its paths start from.

    sets: texts such as `training.batch_size=16`, values in YAML.
    flags: names of `FLAGS` with their values; None counts as not given.
    environ: variables, `os.environ` by default; `{}` reads a recorded spec as it was written.
    Raises SpecError, one line per fault, each with its place.
    """
    file = _spec_path(Path(path))
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"spec {file} cannot be read: {error}") from None
    document, places = marked_yaml.read(text, str(file))
    return _build(document, places, sets, flags or {}, environ), file.resolve().parent


def spec_from_flags(
    model: str,
    data: str,
    task: str,
    sets: Sequence[str] = (),
    *,
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> tuple[StudySpec, Path]:
    """The spec of a search without a file, as `read_spec` would give it for one in the current folder."""
    given = {"--name": study_name(model, data), "--model": model, "--data": data, "--task": task}
    given |= {flag: value for flag, value in (flags or {}).items() if value is not None}
    return _build({}, {}, sets, given, environ), Path.cwd()


def make_spec(content: Mapping[str, Any], sets: Sequence[str] = (), *, flags: Mapping[str, Any] | None = None) -> StudySpec:
    """The spec with this content, as a file would hold it; the environment does not count. Raises SpecError."""
    if not isinstance(content, Mapping):
        raise SpecError(f"a spec is a dictionary of settings, it is {content!r}")
    return _build(dict(content), {}, sets, flags or {}, {})


def dump_spec(spec: StudySpec, path: Path, folder: Path) -> None:
    """Write `spec`, every setting spelled out, with its paths made relative to the new file's folder.

    folder: what the paths in `spec` are relative to, as `read_spec` returned it.
    """
    files.write_text(path, marked_yaml.write(relocate(spec, folder, path.parent).model_dump(mode="json")))


def relocate(spec: StudySpec, old: Path, new: Path) -> StudySpec:
    """`spec` with its paths, which started from the folder `old`, made relative to the folder `new`."""
    document = spec.model_dump()
    for dotted in PATHS:
        section, name = dotted.split(".")
        if (found := Path(resolve(document[section][name], old))).is_absolute():
            document[section][name] = os.path.relpath(found, new.resolve())
    if spec.importance != PROBE and (found := Path(resolve(spec.importance, old))).is_absolute():
        document["importance"] = os.path.relpath(found, new.resolve())
    document["warm_start"] = [os.path.relpath(p, new.resolve()) if (p := resolve(path, old)) != path else path for path in spec.warm_start]
    return StudySpec.model_validate(document)


def study_name(model: str, data: str) -> str:
    """A study's name from its data and model: (`org/MiniLM`, `agreement/train.jsonl`) -> `agreement-minilm`."""

    def word(text: str) -> str:
        parts = [re.sub(r"\.(jsonl?|csv|tsv|parquet)$", "", part).lower() for part in re.split(r"[/:\\]+", text)]
        parts = [part for part in parts if part.strip(".~")]
        telling = [part for part in parts if part not in GENERIC_NAMES] or parts
        return re.sub(r"[^a-z0-9._]+", "-", telling[-1] if telling else "").strip("-._")

    return "-".join(filter(None, (word(data), word(model))))[:64].rstrip("-._") or "study"


def _spec_path(path: Path) -> Path:
    file = path / "study.yaml" if path.is_dir() else path
    if not file.is_file():
        folder = file.parent if file.parent.is_dir() else Path()
        raise SpecError(f"there is no spec file {file}{near(file.name, [p.name for p in folder.glob('*.y*ml')])}")
    return file


def _build(
    document: dict[str, Any], places: dict[Key, str], sets: Sequence[str], flags: Mapping[str, Any], environ: Mapping[str, str] | None
) -> StudySpec:
    document = _without_empty(document)
    for dotted, value, origin in _overrides(sets, flags, os.environ if environ is None else environ):
        key, annotation = _locate(dotted, origin)
        if isinstance(value, str):
            value = _parsed(value, annotation, origin)
            value = resolve(value, Path.cwd()) if dotted in PATHS else value
        if origin == "--data":
            document["data"] = {k: v for k, v in document.get("data", {}).items() if k not in ("train", "validation", "test", "subset")}
        _put(document, key, value, origin)
        places |= {key[:depth]: origin for depth in range(1, len(key)) if key[:depth] not in places} | {key: origin}
    try:
        spec = StudySpec.model_validate(document)
    except ValidationError as error:
        raise SpecError(explain(error, document, places)) from None
    _check_amounts(spec, places)
    return spec


def _overrides(sets: Sequence[str], flags: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[tuple[str, Any, str]]:
    """Dotted setting, value and origin of every override, the strongest last."""
    for name, text in sorted(environ.items()):
        if name.startswith(PREFIX):
            yield name.removeprefix(PREFIX).lower().replace("__", "."), text, name
    for text in sets:
        dotted, equals, value = text.partition("=")
        if not equals:
            raise SpecError(f"--set needs the form setting=value, e.g. training.batch_size=16; it is {text!r}")
        yield dotted.strip(), value, f"--set {dotted.strip()}"
    for flag, value in flags.items():
        if value is not None:
            yield FLAGS[flag], value, flag


def _locate(dotted: str, origin: str) -> tuple[Key, Any]:
    """The key of a setting and its type; SpecError with near names where there is no such setting."""
    part: type[BaseModel] = StudySpec
    names = dotted.split(".")
    for depth, name in enumerate(names):
        field = part.model_fields.get(name)
        rest = names[depth + 1 :]
        if field is None:
            break
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel) and rest:
            part = field.annotation
        elif get_origin(field.annotation) is dict and rest:
            return (*names[: depth + 1], ".".join(rest)), None
        elif rest:
            break
        else:
            return tuple(names), field.annotation
    raise SpecError(f"{origin}: there is no setting {dotted!r}{near(dotted, settings())}")


def settings(part: type[BaseModel] = StudySpec, prefix: str = "") -> list[str]:
    """Dotted names of every setting of the spec."""
    found = []
    for name, field in part.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found += settings(inner, f"{prefix}{name}.")
        else:
            found.append(f"{prefix}{name}")
    return found


def _parsed(text: str, annotation: Any, origin: str) -> Any:
    """The value that `text` is in YAML; for a setting that is text, quotes are taken off and the rest stays."""
    try:
        value = marked_yaml.read_value(text)
    except SpecError as error:
        if annotation is str:
            return text
        raise SpecError(f"{origin}: {error}") from None
    return text if annotation is str and not isinstance(value, str) else value


def _put(document: dict[str, Any], key: Key, value: Any, origin: str) -> None:
    for depth, name in enumerate(key[:-1]):
        inner = document.setdefault(name, {})  # type: ignore[arg-type]
        if not isinstance(inner, dict):
            raise SpecError(f"{origin}: {'.'.join(map(str, key[: depth + 1]))} in the file holds no settings, it is {inner!r}")
        document = inner
    document[key[-1]] = value  # type: ignore[index]


def _without_empty(document: Mapping[str, Any]) -> dict[str, Any]:
    """Keys without a value, such as a section whose lines are all commented out, mean the default."""
    return {k: _without_empty(v) if isinstance(v, dict) else v for k, v in document.items() if v is not None}


def _check_amounts(spec: StudySpec, places: Mapping[Key, str]) -> None:
    """What is text in the spec but must be readable before anything starts."""

    def preset(name: str) -> None:
        if name not in presets():
            raise SpecError(f"unknown preset {name!r}{near(name, presets())}")

    checks: list[tuple[Key, Any, Any]] = [
        (("budget",), spec.budget, Budget.parse),
        (("constraints", "maximum_memory"), spec.constraints.maximum_memory, parse_bytes),
        (("constraints", "maximum_parameters"), spec.constraints.maximum_parameters, lambda value: parse_parameters(value, 1)),
        (("space", "preset"), spec.space.preset, preset),
    ]
    faults = []
    for key, value, check in checks:
        try:
            if value is not None:
                check(value)
        except AutopeftError as error:
            faults.append(f"{places[key]}: {error}" if key in places else str(error))
    if faults:
        raise SpecError("\n".join(faults))
