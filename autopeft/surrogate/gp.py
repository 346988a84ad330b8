"""Gaussian process: BoTorch's `SingleTaskGP` with a covariance for adapters, and joint paths of it.

Features that are alike (one bit per layer, one per module role, the columns of a category) share one
lengthscale and count together as much as one feature. On a made-up problem of 38 features (`benchmarks/
problems.py`) the rank correlation of prediction and truth after 12, 25 and 50 observations is .60, .75
and .94 so, against .50, .37 and .67 with a lengthscale and a dimension-scaled prior (Hvarfner et al.,
ICML 2024) for each, and .60, .66 and .72 for trees.

What an adapter changes may grow with its size: the standard deviation is multiplied by
exp(growth (size - 0.4)), growth learnt in [0, 2]. Without it, tiny adapters keep looking as uncertain as
large ones and a search spends itself on them, since there they would gain the most hypervolume. On the
same problem rank correlation after 13, 20 and 35 observations rises so from .59, .73 and .84 to about .63,
.79 and .92, and the error on the tiny end is told within a tenth instead of being taken for twice as large.

Known noise variances are kept and one further, learnt variance is added to all: what validation
examples cannot tell (seeds, for one). Prediction is written out, since thousands of candidates per
suggestion must cost milliseconds.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from botorch.models import SingleTaskGP
from botorch.optim.fit import fit_gpytorch_mll_scipy
from gpytorch.constraints import GreaterThan, Interval
from gpytorch.kernels import Kernel, MaternKernel
from gpytorch.likelihoods.gaussian_likelihood import FixedNoiseGaussianLikelihood
from gpytorch.mlls import ExactMarginalLogLikelihood
from gpytorch.priors import LogNormalPrior
from scipy.linalg import solve_triangular

from autopeft.surrogate.posterior import Floats

FIT_ITERATIONS = 50
"""Uncapped L-BFGS has been seen to run 1,283 evaluations for no gain."""
SMALLEST_NOISE = 1e-4
JITTER = 1e-6


LENGTHSCALE_MODE, LENGTHSCALE_SPREAD = 1.5, 1.0
"""Of the log-normal prior of each group's lengthscale; a group is 1 across."""
GROWTH_CENTRE, HIGHEST_GROWTH = 0.4, 2.0


class GroupedMatern(Kernel):
    """Matern 5/2 with one lengthscale per group of features, and a variance that may grow with size.

    groups: [d] the group of each feature, 0 to the number of groups - 1.
    size: the feature that the variance may grow with, or None for unit variance.
    """

    def __init__(self, groups: Sequence[int], size: int | None) -> None:
        super().__init__()
        self._groups = torch.as_tensor(groups)
        members = torch.bincount(self._groups).double()
        self._weight = members.rsqrt()[self._groups]
        self._matern = MaternKernel(nu=2.5)
        self._matern.lengthscale = 1.0
        self._matern.raw_lengthscale.requires_grad_(False)
        self.register_parameter("group_lengthscales", torch.nn.Parameter(torch.zeros(len(members))))
        self.register_constraint("group_lengthscales", GreaterThan(0.025, transform=None, initial_value=LENGTHSCALE_MODE))
        location = math.log(LENGTHSCALE_MODE) + LENGTHSCALE_SPREAD**2
        self.register_prior("lengthscale_prior", LogNormalPrior(location, LENGTHSCALE_SPREAD), "group_lengthscales")
        self._size = size
        if size is not None:
            self.register_parameter("growth", torch.nn.Parameter(torch.zeros(1)))
            self.register_constraint("growth", Interval(0.0, HIGHEST_GROWTH, transform=None, initial_value=1.0))

    def forward(self, x1: torch.Tensor, x2: torch.Tensor, diag: bool = False, **settings: Any) -> torch.Tensor:
        scale = self._weight / self.group_lengthscales[self._groups]
        covariance = self._matern.forward(x1 * scale, x2 * scale, diag=diag)
        if self._size is None:
            return covariance
        left, right = (torch.exp(self.growth * (x[..., self._size] - GROWTH_CENTRE)) for x in (x1, x2))
        return covariance * (left * right if diag else left[..., :, None] * right[..., None, :])


