"""Parallel lines: every dimension that matters as one vertical axis, one line per configuration.

Drawn as lines of a scatter chart, since plotly's own parallel coordinates make code at run time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from autopeft.report import words
from autopeft.report.charts.style import BLUE, GREY, INK, RED, SOFT, Chart, layout, safe, scatter, trial_hover
from autopeft.report.rows import Row
from autopeft.report.summary import Summary
from autopeft.report.tables import Cell, Column, number_cell, table
from autopeft.spec import COUNTS

DOMINATED = 400
"""Lines of dominated configurations, at most."""


@dataclass(frozen=True)
class Line:
    """One vertical axis. of: a row's value. label: a value in words. log: equal ratios are equal steps."""

    title: str
    of: Callable[[Row], float]
    label: Callable[[float], str]
    log: bool = False

    def place(self, value: float) -> float:
        return math.log2(max(value, 0.5)) if self.log else value


def parallel(summary: Summary) -> Chart | None:
    rows = [row for row in summary.complete if all(v is not None for v in row.values.values())]
    if len(rows) < 2:
        return None
    lines = [line for line in _lines(summary) if len({line.of(row) for row in rows}) > 1]
    spans = [(min(line.place(line.of(r)) for r in rows), max(line.place(line.of(r)) for r in rows)) for line in lines]

    def heights(row: Row) -> list[float]:
        return [(line.place(line.of(row)) - low) / (high - low) for line, (low, high) in zip(lines, spans, strict=True)]

    others = [r for r in rows if not r.on_front and not r.is_baseline]
    every = -(-len(others) // DOMINATED) or 1
    across = [float(i) for i in range(len(lines))]
    groups = (
        ("dominated", others[::every], {"color": GREY, "width": 1}, 0.45),
        ("baselines", [r for r in rows if r.is_baseline and not r.picks], {"color": RED, "width": 1.5, "dash": "dash"}, 0.8),
        ("Pareto front", [r for r in rows if r.on_front and not r.is_baseline and not r.picks], {"color": BLUE, "width": 1.5}, 0.8),
        ("picks", [r for r in rows if r.picks], {"color": INK, "width": 3}, 1.0),
    )
    data = [_group(name, found, look, opacity, across, heights) for name, found, look, opacity in groups if found]
    made = layout(
        {"range": [-0.35, len(lines) - 0.65], "showgrid": False, "showline": False, "showticklabels": False, "fixedrange": True},
        {"range": [-0.12, 1.14], "showgrid": False, "showline": False, "showticklabels": False, "fixedrange": True},
    )
    made["shapes"] = [
        {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "line": {"color": SOFT, "width": 1}, "layer": "below"} for x in across
    ]
    made["annotations"] = [note for x, line, span in zip(across, lines, spans, strict=True) for note in _labels(x, line, span, rows)]
    made["margin"] = {"l": 12, "r": 12, "t": 12, "b": 12}
    shown = [row for row in rows if row.on_front or row.is_baseline]
    return Chart(
        "parallel",
        "What the front has in common",
        "One line per complete configuration; 0 means that the adapter type is off. Where the blue lines meet, the front agrees."
        + (f" Of {len(others):,} dominated ones one in {every} is drawn." if every > 1 else ""),
        f"Parallel lines of {len(rows)} configurations over {words.joined([line.title for line in lines])}.",
        {"data": data, "layout": made},
        table(
            "Front and baselines by the dimensions of the chart",
            [Column("trial", numeric=True), *(Column(line.title, numeric=True) for line in lines)],
            [[number_cell(row), *(Cell(line.label(line.of(row)), line.of(row)) for line in lines)] for row in shown],
        ),
        wide=True,
        height=440,
    )


def _group(
    name: str,
    rows: list[Row],
    look: dict[str, Any],
    opacity: float,
    across: list[float],
    heights: Callable[[Row], list[float]],
) -> dict[str, Any]:
    """All lines of a group as one trace, broken by gaps."""
    x: list[float | None] = []
    y: list[float | None] = []
    of: list[Row | None] = []
    for row in rows:
        x += [*across, None]
        y += [*heights(row), None]
        of += [row] * len(across) + [None]
    markers = {"mode": "lines+markers", "marker": {"size": 5, "color": look["color"]}}
    return scatter(x, y, name=name, line=look, opacity=opacity, **markers, **trial_hover(of))


def _lines(summary: Summary) -> list[Line]:
    types = sorted({c.type for row in summary.complete for c in row.trial.configuration.components})

    def size_of(kind: str) -> Callable[[Row], float]:
        return lambda row: float(max((c.size for c in row.trial.configuration.components if c.type == kind), default=0))

    def layers(row: Row) -> set[int]:
        return {layer for c in row.trial.configuration.components for layer in c.layers}

    whole = summary.record.shape.layers
    made = [Line(f"{kind} size", size_of(kind), lambda v: f"{v:g}", log=True) for kind in types]
    made.append(Line("adapted layers", lambda row: float(len(layers(row))), lambda v: f"{v:g}"))
    made.append(Line("lowest layer", lambda row: float(min(layers(row), default=whole)), lambda v: "none" if v == whole else f"{v:g}"))
    made.append(Line("learning rate", lambda row: row.trial.configuration.learning_rate * 1e6, lambda v: f"{v / 1e6:.2g}", log=True))
    for objective in [*summary.objectives[1:], summary.quality]:
        made.append(_objective_line(objective.name, log=objective.name in COUNTS))
    return made


def _objective_line(name: str, *, log: bool) -> Line:
    return Line(words.short(name), lambda row: row.values[name] or 0.0, lambda v: words.value(name, v), log=log)


def _labels(x: float, line: Line, span: tuple[float, float], rows: list[Row]) -> list[dict[str, Any]]:
    """The axis' title above it, its ends in words beside it."""
    by_place = {line.place(line.of(row)): line.of(row) for row in rows}
    common = {"x": x, "showarrow": False, "font": {"size": 11.5, "color": SOFT}}
    return [
        {**common, "y": 1.1, "text": f"<b>{safe(line.title).replace(' ', '<br>', 1)}</b>", "font": {"size": 12, "color": INK}},
        {**common, "y": 1.03, "text": safe(line.label(by_place[span[1]]))},
        {**common, "y": -0.04, "text": safe(line.label(by_place[span[0]]))},
    ]
