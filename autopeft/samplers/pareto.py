"""The sampler of this project: exact expected hypervolume improvement over whole configurations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from optuna.study import Study, StudyDirection

from autopeft.errors import near
from autopeft.front import Axes, Axis
from autopeft.samplers.domain import Condition, Floats, Point
from autopeft.samplers.earlier import Results, evenly, front_points
from autopeft.samplers.history import History
from autopeft.samplers.problem import Problem
from autopeft.samplers.start import POOL, farthest
from autopeft.samplers.whole import Distributions, WholeSampler, exhausted, make_domain
from autopeft.surrogate.models import MODELS
from autopeft.surrogate.optimise import maximise

Known = Mapping[int | str, Callable[[Any], float]]


class ParetoSampler(WholeSampler):
    """Bayesian optimisation of a Pareto front over a mixed, conditional space.

    distributions: name -> Optuna distribution, or one of our `Space`s.
    conditions: name -> whether the dimension is active, given the active dimensions declared before it.
    known: objective (index or metric name) -> function that computes it; it is not learnt. Called for
        thousands of candidates, so it must be quick. Functions are given the parameters, or the
        `Configuration` for a `Space`.
    axes: scale and reference point of the hypervolume, one axis per objective in order; by default
        the range of the values seen.
    allowed: whether a configuration may be proposed at all.
    startup: trials with values before the surrogate takes over; until then points are spread out, or
        random where `spread` is off.
    surrogate: `gp`, `trees`, `saas` or `saas-nuts` (`surrogate.models`).
    copula: learn ranks instead of values, against outliers.
    earlier: results of earlier studies on the same distributions, each a list of (parameters, value of the
        first uncertain objective): points spread over their fronts take half of the start, and they
        are a trend that counts as far as it holds (`surrogate.trend`).
    batch: trials proposed together, without each other's results.
    seed: with the study, decides every proposal; without one, proposals differ from run to run.

    Never proposes what the study already has; raises `SpaceExhausted` when nothing is left. Standard
    errors, rungs, infeasible and running trials are read as `samplers.history` says. Where standard errors are
    known, what they explain of the values is not taken for signal, and a gain over the reference that is below
    `samplers.problem.CREDIBLE` of them does not count. Trials outside the distributions count for the front and
    are not learnt from. With one objective this is expected improvement. Raises ValueError where a known
    function raises or does not return a finite number.
    """

    def __init__(
        self,
        distributions: Distributions,
        *,
        conditions: Mapping[str, Condition] | None = None,
        known: Known | None = None,
        axes: Axes | None = None,
        allowed: Callable[[Any], bool] | None = None,
        startup: int = 8,
        spread: bool = True,
        surrogate: str = "gp",
        copula: bool = False,
        earlier: Sequence[Results] = (),
        batch: int = 1,
        seed: int | None = None,
    ) -> None:
        if surrogate not in MODELS:
            raise ValueError(f"unknown surrogate {surrogate!r}{near(surrogate, MODELS)}")
        if startup < 1 or batch < 1:
            raise ValueError(f"startup and batch must be at least 1, they are {startup} and {batch}")
        own = {name: checked(name, function) for name, function in (known or {}).items()}
        super().__init__(make_domain(distributions, conditions or {}, own), seed, allowed, batch)
        self._known, self._axes, self._startup, self._spread_out = own, axes, startup, spread
        self._surrogate, self._copula, self._earlier = surrogate, copula, earlier

    def choose(self, study: Study, history: History, rng: np.random.Generator) -> Point:
        learnable = [e for e in history.complete if e.point is not None]
        if len(learnable) < max(2, self._startup):
            return self._begin(study, history, rng) if self._spread_out else self.draw(history.taken, rng)
        known = self._known_by_index(study)
        problem = Problem(self.domain, history, self._axes_of(study, history), known, rng, self._copula, self._earlier)
        problem.model(self._surrogate)

        def evaluate(points: Sequence[Point]) -> tuple[list[Point], Floats]:
            kept, items = self.proposable(points, history.taken)
            return kept, problem.acquisition(kept, items) if kept else np.empty(0)

        if (listed := self.domain.listed()) is not None:
            points, values = evaluate(listed)
            best = points[int(np.argmax(values))] if points else None
        else:
            best = maximise(self.domain, evaluate, problem.parents, rng)
        if best is None:
            raise exhausted(history.taken)
        return best

    def _begin(self, study: Study, history: History, rng: np.random.Generator) -> Point:
        """A point of an earlier study's front for the first half of the start; then, of random points, the one
        farthest from those that the study has."""
        if self._earlier and len(history.entries) < self._startup // 2:
            known = self._known_by_index(study)
            signs = [1.0 if d is StudyDirection.MAXIMIZE else -1.0 for d in study.directions]
            order = [next(i for i in range(len(signs)) if i not in known), *known]
            fronts = front_points(self.domain, self._earlier, list(known.values()), [signs[i] for i in order])
            if first := self.proposable(evenly(fronts, self._startup // 2), history.taken)[0]:
                return first[0]
        points, items = self.proposable([self.domain.draw(rng) for _ in range(POOL)], history.taken)
        if not points:
            return self.draw(history.taken, rng)
        return points[farthest(self.domain, points, items, [e.point for e in history.entries if e.point is not None], self._known)]

    def _axes_of(self, study: Study, history: History) -> Axes:
        if self._axes is None:
            return seen_axes(study, history)
        if len(self._axes.axes) != len(study.directions):
            raise ValueError(f"axes are of {', '.join(self._axes.names)}; the study has {len(study.directions)} objectives")
        return self._axes

    def _known_by_index(self, study: Study) -> dict[int, Callable[[Any], float]]:
        """By index; functions of what is no objective of this study are left out."""
        names = list(study.metric_names or [])
        found: dict[int, Callable[[Any], float]] = {}
        for name, function in self._known.items():
            if isinstance(name, str) and name in names:
                found[names.index(name)] = function
            elif isinstance(name, int):
                if name not in range(len(study.directions)):
                    raise ValueError(f"known names objective {name}, the study has objectives 0 to {len(study.directions) - 1}")
                found[name] = function
        return found


def checked(name: int | str, function: Callable[[Any], float]) -> Callable[[Any], float]:
    """`function`, with what it was given in every error, and an error where it gives no finite number."""

    def value(item: Any) -> float:
        try:
            found = float(function(item))
        except Exception as error:
            raise ValueError(f"the function of known objective {name!r} failed on {item}: {error!r}") from error
        if not math.isfinite(found):
            raise ValueError(f"a known objective must be a finite number, {name!r} is {found} on {item}")
        return found

    return value


def seen_axes(study: Study, history: History) -> Axes:
    """Axes from a tenth below the worst to the best value seen, for a study without its own."""
    values = np.array([e.values for e in history.complete])
    axes = []
    for i, direction in enumerate(study.directions):
        if direction is StudyDirection.NOT_SET:
            raise ValueError(f"objective {i} has no direction; create the study with directions=['maximize', ...]")
        low, high = float(values[:, i].min()), float(values[:, i].max())
        margin = 0.1 * (high - low) or 1.0
        best, worst = (high, low - margin) if direction is StudyDirection.MAXIMIZE else (low, high + margin)
        axes.append(Axis(str(i), worst, best))
    return Axes(tuple(axes))
