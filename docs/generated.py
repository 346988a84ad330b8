"""Parts of the documentation that come from the code: pages name them as `{{ adapters }}` and so on."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

import typer.main


def on_page_markdown(markdown: str, **_: Any) -> str:
    """MkDocs calls this for every page."""
    for name, make in PARTS.items():
        if f"{{{{ {name} }}}}" in markdown:
            markdown = markdown.replace(f"{{{{ {name} }}}}", make())
    return markdown


def adapters() -> str:
    """Every adapter type of the registry: what it is, formula as its file states it, source, what it supports."""
    from autopeft_searchspace.registry import adapter_types

    parts = []
    for name, adapter in sorted(adapter_types().items()):
        able = [ability.replace("_", " ") for ability, yes in asdict(adapter.supports).items() if yes is True]
        text = (sys.modules[type(adapter).__module__].__doc__ or "").strip()
        parts += [f"## {name}", f"{adapter.title}. Source: {adapter.source}.", f"Supports: {', '.join(able) or 'nothing beyond training'}."]
        parts.append("\n".join(f"    {line}".rstrip() for line in text.splitlines()))
    return "\n\n".join(parts)


def commands() -> str:
    """Every command with its options."""
    from autopeft.cli import app

    group: Any = typer.main.get_command(app)
    parts = []
    for name, command in sorted(group.commands.items()):
        rows = ["| option | |", "| --- | --- |"]
        for parameter in command.params:
            if said := getattr(parameter, "help", None):
                shown = (
                    ", ".join(parameter.opts) if parameter.param_type_name == "option" else (parameter.metavar or parameter.name.upper())
                )
                rows.append(f"| `{shown}` | {said.replace('|', '/')} |".replace("||", "| |"))
        parts += [f"## autopeft {name}", (command.help or "").strip(), "\n".join(rows)]
    return "\n\n".join(parts)


def settings() -> str:
    """Every setting of study.yaml."""
    from autopeft.spec import json_schema

    schema = json_schema()
    rows = ["| setting | default | |", "| --- | --- | --- |"]

    def walk(properties: dict[str, Any], before: str) -> None:
        for name, one in properties.items():
            inner = schema["$defs"].get(str(one.get("$ref", "")).rpartition("/")[2])
            if inner and "properties" in inner:
                walk(inner["properties"], f"{before}{name}.")
            else:
                default = f"`{one['default']}`" if one.get("default") not in (None, "") else ""
                rows.append(f"| `{before}{name}` | {default} | {one.get('description', '').replace('|', '/')} |")

    walk(schema["properties"], "")
    return "\n".join(rows)


PARTS = {"adapters": adapters, "commands": commands, "settings": settings}
