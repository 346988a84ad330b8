"""Where the front puts its adapters: layers against module roles, how often and how large."""

from __future__ import annotations

from statistics import median

from autopeft.report import words
from autopeft.report.charts.style import SEQUENCE, SOFT, Chart, layout
from autopeft.report.summary import Summary
from autopeft.report.tables import Cell, Column, table


def placement(summary: Summary) -> Chart | None:
    """None where no trial on the front has an adapter."""
    layers = summary.record.shape.layers
    sizes: dict[str, list[list[int]]] = {}
    adapted = [row for row in summary.front if row.trial.configuration.components]
    for row in adapted:
        for component in row.trial.configuration.components:
            for module in component.roles or ("",):
                name = f"{component.type} {module}".strip()
                for layer in component.layers:
                    sizes.setdefault(name, [[] for _ in range(layers)])[layer].append(component.size)
    if not sizes:
        return None
    names = sorted(sizes, reverse=True)
    total = len(adapted)
    share = [[100 * len(found) / total for found in sizes[name]] for name in names]
    text = [[f"{median(found):g}" if found else "" for found in sizes[name]] for name in names]

    def said(name: str, layer: int, found: list[int]) -> str:
        return f"{name}, layer {layer}: in {len(found)} of {total}" + (f", median size {median(found):g}" if found else "")

    often = max(((len(found), name, layer) for name in names for layer, found in enumerate(sizes[name])), default=(0, "", 0))
    data = {
        "type": "heatmap",
        "x": [str(layer) for layer in range(layers)],
        "y": names,
        "z": share,
        "text": text,
        "customdata": [[said(name, layer, found) for layer, found in enumerate(sizes[name])] for name in names],
        "texttemplate": "%{text}" if layers <= 16 else "",
        "hovertemplate": "%{customdata}<extra></extra>",
        "colorscale": [[i / (len(SEQUENCE) - 1), colour] for i, colour in enumerate(SEQUENCE)],
        "zmin": 0,
        "zmax": 100,
        "xgap": 2,
        "ygap": 2,
        "colorbar": {
            "title": {"text": "% of the front", "side": "right", "font": {"size": 12.5, "color": SOFT}},
            "thickness": 10,
            "outlinewidth": 0,
            "tickfont": {"size": 12, "color": SOFT},
        },
    }
    rows = [
        [Cell(name), *(Cell(f"{len(found)} × {median(found):g}" if found else "–", len(found)) for found in sizes[name])]
        for name in sorted(sizes)
    ]
    return Chart(
        "placement",
        "Where the front adapts",
        f"Colour: in how many of the {words.plural(total, 'configuration')} with an adapter on the front; number: their median size.",
        f"Heat-map of adapter modules against layers over the front; the most frequent is {often[1]} in layer {often[2]}, "
        f"in {often[0]} of {total}.",
        {
            "data": [data],
            "layout": layout({"title": "layer", "type": "category", "showgrid": False}, {"type": "category", "showgrid": False}),
        },
        table(
            f"How often (of {total}) and with which median size the front adapts each module",
            [Column("module"), *(Column(f"layer {layer}", numeric=True) for layer in range(layers))],
            rows,
        ),
        height=max(260, 90 + 30 * len(names)),
    )
