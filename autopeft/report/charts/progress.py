"""Hypervolume, and best quality within given sizes, against trials and against time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from autopeft.report import words
from autopeft.report.charts.style import BLUE, DASHES, RED, SERIES, SHAPES, SOFT, Chart, axis, layout, scale, scatter
from autopeft.report.summary import Summary
from autopeft.report.tables import Cell, Column, Table, table, value_cell
from autopeft.trial import Curve, Origin

TABLE_ROWS = 40
DRAWN = 400
"""Points of a line, at most."""


class Line(NamedTuple):
    """values: after each of `points`."""

    name: str
    points: Sequence[Curve]
    values: Sequence[float | None]
    colour: str


def hypervolume(summary: Summary) -> Chart | None:
    points = _spread(summary.progress, DRAWN)
    if not points:
        return None
    last = points[-1]
    random = _spread(summary.random, DRAWN)
    drawn = [("this search" if random else "hypervolume", points, BLUE), *([("random search", random, RED)] if random else [])]
    content = _against_both([Line(name, of, [p.hypervolume for p in of], colour) for name, of, colour in drawn], "hypervolume")
    finished = [row for row in summary.rows if row.trial.state.finished]
    before = next((i for i, row in enumerate(finished) if row.trial.origin is Origin.SAMPLER), 0)
    layout_ = content["layout"]
    layout_["shapes"], layout_["annotations"] = _start(before) if before else ([], [])
    return Chart(
        "hypervolume",
        "Progress of the front",
        "Hypervolume is the share of the space between head only at the price of full fine-tuning and a perfect, free model "
        "that the front covers. Flat to the right: more trials bought little."
        + (f" The first {before} trials are known defaults and a spread-out design; from there on the sampler chose." if before else "")
        + _beside_random(summary),
        f"Line chart of the hypervolume after each of {len(summary.progress)} finished trials; it ends at {last.hypervolume:.4f}."
        + _beside_random(summary),
        content,
        _table(summary, points),
    )


def _beside_random(summary: Summary) -> str:
    """Both at the number of trials that both have."""
    number = min(len(summary.random), len(summary.progress))
    if not number:
        return ""
    own, its = (of[number - 1].hypervolume for of in (summary.progress, summary.random))
    return f" After {number} trials: {own:.4f} here, {its:.4f} by random search."


def within(summary: Summary) -> Chart | None:
    points = _spread(summary.progress, DRAWN)
    sizes = [size for size in (points[-1].within if points else {}) if any(p.within[size] is not None for p in points)]
    if not sizes:
        return None
    metric = summary.quality.name
    drawn = scale(metric, [])
    lines = [
        Line(
            f"up to {words.round_count(float(size))} parameters",
            points,
            [drawn.at(p.within[size]) for p in points],
            SERIES[i % len(SERIES)],
        )
        for i, size in enumerate(sizes)
    ]
    reached = ", ".join(f"{words.value(metric, points[-1].within[size])} within {words.round_count(float(size))}" for size in sizes)
    return Chart(
        "within",
        f"Best {summary.quality.title} within a size",
        "Hypervolume favours tiny adapters; this is what a fixed number of trainable parameters buys.",
        f"Step lines of the best {summary.quality.title} so far among configurations up to a number of parameters; at the end {reached}.",
        _against_both(lines, drawn.axis["title"]),
        _table(summary, points),
    )


def _against_both(lines: Sequence[Line], title: str) -> dict[str, Any]:
    """Two panels with one vertical axis: against finished trials and against minutes."""
    data = []
    for i, (name, points, values, colour) in enumerate(lines):
        look = {"color": colour, "width": 2.5, "shape": "hv", "dash": DASHES[i % len(DASHES)]}
        end = {"color": colour, "size": [0] * (len(points) - 1) + [10], "symbol": SHAPES[i], "opacity": 1}
        for number, x in enumerate(([float(p.trials) for p in points], [p.seconds / 60 for p in points])):
            after = "%{x:.1f} min" if number else "%{x} trials"
            data.append(
                scatter(
                    x,
                    values,
                    name=name,
                    mode="lines+markers",
                    line=look,
                    marker=end,
                    legendgroup=name,
                    showlegend=number == 0 and len(lines) > 1,
                    xaxis="x2" if number else "x",
                    hovertemplate=f"{name}: %{{y:.4~g}} after {after}<extra></extra>",
                )
            )
    made = layout({"title": "finished trials", "domain": [0, 0.48]}, {"title": title})
    made["xaxis2"] = axis("minutes of training", domain=[0.52, 1], anchor="y")
    return {"data": data, "layout": made}


def _start(before: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A line where the sampler began to choose."""
    line = {
        "type": "line",
        "yref": "paper",
        "x0": before,
        "x1": before,
        "y0": 0,
        "y1": 1,
        "line": {"color": SOFT, "width": 1, "dash": "dot"},
    }
    font = {"size": 11, "color": SOFT}
    label = {"x": before, "yref": "paper", "y": 0, "yanchor": "bottom", "xanchor": "left", "xshift": 3, "showarrow": False, "font": font}
    return [line], [{**label, "text": "sampler begins"}]


def _spread(points: tuple[Curve, ...], most: int) -> tuple[Curve, ...]:
    """At most `most` of the points, evenly spread, the last among them."""
    step = max(1, -(-len(points) // most))
    return tuple(p for i, p in enumerate(points) if (len(points) - 1 - i) % step == 0)


def _table(summary: Summary, points: tuple[Curve, ...]) -> Table:
    sizes = list(points[-1].within)
    shown = _spread(points, TABLE_ROWS)
    metric = summary.quality.name
    columns = [Column("finished trials", numeric=True), Column("time", numeric=True), Column("hypervolume", numeric=True)]
    columns += [Column(f"within {words.round_count(float(size))}", numeric=True) for size in sizes]
    rows = [
        [
            Cell(str(p.trials), p.trials),
            value_cell("seconds", p.seconds),
            Cell(f"{p.hypervolume:.4f}", p.hypervolume),
            *(value_cell(metric, p.within[size]) for size in sizes),
        ]
        for p in shown
    ]
    return table(f"Progress of the search: hypervolume, and best {summary.quality.title} within a number of parameters", columns, rows)
