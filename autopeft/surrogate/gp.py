"""Gaussian process: BoTorch's `SingleTaskGP` with dimension-scaled priors, and joint paths of it.

Lengthscale priors grow with the number of dimensions (Hvarfner, Hellsten and Nardi, "Vanilla Bayesian
optimization performs great in high dimensions", ICML 2024). Known noise variances are kept and one
further, learnt variance is added to all: what validation examples cannot tell (seeds, for one).
Prediction is written out, since thousands of candidates per suggestion must cost milliseconds.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from botorch.models import SingleTaskGP
from botorch.models.utils.gpytorch_modules import get_covar_module_with_dim_scaled_prior
from botorch.optim.fit import fit_gpytorch_mll_scipy
from gpytorch.likelihoods.gaussian_likelihood import FixedNoiseGaussianLikelihood
from gpytorch.mlls import ExactMarginalLogLikelihood
from gpytorch.priors import LogNormalPrior
from scipy.linalg import solve_triangular

from autopeft.surrogate.posterior import Floats

FIT_ITERATIONS = 50
"""Uncapped L-BFGS has been seen to run 1,283 evaluations for no gain."""
SMALLEST_NOISE = 1e-4
JITTER = 1e-6


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


def fit_gp(X: Floats, y: Floats, noise: Floats, seed: int = 0) -> GaussianPosterior:
    """X [n, d] in [0, 1], y [n], noise [n] known variances (0 where unknown). `seed` is not needed."""
    location, scale = float(y.mean()), float(y.std()) or 1.0
    targets = torch.as_tensor((y - location) / scale)
    fixed = torch.as_tensor(np.maximum(noise / scale**2, SMALLEST_NOISE))
    inputs = torch.as_tensor(X)
    prior = LogNormalPrior(loc=-4.0, scale=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scaling and iteration limits are chosen here
        likelihood = FixedNoiseGaussianLikelihood(fixed, learn_additional_noise=True, noise_prior=prior)
        likelihood.second_noise = 0.01
        covariance = get_covar_module_with_dim_scaled_prior(ard_num_dims=X.shape[1], use_rbf_kernel=False)
        model = SingleTaskGP(inputs, targets[:, None], likelihood=likelihood, covar_module=covariance, outcome_transform=None).double()
        fit_gpytorch_mll_scipy(ExactMarginalLogLikelihood(likelihood, model), options={"maxiter": FIT_ITERATIONS})
    model.eval()
    with torch.no_grad():
        kernel, mean = model.covar_module, float(model.mean_module.constant)
        total = fixed + likelihood.second_noise
        factor = torch.linalg.cholesky(kernel(inputs, inputs).to_dense() + torch.diag(total))
        weights = torch.cholesky_solve((targets - mean)[:, None], factor)[:, 0]
    return GaussianPosterior(kernel, X, factor.numpy(), weights.numpy(), mean, location, scale)
