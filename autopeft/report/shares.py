"""What each adapter type and each layer strategy of a search brought to its front."""

from __future__ import annotations

from collections.abc import Callable

from autopeft import front as fronts
from autopeft.report import words
from autopeft.report.rows import Row
from autopeft.report.summary import Summary, study_axes
from autopeft.report.tables import Cell, Column, Table, table, value_cell


def types_table(summary: Summary) -> Table:
    """A configuration of several types counts under each of them."""
    return _table(summary, "adapter type", lambda row: row.types)


def strategies_table(summary: Summary) -> Table:
    """Layer strategies against no strategy at all; no rows where none was tried."""
    return _table(summary, "layer strategy", strategy_of)


def strategy_of(row: Row) -> tuple[str, ...]:
    """Nothing for the head alone, which has no layers to choose from."""
    strategy = row.trial.configuration.strategy
    if strategy:
        return (strategy.name,)
    return ("none",) if row.trial.configuration.components else ()


def _table(summary: Summary, title: str, groups_of: Callable[[Row], tuple[str, ...]]) -> Table:
    groups: dict[str, list[Row]] = {}
    for row in summary.complete:
        for name in groups_of(row):
            groups.setdefault(name, []).append(row)
    record, axes = summary.record, study_axes(summary.record)
    lost: dict[str, float] = {}
    if axes and len(groups) > 1:
        kept, values = fronts.objective_values(record.trials, record.spec)
        whole = axes.hypervolume(values)
        for name, rows in groups.items():
            numbers = {row.number for row in rows}
            without = axes.hypervolume(values[[t.number not in numbers for t in kept]])
            lost[name] = 1 - without / whole if whole else 0.0
    columns = [
        Column(title),
        Column("trials", numeric=True),
        Column("on front", numeric=True),
        Column("expected", numeric=True),
        *(Column(f"best ≤ {words.round_count(size)}", numeric=True) for size in fronts.SIZES),
        Column("lost without", numeric=True),
    ]
    cells = []
    for name in sorted(lost, key=lambda name: (-lost[name], name)):
        rows = groups[name]
        best = fronts.quality_within([row.trial for row in rows], record.spec)
        expected = sum(summary.probability.get(row.number, 0.0) for row in rows)
        front = sum(row.on_front for row in rows)
        cells.append(
            [
                Cell(name),
                Cell(str(len(rows)), len(rows)),
                Cell(str(front), front),
                Cell(f"{expected:.1f}", expected),
                *(value_cell(summary.quality.name, best[str(size)]) for size in fronts.SIZES),
                Cell(f"{100 * lost[name]:.1f} %", lost[name]),
            ]
        )
    said = f"What each {title} brought: complete trials, how many are on the front and how many can be expected there on the confirm split"
    best_of = f"best {summary.quality.title} on the search split by number of parameters"
    return table(f"{said}; {best_of}; share of the hypervolume that would be lost without it", columns, cells)
