"""How trials learnt: training loss over the steps, and quality from rung to end."""

from __future__ import annotations

import math
from itertools import takewhile
from typing import Any

from autopeft.recorded import recorded_loss
from autopeft.report import words
from autopeft.report.charts.style import (
    BLUE,
    DASHES,
    GREEN,
    GREY,
    ORANGE,
    PINK,
    RED,
    SOFT,
    Chart,
    layout,
    safe,
    scale,
    scatter,
    trial_hover,
)
from autopeft.report.rows import Row, known
from autopeft.report.summary import Summary
from autopeft.report.tables import Cell, Column, number_cell, state_cell, table, value_cell
from autopeft.trial import Observation, TrialState

PICKS = (BLUE, GREEN, ORANGE)
POINTS, FEWEST_POINTS = 48, 8
"""Points kept of a curve, at most and at least."""
ALL_POINTS = 7_000
"""Points kept of all curves together, so that a report with thousands of trials stays small."""


def loss(summary: Summary) -> Chart | None:
    """Training loss of the search's own seed: picks and baselines named, the rest grey."""
    runs = [(row, run[-1]) for row in summary.rows if (run := _run(row)) and run[-1].curve]
    if not runs:
        return None
    groups = (
        ("other trials", [run for run in runs if not (run[0].picks or run[0].is_baseline)], {"color": GREY, "width": 1}, 0.4),
        ("baselines", [run for run in runs if run[0].is_baseline and not run[0].picks], {"color": RED, "width": 1.5, "dash": "dot"}, 0.9),
        *((_short(run[0]), [run], _look(i), 1.0) for i, run in enumerate(run for run in runs if run[0].picks)),
    )
    data = []
    kept = max(FEWEST_POINTS, min(POINTS, ALL_POINTS // len(runs)))
    for name, found, look, opacity in groups:
        x: list[float | None] = []
        y: list[float | None] = []
        of: list[Row | None] = []
        for row, last in found:
            points = _thin(last.curve, kept)
            x += [*(float(step) for step, _ in points), None]
            y += [*(value for _, value in points), None]
            of += [row] * len(points) + [None]
        if found:
            said = {**trial_hover(of), "hovertemplate": "loss %{y:.3f} at step %{x}<br>%{hovertext}<extra></extra>"}
            data.append(scatter(x, y, name=safe(name), mode="lines", line=look, opacity=opacity, **said))
    made = layout({"title": "step"}, {"title": "training loss"})
    made["shapes"], made["annotations"] = _rung_lines(runs[0][1].total_steps, _shares(summary))
    return Chart(
        "loss",
        "Training loss",
        "One line per trial, cut where it was stopped; vertical lines are rungs. Hover for the trial.",
        f"Line chart of the training loss of {len(runs)} trials.",
        {"data": data, "layout": made},
        _table(summary, runs),
        height=420,
    )


def rungs(summary: Summary) -> Chart | None:
    """Quality at every rung and at the end, one line per trial: crossings are where a rung misranks."""
    name = f"search.{summary.quality.name}"
    drawn = scale(summary.quality.name, [])
    groups: dict[str, list[tuple[Row, list[tuple[float, float]]]]] = {"complete": [], "stopped": [], "picks": []}
    for row in summary.rows:
        points = [(100 * o.step / o.total_steps, m.value * drawn.factor) for o in _run(row) if (m := known(o.measurements.get(name)))]
        if points and row.trial.state in (TrialState.COMPLETE, TrialState.EARLY_STOPPED):
            kind = "picks" if row.picks else "complete" if row.trial.state is TrialState.COMPLETE else "stopped"
            groups[kind].append((row, points))
    if not any(len(points) > 1 for found in groups.values() for _, points in found):
        return None
    looks = {
        "complete": ("ran to the end", {"color": BLUE, "width": 1}, {"color": BLUE, "size": 6}, 0.45),
        "stopped": ("early stopped", {"color": PINK, "width": 1}, {"color": PINK, "size": 8, "symbol": "triangle-down-open"}, 0.9),
        "picks": ("picks", {"color": GREEN, "width": 3}, {"color": GREEN, "size": 9, "symbol": "square"}, 1.0),
    }
    data = []
    for kind, found in groups.items():
        title, line, marker, opacity = looks[kind]
        x: list[float | None] = []
        y: list[float | None] = []
        of: list[Row | None] = []
        for row, points in found:
            x += [*(p[0] for p in points), None]
            y += [*(p[1] for p in points), None]
            of += [row] * len(points) + [None]
        if found:
            data.append(scatter(x, y, name=title, mode="lines+markers", line=line, marker=marker, opacity=opacity, **trial_hover(of)))
    trust = [f"{t.rank:.2f} at {words.share(t.share)} of the steps (n = {t.trials})" for t in summary.rungs if t.rank is not None]
    said = (
        f"Rank correlation with the end: {words.joined(trust)}."
        if trust
        else "Too few trials ran past a rung to say how far it can be trusted."
    )
    ticks = sorted({100 * share for share in _shares(summary)} | {100.0})
    shown = [(row, points) for found in groups.values() for row, points in found]
    return Chart(
        "rungs",
        "From rung to end",
        f"Lines that cross are configurations which the rung ranked wrongly. {said}",
        f"Line chart of {summary.quality.title} on the search split at each rung and at the end, for {len(shown)} trials. {said}",
        {
            "data": data,
            "layout": layout(
                {"title": "share of the steps, %", "tickvals": ticks, "ticktext": [f"{t:.0f}" for t in ticks]},
                {"title": drawn.axis["title"]},
            ),
        },
        table(
            "Quality on the search split at each rung and at the end",
            [Column("trial", numeric=True), Column("state"), *(Column(f"at {t:.0f} %", numeric=True) for t in ticks)],
            [
                [number_cell(row), state_cell(row), *(value_cell(summary.quality.name, _at(points, t, drawn.factor)) for t in ticks)]
                for row, points in sorted(shown, key=lambda pair: pair[0].number)
            ],
        ),
        height=420,
    )


def _run(row: Row) -> list[Observation]:
    """The observations of the search's own seed, by step."""
    first = row.trial.observations[0].seed if row.trial.observations else 0
    return sorted((o for o in row.trial.observations if o.seed == first), key=lambda o: o.step)


def _shares(summary: Summary) -> list[float]:
    return sorted({o.step / o.total_steps for row in summary.rows for o in _run(row) if not o.is_final})


def _thin(curve: tuple[tuple[int, float], ...], kept: int) -> list[tuple[int, float]]:
    """At most `kept` points, each the mean of its neighbours, so that noise does not alias; a
    loss that is not finite ends the curve."""
    curve = tuple(takewhile(lambda point: math.isfinite(point[1]), curve))
    width = max(1, -(-len(curve) // kept))
    chunks = [curve[i : i + width] for i in range(0, len(curve), width)]
    return [(round(sum(s for s, _ in c) / len(c)), round(sum(recorded_loss(v) for _, v in c) / len(c), 4)) for c in chunks]


def _short(row: Row) -> str:
    return f"{row.number}: {', '.join(row.picks)}"


def _look(i: int) -> dict[str, Any]:
    return {"color": PICKS[i % len(PICKS)], "width": 2.5, "dash": DASHES[i % len(DASHES)]}


def _rung_lines(total: int, shares: list[float]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    line = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "line": {"color": SOFT, "width": 1, "dash": "dot"}}
    label = {
        "yref": "paper",
        "y": 1,
        "yanchor": "top",
        "xanchor": "left",
        "showarrow": False,
        "font": {"size": 11, "color": SOFT},
        "text": "rung",
    }
    steps = [round(share * total) for share in shares]
    return [{**line, "x0": s, "x1": s} for s in steps], [{**label, "x": s, "xshift": 3} for s in steps]


def _at(points: list[tuple[float, float]], share: float, factor: float) -> float | None:
    return next((value / factor for at, value in points if abs(at - share) < 0.5), None)


def _table(summary: Summary, runs: list[tuple[Row, Observation]]) -> Any:
    rows = [
        [
            number_cell(row),
            state_cell(row),
            Cell(f"{last.step} of {last.total_steps}", last.step),
            Cell(f"{last.curve[0][1]:.3f}", last.curve[0][1]),
            Cell(f"{last.curve[-1][1]:.3f}", last.curve[-1][1]),
        ]
        for row, last in runs
    ]
    columns = [
        Column("trial", numeric=True),
        Column("state"),
        Column("steps", numeric=True),
        Column("first loss", numeric=True),
        Column("last loss", numeric=True),
    ]
    return table("Training loss at the start and where each trial stood last", columns, rows)
