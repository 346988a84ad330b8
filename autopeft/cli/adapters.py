"""`autopeft adapters`: the adapter types and what each supports."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from autopeft.cli import options
from autopeft.cli.console import Output, table, verb

ABILITIES = {
    "merge": "merge",
    "quantised_base": "quantised base",
    "layers": "layers",
    "roles": "roles",
    "identity_at_start": "identity at start",
    "plain_peft": "plain peft",
    "composition": "composition",
}
"""What a type supports -> heading."""


@verb
def adapters(out: Output, model: options.Model = None) -> None:
    """The adapter types and what each supports.

    With --model: which of them that model cannot take, and why.
    """
    from autopeft_searchspace.not_offered import NOT_OFFERED
    from autopeft_searchspace.registry import adapter_types

    shape = options.shape_of(model) if model else None
    types = dict(sorted(adapter_types().items()))
    found: list[dict[str, Any]] = []
    for name, adapter in types.items():
        entry: dict[str, Any] = {
            "type": name,
            "title": adapter.title,
            "source": adapter.source,
            "supports": asdict(adapter.supports),
            "variants": dict(adapter.neutral),
            "count": " ".join((adapter.trainable_parameters.__doc__ or "").split()),
        }
        if shape:
            why = adapter.unavailable(shape)
            dimensions = [] if why else adapter.dimensions(shape)
            entry |= {"unavailable": why, "dimensions": {d.name: list(d.values) for d in dimensions}}
        found.append(entry)
    for name, why in NOT_OFFERED.items():
        found.append({"type": name, "not_offered": why})
    headings = ["type", *ABILITIES.values(), "title", *(["on this model"] if shape else [])]
    rows = [
        [
            name,
            *("yes" if getattr(adapter.supports, ability) else "-" for ability in ABILITIES),
            adapter.title,
            *([adapter.unavailable(shape) or "yes"] if shape else []),
        ]
        for name, adapter in types.items()
    ]
    notes = [f"not offered: {name}, since {why}" for name, why in NOT_OFFERED.items()]
    out.result(found, "\n".join([table(headings, rows), *notes]))
