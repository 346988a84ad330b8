"""`autopeft spaces`: the presets that can be searched."""

from __future__ import annotations

from typing import Any

from autopeft.cli import options
from autopeft.cli.console import Output, table, verb


@verb
def spaces(out: Output, model: options.Model = None) -> None:
    """The search spaces that have a name.

    With --model: how large each is on that model.
    """
    from autopeft_searchspace.settings import build_space, presets

    shape = options.shape_of(model) if model else None
    found: list[dict[str, Any]] = []
    for name, settings in presets().items():
        entry = {"preset": name, "title": settings["title"], "types": _names(settings["types"])}
        if shape is not None:
            space = build_space(name, shape)
            entry |= {
                "types": list(space.types),
                "dimensions": len(space.dimensions),
                "points": space.cardinality,
                "left_out": dict(space.left_out),
            }
        found.append(entry)
    headings = ["preset", "types", *(["dimensions", "points"] if shape else []), "what it is"]
    rows = [[e["preset"], _few(e["types"]), *([e["dimensions"], f"{e['points']:,}"] if shape else []), e["title"]] for e in found]
    left_out = {name: why for e in found for name, why in e.get("left_out", {}).items()}
    notes = [f"left out on this model: {name}, since {why}" for name, why in left_out.items()]
    out.result(found, "\n".join([table(headings, rows), *notes]))


def _names(types: list[str] | str) -> list[str]:
    from autopeft_searchspace.registry import adapter_types

    return sorted(adapter_types()) if isinstance(types, str) else types


def _few(types: list[str]) -> str:
    return ",".join(types) if len(types) <= 6 else f"{len(types)} types"
