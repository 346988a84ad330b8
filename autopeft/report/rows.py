"""One row per trial, as every table and figure shows it, and how two rows compare.

Quality of a row is that of the *search* split and the search's own seed, so that trials compare.
Its `confirm` is the mean over all its seeds on the *confirm* split, which no sampler ever saw.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from autopeft.record import StudyRecord
from autopeft.report import words
from autopeft.spec import DIRECTIONS, UNITS
from autopeft.statistics import Estimate, difference, mean_over_seeds, pooled_spread, share_error
from autopeft.trial import Measurement, Origin, Trial, TrialState
from autopeft_searchspace.configuration import Configuration, ranges

PROPORTIONS = ("accuracy", "exact_match")
"""Metrics that are shares of examples, whose intervals are exact."""


SEED_SPREAD = 0.008
"""Standard deviation between seeds, of metrics on a scale of 1, that is assumed until a study has
replicates of its own: the median over re-runs in Hugging Face peft's method comparison."""


@dataclass(frozen=True)
class ObjectiveView:
    """name, direction and unit as in the spec; title for people."""

    name: str
    direction: str
    unit: str
    title: str

    @property
    def better(self) -> str:
        return "higher is better" if self.direction == "maximize" else "lower is better"


@dataclass(frozen=True)
class Row:
    """values: objective -> value, None where there is none. quality: with interval, of a complete trial.

    seen_quality, fidelity: quality where the search's run last stood, and the share of its steps there.
    confirm: None where nothing was confirmed. picks: names of the picks that this trial is.
    spread: of the study between seeds, which a single seed of this trial cannot tell.
    examples: size of each split where quality is a share of examples, else empty.
    """

    trial: Trial
    values: Mapping[str, float | None]
    standard_errors: Mapping[str, float | None]
    quality: Estimate | None
    seen_quality: float | None
    fidelity: float | None
    confirm: Estimate | None
    on_front: bool
    picks: tuple[str, ...]
    spread: float
    examples: Mapping[str, int]

    @property
    def number(self) -> int:
        return self.trial.number

    @property
    def is_baseline(self) -> bool:
        return self.trial.origin is Origin.BASELINE

    @property
    def types(self) -> tuple[str, ...]:
        """Each once; without adapters the strategy that trains the base model, or `head only`."""
        return tuple(dict.fromkeys(c.type for c in self.trial.configuration.components)) or (_without_adapters(self.trial.configuration),)

    @property
    def configuration(self) -> str:
        return self.trial.configuration.in_words()

    @property
    def title(self) -> str:
        """A baseline's name, else types, sizes and layers."""
        return self.trial.label or _in_brief(self.trial.configuration)

    @property
    def parameters(self) -> float:
        return self.trial.computed.get("trainable_parameters", 0.0)

    @property
    def seeds(self) -> int:
        return len(self.trial.replicates())

    def measured(self, name: str) -> float | None:
        """A further measurement at the last step, e.g. `train_seconds`."""
        last = self.trial.final()
        found = known(last.measurements.get(name)) if last else None
        return found.value if found else None

    def by_seed(self, split: str, metric: str) -> dict[int, tuple[float, float | None]]:
        """seed -> (quality, standard error) at the last step on `search` or `confirm`."""
        found = {o.seed: known(o.measurements.get(f"{split}.{metric}")) for o in self.trial.replicates()}
        count = self.examples.get(split)
        return {seed: (m.value, share_error(m.value, count) if count else m.standard_error) for seed, m in found.items() if m}


def _in_brief(configuration: Configuration) -> str:
    """`prefix 24 + lora 8, layers 0-5`; learning rate and options left out."""
    adapters = configuration.components
    placements = {c.layers for c in adapters}
    if len(placements) == 1:
        return f"{' + '.join(f'{c.type} {c.size}' for c in adapters)}, layers {ranges(placements.pop())}"
    return " + ".join(f"{c.type} {c.size} in layers {ranges(c.layers)}" for c in adapters) or _without_adapters(configuration)


