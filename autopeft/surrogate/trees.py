"""Extremely randomised trees (Geurts, Ernst and Wehenkel, Machine Learning 2006) as a posterior.

Every tree is grown on its own bootstrap sample, weighted by the precision of the observations, and is
taken as one draw of the objective; the spread of trees is the uncertainty (as in SMAC). No
assumption of smoothness, hence strong with few observations of a conditional space.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor

from autopeft.surrogate.posterior import Floats

TREES = 128


@dataclass(frozen=True)
class TreePaths:
    """chosen: the trees that stand for the paths."""

    posterior: TreePosterior
    chosen: NDArray[np.int64]
    values: Floats

    def predict(self, X: Floats) -> tuple[Floats, Floats]:
        trees = self.posterior.trees(X)
        mean = trees[self.chosen]
        return mean, np.full_like(mean, 1e-12) + trees.var(0)


@dataclass(frozen=True)
class TreePosterior:
    forest: Any

    def trees(self, X: Floats) -> Floats:
        """Prediction of every tree. [trees, c]"""
        rows = np.ascontiguousarray(X, dtype=np.float32)  # what scikit-learn's trees work on; its own checks cost ten times the prediction
        return np.stack([tree.tree_.predict(rows)[:, 0] for tree in self.forest.estimators_])

    def predict(self, X: Floats) -> tuple[Floats, Floats]:
        trees = self.trees(X)
        return trees.mean(0), trees.var(0) + 1e-12

    def paths(self, base: Floats, count: int, rng: np.random.Generator) -> TreePaths:
        chosen = rng.permutation(TREES)[:count]
        return TreePaths(self, chosen, self.trees(base)[chosen])

    def samples(self, X: Floats, count: int, rng: np.random.Generator) -> Floats:
        return self.paths(X, count, rng).values


def fit_trees(X: Floats, y: Floats, noise: Floats, seed: int = 0) -> TreePosterior:
    """X [n, d], y [n], noise [n] known variances (0 where unknown)."""
    floor = max(float(noise[noise > 0].min(initial=np.inf)), 1e-3 * float(y.var()) + 1e-12) if (noise > 0).any() else 1.0
    weights = 1.0 / np.maximum(noise, floor)
    forest = ExtraTreesRegressor(TREES, bootstrap=True, max_features=1.0, random_state=seed, n_jobs=1)
    return TreePosterior(forest.fit(X, y, sample_weight=weights / weights.mean()))
