"""What the HTML page shows, in the order in which it shows it; `html.py` writes it down."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from autopeft.budget import Budget
from autopeft.report import words
from autopeft.report.charts.costs import memory, seconds
from autopeft.report.charts.curves import loss, rungs
from autopeft.report.charts.fronts import fronts
from autopeft.report.charts.importance import importance
from autopeft.report.charts.layers import layers
from autopeft.report.charts.parallel import parallel
from autopeft.report.charts.placement import placement
from autopeft.report.charts.progress import hypervolume, within
from autopeft.report.charts.replicates import replicates
from autopeft.report.charts.style import Chart
from autopeft.report.claims import costs
from autopeft.report.rows import Row
from autopeft.report.shares import strategies_table, types_table
from autopeft.report.summary import Summary
from autopeft.report.tables import Table, baselines_table, reasons_table, shortened, tests_table
from autopeft.statistics import Estimate
from autopeft_searchspace.configuration import ranges
from autopeft_searchspace.registry import adapter_types

HIDDEN = ("shape", "axes")
"""Parts of the environment that are shown elsewhere."""


@dataclass(frozen=True)
class Section:
    """name: an HTML id. lead: one sentence under the heading. tables: shown open, after the charts."""

    name: str
    title: str
    lead: str
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()


def sections(summary: Summary) -> list[Section]:
    """Sections with something to show."""
    trade_offs = (
        f"{words.plural(len(summary.front), 'configuration')} of {len(summary.complete)} complete ones cannot be improved in one objective "
        f"without losing in another. {_doubtful(summary)}Click a point for its configuration, learning curve and commands."
    )
    doubt = f"Differences in {summary.quality.title} that seeds and the size of the confirm split can explain are no differences."
    patterns = _some(placement(summary), layers(summary), importance(summary), parallel(summary))
    earned = (*_filled(strategies_table(summary)), *_filled(types_table(summary)))
    defaults, reasons, tests = (_filled(made(summary)) for made in (baselines_table, reasons_table, tests_table))
    made = [
        Section("trade-offs", "Trade-offs", trade_offs, tuple(fronts(summary))),
        Section("baselines", "Known defaults", "Trained with the same recipe, judged on the same confirm split.", (), defaults),
        Section("certainty", "How sure this is", doubt, _some(replicates(summary)), tests),
        Section("progress", "Progress", "Would a larger budget have helped?", _some(hypervolume(summary), within(summary))),
        Section("patterns", "What works here", "Where the front puts adapters, and which choices decide.", patterns, earned),
        Section("learning", "Learning", "How trials learnt, and how far a rung can be trusted.", _some(loss(summary), rungs(summary))),
        Section("costs", "Costs", "What trials used, and why some gave no result.", _some(memory(summary), seconds(summary)), reasons),
    ]
    return [_bounded(section) for section in made if section.charts or section.tables]


def _doubtful(summary: Summary) -> str:
    """How many places on the front are luck, and how many trials beside it may belong there."""
    doubtful = sum(summary.probability.get(row.number, 1.0) < 0.5 for row in summary.front)
    could = sum(summary.probability.get(row.number, 0.0) >= 0.5 for row in summary.complete if not row.on_front)
    if not doubtful and not could:
        return "On the confirm split each of them is more likely on the front than not. "
    return (
        f"Measured on the confirm split, {doubtful} of them {'is' if doubtful == 1 else 'are'} more likely off the front than on it, "
        f"and {could} of the others more likely on it. "
    )


def _bounded(section: Section) -> Section:
    """With tables beside charts that stay small however many trials there are."""
    return replace(section, charts=tuple(replace(chart, table=shortened(chart.table)) for chart in section.charts))


def _some(*charts: Chart | None) -> tuple[Chart, ...]:
    return tuple(chart for chart in charts if chart is not None)


def _filled(made: Table) -> tuple[Table, ...]:
    return (made,) if made.rows else ()


@dataclass(frozen=True)
class Strip:
    """Intervals of the picks on one axis, as shares of its width in percent.

    low, high, value: of the pick. head: where the task head alone stands, None if that is not known.
    """

    low: float
    high: float
    value: float
    head: float | None


def strips(summary: Summary) -> list[Strip]:
    """One per pick, all on the same axis, which holds every interval and head only with some room."""
    head = next((row for row in summary.rows if summary.record.head_only and row.number == summary.record.head_only.number), None)
    reference = head.confirm if head else None
    estimates = [pick.quality for pick in summary.picks]
    ends = [v for e in [*estimates, *([reference] if reference else [])] for v in (e.low, e.high)]
    if not ends:
        return []
    room = 0.06 * ((max(ends) - min(ends)) or 1.0)
    low, high = min(ends) - room, max(ends) + room

    def at(value: float) -> float:
        return round(100 * (value - low) / (high - low), 2)

    def strip(estimate: Estimate) -> Strip:
        return Strip(at(estimate.low), at(estimate.high), at(estimate.value), at(reference.value) if reference else None)

    return [strip(estimate) for estimate in estimates]


def answer(summary: Summary) -> list[str]:
    """What to train and what that costs, in two sentences; empty where there is nothing to pick from."""
    if not summary.picks:
        return []
    row, record = summary.picks[0].row, summary.record
    types = adapter_types()
    adapters = [
        f"{c.type} {c.size}{_meant(types[c.type].title if c.type in types else '')} in {_layers(c.layers, record.shape.layers)}"
        for c in row.trial.configuration.components
    ]
    what = f"Train trial {row.number}: {words.joined(adapters)}." if adapters else "Train no adapter."
    if strategy := row.trial.configuration.strategy:
        what = f"Train trial {row.number}: {words.joined(adapters) or 'no adapter'} under the strategy {strategy.name}."
    cost = f"It costs {costs(record, row)}"
    if seconds := row.measured("train_seconds"):
        cost += f", {words.seconds(seconds)} for {record.environment['total_steps']:,} steps on {_device(summary)}"
    return [what, f"{cost}."]


def _meant(title: str) -> str:
    return f" ({title[0].lower()}{title[1:]})" if title else ""


def _layers(layers: tuple[int, ...], whole: int) -> str:
    if len(layers) == whole:
        return f"all {whole} layers"
    return f"layer{'s' if len(layers) > 1 else ''} {words.joined(ranges(layers).split(','))} of the {whole}"


def _device(summary: Summary) -> str:
    record = summary.record
    return str(record.environment.get("environment", {}).get("device_name", record.spec.device))


@dataclass(frozen=True)
class Placed:
    """One adapter of a configuration for the drawing of where it sits. layers: adapted or not, from the input up."""

    title: str
    layers: tuple[bool, ...]


def placed(summary: Summary, row: Row) -> list[Placed]:
    whole = range(summary.record.shape.layers)
    return [
        Placed(f"{c.type} {c.size}" + (f" on {', '.join(c.roles)}" if c.roles else ""), tuple(layer in c.layers for layer in whole))
        for c in row.trial.configuration.components
    ]


def facts(summary: Summary) -> list[tuple[str, str]]:
    """What was searched with, in a few words each: name and value."""
    record = summary.record
    states = [f"{n} {state.value.lower().replace('_', ' ')}" for state, n in summary.states.items()]
    counts = record.environment.get("data", {}).get("counts", {})
    made = [
        ("model", f"{record.spec.model.base}, {words.count(record.shape.total_parameters)} parameters, {record.shape.layers} layers"),
        ("task", f"{record.spec.task.kind.replace('_', ' ')}, {summary.quality.title} ({summary.quality.better})"),
        ("data", ", ".join(f"{n:,} {split}" for split, n in counts.items() if n)),
        ("trials", f"{len(summary.rows)} ({', '.join(states)})" if states else "none"),
        ("budget", f"{_budget(Budget.parse(record.spec.budget))}; used {words.seconds(summary.seconds_used)}"),
        ("device", _device(summary)),
    ]
    return [(name, value) for name, value in made if value]


def _budget(budget: Budget) -> str:
    """`24 trials or 8 min`."""
    parts = [words.plural(budget.trials, "trial")] if budget.trials else []
    parts += [words.seconds(budget.seconds)] if budget.seconds else []
    parts += [f"{budget.gpu_hours:g} GPU hours"] if budget.gpu_hours else []
    return " or ".join(parts)


def environment(summary: Summary) -> list[tuple[str, str]]:
    """All that was recorded of the study's making, flat: dotted name and value."""
    kept = {name: value for name, value in summary.record.environment.items() if name not in HIDDEN}
    return [*_flat(kept), *_flat({"seeds": summary.record.spec.seeds.model_dump()})]


def _flat(content: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, value in content.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{prefix}{name}.")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
            found.append((f"{prefix}{name}", text if len(text) <= 400 else f"{text[:400]} …"))
    return found


def commands(summary: Summary) -> list[tuple[str, str]]:
    """What to type next, and what makes this study again."""
    folder = str(summary.record.folder)
    again = f"autopeft search {shlex.quote(f'{folder}/study.yaml')} --study {shlex.quote(f'{folder}-again')}"
    made = [
        ("Run the same search in a new folder", again),
        ("Go on with a larger budget", f"autopeft search --study {shlex.quote(folder)} --budget 2h"),
    ]
    if name := next((pick.names[0] for pick in summary.picks if pick.row.trial.configuration.components), None):
        made.insert(0, ("Export a pick to plain peft", f"autopeft export {shlex.quote(folder)} --pick {name}"))
    return made


def front_configurations(summary: Summary) -> dict[str, Any]:
    """The front, ready for other programs."""
    return {
        "study": summary.record.spec.name,
        "model": summary.record.spec.model.base,
        "front": [
            {"number": row.number, "picks": list(row.picks), "values": dict(row.values), "configuration": row.trial.configuration.to_json()}
            for row in summary.front
        ],
    }
