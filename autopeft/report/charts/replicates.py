"""Trials that were trained again with other seeds, and which of them can be told apart."""

from __future__ import annotations

from autopeft.report import words
from autopeft.report.charts.style import BLUE, GREEN, GREY, INK, RED, Chart, layout, safe, scale, scatter
from autopeft.report.rows import Row, compare
from autopeft.report.summary import Summary
from autopeft.report.tables import Cell, Column, Table, mark_of, number_cell, table, value_cell


def replicates(summary: Summary) -> Chart | None:
    """Each seed as a dot, mean and interval as a bar, on the confirm split; best on top."""
    rows = [row for row in summary.replicated if row.confirm]
    if not rows:
        return None
    metric = summary.quality.name
    drawn = scale(metric, [])
    highest = summary.quality.direction == "maximize"
    rows.sort(key=lambda row: row.confirm.value if row.confirm else 0.0, reverse=not highest)
    best = next((pick.row for pick in summary.picks if "best" in pick.names), None)
    names = {row.number: _name(row) for row in rows}
    dots_x: list[float] = []
    dots_y: list[str] = []
    text: list[str] = []
    for row in rows:
        for seed, (value, _) in sorted(row.by_seed("confirm", metric).items()):
            dots_x.append(value * drawn.factor)
            dots_y.append(names[row.number])
            text.append(f"{safe(names[row.number])}<br>seed {seed}: {words.value(metric, value)}")
    same = [row for row in rows if best and row.number != best.number and (c := compare(metric, row, best)) and not c.distinguishable]
    data = []
    for title, found, colour, symbol in (
        ("the best pick", [r for r in rows if best and r.number == best.number], GREEN, "star"),
        ("not distinguishable from it", same, BLUE, "circle"),
        ("distinguishable", [r for r in rows if r not in same and not (best and r.number == best.number)], RED, "diamond"),
    ):
        estimates = [(row, row.confirm) for row in found if row.confirm]
        if estimates:
            data.append(
                scatter(
                    [e.value * drawn.factor for _, e in estimates],
                    [names[row.number] for row, _ in estimates],
                    name=title,
                    mode="markers",
                    marker={"size": 12, "color": colour, "symbol": symbol},
                    error_x={
                        "type": "data",
                        "symmetric": False,
                        "array": [(e.high - e.value) * drawn.factor for _, e in estimates],
                        "arrayminus": [(e.value - e.low) * drawn.factor for _, e in estimates],
                        "color": colour,
                        "thickness": 2,
                        "width": 5,
                    },
                    hovertext=[
                        f"{safe(names[row.number])}<br>{words.value(metric, e.value)} ({words.interval(metric, e)}), {e.seeds} seeds"
                        for row, e in estimates
                    ],
                    hovertemplate="%{hovertext}<extra></extra>",
                )
            )
    seeds = {"size": 8, "symbol": "line-ns", "line": {"width": 1.5, "color": INK}, "color": GREY}
    data.append(
        scatter(dots_x, dots_y, name="one seed", mode="markers", marker=seeds, hovertext=text, hovertemplate="%{hovertext}<extra></extra>")
    )
    order = [names[row.number] for row in rows]
    up = {"type": "category", "categoryorder": "array", "categoryarray": order, "showgrid": False}
    count = len(same)
    said = f"{words.plural(count, 'trial')} cannot be told from the best pick." if best else ""
    return Chart(
        "replicates",
        "Trained again with other seeds",
        f"Confirm split: mean, 95 % interval and single seeds. {said}".strip(),
        f"Dot chart of {len(rows)} replicated trials with intervals. {said}".strip(),
        {"data": data, "layout": layout({"title": drawn.axis["title"]}, up)},
        _table(summary, rows[::-1], best),
        wide=True,
        height=150 + 36 * len(rows),
    )


def _name(row: Row) -> str:
    return f"{row.number}: {', '.join(row.picks) or row.trial.label or ' + '.join(row.types)}"


def _table(summary: Summary, rows: list[Row], best: Row | None) -> Table:
    metric = summary.quality.name
    made = []
    for row in rows:
        comparison = compare(metric, row, best) if best and row.number != best.number else None
        values = [words.value(metric, v) for v, _ in row.by_seed("confirm", metric).values()]
        made.append(
            [
                number_cell(row),
                Cell(row.title),
                Cell(", ".join(values)),
                value_cell(metric, row.confirm.value if row.confirm else None),
                Cell(words.interval(metric, row.confirm) if row.confirm else "–"),
                Cell(comparison.in_words, comparison.estimate.value, mark_of(comparison.distinguishable)) if comparison else Cell("–"),
            ]
        )
    columns = [
        Column("trial", numeric=True),
        Column("configuration"),
        Column("seeds"),
        Column("mean", numeric=True),
        Column("95 % interval"),
        Column("minus best pick"),
    ]
    return table(f"Replicated trials: {summary.quality.title} on the confirm split", columns, made)
