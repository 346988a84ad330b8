"""What a report says, prepared once: figures, tables and the command line's closing lines read this."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from autopeft import front as fronts
from autopeft.errors import AutopeftError
from autopeft.layer_importance import space_of
from autopeft.record import StudyRecord
from autopeft.report import words
from autopeft.report.certainty import front_probabilities
from autopeft.report.picks import Pick, Verdict, judge
from autopeft.report.rows import Comparison, ObjectiveView, Row, compare, known, make_row, objective_views, seed_spread
from autopeft.statistics import rank_correlation
from autopeft.trial import Curve, TrialState


@dataclass(frozen=True)
class MemoryFit:
    """Predicted against measured peak memory over `trials` trials.

    median_error: median of |predicted / measured - 1|. rank: Spearman; None where it has no meaning.
    """

    trials: int
    median_error: float | None
    rank: float | None


@dataclass(frozen=True)
class RungTrust:
    """Rank correlation of quality at a rung (share of the steps) with the end, over `trials` trials."""

    share: float
    trials: int
    rank: float | None


@dataclass(frozen=True)
class Summary:
    """front: by rising number of parameters. chosen: name of a pick -> trial number. probability: of being
    on the front, of complete trials.

    random: progress of a random search on this study's axes, empty where none was given.
    baselines: in the order in which they ran, with how the best pick differs from each.
    """

    record: StudyRecord
    objectives: tuple[ObjectiveView, ...]
    rows: tuple[Row, ...]
    front: tuple[Row, ...]
    chosen: Mapping[str, int]
    verdict: Verdict
    progress: tuple[Curve, ...]
    baselines: tuple[tuple[Row, Comparison | None], ...]
    rungs: tuple[RungTrust, ...]
    memory: MemoryFit
    probability: Mapping[int, float]
    random: tuple[Curve, ...] = ()

    @property
    def quality(self) -> ObjectiveView:
        return self.objectives[0]

    @property
    def picks(self) -> tuple[Pick, ...]:
        return self.verdict.picks

    @property
    def complete(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.trial.state is TrialState.COMPLETE)

    @property
    def replicated(self) -> tuple[Row, ...]:
        return tuple(row for row in self.complete if row.seeds > 1)

    @property
    def states(self) -> dict[TrialState, int]:
        """Trials per state; states without trials are left out."""
        counts = {state: sum(row.trial.state is state for row in self.rows) for state in TrialState}
        return {state: number for state, number in counts.items() if number}

    @property
    def seconds(self) -> float:
        """Of training: all runs of all trials, side by side or not."""
        return sum(row.trial.seconds for row in self.rows)

    @property
    def seconds_used(self) -> float:
        """Wall time of the search, which is what a budget counts."""
        return float(self.record.environment.get("seconds_used") or self.seconds)

    @property
    def types(self) -> tuple[str, ...]:
        """Adapter types that were tried."""
        return tuple(sorted({type for row in self.rows for type in row.types}))

    def row(self, number: int) -> Row:
        return next(row for row in self.rows if row.number == number)


def summarise(record: StudyRecord, random: StudyRecord | None = None) -> Summary:
    """Everything that a report on `record` says. Studies that still run or have no usable trial are fine.

    random: a random search to show its progress beside. AutopeftError where the two do not compare.
    """
    axes = study_axes(record)
    if random and (why := difference(record, random)):
        raise AutopeftError(f"the hypervolume of {random.folder} does not stand beside that of {record.folder}: {why}")
    chosen = fronts.picks(record.trials, record.spec, axes) if axes else {}
    on_front = set(fronts.front_numbers(record.trials, record.spec))
    spread = seed_spread(record)
    rows = tuple(make_row(record, t, on_front=t.number in on_front, chosen=chosen, spread=spread) for t in record.trials)
    best = next((row for row in rows if row.number == chosen.get("best")), None)
    return Summary(
        record=record,
        objectives=objective_views(record),
        rows=rows,
        front=tuple(sorted((row for row in rows if row.on_front), key=lambda row: row.parameters)),
        chosen=chosen,
        verdict=judge(record, rows, chosen),
        progress=fronts.progress(record.trials, record.spec, axes) if axes else (),
        baselines=tuple(
            (row, compare(record.spec.quality, best, row) if best and best.number != row.number else None)
            for row in rows
            if row.is_baseline
        ),
        rungs=_rungs(record),
        memory=_memory(rows),
        probability=front_probabilities(record, rows),
        random=fronts.progress(random.trials, record.spec, axes) if random and axes else (),
    )


def difference(first: StudyRecord, other: StudyRecord) -> str:
    """Why qualities of the two do not compare, "" where they do."""
    if first.spec.quality != other.spec.quality:
        return f"it measures {words.name(other.spec.quality)} and not {words.name(first.spec.quality)}"
    one, two = (record.environment.get("data", {}).get("sha256") for record in (first, other))
    return "" if one == two else "it was judged on other data"


def study_axes(record: StudyRecord) -> fronts.Axes | None:
    """The axes that the study keeps, else those its trials give; None where no trial is complete."""
    if kept := record.environment.get("axes"):
        return fronts.Axes.from_json(kept)
    space = space_of(record.spec, record.shape, record.environment)
    return fronts.study_axes(record.spec, space, record.trials, record.environment.get("full_memory_bytes"))


def _rungs(record: StudyRecord) -> tuple[RungTrust, ...]:
    """How well each rung ranks the trials that ran on to the end."""
    name = f"search.{record.spec.quality}"
    pairs: dict[float, list[tuple[float, float]]] = {}
    for trial in record.complete:
        if (last := trial.final()) is None or (end := known(last.measurements.get(name))) is None:
            continue
        for o in trial.observations:
            if not o.is_final and o.seed == last.seed and (at := known(o.measurements.get(name))):
                pairs.setdefault(o.step / o.total_steps, []).append((at.value, end.value))
    return tuple(
        RungTrust(share, len(found), rank_correlation([a for a, _ in found], [b for _, b in found]))
        for share, found in sorted(pairs.items())
    )


def _memory(rows: tuple[Row, ...]) -> MemoryFit:
    found = [(row.trial.computed.get("peak_memory_bytes"), row.measured("measured_peak_memory_bytes")) for row in rows]
    pairs = [(predicted, measured) for predicted, measured in found if predicted and measured]
    error = statistics.median([abs(p / m - 1) for p, m in pairs]) if pairs else None
    return MemoryFit(len(pairs), error, rank_correlation([p for p, _ in pairs], [m for _, m in pairs]))
