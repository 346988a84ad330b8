"""Early stopping: whether a trial that stands at a rung goes on.

Ranking by front index fails, for a configuration with almost no parameters is always on the front. So
half of the places go by quality within bands of parameters, half by the probability of being on the
final front. How many places there are follows from how well the rung has foretold the end so far. One
trial is decided at a time, with what is known then; a stopped one goes on later (it is thawed: Swersky, Snoek
and Adams, "Freeze-thaw Bayesian optimization", 2014) once it is more likely than not on the final front.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import ndtr
from scipy.stats import spearmanr

from autopeft.front import head_only_quality, sign
from autopeft.spec import COMPUTED, StudySpec
from autopeft.surrogate.rungs import RungModel, fit_rung
from autopeft.trial import Measurement, Observation, Origin, Trial, TrialState

BANDS = 4
FEWEST_PAIRS = 5
"""Trials with rung and end that a decision needs."""
FEWEST_PLACES, TRUSTED, USELESS = 1 / 3, 0.9, 0.3
"""A third goes on where the rung ranks as the end does (.9), all where it does not (.3)."""
CONTROLS = 0.2
LIKELY = 0.5
"""Probability of the final front from which a trial goes on, or is thawed, whatever its place."""


@dataclass(frozen=True)
class Decision:
    """reason: one line for the trial's note. correlation: rank correlation of rung and end, where it
    was measured. control: goes on though the rule would stop it, to measure that correlation."""

    go_on: bool
    reason: str
    correlation: float | None = None
    control: bool = False


@dataclass(frozen=True)
class Standing:
    """A trial at the rung. quality is signed, so that more is better; end: None while not known."""

    trial: Trial
    rung: Measurement
    quality: float
    end: float | None


class Ranking(Protocol):
    """Places (place, of how many) of a trial among those of its rung, in one or more orders; the share of those that
    go on is split evenly between the orders."""

    def __call__(
        self, here: Standing, others: Sequence[Standing], trials: Sequence[Trial], model: RungModel, spec: StudySpec
    ) -> Mapping[str, tuple[int, int]]: ...


def bands_and_front(
    here: Standing, others: Sequence[Standing], trials: Sequence[Trial], model: RungModel, spec: StudySpec
) -> dict[str, tuple[int, int]]:
    front = _front_rank(here, others, trials, model, spec)
    return {"in its size band": _band_rank(here, others), "by probability of the front": front}


def decide(
    trial: Trial, observation: Observation, trials: Sequence[Trial], spec: StudySpec, ranking: Ranking = bands_and_front
) -> Decision:
    """Whether `trial`, observed at a rung, goes on; `trials` is the whole study."""
    if trial.origin is Origin.BASELINE:
        return Decision(True, "baselines are never stopped")
    measured = observation.measurements.get(f"search.{spec.quality}")
    if measured is None or not math.isfinite(measured.value):
        return Decision(True, "the rung has no quality to judge by")
    if not _beats_head_only(trials, spec):
        return Decision(True, "no trial beats head-only by two standard errors yet")
    here = Standing(trial, measured, sign(spec.quality) * measured.value, None)
    others = [s for t in trials if t.number != trial.number and (s := _standing(t, observation, spec))]
    pairs = [(s.quality, s.end) for s in others if s.end is not None]
    if len(pairs) < FEWEST_PAIRS:
        return Decision(True, f"{len(pairs)} trials have reached the end from this rung, {FEWEST_PAIRS} are needed to judge")
    rung, end = (list(column) for column in zip(*pairs, strict=True))
    correlation = rank_correlation(rung, end)
    share = places(correlation, len(pairs))
    known = f"rung and end correlate {correlation:.2f} over {len(pairs)} trials"
    if share >= 1:
        return Decision(True, f"the rung is closed: {known}", correlation)
    model = fit_rung(rung, end)
    assert model is not None  # there are five pairs
    orders = ranking(here, others, trials, model, spec)
    where = "place " + ", ".join(f"{place} of {count} {order}" for order, (place, count) in orders.items()) + f" ({known})"
    if any(place <= math.ceil(share / len(orders) * count) for place, count in orders.values()):
        return Decision(True, where, correlation)
    if (probability := front_probability(here, trials, model, spec)) >= LIKELY:
        return Decision(True, f"on the front with a probability of {probability:.2f}; {where}", correlation)
    if np.random.default_rng([spec.seeds.search, trial.number]).random() < CONTROLS:
        return Decision(True, f"would have been stopped, runs on as a control: {where}", correlation, control=True)
    return Decision(False, where, correlation)


def thaw(trials: Sequence[Trial], spec: StudySpec) -> Trial | None:
    """The stopped trial that is likeliest on the final front, where that is at least `LIKELY`."""
    best: tuple[float, Trial] | None = None
    for trial in trials:
        if trial.state is TrialState.EARLY_STOPPED and trial.observations:
            rung = trial.observations[-1]
            here = _standing(trial, rung, spec)
            standing = [s for t in trials if (s := _standing(t, rung, spec)) and s.end is not None]
            model = fit_rung([s.quality for s in standing], [s.end for s in standing if s.end is not None])
            if here is None or model is None or len(standing) < FEWEST_PAIRS:
                continue
            probability = front_probability(here, trials, model, spec)
            if probability >= LIKELY and (best is None or probability > best[0]):
                best = probability, trial
    return best[1] if best else None


def rank_correlation(rung: Sequence[float], end: Sequence[float]) -> float:
    """Spearman's; 0 where one side is constant."""
    if len(set(rung)) < 2 or len(set(end)) < 2:
        return 0.0
    return float(spearmanr(rung, end).statistic)


