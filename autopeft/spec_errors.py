"""What is wrong with a spec, in words: place, rule, value and near names, one line per fault."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

from autopeft.errors import near
from autopeft.marked_yaml import Key
from autopeft.spec import StudySpec


def explain(error: ValidationError, document: Mapping[str, Any], places: Mapping[Key, str]) -> str:
    """One line per fault; the alternatives of one setting (`a number or auto`) share a line."""
    found: dict[Key, list[Any]] = {}
    for fault in error.errors(include_url=False):
        loc: Key = tuple(fault["loc"])
        named = loc if fault["type"] in ("missing", "extra_forbidden") else _in_document(loc, document)
        found.setdefault(named, []).append(fault)
    lines = []
    for key, faults in found.items():
        line = _line(key, faults)
        place = places.get(_culprit(key, faults, document), "") or places.get(_longest(key, places), "")
        lines.append(f"{place}: {line}" if place else line)
    return "\n".join(lines)


def _line(key: Key, faults: list[Any]) -> str:
    name, section = str(key[-1]) if key else "", ".".join(map(str, key[:-1]))
    fault, dotted = faults[0], ".".join(map(str, key))
    if fault["type"] == "extra_forbidden":
        return f"{section or 'a study'} has no setting {name!r}{_near_setting(name, key[:-1])}"
    if fault["type"] == "missing":
        return f"{dotted} is missing{_meaning(key)}"
    if fault["type"] == "value_error":
        return f"{dotted}: {fault['ctx']['error']}" if dotted else str(fault["ctx"]["error"])
    if fault["type"] == "model_type":
        return f"{dotted or 'a study'} must hold `setting: value` pairs, it is {_shown(fault['input'])}"
    rules = list(dict.fromkeys(re.sub(r"^\w+ should ", "must ", f["msg"]) for f in faults))
    rule = " or ".join([rules[0], *(r.removeprefix("must be ") for r in rules[1:])])
    return f"{dotted} {rule}, it is {_shown(fault['input'])}{_near_choice(faults)}"


def _near_setting(name: str, section: Key) -> str:
    """Near names inside the section, or the same name elsewhere in the spec."""
    part = _part(section)
    elsewhere = [f"{outer}.{name}" for outer, inner in _sections().items() if name in inner.model_fields]
    if elsewhere:
        return f"; did you mean {' or '.join(elsewhere)}?"
    return near(name, part.model_fields if part else ())


def _near_choice(faults: list[Any]) -> str:
    choices = [c for f in faults if f["type"] == "literal_error" for c in re.findall(r"'([^']*)'", f["ctx"]["expected"])]
    value = faults[0]["input"]
    hint = near(value, choices) if isinstance(value, str) else ""
    return hint if "did you mean" in hint else ""


def _meaning(key: Key) -> str:
    part = _part(key[:-1])
    field = part.model_fields.get(str(key[-1])) if part else None
    if field is None:
        return ""
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    meaning = field.description or " or ".join(map(str, choices))
    return f": {meaning}" if meaning else ""


def _part(section: Key) -> type[BaseModel] | None:
    """The part of the spec that a section is, seen through lists of parts."""
    part: Any = StudySpec
    for name in section:
        if isinstance(name, int):
            continue
        field = part.model_fields.get(name)
        inner = [
            a for a in (getattr(field, "annotation", None), *getattr(getattr(field, "annotation", None), "__args__", ())) if _is_part(a)
        ]
        if not inner:
            return None
        part = inner[0]
    return part


def _sections() -> dict[str, type[BaseModel]]:
    return {name: part for name in StudySpec.model_fields if (part := _part((name,))) is not None}


def _is_part(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _in_document(loc: Key, document: Any) -> Key:
    """The part of a fault's location that is in the document; what follows names pydantic's alternatives."""
    for depth, name in enumerate(loc):
        try:
            document = document[name]
        except (KeyError, IndexError, TypeError):
            return loc[:depth]
    return loc


def _longest(key: Key, places: Mapping[Key, str]) -> Key:
    """The longest beginning of `key` that was written somewhere."""
    return next((key[:length] for length in range(len(key), 0, -1) if key[:length] in places), ())


def _culprit(key: Key, faults: list[Any], document: Mapping[str, Any]) -> Key:
    """The setting that a rule over a whole section names first, so that the place is its line."""
    if faults[0]["type"] != "value_error":
        return key
    inner: Any = document
    for name in key:
        inner = inner[name]
    text = str(faults[0]["ctx"]["error"])
    found = (
        {name: match.start() for name in inner if (match := re.search(rf"\b{re.escape(name.removesuffix('s'))}s?\b", text))}
        if isinstance(inner, dict)
        else {}
    )
    return (*key, min(found, key=lambda name: found[name])) if found else key


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
