"""One suggestion's problem: what is known, what is modelled, and what a candidate would add."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from autopeft.front import Axes, non_dominated
from autopeft.samplers.domain import Domain, Floats, Point
from autopeft.samplers.earlier import Results, fitted
from autopeft.samplers.history import Entry, History
from autopeft.surrogate.acquisition import Cells, cells, expected_improvement, log_tail
from autopeft.surrogate.copula import to_normal
from autopeft.surrogate.models import feasibility, surrogate
from autopeft.surrogate.posterior import Paths, Surrogate
from autopeft.surrogate.rungs import fit_rung
from autopeft.surrogate.trend import TrendPaths, fit_trend

PATHS = 32
"""Joint draws of the evaluated points that the improvement is averaged over."""
CREDIBLE = 0.5**0.5
"""Standard errors of a value, half of one of a difference, from which on a gain over the reference counts: else a
noisy study spends itself on the smallest adapters, where any gain at all would add the most hypervolume."""


class Problem:
    """known: objective index -> function of an item. axes: one per objective, in order.

    The first uncertain objective is integrated exactly, further ones are drawn along the paths.
    earlier: results of earlier studies, in this study's direction; they are the trend of the first uncertain
    objective, as far as they hold (`surrogate.trend`).
    copula: uncertain objectives as normal quantiles of their ranks (Salinas et al., ICML 2020), which tames
    outliers and gives up standard errors and rungs.
    """

    def __init__(
        self,
        domain: Domain,
        history: History,
        axes: Axes,
        known: Mapping[int, Callable[[Any], float]],
        rng: np.random.Generator,
        copula: bool = False,
        earlier: Sequence[Results] = (),
    ) -> None:
        self._domain, self._history, self._axes, self._known = domain, history, axes, known
        self._uncertain = [i for i in range(len(axes.axes)) if i not in known]
        exact = self._uncertain[0] if self._uncertain else 0
        self._order = [exact, *(i for i in range(len(axes.axes)) if i != exact)]
        self._seen = [e for e in history.complete if e.point is not None]
        self._base = self._seen + history.running
        self._columns = () if domain.derives else tuple(known)
        self._X = self._encode(self._base)
        Y = axes.points([e.values for e in history.complete if e.values])
        if copula:
            Y[:, self._uncertain] = to_normal(Y[:, self._uncertain])
        self._copula, inside = copula, np.array([e.point is not None for e in history.complete], dtype=bool)
        self._Y, self._outside = Y[inside], Y[~inside][:, self._order]
        self._noise = np.zeros(len(self._seen)) if copula or not self._uncertain else self._known_noise(exact)
        self._margin = CREDIBLE * float(np.sqrt(np.median(self._noise))) if len(self._noise) else 0.0
        self._rng, self._luck = rng, rng.standard_normal((PATHS, len(axes.axes)))
        self._paths: dict[int, Paths] = {}
        self._regions: list[Cells] = []
        upward = 1.0 if axes.axes[exact].best > axes.axes[exact].worst else -1.0
        self._earlier = [[(params, upward * value) for params, value in results] for results in earlier]
        self._feasible: Callable[[Floats], Floats] | None = None

    @property
    def parents(self) -> list[Point]:
        """Points on the front of what was observed."""
        return [e.point for e, on in zip(self._seen, non_dominated(self._Y), strict=True) if on and e.point is not None]

    def model(self, name: str) -> None:
        """Fit the surrogate and cut the known objectives into cells, once per path."""
        groups = self._domain.groups()
        groups += range(max(groups) + 1, max(groups) + 1 + len(self._columns))
        fit = surrogate(name, groups, self._size_feature(), int(self._rng.integers(2**31)))
        self._paths = {i: self._draw(fit, i) for i in self._uncertain}
        known = {i: self._known_base(i) for i in self._known}
        for s in range(PATHS if self._uncertain else 1):
            Y = np.stack([self._paths[i].values[s] if i in self._paths else known[i] for i in self._order], axis=1)
            self._regions.append(self._cells(np.concatenate([Y, self._outside])))
        if infeasible := [e for e in self._history.entries if e.infeasible and e.point is not None]:
            self._feasible = feasibility(fit, self._X[: len(self._seen)], self._encode(infeasible))

    def acquisition(self, points: Sequence[Point], items: Sequence[Any]) -> Floats:
        """Log of expected hypervolume improvement times probability of feasibility. [c]"""
        computed = {i: self._axes.axes[i].points([f(item) for item in items]) for i, f in self._known.items()}
        X = self._features(points, items, computed)
        predicted = {i: paths.predict(X) for i, paths in self._paths.items()}
        exact, total, tail = self._order[0], np.zeros(len(points)), np.full(len(points), -np.inf)
        for s, region in enumerate(self._regions):
            columns = [self._column(i, s, computed, predicted) for i in self._order[1:]]
            known = np.stack(columns, axis=1) if columns else np.empty((len(points), 0))
            mean, variance = (p[s] for p in predicted[exact]) if exact in predicted else (computed[exact], np.zeros(len(points)))
            gained = expected_improvement(mean - self._margin, variance, known, region)
            if (none := gained == 0).any():
                tail[none] = np.maximum(tail[none], log_tail(mean[none] - self._margin, variance[none], known[none], region))
            total += gained
        with np.errstate(divide="ignore"):
            value = np.where(total > 0, np.log(total / len(self._regions)), tail)
            return value + np.log(self._feasible(X)) if self._feasible else value

    def _column(self, i: int, path: int, computed: Mapping[int, Floats], predicted: Mapping[int, tuple[Floats, Floats]]) -> Floats:
        """Coordinates [c] of the candidates in a further objective: known, or drawn along the path."""
        if i in computed:
            return computed[i]
        mean, variance = predicted[i]
        return mean[path] + np.sqrt(variance[path]) * self._luck[path, i]

    def _draw(self, fit: Surrogate, i: int) -> Paths:
        """Joint draws of uncertain objective `i` at the base points; rungs are weak observations."""
        axis = self._axes.axes[i]
        y, noise = list(self._Y[:, i]), [0.0] * len(self._seen)
        weak: list[Entry] = []
        if i == self._uncertain[0] and not self._copula:  # ranks have no errors, and no rungs beside them
            noise = list(self._noise)
            for entry, value, error in self._from_rungs(i):
                weak.append(entry)
                y.append(float(axis.points(value)))
                noise.append(float(axis.points(value + error) - axis.points(value)) ** 2)
        X = np.concatenate([self._X[: len(self._seen)], self._encode(weak)])
        if not self._earlier or i != self._uncertain[0]:
            return fit(X, np.array(y), np.array(noise)).paths(self._X, PATHS, self._rng)
        n = len(self._seen)
        trend = fit_trend(fitted(self._domain, self._earlier, self._point_features, fit), X[:n], np.array(y[:n]))
        paths = fit(X, np.array(y) - trend(X), np.array(noise)).paths(self._X, PATHS, self._rng)
        return TrendPaths(trend, paths, paths.values + trend(self._X))

    def _known_noise(self, i: int) -> Floats:
        """Variance [n] of the values seen of objective `i`, on its axis."""
        values = np.array([e.values[i] for e in self._seen if e.values])
        errors = np.array([e.standard_error for e in self._seen])
        return (self._axes.axes[i].points(values + errors) - self._Y[:, i]) ** 2

    def _cells(self, Y: Floats) -> Cells:
        """Cells above the margin in the exact objective. Y [b, m] in the order of `_order`."""
        return cells(np.column_stack([Y[:, 0] - self._margin, Y[:, 1:]]))

    def _from_rungs(self, i: int) -> list[tuple[Entry, float, float]]:
        """Trials that stand at a rung, with what their last rung says of the end: value and error."""
        found = []
        for entry in self._history.entries:
            if entry.point is None or entry.infeasible or entry.values is not None or not entry.rungs:
                continue
            last = max(entry.rungs, key=lambda r: r.share)
            pairs = [(r.value, e.values[i]) for e in self._history.complete for r in e.rungs if r.share == last.share and e.values]
            if model := fit_rung([rung for rung, _ in pairs], [end for _, end in pairs]):
                found.append((entry, last.value + model.bias, float(np.hypot(last.standard_error, model.spread))))
        return found

    def _known_base(self, i: int) -> Floats:
        running = [self._known[i](e.item) for e in self._base[len(self._seen) :]]
        return np.concatenate([self._Y[:, i], self._axes.axes[i].points(running)])

    def _encode(self, entries: Sequence[Entry]) -> Floats:
        return self._point_features([e.point for e in entries if e.point is not None], [e.item for e in entries])

    def _point_features(self, points: Sequence[Point], items: Sequence[Any] | None = None) -> Floats:
        items = [self._domain.item(p) for p in points] if items is None else items
        computed = {i: self._axes.axes[i].points([self._known[i](item) for item in items]) for i in self._columns}
        return self._features(points, items, computed)

    def _features(self, points: Sequence[Point], items: Sequence[Any], computed: Mapping[int, Floats]) -> Floats:
        """The domain's encoding; where it derives nothing, known objectives are features too, as costs."""
        return np.column_stack([self._domain.encode(points, items), *(1 - np.clip(computed[i], -1.0, 2.0) for i in self._columns)])

    def _size_feature(self) -> int | None:
        """The feature that says how much a point can change: the first known cost, where the domain names none."""
        costs = [k for k, i in enumerate(self._columns) if self._axes.axes[i].best < self._axes.axes[i].worst]
        return len(self._domain.groups()) + costs[0] if costs else self._domain.size_feature()
