"""What a study says, read anew for every suggestion: no sampler keeps a state of its own.

Read from an Optuna trial:

    values                       of a COMPLETE trial
    constraints                  any above 0 makes it infeasible, whatever its state
    user_attrs["standard_error"] of the first uncertain objective's value
    user_attrs["rung"]           one or a list of {"share", "value"[, "standard_error"]}: what that
                                 objective was after a share of the training
    RUNNING trials               by their parameters, or by what this sampler proposed
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from autopeft.samplers.domain import Domain, Point

PROPOSED = "autopeft:proposed"


@dataclass(frozen=True)
class Rung:
    share: float
    value: float
    standard_error: float = 0.0


@dataclass(frozen=True)
class Entry:
    """One trial. point, item: None where the domain cannot express it. values: None unless COMPLETE."""

    point: Point | None
    item: Any
    values: tuple[float, ...] | None
    running: bool
    infeasible: bool
    standard_error: float
    rungs: tuple[Rung, ...]


@dataclass(frozen=True)
class History:
    """entries: every trial but the one asked for. taken: keys that may not be proposed again."""

    entries: tuple[Entry, ...]
    taken: frozenset[str]

    @cached_property
    def complete(self) -> list[Entry]:
        """Feasible trials with values."""
        return [e for e in self.entries if e.values is not None and not e.infeasible]

    @cached_property
    def running(self) -> list[Entry]:
        return [e for e in self.entries if e.running and e.point is not None]


def read_history(trials: Sequence[FrozenTrial], domain: Domain, number: int, batch: int = 1) -> History:
    """The history that trial `number` is to be proposed from. batch: trials that are proposed together; those
    before it in its batch count as running, whatever is known of them by now."""
    first = number - number % batch
    entries = tuple(_entry(trial, domain) for trial in trials if trial.number != number)
    if batch > 1:
        pairs = zip((t.number for t in trials if t.number != number), entries, strict=True)
        entries = tuple(replace(e, values=None, rungs=(), running=True, infeasible=False) if n >= first else e for n, e in pairs)
    return History(entries, frozenset(domain.key(e.item) for e in entries if e.point is not None))


def _entry(trial: FrozenTrial, domain: Domain) -> Entry:
    point = domain.from_params(trial.params)
    if point is None and PROPOSED in trial.system_attrs:
        point = domain.from_params({**json.loads(trial.system_attrs[PROPOSED]), **trial.params})
    rungs = trial.user_attrs.get("rung", ())
    told = [Rung(**r) for r in ([rungs] if isinstance(rungs, dict) else rungs)]
    values = trial.values if trial.state is TrialState.COMPLETE else None
    return Entry(
        point=point,
        item=None if point is None else domain.item(point),
        values=tuple(values) if values is not None and all(math.isfinite(v) for v in values) else None,
        running=trial.state is TrialState.RUNNING,
        infeasible=any(v > 0 for v in trial.constraints.values()),
        standard_error=_finite(trial.user_attrs.get("standard_error")),
        rungs=tuple(replace(r, standard_error=_finite(r.standard_error)) for r in told if math.isfinite(r.value)),
    )


def _finite(error: Any) -> float:
    """A standard error, 0 where it is not known."""
    return float(error) if error is not None and math.isfinite(error) else 0.0