@dataclass(frozen=True)
class GaussianPaths:
    """whitened: standard normal draws [s, b] whose values at the base points are `values`."""

    posterior: GaussianPosterior
    base: Floats
    factor: Floats
    whitened: Floats
    values: Floats

    def predict(self, X: Floats) -> tuple[Floats, Floats]:
        mean, variance = self.posterior.predict(X)
        share = solve_triangular(self.factor, self.posterior.covariance(self.base, X), lower=True)
        left = np.maximum(variance - (share**2).sum(0), 1e-12)
        return mean + self.whitened @ share, np.broadcast_to(left, (len(self.whitened), len(X)))


@dataclass(frozen=True)
class GaussianPosterior:
    """kernel: covariance of latent values in standardised units; location, scale undo the standardising."""

    kernel: Any
    X: Floats
    factor: Floats
    weights: Floats
    mean: float
    location: float
    scale: float

    def predict(self, X: Floats) -> tuple[Floats, Floats]:
        cross, white = self._cross(X)
        variance = np.maximum(self._kernel_diagonal(X) - (white**2).sum(0), 1e-12)
        return self.location + self.scale * (self.mean + cross @ self.weights), self.scale**2 * variance

    def covariance(self, A: Floats, B: Floats) -> Floats:
        """Posterior covariance of latent values at A [a, d] and B [c, d]. [a, c]"""
        return self.scale**2 * (self._kernel(A, B) - self._cross(A)[1].T @ self._cross(B)[1])

    def paths(self, base: Floats, count: int, rng: np.random.Generator) -> GaussianPaths:
        covariance = self.covariance(base, base) + JITTER * self.scale**2 * np.eye(len(base))
        factor = np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)
        half = rng.standard_normal(((count + 1) // 2, len(base)))
        whitened = np.concatenate([half, -half])[:count]
        return GaussianPaths(self, base, factor, whitened, self.predict(base)[0] + whitened @ factor.T)

    def samples(self, X: Floats, count: int, rng: np.random.Generator) -> Floats:
        return self.paths(X, count, rng).values

    def _cross(self, X: Floats) -> tuple[Floats, Floats]:
        cross = self._kernel(X, self.X)
        white: Floats = solve_triangular(self.factor, cross.T, lower=True)
        return cross, white

    def _kernel(self, A: Floats, B: Floats) -> Floats:
        with torch.no_grad():
            return np.asarray(self.kernel(torch.as_tensor(A), torch.as_tensor(B)).to_dense().numpy())

    def _kernel_diagonal(self, X: Floats) -> Floats:
        with torch.no_grad():
            return np.asarray(self.kernel(torch.as_tensor(X), diag=True).numpy())


def fit_gp(X: Floats, y: Floats, noise: Floats, groups: Sequence[int] | None = None, size: int | None = None) -> GaussianPosterior:
    """X [n, d] in [0, 1], y [n], noise [n] known variances (0 where unknown), groups [d] of features
    that share a lengthscale (each its own by default), size: the feature that the variance may grow with."""
    location, scale = float(y.mean()), float(y.std()) or 1.0
    targets = torch.as_tensor((y - location) / scale)
    fixed = torch.as_tensor(np.maximum(noise / scale**2, SMALLEST_NOISE))
    inputs = torch.as_tensor(X)
    prior = LogNormalPrior(loc=-4.0, scale=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scaling and iteration limits are chosen here
        likelihood = FixedNoiseGaussianLikelihood(fixed, learn_additional_noise=True, noise_prior=prior)
        likelihood.second_noise = 0.01
        covariance = GroupedMatern(range(X.shape[1]) if groups is None else groups, size)
        model = SingleTaskGP(inputs, targets[:, None], likelihood=likelihood, covar_module=covariance, outcome_transform=None).double()
        fit_gpytorch_mll_scipy(ExactMarginalLogLikelihood(likelihood, model), options={"maxiter": FIT_ITERATIONS})
    model.eval()
    with torch.no_grad():
        kernel, mean = model.covar_module, float(model.mean_module.constant)
        total = fixed + likelihood.second_noise
        factor = torch.linalg.cholesky(kernel(inputs, inputs).to_dense() + torch.diag(total))
        weights = torch.cholesky_solve((targets - mean)[:, None], factor)[:, 0]
    return GaussianPosterior(kernel, X, factor.numpy(), weights.numpy(), mean, location, scale)
