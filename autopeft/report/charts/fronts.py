"""Every trial in each pair of objectives: the front, what it dominates, baselines, what gave no result."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from autopeft.front import non_dominated
from autopeft.report import words
from autopeft.report.charts.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PINK,
    RED,
    SHAPES,
    Chart,
    Scale,
    layout,
    scale,
    scatter,
    trial_hover,
)
from autopeft.report.rows import ObjectiveView, Row
from autopeft.report.summary import Summary
from autopeft.report.tables import front_table
from autopeft.trial import TrialState

WITHOUT = (TrialState.INFEASIBLE, TrialState.FAILED)
SHORT = {"best": "best", "knee": "knee", "smallest-within-1se": "within 1 SE"}


def fronts(summary: Summary) -> list[Chart]:
    """One chart per pair of objectives, cost to the right and quality upwards."""
    if not summary.complete:
        return []
    pairs = [(second, first) if first is summary.quality else (first, second) for first, second in combinations(summary.objectives, 2)]
    return [_pair(summary, x, y, wide=i == 0) for i, (x, y) in enumerate(pairs)]


def _pair(summary: Summary, x: ObjectiveView, y: ObjectiveView, *, wide: bool) -> Chart:
    seen = {o.name: [_value(summary, row, o) for row in summary.rows] for o in (x, y)}
    across, up = (scale(o.name, seen[o.name]) for o in (x, y))
    unmeasured = _place_without_quality(up, seen[y.name], y)

    def at(row: Row) -> tuple[float | None, float | None]:
        value = _value(summary, row, y)
        return across.at(_value(summary, row, x)), unmeasured if value is None else up.at(value)

    def points(rows: Sequence[Row], name: str, marker: dict[str, Any], **more: Any) -> dict[str, Any]:
        places = [at(row) for row in rows]
        return scatter(
            [p[0] for p in places],
            [p[1] for p in places],
            name=name,
            mode="markers",
            marker={"size": 8, "line": {"width": 1.5, "color": marker["color"]}, **marker},
            **trial_hover(rows),
            **more,
        )

    def errors(rows: Sequence[Row], colour: str) -> dict[str, Any]:
        if y is not summary.quality:
            return {}
        known = [(row.quality, up.factor) for row in rows]
        return {
            "error_y": {
                "type": "data",
                "symmetric": False,
                "array": [(q.high - q.value) * f if q else 0 for q, f in known],
                "arrayminus": [(q.value - q.low) * f if q else 0 for q, f in known],
                "color": colour,
                "thickness": 1,
                "width": 0,
            }
        }

    complete = [row for row in summary.complete if all(v is not None for v in row.values.values())]
    plain = [row for row in complete if not row.is_baseline]
    dominated, on_front = [row for row in plain if not row.on_front], [row for row in plain if row.on_front]
    stopped = [row for row in summary.rows if row.trial.state is TrialState.EARLY_STOPPED]
    without = [row for row in summary.rows if row.trial.state in WITHOUT]
    data = [_steps(complete, x, y, across, up)]
    if dominated:
        data.append(points(dominated, "dominated", {"color": GREY, "symbol": "circle", "opacity": 0.75, "size": 7}))
    if stopped:
        data.append(points(stopped, "early stopped, at its rung", {"color": PINK, "symbol": "triangle-down-open", "opacity": 0.8}))
    if without:
        data.append(points(without, "infeasible or failed", {"color": ORANGE, "symbol": "x-thin", "size": 9}))
    if on_front:
        data.append(points(on_front, "Pareto front", {"color": BLUE, "symbol": "circle", "size": 10}, **errors(on_front, BLUE)))
    for i, row in enumerate(row for row in complete if row.is_baseline):
        symbol = SHAPES[i % len(SHAPES)] + ("" if row.on_front else "-open")
        data.append(points([row], row.title, {"color": RED, "symbol": symbol, "size": 11}, **errors([row], RED)))
    picked = [pick.row for pick in summary.picks if pick.row in complete]
    places = [at(row) for row in picked]
    labels = [words.joined([SHORT.get(name, name) for name in pick.names]) for pick in summary.picks if pick.row in complete]
    data.append(
        scatter(
            [p[0] for p in places],
            [p[1] for p in places],
            name="picks",
            mode="markers+text",
            text=[f"<b>{label}</b>" for label in labels],
            textposition=[f"{'top' if y is summary.quality else 'bottom'} {_side(p[0], across, seen[x.name])}" for p in places],
            textfont={"color": INK, "size": 12.5},
            marker={"size": 20, "symbol": "circle-open", "color": GREEN, "line": {"width": 2.5, "color": GREEN}},
            hoverinfo="skip",
            customdata=[row.number for row in picked],
            cliponaxis=False,
        )
    )
    return Chart(
        f"front-{y.name}-{x.name}".replace("_", "-"),
        f"{_capital(y.title)} against {x.title}",
        _note(summary, y, gaps=bool(stopped or without)) if wide else "Colours and shapes as above.",
        f"Scatter chart of {len(complete)} complete trials, {y.title} against {x.title}; {len(summary.front)} are on the Pareto front"
        + (f"; {len(stopped)} were stopped early and {len(without)} gave no result" if stopped or without else "")
        + ".",
        {"data": data, "layout": layout(across.axis, up.axis, showlegend=wide)},
        front_table(summary),
        wide=wide,
        height=520 if wide else 430,
    )


def _side(place: float | None, across: Scale, seen: Sequence[float | None]) -> str:
    """Where a label has room: to the inside."""
    known = [at for v in seen if (at := across.at(v)) is not None]
    low, high, own = (math.log(v) if across.axis.get("type") == "log" else v for v in (min(known), max(known), place or 1.0))
    return "left" if place is not None and 2 * own > low + high else "right"


def _value(summary: Summary, row: Row, objective: ObjectiveView) -> float | None:
    """Where a row stands: at its rung's quality if it was stopped."""
    return row.seen_quality if objective is summary.quality else row.trial.computed.get(objective.name)


def _place_without_quality(up: Scale, seen: Sequence[float | None], y: ObjectiveView) -> float | None:
    """Just beyond the worst value, for trials that have none."""
    known = [place for v in seen if (place := up.at(v)) is not None]
    if not known:
        return None
    pad = 0.06 * ((max(known) - min(known)) or 1.0)
    return min(known) - pad if y.direction == "maximize" else max(known) + pad


def _steps(rows: Sequence[Row], x: ObjectiveView, y: ObjectiveView, across: Scale, up: Scale) -> dict[str, Any]:
    """The line that the front of this pair alone draws."""
    signed = [[(1 if o.direction == "maximize" else -1) * (row.values[o.name] or 0.0) for o in (x, y)] for row in rows]
    best = [row for row, on in zip(rows, non_dominated(np.array(signed)), strict=True) if on]
    best.sort(key=lambda row: row.values[x.name] or 0.0)
    return scatter(
        [across.at(row.values[x.name]) for row in best],
        [up.at(row.values[y.name]) for row in best],
        mode="lines",
        line={"color": BLUE, "width": 1.5, "shape": "hv", "dash": "dot"},
        hoverinfo="skip",
        showlegend=False,
    )


def _note(summary: Summary, y: ObjectiveView, *, gaps: bool) -> str:
    text = "Dotted: the front of these two objectives; blue points are on the front of all."
    if y is summary.quality:
        text += " Bars: 95 % intervals on the search split."
        text += " Trials without a final quality stand at their rung, or at the edge." if gaps else ""
    return text + " Open shapes: baselines off the front."


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
