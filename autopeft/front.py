"""Pareto front, hypervolume and the picks of a study. numpy alone.

    n  points, m  objectives, [n, m]  one row per point
    Y  objectives as points of the study's axes: every column maximised, reference point 0

Edge rules: a row with a NaN is never on a front and dominates nothing; equal rows do not dominate one
another, so all of them stay; no points have hypervolume 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from autopeft.spec import COUNTS, DIRECTIONS, StudySpec
from autopeft.trial import Curve, Measurement, Origin, Trial, TrialState
from autopeft_searchspace.rules import trainable_parameters
from autopeft_searchspace.space import TOP_LAYERS, Space

Floats = NDArray[np.float64]
Split = Literal["search", "confirm"]
SIZES = (10_000, 100_000, 1_000_000)


def non_dominated(Y: ArrayLike) -> NDArray[np.bool_]:
    """Which rows of Y [n, m], all maximised, no other row dominates. [n]"""
    Y = np.asarray(Y, dtype=float)
    at_least = (Y[:, None, :] >= Y[None, :, :]).all(-1)
    above = (Y[:, None, :] > Y[None, :, :]).any(-1)
    return ~(at_least & above).any(0) & ~np.isnan(Y).any(-1)


def share_on_front(C: Floats, draws: Floats) -> Floats:
    """Share of the draws [d, n] (qualities, maximised) in which no trial that is as cheap in every cost of
    C [n, k] (minimised) has a higher quality. [n]

    Of trials that never differ in quality and cost, all are on the front.
    """
    shares = np.empty(len(C))
    for i, own in enumerate(C):
        twins = (own == C).all(1) & (draws == draws[:, i : i + 1]).all(0)
        rivals = (own >= C).all(1) & ~twins
        beaten = draws[:, rivals].max(1, initial=-np.inf) >= draws[:, i]
        shares[i] = 1.0 - beaten.mean()
    return shares


def hypervolume(Y: ArrayLike, reference: ArrayLike) -> float:
    """Exact volume between `reference` [m] and the points of Y [n, m] above it, all maximised.

    Slices along the last objective (HSO: While, Hingston, Barone and Huband, "A faster algorithm for
    calculating hypervolume", IEEE TEC 2006): milliseconds for a few hundred points up to m = 3, about
    a second for fronts of 100 points at m = 4.
    """
    Y, reference = np.asarray(Y, dtype=float), np.asarray(reference, dtype=float)
    return _volume((Y - reference)[(Y - reference > 0).all(-1)])


def _volume(P: Floats) -> float:
    """Volume of the union of boxes from 0 to the rows of P > 0."""
    if not len(P):
        return 0.0
    P = P[non_dominated(P)]
    P = P[np.argsort(-P[:, -1], kind="stable")]
    if P.shape[1] == 1:
        return float(P[0, 0])
    thickness = P[:, -1] - np.append(P[1:, -1], 0.0)
    if P.shape[1] == 2:
        return float(thickness @ np.maximum.accumulate(P[:, 0]))
    return sum(float(t) * _volume(P[: k + 1, :-1]) for k, t in enumerate(thickness) if t > 0)


@dataclass(frozen=True)
class Axis:
    """One objective's axis: `worst` becomes 0 and `best` 1, in log10 of max(value, floor) where there
    is a floor. Worst and best are in the objective's unit; which of them is larger gives the direction."""

    name: str
    worst: float
    best: float
    floor: float | None = None

    def points(self, values: ArrayLike) -> Floats:
        values = np.asarray(values, dtype=float)
        span = self._scaled(self.best) - self._scaled(self.worst)
        return (self._scaled(values) - self._scaled(self.worst)) / (span or 1.0)

    def _scaled(self, values: Any) -> Any:
        return values if self.floor is None else np.log10(np.maximum(values, self.floor))


@dataclass(frozen=True)
class Axes:
    """The fixed axes on which a study measures hypervolume: one per objective, in the spec's order.

    Quality runs from head-only's final value to the metric's perfect value, parameters from the whole
    base model down to the smallest non-empty adapter (in log10), memory from full fine-tuning to 0. So
    the reference point, 0 in every column, is a model as good as head-only at the price of full
    fine-tuning.
    """

    axes: tuple[Axis, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(axis.name for axis in self.axes)

    @property
    def reference(self) -> Floats:
        """The reference point. [m]"""
        return np.zeros(len(self.axes))

    def points(self, values: ArrayLike) -> Floats:
        """Objective values [n, m] in the order of `names` -> Y [n, m], maximised; NaN stays NaN."""
        values = np.asarray(values, dtype=float).reshape(-1, len(self.axes))
        return np.stack([axis.points(values[:, i]) for i, axis in enumerate(self.axes)], axis=1)

    def hypervolume(self, values: ArrayLike) -> float:
        """Hypervolume of objective values [n, m]; 1 would be a perfect, free model."""
        return hypervolume(self.points(values), self.reference)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Axes:
        return cls(tuple(Axis(**axis) for axis in data["axes"]))


def study_axes(spec: StudySpec, space: Space, trials: Sequence[Trial], full_memory_bytes: float | None = None) -> Axes | None:
    """The axes of a study once its head-only baseline is complete, to be kept from there on.

    full_memory_bytes: peak memory of full fine-tuning; needed where memory is an objective.
    Where a study has no complete head-only trial, the worst quality so far takes its place; None where
    no trial is complete.
    """
    start = head_only_quality(trials, spec)
    if start is None:
        return None
    axes = []
    for objective in spec.objectives:
        if objective.name == "base_parameters":
            axes.append(Axis(objective.name, 2.0 * space.shape.total_parameters, 0.0))
        elif objective.name in COUNTS:
            floor = float(smallest_adapter(space))
            axes.append(Axis(objective.name, float(space.shape.total_parameters), floor, floor))
        elif objective.name == "peak_memory_bytes":
            if not full_memory_bytes:
                raise ValueError("peak_memory_bytes is an objective: its axis needs full_memory_bytes, the memory of full fine-tuning")
            axes.append(Axis(objective.name, float(full_memory_bytes), 0.0))
        else:
            axes.append(Axis(objective.name, start.value, 1.0 if objective.direction == "maximize" else 0.0))
    return Axes(tuple(axes))


def head_only_quality(trials: Sequence[Trial], spec: StudySpec) -> Measurement | None:
    """Best final quality of the baselines that train the head alone; the worst final quality where there
    is none; None where no trial is complete."""
    found = [(t, q) for t in trials if (q := t.value(spec.quality, spec.quality))]
    heads = [q for t, q in found if t.origin is Origin.BASELINE and not t.configuration.components]
    if heads:
        return max(heads, key=lambda q: sign(spec.quality) * q.value)
    return min((q for _, q in found), key=lambda q: sign(spec.quality) * q.value, default=None)


def smallest_adapter(space: Space) -> int:
    """Parameters of the smallest non-empty adapter of the space."""
    counts = []
    for type in space.types:
        points: list[dict[str, Any]] = [{f"{other}.size": 0 for other in space.types}]
        for d in space.dimensions:
            owner, _, option = d.name.partition(".")
            if option == "size" and owner == type:
                values: Sequence[Any] = [v for v in d.values if v][:1]
            elif owner == type:
                values = d.values
            elif d.name in ("learning_rate", TOP_LAYERS):
                values = d.values[:1]
            else:
                continue
            points = [{**point, d.name: value} for point in points for value in values]
        for bits in ("roles.", "layers."):  # one at a time, where there is a choice
            names = [d.name for d in space.dimensions if d.name.startswith(bits) and False in d.values]
            points = [{**point, **{name: name == chosen for name in names}} for point in points for chosen in names] or points
        counts += [trainable_parameters(space.configuration(point), space.shape) for point in points]
    return min(count for count in counts if count > 0)


def sign(objective: str) -> int:
    """1 for an objective that is maximised, -1 for one that is minimised."""
    return 1 if DIRECTIONS[objective] == "maximize" else -1


def quality(trial: Trial, spec: StudySpec, split: Split = "search") -> Measurement | None:
    """Quality of a complete trial: on `search` that of the search's seed, on `confirm` the mean over
    replicates (standard error of a mean of independent ones)."""
    if split == "search" or trial.state is not TrialState.COMPLETE:
        return trial.value(spec.quality, spec.quality)
    found = [m for o in trial.replicates() if (m := o.measurements.get(f"confirm.{spec.quality}"))]
    if not found:
        return None
    error = math.sqrt(sum((m.standard_error or 0.0) ** 2 for m in found)) / len(found)
    return Measurement(sum(m.value for m in found) / len(found), found[0].unit, error or None)


def objective_values(trials: Sequence[Trial], spec: StudySpec, split: Split = "search") -> tuple[list[Trial], Floats]:
    """Complete trials with every objective known, and their values [n, m] in the spec's order."""
    kept, rows = [], []
    for trial in trials:
        if trial.state is not TrialState.COMPLETE:
            continue
        row = [quality(trial, spec, split) if o.name == spec.quality else trial.value(o.name, spec.quality) for o in spec.objectives]
        if all(m is not None and math.isfinite(m.value) for m in row):
            kept.append(trial)
            rows.append([m.value for m in row if m is not None])
    return kept, np.array(rows, dtype=float).reshape(len(kept), len(spec.objectives))


def front_numbers(trials: Sequence[Trial], spec: StudySpec, split: Split = "search") -> tuple[int, ...]:
    """Numbers of the trials on the Pareto front, ascending."""
    kept, values = objective_values(trials, spec, split)
    on = non_dominated(values * [sign(o.name) for o in spec.objectives])
    return tuple(sorted(t.number for t, is_on in zip(kept, on, strict=True) if is_on))


def picks(trials: Sequence[Trial], spec: StudySpec, axes: Axes, split: Split = "search") -> dict[str, int]:
    """`best`, `knee` and `smallest-within-1se` -> trial number; empty where no trial is complete.

    best: highest quality on the front; of equal ones the smallest.
    knee: the front point farthest above the chord from the cheapest to the best point, in the plane of
        quality and cost, each scaled to the front's own range. Cost is the mean over the cost axes,
        so that two costs do not outvote quality.
    smallest-within-1se: fewest trainable parameters among all trials whose quality is within one
        standard error (the best trial's) of the best.
    """
    kept, values = objective_values(trials, spec, split)
    if not kept:
        return {}
    Y = axes.points(values)
    parameters = np.array([t.computed["trainable_parameters"] for t in kept])
    on = np.flatnonzero(non_dominated(Y))
    best = on[np.lexsort((parameters[on], -Y[on, 0]))[0]]
    knee = on[_knee(Y[on])]
    error = quality(kept[best], spec, split)
    margin = (error.standard_error or 0.0) if error else 0.0
    within = np.flatnonzero(sign(spec.quality) * (values[best, 0] - values[:, 0]) <= margin)
    smallest = within[np.lexsort((-Y[within, 0], parameters[within]))[0]]
    return {"best": kept[best].number, "knee": kept[knee].number, "smallest-within-1se": kept[smallest].number}


def _knee(Y: Floats) -> int:
    """Row of Y [n, m] (a front; quality first) farthest above the chord; of equal ones the best."""
    low, high = Y.min(0), Y.max(0)
    scaled = (Y - low) / np.where(high > low, high - low, 1.0)
    good, cheap = scaled[:, 0], scaled[:, 1:].mean(1)
    start, end = np.lexsort((-good, -cheap))[0], np.lexsort((-cheap, -good))[0]
    chord = np.array([good[end] - good[start], cheap[end] - cheap[start]])
    above = (cheap - cheap[start]) * chord[0] - (good - good[start]) * chord[1]
    return int(np.lexsort((-good, -np.round(above, 12)))[0])


def quality_within(
    trials: Sequence[Trial], spec: StudySpec, sizes: Sequence[int] = SIZES, split: Split = "search"
) -> dict[str, float | None]:
    """Best quality of the complete trials with at most that many trainable parameters, by size."""
    found = [(t.computed["trainable_parameters"], q.value) for t in trials if (q := quality(t, spec, split))]
    best = max if sign(spec.quality) > 0 else min
    return {str(size): best((q for count, q in found if count <= size), default=None) for size in sizes}


def progress(trials: Sequence[Trial], spec: StudySpec, axes: Axes, sizes: Sequence[int] = SIZES) -> tuple[Curve, ...]:
    """Hypervolume and best quality by size after each finished trial, in the order of their numbers.

    Only the front so far is carried along, so that thousands of trials take a second.
    """
    curve: list[Curve] = []
    values, volume, seconds = np.empty((0, len(axes.axes))), 0.0, 0.0
    best = quality_within((), spec, sizes)
    better = max if sign(spec.quality) > 0 else min
    for trial in sorted((t for t in trials if t.state.finished), key=lambda t: t.number):
        seconds += trial.seconds
        new = objective_values([trial], spec)[1]
        if len(new):
            both = np.concatenate([values, new])
            on = non_dominated(axes.points(both))
            values = both[on]
            volume = axes.hypervolume(values) if on[-1] else volume
            for size, found in quality_within([trial], spec, sizes).items():
                known = [q for q in (best[size], found) if q is not None]
                best = {**best, size: better(known, default=None)}
        curve.append(Curve(len(curve) + 1, seconds, volume, best))
    return tuple(curve)
