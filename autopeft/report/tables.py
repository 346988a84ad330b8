"""Tables of the report. A cell has a text for people and, where it is sortable by more, a number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from autopeft.front import sign
from autopeft.report import words
from autopeft.report.rows import Row
from autopeft.report.summary import Summary
from autopeft.trial import TrialState


@dataclass(frozen=True)
class Column:
    title: str
    numeric: bool = False


@dataclass(frozen=True)
class Cell:
    """text: as shown. key: what it sorts by, its text where None. mark: a class for its looks."""

    text: str
    key: float | None = None
    mark: str = ""


@dataclass(frozen=True)
class Table:
    """caption: what the table says. Every row has one cell per column."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


BESIDE_A_CHART = 300
"""Rows of a table beside a chart, at most."""


def table(caption: str, columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> Table:
    made = Table(caption, tuple(columns), tuple(tuple(row) for row in rows))
    assert all(len(row) == len(made.columns) for row in made.rows), caption
    return made


def shortened(whole: Table) -> Table:
    """The first `BESIDE_A_CHART` rows, and a caption that says so where there are more."""
    if len(whole.rows) <= BESIDE_A_CHART:
        return whole
    said = f"{whole.caption} (the first {BESIDE_A_CHART} of {len(whole.rows):,} rows; every trial stands in the downloads)"
    return replace(whole, caption=said, rows=whole.rows[:BESIDE_A_CHART])


def number_cell(row: Row) -> Cell:
    return Cell(str(row.number), row.number)


def probability_cell(summary: Summary, row: Row) -> Cell:
    """Probability of being on the front, a dash for trials that are not complete."""
    known = summary.probability.get(row.number)
    return Cell("–") if known is None else Cell(f"{100 * known:.0f} %", known)


def value_cell(objective: str, number: float | None) -> Cell:
    return Cell(words.value(objective, number), number)


def _objective_columns(summary: Summary) -> list[Column]:
    return [Column(words.short(o.name), numeric=True) for o in summary.objectives]


def _objective_cells(summary: Summary, row: Row) -> list[Cell]:
    return [value_cell(o.name, row.values[o.name]) for o in summary.objectives]


def front_table(summary: Summary) -> Table:
    metric = summary.quality.name
    columns = [
        Column("trial", numeric=True),
        *_objective_columns(summary),
        Column("95 % interval"),
        Column("on front", numeric=True),
        Column("configuration"),
    ]
    rows = [
        [
            number_cell(row),
            *_objective_cells(summary, row),
            Cell(words.interval(metric, row.quality) if row.quality else "–"),
            probability_cell(summary, row),
            Cell(row.configuration, mark="words"),
        ]
        for row in summary.front
    ]
    said = "The Pareto front: no trial is better in one objective without being worse in another"
    return table(f"{said}; on front: the probability that this still holds on the confirm split", columns, rows)


def baselines_table(summary: Summary) -> Table:
    """Known defaults, on the confirm split, and how the best pick differs from each."""
    metric = summary.quality.name
    columns = [
        Column("baseline"),
        Column("trial", numeric=True),
        Column("state"),
        Column(summary.quality.title, numeric=True),
        Column("95 % interval"),
        *_objective_columns(summary)[1:],
        Column("best pick minus baseline"),
    ]
    rows = []
    for row, comparison in summary.baselines:
        if "best" in row.picks:
            against = Cell("this is the best pick")
        else:
            against = Cell(comparison.in_words, comparison.estimate.value, mark_of(comparison.distinguishable)) if comparison else Cell("–")
        rows.append(
            [
                Cell(row.title),
                number_cell(row),
                state_cell(row),
                value_cell(metric, row.confirm.value if row.confirm else None),
                Cell(words.interval(metric, row.confirm) if row.confirm else "–"),
                *(value_cell(o.name, row.trial.computed.get(o.name)) for o in summary.objectives[1:]),
                against,
            ]
        )
    return table(f"Known defaults: {summary.quality.title} on the confirm split", columns, rows)


def tests_table(summary: Summary) -> Table:
    """Trials that `autopeft train` trained in full, on the test split, best first."""
    metric, record = summary.quality.name, summary.record
    columns = [
        Column("trial", numeric=True),
        Column("configuration"),
        Column("parameters", numeric=True),
        Column("steps", numeric=True),
        Column("seeds", numeric=True),
        Column(summary.quality.title, numeric=True),
        Column("95 % interval"),
        Column("difference, in pairs"),
    ]
    found = [(row, tested) for row in summary.rows if (tested := record.tested(row.number))]
    found.sort(key=lambda pair: -sign(metric) * pair[1].estimate.value)
    rows = []
    for row, tested in found:
        gap = tested.difference
        said = "–" if gap is None or tested.against is None else f"{words.difference(metric, gap)} against trial {tested.against}"
        same = gap is not None and gap.contains_zero
        rows.append(
            [
                number_cell(row),
                Cell(row.title),
                value_cell("trainable_parameters", row.parameters),
                Cell(f"{tested.steps:,}", tested.steps),
                Cell(str(tested.estimate.seeds), tested.estimate.seeds),
                value_cell(metric, tested.estimate.value),
                Cell(words.interval(metric, tested.estimate)),
                Cell(f"{said}: not distinguishable" if same else said, mark=mark_of(not same)),
            ]
        )
    said = f"Trained in full, with seeds that the search did not use: {summary.quality.title} on the test split"
    return table(said, columns, rows)


def reasons_table(summary: Summary) -> Table:
    """Trials that gave no result, grouped by state and reason."""
    groups: dict[tuple[TrialState, str], list[Row]] = {}
    for row in summary.rows:
        if row.trial.state in (TrialState.INFEASIBLE, TrialState.FAILED, TrialState.EARLY_STOPPED):
            groups.setdefault((row.trial.state, row.trial.reason or row.trial.note), []).append(row)
    rows = [
        [
            state_cell(found[0]),
            Cell(reason or "–"),
            Cell(str(len(found)), len(found)),
            value_cell("seconds", sum(row.trial.seconds for row in found)),
            Cell(", ".join(str(row.number) for row in found)),
        ]
        for (_, reason), found in sorted(groups.items(), key=lambda item: (item[0][0], -len(item[1])))
    ]
    columns = [Column("state"), Column("reason"), Column("trials", numeric=True), Column("time", numeric=True), Column("numbers")]
    return table("Trials that ended without a full result, and why", columns, rows)


def state_cell(row: Row) -> Cell:
    return Cell(row.trial.state.value.lower().replace("_", " "), mark=f"state-{row.trial.state.value.lower()}")


def mark_of(distinguishable: bool) -> str:
    return "" if distinguishable else "same"


def trials_table(summary: Summary) -> Table:
    """Every trial; its first column is the number, by which the page finds and filters a row."""
    columns = [
        Column("trial", numeric=True),
        Column("state"),
        Column("types"),
        *_objective_columns(summary),
        Column("± (95 %)", numeric=True),
        Column("steps", numeric=True),
        Column("time", numeric=True),
        Column("on front", numeric=True),
        Column("standing"),
        Column("configuration"),
        Column("note"),
    ]
    rows = []
    for row in summary.rows:
        half = row.quality.half_width if row.quality else None
        rows.append(
            [
                number_cell(row),
                state_cell(row),
                Cell(" + ".join(row.types)),
                *_objective_cells(summary, row),
                Cell(words.signed(summary.quality.name, half).lstrip("+") if half is not None else "–", half),
                Cell(words.share(row.fidelity) if row.fidelity is not None else "–", row.fidelity),
                value_cell("seconds", row.trial.seconds),
                probability_cell(summary, row),
                Cell(", ".join([*row.picks, *(["front"] if row.on_front else [])]), mark="front" if row.on_front else ""),
                Cell(row.configuration, mark="words"),
                Cell("; ".join(text for text in (row.trial.label, row.trial.reason, row.trial.note) if text)),
            ]
        )
    return table("Every trial of the study", columns, rows)
