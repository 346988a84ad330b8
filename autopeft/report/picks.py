"""The verdict: which trials to train in full, and what may be claimed of them, in words.

Claims rest on the confirm split and its replicates, since the best of many trials on the search split
reads too high; where nothing was confirmed, the search split stands in and the sentence says so.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autopeft.record import StudyRecord
from autopeft.report import words
from autopeft.report.certainty import Smaller, smaller_one
from autopeft.report.claims import (
    Claim,
    beaten_on_test,
    best_default,
    claims_of,
    costs,
    sizes,
    start_of,
    test_in_words,
    trains_head,
    with_interval,
)
from autopeft.report.rows import Comparison, Row, compare
from autopeft.statistics import Estimate
from autopeft.trial import TrialState

HEAD_ONLY = "head-only"
TITLES = {
    "best": "Best quality",
    "knee": "Knee of the front",
    "smallest-within-1se": "Smallest within one standard error",
    HEAD_ONLY: "Task head alone",
}
MEANING = {
    "best": "the highest quality on the front",
    "knee": "where further cost starts to buy little quality",
    "smallest-within-1se": "the fewest weights whose quality is within one standard error of the best",
    HEAD_ONLY: "no adapter at all",
}


@dataclass(frozen=True)
class Pick:
    """A recommended trial. names: the picks that it is. split: where `quality` was measured.

    over_head, against_best: None where it is that trial itself, or where there is nothing to compare.
    smaller: a clearly smaller trial that cannot be told from it, where there is one.
    claims: what `sentence` says beside numbers of its own, one by one, and the test split where it was seen.
    command: trains it in full; safe to paste into a POSIX shell.
    """

    names: tuple[str, ...]
    row: Row
    quality: Estimate
    split: str
    over_head: Comparison | None
    against_best: Comparison | None
    smaller: Smaller | None
    sentence: str
    claims: tuple[Claim, ...]
    command: str

    @property
    def title(self) -> str:
        titles = [TITLES.get(name, name) for name in self.names]
        return words.joined([titles[0], *(t[0].lower() + t[1:] for t in titles[1:])])

    @property
    def meaning(self) -> str:
        return "; ".join(MEANING[name] for name in self.names if name in MEANING)


@dataclass(frozen=True)
class Verdict:
    """headline: the answer in one line. text: some sentences. remarks: those of them that no pick's claims say.

    picks: the one to start with first; head only is among them where it is as good as anything found.
    head_is_enough: no pick is distinguishably better than training the task head alone.
    """

    headline: str
    text: tuple[str, ...]
    remarks: tuple[str, ...]
    picks: tuple[Pick, ...]
    head_is_enough: bool


def judge(record: StudyRecord, rows: Sequence[Row], chosen: Mapping[str, int]) -> Verdict:
    """The verdict on a study. chosen: name of a pick -> trial number; may be empty."""
    metric = record.spec.quality
    by_number = {row.number: row for row in rows}
    head = by_number[record.head_only.number] if record.head_only else None
    head = head if head and head.quality else None
    best = by_number[chosen["best"]] if "best" in chosen else None
    if best is None:
        return Verdict("Nothing to pick from yet", (_nothing(rows),), (_nothing(rows),), (), False)
    names: dict[int, list[str]] = {}
    for name in (name for name in TITLES if name in chosen):
        names.setdefault(chosen[name], []).append(name)
    picks = [_pick(record, tuple(own), by_number[number], head, best, rows) for number, own in names.items()]
    adapted = any(row.quality and row.trial.configuration.components for row in rows)
    enough = head is not None and adapted and not any(pick.over_head and pick.over_head.is_better for pick in picks)
    enough = enough and not (head and beaten_on_test(record, head))
    if enough and head and head.number not in names:
        picks.append(_pick(record, (HEAD_ONLY,), head, head, best, rows))
    first = recommended(picks, head if enough else None)
    picks.sort(key=lambda pick: pick is not first)
    if not adapted:
        headline, text, remarks = "No adapter has been measured yet", [f"So far: {picks[0].sentence}"], list[str]()
    elif enough and head:
        headline, remarks = _enough(record, picks, head)
        text = list(remarks)
    else:
        headline, text, remarks = _worth_it(record, picks, rows)
    if tested := record.tested(first.row.number):
        text.append(f"On the test split, {test_in_words(record, by_number, tested)}.")
    if head and not enough and (beaten := beaten_on_test(record, head)) and beaten.difference and beaten.against in by_number:
        lost = words.difference(metric, beaten.difference)
        remarks.append(f"On the test split {start_of(record)} differs from {by_number[beaten.against].title} by {lost}.")
        text.append(remarks[-1])
    if any(pick.split == "search" for pick in picks):
        remarks.append("Not all of this is confirmed: numbers of the search split read too high, as they chose the trial.")
        text.append(remarks[-1])
    return Verdict(headline, tuple(text), tuple(remarks), tuple(picks), enough)


def recommended(picks: Sequence[Pick], head: Row | None) -> Pick:
    """Where to start: with the head alone if that is enough, else with the smallest pick that cannot be
    told from the best in quality."""
    close = [pick for pick in picks if pick.against_best is None or not pick.against_best.distinguishable]
    alone = next((pick for pick in picks if head and pick.row.number == head.number), None)
    return alone or min(close, key=lambda pick: pick.row.parameters)


def _pick(record: StudyRecord, names: tuple[str, ...], row: Row, head: Row | None, best: Row, rows: Sequence[Row]) -> Pick:
    metric = record.spec.quality
    quality, split = (row.confirm, "confirm") if row.confirm else (row.quality, "search")
    assert quality is not None, "picks are complete trials"
    over_head = compare(metric, row, head) if head and head.number != row.number else None
    against_best = compare(metric, row, best) if best.number != row.number else None
    smaller = smaller_one(record, row, rows)
    sentence = _sentence(record, row, quality, split, over_head, against_best, smaller)
    claims = claims_of(record, row, rows, over_head, against_best, smaller)
    command = f"autopeft train {shlex.quote(str(record.folder))} --pick {names[0]}"
    return Pick(names, row, quality, split, over_head, against_best, smaller, sentence, claims, command)


def _sentence(
    record: StudyRecord,
    row: Row,
    quality: Estimate,
    split: str,
    over_head: Comparison | None,
    against_best: Comparison | None,
    smaller: Smaller | None,
) -> str:
    metric = record.spec.quality
    seeds = f"mean of {quality.seeds} seeds" if quality.seeds > 1 else "one seed"
    interval = f"95 % interval {words.interval(metric, quality)}, {seeds}" if quality.has_interval else seeds
    text = f"trial {row.number} ({row.configuration}) reaches {words.measured(metric, quality.value)} on the {split} split ({interval})"
    text += f" with {costs(record, row)}"
    if over_head:
        text += f"; against {start_of(record)} {over_head.in_words}"
    if against_best:
        text += f"; against the best pick {against_best.in_words}"
    if smaller:
        fewer = words.times(row.parameters / smaller.row.parameters)
        difference = words.difference(metric, smaller.comparison.estimate)
        text += f". Trial {smaller.row.number} ({smaller.row.title}) has {fewer} times fewer parameters and "
        text += f"cannot be told from it: {difference}"
    return f"{text}."


def _nothing(rows: Sequence[Row]) -> str:
    if not rows:
        return "No trial has started."
    counts = {state: sum(row.trial.state is state for row in rows) for state in TrialState}
    states = words.joined([f"{n} {state.value.lower().replace('_', ' ')}" for state, n in counts.items() if n])
    reasons = [row.trial.reason for row in rows if row.trial.reason]
    common = f" Most frequent reason: {max(reasons, key=reasons.count)}." if reasons else ""
    return f"None of {words.plural(len(rows), 'trial')} is complete ({states}).{common}"


def _enough(record: StudyRecord, picks: Sequence[Pick], head: Row) -> tuple[str, list[str]]:
    metric = record.spec.quality
    own = next(pick for pick in picks if pick.row.number == head.number)
    start = start_of(record)
    text = [f"{start[0].upper()}{start[1:]} reaches {with_interval(metric, own.quality)} without a single adapter weight."]
    others = [pick for pick in picks if pick.over_head]
    if not others:
        text.append("No adapter that was tried is better.")
    else:
        leader = next((pick for pick in others if "best" in pick.names), others[0])
        assert leader.over_head is not None
        words_ = words.difference(metric, leader.over_head.estimate)
        text.append(f"The best adapter, trial {leader.row.number} ({leader.row.title}), differs by {words_}: not distinguishable.")
    short = start.replace("task ", "")
    text.append(f"Start with {short}; an adapter has to earn its place here with more training data or steps.")
    return f"{'Train' if trains_head(record) else 'Use'} {start}: no adapter found is distinguishably better", text


def _worth_it(record: StudyRecord, picks: Sequence[Pick], rows: Sequence[Row]) -> tuple[str, list[str], list[str]]:
    """Headline, text, and what of the text no claim of a pick says."""
    metric = record.spec.quality
    chosen = picks[0]
    share = chosen.row.parameters / record.shape.total_parameters
    headline = f"{words.measured(metric, chosen.quality.value)} by training {words.share(share)} of the weights"
    text = [
        f"Train trial {chosen.row.number} ({chosen.row.title}): {with_interval(metric, chosen.quality)} with {costs(record, chosen.row)}."
    ]
    if chosen.over_head:
        training = "training " if trains_head(record) else ""
        text.append(f"Against {training}{start_of(record)}: {chosen.over_head.in_words}.")
    default = best_default(record, rows)
    remarks = []
    if default and default.number == chosen.row.number:
        remarks.append("It is one of the known defaults: nothing that the search found is distinguishably better.")
        text += remarks
    elif default and (against := compare(metric, chosen.row, default)):
        text.append(f"Against the best known default, {default.title}{sizes(chosen.row, default)}: {against.in_words}.")
    return headline, text, remarks
