"""`autopeft adapters`: the adapter types and what each supports."""

from __future__ import annotations

from dataclasses import asdict

from autopeft.cli import options
from autopeft.cli.console import Output, table, verb


@verb
def adapters(out: Output, model: options.Model = None) -> None:
    """The adapter types and what each supports.

    With --model: which of them that model cannot take, and why.
    """
    from autopeft_searchspace.registry import adapter_types

    shape = options.shape_of(model) if model else None
    types = dict(sorted(adapter_types().items()))
    found = [
        {
            "type": name,
            "title": adapter.title,
            "source": adapter.source,
            "supports": asdict(adapter.supports),
            **({"unavailable": adapter.unavailable(shape)} if shape else {}),
        }
        for name, adapter in types.items()
    ]
    abilities = [a.replace("_", " ") for a in asdict(next(iter(types.values())).supports)] if types else []
    headings = ["type", *abilities, "title", *(["on this model"] if shape else [])]
    rows = [
        [
            name,
            *("yes" if able else "-" for able in asdict(adapter.supports).values()),
            adapter.title,
            *([adapter.unavailable(shape) or "yes"] if shape else []),
        ]
        for name, adapter in types.items()
    ]
    out.result(found, table(headings, rows))
