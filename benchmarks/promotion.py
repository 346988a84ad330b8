"""Compares rules of early stopping on the learning curves of recorded studies.

    python benchmarks/promotion.py [--orders 60] [--output benchmarks/results/promotion.csv]

The trials of a study that have both a rung and an end are replayed in random orders, baselines first, one at a
time, under each rule; a stopped trial's end is hidden until it is thawed. All rules have the same guards and the
same number of places (`autopeft.promotion`), and differ in the order that places go by:

    none         every trial goes on
    random       by lot
    quality      quality at the rung
    front-index  number of non-dominated layers above, over quality at the rung and the computed costs
    bands-front  half of the places by quality within bands of size, half by probability of the front: the rule of `search`
    bands-thaw   the same, and stopped trials go on once they are more likely than not on it: `search` as it is

Per study and rule, over the orders: share of the steps spent (a thawed trial is trained anew from the start), share
of the hypervolume of all ends that is kept, how many of the five best ends by the search split, and of the front,
are kept, with the 5 % and 95 % quantiles of the hypervolume. Trials that were stopped when the study was recorded have no end and are left
out, which spares every rule the easiest cases.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from autopeft.front import Axes, front_numbers, non_dominated, objective_values, sign
from autopeft.promotion import Ranking, Standing, bands_and_front, decide, thaw
from autopeft.record import StudyRecord, read
from autopeft.spec import COMPUTED, StudySpec
from autopeft.surrogate.rungs import RungModel
from autopeft.trial import Observation, Origin, Trial, TrialState

ROOT = Path(__file__).parent.parent
BEST = 5
Places = dict[str, tuple[int, int]]


def by_quality(here: Standing, others: Sequence[Standing], trials: Sequence[Trial], model: RungModel, spec: StudySpec) -> Places:
    return {"by quality": (1 + sum(s.quality > here.quality for s in others), 1 + len(others))}


def by_front_index(here: Standing, others: Sequence[Standing], trials: Sequence[Trial], model: RungModel, spec: StudySpec) -> Places:
    costs = [o.name for o in spec.objectives if o.name in COMPUTED]
    Y = np.array([[s.quality, *(-s.trial.computed[c] for c in costs)] for s in (here, *others)])
    ahead, left = 0, np.arange(len(Y))
    while not (layer := non_dominated(Y[left]))[left == 0].any():
        ahead, left = ahead + int(layer.sum()), left[~layer]
    return {"by front index": (1 + ahead, len(Y))}


def by_lot(rng: np.random.Generator) -> Ranking:
    def ranking(here: Standing, others: Sequence[Standing], trials: Sequence[Trial], model: RungModel, spec: StudySpec) -> Places:
        return {"by lot": (1 + int(rng.integers(1 + len(others))), 1 + len(others))}

    return ranking


RULES: Mapping[str, Callable[[np.random.Generator], Ranking | None]] = {
    "none": lambda rng: None,
    "random": by_lot,
    "quality": lambda rng: by_quality,
    "front-index": lambda rng: by_front_index,
    "bands-front": lambda rng: bands_and_front,
    "bands-thaw": lambda rng: bands_and_front,
}


def curve(trial: Trial) -> tuple[Observation, Observation] | None:
    """The rung and the end of a trial's first seed."""
    end = trial.final()
    rungs = [o for o in trial.observations if end and not o.is_final and o.seed == end.seed]
    return (rungs[-1], end) if end and rungs else None


def replay(trials: Sequence[Trial], spec: StudySpec, ranking: Ranking | None, thaws: bool) -> tuple[list[Trial], int]:
    """The trials as the rule would have left them, in the order given, and the steps that it would have spent."""
    seen: list[Trial] = []
    steps = 0
    for number, trial in enumerate(trials):
        found = curve(trial)
        assert found is not None
        rung, end = found
        running = replace(trial, number=number, state=TrialState.RUNNING, observations=())
        go_on = ranking is None or decide(running, rung, seen, spec, ranking).go_on
        steps += end.step if go_on else rung.step
        state = TrialState.COMPLETE if go_on else TrialState.EARLY_STOPPED
        seen.append(replace(running, state=state, observations=found if go_on else (rung,)))
        while thaws and (again := thaw(seen, spec)):
            original = curve(trials[again.number])
            assert original is not None
            steps += original[1].step
            seen[again.number] = replace(again, state=TrialState.COMPLETE, observations=original)
    return seen, steps


def compare(record: StudyRecord, orders: int, rule: str) -> dict[str, Any]:
    spec, axes = record.spec, Axes.from_json(record.environment["axes"])
    trials = [t for t in record.complete if curve(t)]
    best = sorted(trials, key=lambda t: -sign(spec.quality) * m.value if (m := t.value(spec.quality, spec.quality)) else 0.0)[:BEST]
    front = front_numbers(trials, spec)
    all_steps = sum(t.observations[-1].total_steps for t in trials)
    whole = axes.hypervolume(objective_values(trials, spec)[1])
    rows = []
    for order in range(orders):
        rng = np.random.default_rng(order)
        first = [t for t in trials if t.origin is Origin.BASELINE]
        rest = [t for t in trials if t.origin is not Origin.BASELINE]
        shuffled = first + [rest[i] for i in rng.permutation(len(rest))]
        seeded = spec.model_copy(update={"seeds": spec.seeds.model_copy(update={"search": order})})
        left, steps = replay(shuffled, seeded, RULES[rule](rng), rule == "bands-thaw")
        ended = {shuffled[t.number].number for t in left if t.state is TrialState.COMPLETE}
        volume = axes.hypervolume(objective_values([t for t in left if t.state is TrialState.COMPLETE], spec)[1])
        rows.append((steps / all_steps, volume / whole, len(ended & {t.number for t in best}), len(ended & set(front))))
    spent, volumes, top, on = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    low, high = np.quantile(volumes, [0.05, 0.95])
    return {
        "study": record.folder.name,
        "rule": rule,
        "trials": len(trials),
        "orders": orders,
        "steps_share": f"{spent.mean():.3f}",
        "hypervolume_kept": f"{volumes.mean():.3f}",
        "hypervolume_low": f"{low:.3f}",
        "hypervolume_high": f"{high:.3f}",
        f"best_{BEST}_kept": f"{top.mean():.2f}",
        "front_kept": f"{on.mean():.2f} of {len(front)}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, default=60)
    parser.add_argument("--studies", type=Path, nargs="+", default=sorted(p.parent for p in (ROOT / "studies").glob("*/observations.csv")))
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "promotion.csv")
    arguments = parser.parse_args()
    rows = [row for study in arguments.studies for row in map(partial(compare, read(study), arguments.orders), RULES)]
    with arguments.output.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        print(*row.values(), sep="  ")


if __name__ == "__main__":
    main()
