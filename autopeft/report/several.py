"""Several studies side by side: their fronts, their progress and what each ends with.

Hypervolume is measured on the axes of the first study, so that curves compare; a study with the sampler
`random` among them is what a search has to beat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autopeft import front as fronts
from autopeft.record import StudyRecord
from autopeft.report import words
from autopeft.report.charts.style import DASHES, SERIES, SHAPES, Chart, layout, safe, scale, scatter, wrapped
from autopeft.report.rows import Row
from autopeft.report.summary import Summary, difference, study_axes, summarise
from autopeft.report.tables import Cell, Column, Table, front_table, table, value_cell
from autopeft.trial import Curve

DRAWN = 400


@dataclass(frozen=True)
class Several:
    """names: of the studies, made different. notices: what must not be compared, and why."""

    names: tuple[str, ...]
    notices: tuple[str, ...]
    table: Table
    charts: tuple[Chart, ...]

    @property
    def title(self) -> str:
        return words.joined(list(self.names))


def compare_studies(records: Sequence[StudyRecord]) -> Several:
    """What a page on these studies shows. Fronts and progress only of studies whose numbers compare: the
    first and those of the same metric and data; the rest are told in the table and in a notice."""
    summaries = [summarise(record) for record in records]
    names = _names(summaries)
    alike = [(name, s) for name, s in zip(names, summaries, strict=True) if not difference(summaries[0].record, s.record)]
    notices = [
        f"{name} is not drawn beside {names[0]}: {why}."
        for name, s in zip(names, summaries, strict=True)
        if (why := difference(summaries[0].record, s.record))
    ]
    axes = study_axes(records[0])
    curves = [(name, s, fronts.progress(s.record.trials, s.record.spec, axes)) for name, s in alike] if axes else []
    drawn = [(name, s, points) for name, s, points in curves if points and _objectives(s) == _objectives(summaries[0])]
    charts = [_fronts(alike)] if any(s.front for _, s in alike) else []
    charts += [_progress(drawn)] if drawn else []
    return Several(tuple(names), tuple(notices), _overview(names, summaries, {n: p[-1].hypervolume for n, _, p in drawn}), tuple(charts))


def _names(summaries: Sequence[Summary]) -> list[str]:
    given = [s.record.spec.name for s in summaries]
    return [name if given.count(name) == 1 else f"{name} ({s.record.folder})" for name, s in zip(given, summaries, strict=True)]


def _objectives(summary: Summary) -> list[str]:
    return [o.name for o in summary.objectives]


def _overview(names: Sequence[str], summaries: Sequence[Summary], volumes: dict[str, float]) -> Table:
    columns = [Column("study"), Column("model"), Column("sampler"), Column("trials", numeric=True), Column("time", numeric=True)]
    columns += [Column("pick"), Column("quality, confirm split"), Column("95 % interval")]
    columns += [Column("parameters", numeric=True), Column("hypervolume", numeric=True)]
    rows = []
    for name, s in zip(names, summaries, strict=True):
        spec, metric = s.record.spec, s.quality.name
        common = [
            Cell(name),
            Cell(spec.model.base),
            Cell(spec.sampler),
            Cell(str(len(s.rows)), len(s.rows)),
            value_cell("seconds", s.seconds),
        ]
        volume = Cell(f"{volumes[name]:.4f}", volumes[name]) if name in volumes else Cell("–")
        for pick in s.picks:
            told = [Cell(pick.title), Cell(words.measured(metric, pick.quality.value)), Cell(words.interval(metric, pick.quality))]
            rows.append([*common, *told, value_cell("trainable_parameters", pick.row.parameters), volume])
        if not s.picks:
            rows.append([*common, Cell("none yet"), Cell("–"), Cell("–"), Cell("–"), volume])
    return table(f"Picks of {len(names)} studies; hypervolume on the axes of {names[0]}", columns, rows)


def _fronts(alike: Sequence[tuple[str, Summary]]) -> Chart:
    """Quality against parameters: the front of these two objectives in each study."""
    metric = alike[0][1].quality.name
    found = [(name, s, _steps(s)) for name, s in alike]
    across = scale("trainable_parameters", [row.parameters for _, _, rows in found for row in rows])
    up = scale(metric, [])
    data = [
        scatter(
            [across.at(row.parameters) for row in rows],
            [up.at(row.values[metric]) for row in rows],
            name=safe(name),
            mode="lines+markers",
            line={"shape": "hv", "width": 2, "color": SERIES[i % len(SERIES)], "dash": DASHES[i % len(DASHES)]},
            marker={"size": 9, "symbol": SHAPES[i % len(SHAPES)], "color": SERIES[i % len(SERIES)]},
            hovertext=[f"<b>{safe(name)}, trial {row.number}</b><br>{wrapped(row.configuration)}" for row in rows],
            hovertemplate="%{hovertext}<br>%{y:.4~g} with %{x:,} parameters<extra></extra>",
        )
        for i, (name, s, rows) in enumerate(found)
    ]
    return Chart(
        "fronts",
        f"Fronts: {alike[0][1].quality.title} against trainable parameters",
        "Search split; each study's own front of these two objectives. Read small differences with the intervals in the table.",
        f"Step lines of the fronts of {words.joined([name for name, _ in alike])}.",
        {"data": data, "layout": layout(across.axis, up.axis, showlegend=True)},
        front_table(alike[0][1]),
        wide=True,
        height=520,
    )


def _steps(summary: Summary) -> list[Row]:
    """The front of quality and parameters alone, by rising parameters."""
    sign = fronts.sign(summary.quality.name)
    known = [row for row in summary.complete if row.quality]
    values = np.array([[sign * (row.values[summary.quality.name] or 0.0), -row.parameters] for row in known]).reshape(-1, 2)
    best = [row for row, on in zip(known, fronts.non_dominated(values), strict=True) if on]
    return sorted(best, key=lambda row: row.parameters)


def _progress(drawn: Sequence[tuple[str, Summary, tuple[Curve, ...]]]) -> Chart:
    data = []
    for i, (name, _, points) in enumerate(drawn):
        step = max(1, -(-len(points) // DRAWN))
        shown = [p for k, p in enumerate(points) if (len(points) - 1 - k) % step == 0]
        look = {"color": SERIES[i % len(SERIES)], "width": 2.5, "shape": "hv", "dash": DASHES[i % len(DASHES)]}
        data.append(scatter([p.trials for p in shown], [p.hypervolume for p in shown], name=safe(name), mode="lines", line=look))
    ends = words.joined([f"{name} {points[-1].hypervolume:.4f} after {points[-1].trials}" for name, _, points in drawn])
    random = [name for name, s, _ in drawn if s.record.spec.sampler == "random"]
    said = f"{words.joined(random)}: random search, which a search has to beat." if random else "None of them is a random search."
    fewest = min(len(points) for _, _, points in drawn)
    columns = [Column("study"), Column(f"after {fewest} trials", numeric=True), Column("at its end", numeric=True)]
    rows = [
        [Cell(name), *(Cell(f"{p.hypervolume:.4f}", p.hypervolume) for p in (points[fewest - 1], points[-1]))] for name, _, points in drawn
    ]
    return Chart(
        "hypervolumes",
        "Hypervolume against finished trials",
        f"On the axes of {drawn[0][0]}. {said}",
        f"Step lines of hypervolume: {ends}.",
        {"data": data, "layout": layout({"title": "finished trials"}, {"title": "hypervolume"}, showlegend=True)},
        table("Hypervolume at equal numbers of trials and at the end", columns, rows),
        wide=True,
        height=420,
    )