def places(correlation: float, pairs: int) -> float:
    """Share of the trials that go on: linear in the correlation less one standard error (Fisher's z)."""
    careful = math.tanh(math.atanh(min(max(correlation, -0.999), 0.999)) - 1 / math.sqrt(max(1, pairs - 3)))
    trust = min(max((careful - USELESS) / (TRUSTED - USELESS), 0.0), 1.0)
    return 1 - (1 - FEWEST_PLACES) * trust


def _beats_head_only(trials: Sequence[Trial], spec: StudySpec) -> bool:
    """Whether some final quality is above head-only's by two standard errors of the difference. A study
    with baselines waits for head-only; without, the worst final quality stands for it."""
    waits = spec.baselines and not any(t.state is TrialState.COMPLETE and not t.configuration.components for t in trials)
    start = None if waits else head_only_quality(trials, spec)
    if start is None:
        return False
    finals = (m for t in trials if (m := t.value(spec.quality, spec.quality)))
    return any(sign(spec.quality) * (m.value - start.value) > 2 * _error(m, start) and m is not start for m in finals)


def _error(*measurements: Measurement) -> float:
    return math.hypot(*(m.standard_error or 0.0 for m in measurements))


def _standing(trial: Trial, observation: Observation, spec: StudySpec) -> Standing | None:
    name = f"search.{spec.quality}"
    for o in trial.observations:
        if (o.step, o.total_steps, o.seed) == (observation.step, observation.total_steps, observation.seed) and name in o.measurements:
            final = trial.value(spec.quality, spec.quality)
            rung = o.measurements[name]
            if math.isfinite(rung.value):
                return Standing(trial, rung, sign(spec.quality) * rung.value, None if final is None else sign(spec.quality) * final.value)
    return None


def _band_rank(here: Standing, others: Sequence[Standing]) -> tuple[int, int]:
    """Place by quality among the trials of the same band of parameters (quarters of their ranking), and
    their number."""
    size = np.log10([1 + s.trial.computed["trainable_parameters"] for s in (here, *others)])
    edges = np.quantile(size, np.arange(1, BANDS) / BANDS)
    bands = np.searchsorted(edges, size)
    rivals = [s for s, band in zip(others, bands[1:], strict=True) if band == bands[0]]
    return 1 + sum(s.quality > here.quality for s in rivals), 1 + len(rivals)


def _front_rank(here: Standing, others: Sequence[Standing], trials: Sequence[Trial], model: RungModel, spec: StudySpec) -> tuple[int, int]:
    """Place by the probability of being on the final front among all trials of the rung, and their number."""
    mine = front_probability(here, trials, model, spec)
    return 1 + sum(front_probability(s, trials, model, spec) > mine for s in others), 1 + len(others)


def front_probability(standing: Standing, trials: Sequence[Trial], model: RungModel, spec: StudySpec) -> float:
    """Probability that the end, judged by the rung, is above every final quality that costs no more."""
    costs = [o.name for o in spec.objectives if o.name in COMPUTED]
    own = standing.trial.computed
    rivals = [
        sign(spec.quality) * m.value
        for t in trials
        if t.number != standing.trial.number and (m := t.value(spec.quality, spec.quality)) and all(t.computed[c] <= own[c] for c in costs)
    ]
    if not rivals:
        return 1.0
    spread = math.hypot(model.spread, standing.rung.standard_error or 0.0) or 1e-12
    return float(ndtr((standing.quality + model.bias - max(rivals)) / spread))
