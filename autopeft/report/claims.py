"""What may be claimed of one trial, each claim in words: against the task head alone, known defaults and the
best pick, of smaller trials, and on the test split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autopeft.record import StudyRecord
from autopeft.report import words
from autopeft.report.certainty import Smaller
from autopeft.report.rows import Comparison, Row, compare, is_better
from autopeft.statistics import Estimate
from autopeft.tested import TrialTest


@dataclass(frozen=True)
class Claim:
    """One thing that may be said of a pick. mark: `good` where it is distinguishably better, `same` where it
    cannot be told, else ""."""

    about: str
    text: str
    mark: str = ""


def claims_of(
    record: StudyRecord,
    row: Row,
    rows: Sequence[Row],
    over_head: Comparison | None,
    against_best: Comparison | None,
    smaller: Smaller | None,
) -> tuple[Claim, ...]:
    metric = record.spec.quality
    default = best_default(record, rows)
    over_default = compare(metric, row, default) if default and default.number != row.number else None
    compared = ((start_of(record), over_head), (default.title if default else "", over_default), ("the best pick", against_best))
    made = [Claim(f"against {what}", f"{c.in_words}{sizes(row, c.other)}", _mark(c)) for what, c in compared if c]
    if smaller:
        fewer = words.times(row.parameters / smaller.row.parameters)
        text = f"trial {smaller.row.number} ({smaller.row.title}), {fewer} times fewer parameters: {smaller.comparison.in_words}"
        made.append(Claim("smaller, perhaps as good", text, "same"))
    if tested := record.tested(row.number):
        made.append(Claim("test split", test_in_words(record, {r.number: r for r in rows}, tested)))
    return tuple(made)


def _mark(comparison: Comparison) -> str:
    return "same" if not comparison.distinguishable else "good" if comparison.is_better else ""


def test_in_words(record: StudyRecord, rows: Mapping[int, Row], tested: TrialTest) -> str:
    """`95.9 % accuracy (91.3–100.0 %), mean of 3 other seeds; against LoRA r=8 on q,v +4.9 points (+3.0 to +6.9)`."""
    metric, seeds = record.spec.quality, words.plural(tested.estimate.seeds, "other seed")
    text = f"{with_interval(metric, tested.estimate)}, {f'mean of {seeds}' if tested.estimate.seeds > 1 else seeds}"
    if tested.steps != record.environment["total_steps"]:
        text += f", {tested.steps:,} steps"
    if tested.difference and tested.against is not None and tested.against in rows:
        same = ": not distinguishable" if tested.difference.contains_zero else ""
        text += f"; against {rows[tested.against].title} {words.difference(metric, tested.difference)}{same}"
    return text


def beaten_on_test(record: StudyRecord, head: Row) -> TrialTest | None:
    """The test of the task head alone, where it tells an adapter to be better: with more examples than the
    confirm split it can."""
    tested = record.tested(head.number)
    beaten = tested is not None and tested.difference is not None and is_better(record.spec.quality, tested.difference.negated)
    return tested if beaten else None


def costs(record: StudyRecord, row: Row) -> str:
    """`74 k trainable parameters (0.32 % of the base model) and 318 MB peak training memory`."""
    share = row.parameters / record.shape.total_parameters
    text = f"{words.count(row.parameters)} trainable parameters" + (f" ({words.share(share)} of the base model)" if share else "")
    if memory := row.trial.computed.get("peak_memory_bytes"):
        text += f" and {words.bytes_(memory)} peak training memory"
    return text


def trains_head(record: StudyRecord) -> bool:
    """A language model without an adapter has nothing to train."""
    return record.spec.task.kind != "causal_lm"


def start_of(record: StudyRecord) -> str:
    """What stands there without any adapter."""
    return "the task head alone" if trains_head(record) else "the base model as it is"


def sizes(row: Row, default: Row) -> str:
    """How many times larger or smaller, where that is worth a word."""
    if not row.parameters or not default.parameters or 0.95 < row.parameters / default.parameters < 1.05:
        return ""
    smaller = row.parameters < default.parameters
    ratio = default.parameters / row.parameters if smaller else row.parameters / default.parameters
    return f", with {words.times(ratio)} times {'fewer' if smaller else 'more'} parameters than that"


def best_default(record: StudyRecord, rows: Sequence[Row]) -> Row | None:
    """The baseline with an adapter that is best on the confirm split (search split where not confirmed)."""
    found = [(row, row.confirm or row.quality) for row in rows if row.is_baseline and row.trial.configuration.components]
    known = [(row, estimate.value) for row, estimate in found if estimate]
    highest = record.spec.objectives[0].direction == "maximize"
    return max(known, key=lambda pair: pair[1] if highest else -pair[1], default=(None, 0.0))[0]


def with_interval(metric: str, estimate: Estimate) -> str:
    interval = f" ({words.interval(metric, estimate)})" if estimate.has_interval else ""
    return f"{words.measured(metric, estimate.value)}{interval}"
