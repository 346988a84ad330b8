"""The report without pictures: JSON for programs, Markdown for people, CSV for spreadsheets."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import asdict
from typing import Any

from autopeft.report import words
from autopeft.report.effects import effects
from autopeft.report.rows import Row
from autopeft.report.summary import Summary
from autopeft.report.tables import Table, baselines_table, front_table, reasons_table

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What makes a spreadsheet run the cell that starts with it."""


def contract(summary: Summary) -> dict[str, Any]:
    """The stable contract for other programs; every number is finite, what is unknown is None.

    objectives: quality first. trials: by number; `fidelity` is the share of the steps reached,
    `front_probability` that of being on the front (confirm split), None for trials that are not complete.
    importance: share of each objective's variance that hangs on a dimension, with 90 % intervals (`samplers.importance`).
    front: trial numbers, ascending. picks: name -> trial number. hypervolume: after each finished trial.
    """
    record = summary.record
    return {
        "objectives": [{"name": o.name, "direction": o.direction, "unit": o.unit} for o in summary.objectives],
        "trials": [_trial(summary, row) for row in summary.rows],
        "front": sorted(row.number for row in summary.front),
        "picks": dict(summary.chosen),
        "hypervolume": [
            {"trials": p.trials, "seconds": _short(p.seconds), "hypervolume": _short(p.hypervolume), "quality_within": dict(p.within)}
            for p in summary.progress
        ],
        "importance": [_rounded(asdict(i)) for i in effects(record)],
        "budget": {"limit": record.spec.budget, "trials": len(summary.rows), "seconds": _finite(summary.seconds_used)},
    }


def _rounded(shares: dict[str, Any]) -> dict[str, Any]:
    """To three decimals: further ones of a fit hang on the machine, and reports should not."""
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in shares.items()}


def _trial(summary: Summary, row: Row) -> dict[str, Any]:
    return {
        "number": row.number,
        "state": row.trial.state.value,
        "values": {name: _finite(value) for name, value in row.values.items()},
        "front_probability": _short(summary.probability.get(row.number)),
        "standard_errors": {name: _short(error) for name, error in row.standard_errors.items()},
        "configuration": row.trial.configuration.to_json(),
        "fidelity": row.fidelity,
        "seconds": _finite(row.trial.seconds),
        "reason": row.trial.reason,
    }


def render_json(summary: Summary) -> str:
    return json.dumps(contract(summary), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def trial_note(summary: Summary, row: Row) -> str:
    """A trial in words, as Markdown."""
    lines = [f"**{escaped(row.title)}**", escaped(row.configuration)]
    if row.confirm:
        metric = summary.quality.name
        seeds = words.plural(row.confirm.seeds, "seed")
        lines.append(f"{words.measured(metric, row.confirm.value)}, confirm split ({words.interval(metric, row.confirm)}, {seeds})")
    lines += [escaped(text) for text in (row.trial.reason, row.trial.note) if text]
    lines += [f"pick: {', '.join(row.picks)}"] if row.picks else ["on the front"] if row.on_front else []
    return "\n\n".join(lines)


def render_csv(summary: Summary) -> str:
    """One line per trial. Texts that a spreadsheet would run as a formula get a leading apostrophe."""
    return "".join(csv_lines(summary))


def csv_lines(summary: Summary) -> list[str]:
    """The head, then one line per trial, each with its line end."""
    names = [o.name for o in summary.objectives]
    columns = ["number", "state", "origin", "label", "on_front", "picks", *names, *(f"{name}_standard_error" for name in names)]
    lines = [line_of([*columns, "fidelity", "seconds", "types", "learning_rate", "in_words", "configuration", "reason"])]
    for row in summary.rows:
        trial = row.trial
        cells: list[Any] = [row.number, trial.state.value, trial.origin.value, cell_of(trial.label), int(row.on_front), " ".join(row.picks)]
        cells += [_finite(row.values[name]) for name in names]
        cells += [_short(row.standard_errors[name]) for name in names]
        cells += [row.fidelity, round(trial.seconds, 3), cell_of("+".join(row.types)), trial.configuration.learning_rate]
        lines.append(line_of([*cells, cell_of(row.configuration), configuration_text(row), cell_of(trial.reason)]))
    return lines


def configuration_text(row: Row) -> str:
    """The configuration as the CSV holds it: JSON in one line."""
    return json.dumps(row.trial.configuration.to_json())


def line_of(cells: list[Any]) -> str:
    """A line of CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def render_markdown(summary: Summary) -> str:
    record, verdict = summary.record, summary.verdict
    parts = [f"# {escaped(record.spec.name)}", f"**{escaped(verdict.headline)}**", escaped(" ".join(verdict.text))]
    for pick in verdict.picks:
        parts += [f"## {pick.title}", escaped(pick.sentence[0].upper() + pick.sentence[1:]), f"```sh\n{pick.command}\n```"]
    for title, table in (
        ("Pareto front", front_table(summary)),
        ("Baselines", baselines_table(summary)),
        ("Trials without a result", reasons_table(summary)),
    ):
        if table.rows:
            parts += [f"## {title}", _markdown_table(table)]
    states = words.joined([f"{n} {state.value.lower().replace('_', ' ')}" for state, n in summary.states.items()])
    used = (
        f"{words.plural(len(summary.rows), 'trial')} ({states}), {words.seconds(summary.seconds)} of training; budget {record.spec.budget}."
    )
    return "\n\n".join([*parts, "## Budget", escaped(used)]) + "\n"


def _markdown_table(table: Table) -> str:
    lines = ["| " + " | ".join(escaped(c.title) for c in table.columns) + " |"]
    lines.append("|" + "|".join(" ---: " if c.numeric else " --- " for c in table.columns) + "|")
    lines += ["| " + " | ".join(escaped(cell.text) for cell in row) + " |" for row in table.rows]
    return "\n".join(lines)


def escaped(text: str) -> str:
    """Text that Markdown shows as it stands: no markup, no HTML, one line."""
    one_line = " ".join(text.split())
    escaped = "".join(f"\\{c}" if c in "\\`*_[]|#~" else c for c in one_line)
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def cell_of(text: str) -> str:
    """A text that no spreadsheet runs."""
    return f"'{text}" if text.startswith(FORMULA) else text


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


def _short(number: float | None) -> float | None:
    """To six digits, which is more than a derived figure has; a report of thousands of trials stays small."""
    found = _finite(number)
    return None if found is None else float(f"{found:.6g}")
