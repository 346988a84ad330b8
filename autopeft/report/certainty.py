"""How sure the front is, given that qualities are measured with error: which trials would be on it if all
were measured again, and whether a smaller configuration does as well as a pick.

    n  complete trials, k  costs, d  draws

Qualities come from the confirm split, which no choice was made by, so that the best of many lucky trials
is not taken at its word; from the search split only where a trial has not been confirmed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autopeft.front import share_on_front, sign
from autopeft.record import StudyRecord
from autopeft.report.rows import Comparison, Row, compare
from autopeft.trial import TrialState

DRAWS, FEWEST_DRAWS = 1000, 200
ALL_DRAWS = 400_000
"""Draws times trials, about, so that thousands of trials take seconds."""
WORTH_SAYING = 1.5
"""A configuration is called smaller where it has this many times fewer parameters."""


def front_probabilities(record: StudyRecord, rows: Sequence[Row]) -> dict[int, float]:
    """Trial number -> probability of being on the front; complete trials with every objective known.

    Each draw gives every trial a quality from a normal distribution around its measured one, with the
    errors of its data and of its seeds; costs are known. Errors are drawn independently. Trials share
    the examples that they are judged on, so that the truth is rather more certain than this.
    """
    costs = [o for o in record.spec.objectives if o.name != record.spec.quality]
    known = [row for row in rows if row.trial.state is TrialState.COMPLETE and all(v is not None for v in row.values.values())]
    found = [(row, *quality_and_error(record, row)) for row in known]
    if not found:
        return {}
    C = np.array([[-sign(o.name) * (row.values[o.name] or 0.0) for o in costs] for row, _, _ in found]).reshape(len(found), -1)
    mean, error = (np.array([entry[i] for entry in found], dtype=float) for i in (1, 2))
    number = max(FEWEST_DRAWS, min(DRAWS, ALL_DRAWS // len(found)))
    draws = sign(record.spec.quality) * mean + error * np.random.default_rng(0).standard_normal((number, len(found)))
    shares = share_on_front(C, draws)
    return {row.number: float(share) for (row, _, _), share in zip(found, shares, strict=True)}


def quality_and_error(record: StudyRecord, row: Row) -> tuple[float, float]:
    """Mean quality over seeds and its standard error, from data and seeds, of a complete trial."""
    seen = row.by_seed("confirm", record.spec.quality) or row.by_seed("search", record.spec.quality)
    values, errors = [v for v, _ in seen.values()], [e or 0.0 for _, e in seen.values()]
    return float(np.mean(values)), float(np.sqrt(np.mean(np.square(errors)) + row.spread**2 / len(values)))


@dataclass(frozen=True)
class Smaller:
    """A smaller configuration that does as well. comparison: it minus the larger one."""

    row: Row
    comparison: Comparison


def smaller_one(record: StudyRecord, row: Row, rows: Sequence[Row]) -> Smaller | None:
    """The confirmed trial with the fewest parameters that cannot be told from `row` in quality; None where
    no clearly smaller one does as well."""
    metric = record.spec.quality
    candidates = [r for r in rows if r.confirm and r.trial.configuration.components and r.parameters * WORTH_SAYING < row.parameters]
    for other in sorted(candidates, key=lambda r: (r.parameters, r.number)):
        comparison = compare(metric, other, row)
        if comparison is not None and not comparison.distinguishable:
            return Smaller(other, comparison)
    return None