def _without_adapters(configuration: Configuration) -> str:
    return configuration.strategy.name if configuration.strategy else "head only"


def is_better(metric: str, difference: Estimate) -> bool:
    """Whether the whole interval of a difference in `metric` lies on the better side of 0."""
    return difference.low > 0 if DIRECTIONS[metric] == "maximize" else difference.high < 0


@dataclass(frozen=True)
class Comparison:
    """How a trial differs from another: estimate is this minus other, in the metric's own direction."""

    other: Row
    metric: str
    estimate: Estimate

    @property
    def is_better(self) -> bool:
        """The whole interval lies on the better side of 0."""
        return is_better(self.metric, self.estimate)

    @property
    def distinguishable(self) -> bool:
        return not self.estimate.contains_zero

    @property
    def in_words(self) -> str:
        """`+1.2 points (−0.4 to +2.8): not distinguishable`."""
        return f"{words.difference(self.metric, self.estimate)}{'' if self.distinguishable else ': not distinguishable'}"


def known(measurement: Measurement | None) -> Measurement | None:
    """A measurement whose value is a finite number; its error None unless that is finite too."""
    if measurement is None or not math.isfinite(measurement.value):
        return None
    error = measurement.standard_error
    return measurement if error is None or math.isfinite(error) else replace(measurement, standard_error=None)


def objective_views(record: StudyRecord) -> tuple[ObjectiveView, ...]:
    return tuple(ObjectiveView(o.name, o.direction, UNITS.get(o.name, ""), words.name(o.name)) for o in record.spec.objectives)


def seed_spread(record: StudyRecord) -> float:
    """Standard deviation of quality between seeds, learnt from the study's replicates where it has any."""
    name = f"confirm.{record.spec.quality}"
    groups = [[m.value for o in t.replicates() if (m := known(o.measurements.get(name)))] for t in record.complete]
    learnt = pooled_spread(groups)
    return learnt if learnt is not None else 0.0 if record.spec.quality in UNITS else SEED_SPREAD


def make_row(record: StudyRecord, trial: Trial, *, on_front: bool, chosen: Mapping[str, int], spread: float) -> Row:
    metric = record.spec.quality
    found = {o.name: known(trial.value(o.name, metric)) for o in record.spec.objectives}
    own, examples = found[metric], _examples(record)
    last = max((o for o in trial.observations if o.seed == trial.observations[0].seed), key=lambda o: o.step, default=None)
    seen = known(last.measurements.get(f"search.{metric}")) if last else None
    row = Row(
        trial=trial,
        values={name: m.value if m else None for name, m in found.items()},
        standard_errors={name: m.standard_error if m else None for name, m in found.items()},
        quality=mean_over_seeds([own.value], [own.standard_error], examples.get("search"), spread) if own else None,
        seen_quality=seen.value if seen else None,
        fidelity=last.step / last.total_steps if last else None,
        confirm=None,
        on_front=on_front,
        picks=tuple(name for name, number in chosen.items() if number == trial.number),
        spread=spread,
        examples=examples,
    )
    return replace(row, confirm=_confirmed(record, row)) if trial.state is TrialState.COMPLETE else row


def compare(metric: str, row: Row, other: Row) -> Comparison | None:
    """row minus other on the confirm split, on the search split where one of them was not confirmed."""
    for split in ("confirm", "search"):
        own, its = (r.by_seed(split, metric) for r in (row, other))
        if own and its:
            return Comparison(other, metric, difference(own, its, row.spread))
    return None


def _confirmed(record: StudyRecord, row: Row) -> Estimate | None:
    found = row.by_seed("confirm", record.spec.quality).values()
    return mean_over_seeds([v for v, _ in found], [e for _, e in found], row.examples.get("confirm"), row.spread) if found else None


def _examples(record: StudyRecord) -> dict[str, int]:
    counts = record.environment.get("data", {}).get("counts", {})
    return {split: counts[split] for split in ("search", "confirm") if counts.get(split)} if record.spec.quality in PROPORTIONS else {}
