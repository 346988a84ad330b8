"""Extremely randomised trees (Geurts, Ernst and Wehenkel, Machine Learning 2006) as a posterior.

Every tree is grown on its own bootstrap sample, weighted by the precision of the observations; the
spread of trees is the uncertainty (as in SMAC). No assumption of smoothness, hence strong with few
observations of a conditional space; but what no observation differs in is certain to it, so that a type
never tried promises nothing: start from a stratified design.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor

from autopeft.surrogate.posterior import Floats

TREES = 64
SMALLEST_VARIANCE = 1e-12


@dataclass(frozen=True)
class TreePaths:
    """groups: the trees whose mean stands for a path. [s, size of a group]"""

    posterior: TreePosterior
    groups: NDArray[np.int64]
    values: Floats

    def predict(self, X: Floats) -> tuple[Floats, Floats]:
        trees = self.posterior.trees(X)
        mean = trees[self.groups].mean(1)
        left = 1 - 1 / self.groups.shape[1]  # of the variance, so that all paths together have all of it
        return mean, np.broadcast_to(left * trees.var(0) + SMALLEST_VARIANCE, mean.shape)


@dataclass(frozen=True)
class TreePosterior:
    forest: Any

    def trees(self, X: Floats) -> Floats:
        """Prediction of every tree. [trees, c]"""
        rows = np.ascontiguousarray(X, dtype=np.float32)  # what scikit-learn's trees work on; its own checks cost ten times the prediction
        return np.stack([tree.tree_.predict(rows)[:, 0] for tree in self.forest.estimators_])

    def predict(self, X: Floats) -> tuple[Floats, Floats]:
        trees = self.trees(X)
        return trees.mean(0), trees.var(0) + SMALLEST_VARIANCE

    def paths(self, base: Floats, count: int, rng: np.random.Generator) -> TreePaths:
        """At most as many as there are trees."""
        groups = rng.permutation(TREES)[: count * (TREES // count)].reshape(count, TREES // count)
        return TreePaths(self, groups, self.trees(base)[groups].mean(1))


def fit_trees(X: Floats, y: Floats, noise: Floats, seed: int = 0) -> TreePosterior:
    """X [n, d], y [n], noise [n] known variances (0 where unknown)."""
    floor = 0.1 * float(y.var()) + SMALLEST_VARIANCE  # what a tree cannot fit anyway
    weights = 1.0 / (noise + floor)
    forest = ExtraTreesRegressor(TREES, bootstrap=True, max_features=1.0, random_state=seed, n_jobs=1)
    return TreePosterior(forest.fit(X, y, sample_weight=weights / weights.mean()))
