"""Which layers matter: what runs under importance-aware strategies found, one line per strategy."""

from __future__ import annotations

from autopeft.layer_importance import of_study
from autopeft.report import words
from autopeft.report.charts.style import DASHES, SERIES, SHAPES, Chart, axis, layout, scatter
from autopeft.report.summary import Summary
from autopeft.report.tables import Cell, Column, table
from autopeft.trial import Trial


def layers(summary: Summary) -> Chart | None:
    """None where no run tells the importance of layers."""
    shape = summary.record.shape
    by_strategy: dict[str, list[Trial]] = {}
    for row in summary.complete:
        if row.trial.configuration.strategy:
            by_strategy.setdefault(row.trial.configuration.strategy.name, []).append(row.trial)
    found = {name: prior.layers for name, trials in sorted(by_strategy.items()) if (prior := of_study(trials, shape))}
    if not found:
        return None
    names = [str(layer) for layer in range(shape.layers)]
    data = [
        scatter(
            names,
            list(values),
            name=name,
            mode="lines+markers",
            line={"color": SERIES[i % len(SERIES)], "dash": DASHES[i % len(DASHES)]},
            marker={"color": SERIES[i % len(SERIES)], "symbol": SHAPES[i % len(SHAPES)], "size": 8},
        )
        for i, (name, values) in enumerate(found.items())
    ]
    counts = ", ".join(f"{name} {words.plural(len(by_strategy[name]), 'trial')}" for name in found)
    highest = {name: max(range(shape.layers), key=lambda layer: values[layer]) for name, values in found.items()}
    said = ", ".join(f"layer {layer} under {name}" for name, layer in highest.items())
    return Chart(
        "layers",
        "Which layers matter",
        f"Importance of each layer, learnt while training, relative to the mean of its run ({counts}). "
        "Layers without an adapter count as 0.",
        f"Line chart of importance against layers; the most important is {said}.",
        {"data": data, "layout": layout(axis("layer", type="category"), axis("importance, mean 1", rangemode="tozero"))},
        table(
            "Importance of layers, relative to the mean of each run",
            [Column("strategy"), *(Column(f"layer {name}", numeric=True) for name in names)],
            [[Cell(name), *(Cell(f"{value:.2f}", value) for value in values)] for name, values in found.items()],
        ),
    )
