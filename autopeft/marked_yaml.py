"""YAML that remembers where each key stood. Safe: plain data only, no aliases, no key given twice.

Numbers are read as YAML 1.2 and JSON have them, so that `1e-4` is a number and not text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from autopeft.errors import SpecError

Key = tuple[str | int, ...]
_EXPONENT = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+")


class _Loader(yaml.SafeLoader):
    """Refuses aliases, by which a small file can grow without bound or contain itself."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not allowed, write the value out", mark)
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    """Quotes what `_Loader` would take for a number."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+.0123456789"))


def read(text: str, source: str) -> tuple[dict[str, Any], dict[Key, str]]:
    """A YAML mapping and, for the path of each key or item in it, the place `source:line`.

    Raises SpecError with the place for text that is not YAML, no mapping, an alias, a key that is
    not text or one given twice.
    """
    places: dict[Key, str] = {}
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return {}, {}
        _collect(node, (), source, places)
        data = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise SpecError(f"{source}:{mark.line + 1 if mark else 1}: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SpecError(f"{source}: cannot be read as YAML: {str(error) or type(error).__name__}") from None
    if not isinstance(data, dict):
        raise SpecError(f"{source}:1: must hold `key: value` pairs, it is {type(data).__name__}")
    return data, places


def read_value(text: str) -> Any:
    """One value as it would stand after a key; SpecError where it is not YAML."""
    try:
        return _Loader(text).get_single_data()
    except (yaml.YAMLError, ValueError, RecursionError):
        raise SpecError(f"the value {text!r} is not YAML; quote it if it is meant as text") from None


def write(data: Mapping[str, Any]) -> str:
    """YAML text that `read` gives back as `data`."""
    return yaml.dump(dict(data), Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None, width=10_000)


def write_value(value: str | float | bool) -> str:
    """One value in a line, quoted where `read` would otherwise take it for something else."""
    return yaml.dump([value], Dumper=_Dumper, allow_unicode=True, default_flow_style=True, width=10_000).strip()[1:-1]


def _collect(node: yaml.Node, path: Key, source: str, places: dict[Key, str]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            place = f"{source}:{key.start_mark.line + 1}"
            if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                shown = key.value if isinstance(key, yaml.ScalarNode) else "a list or mapping"
                raise SpecError(f"{place}: keys must be text, this one is {shown}; quote it if it is meant as text")
            if (*path, key.value) in places:
                first = places[*path, key.value].rpartition(":")[2]
                raise SpecError(f"{place}: key {key.value!r} stands twice, first in line {first}")
            places[*path, key.value] = place
            _collect(value, (*path, key.value), source, places)
    elif isinstance(node, yaml.SequenceNode):
        for position, item in enumerate(node.value):
            places[*path, position] = f"{source}:{item.start_mark.line + 1}"
            _collect(item, (*path, position), source, places)
