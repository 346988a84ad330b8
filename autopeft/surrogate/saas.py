"""Sparse axis-aligned subspace priors (SAAS: Eriksson and Jankowiak, UAI 2021): few dimensions matter.

    inverse squared lengthscale rho_j ~ HalfCauchy(tau),  tau ~ HalfCauchy(0.1)

`fit_ensemble` takes the most probable hyperparameters for each of four quantiles of tau and averages; it costs
four ordinary fits. `fit_nuts` samples them (the surrogate of AutoPEFT, Zhou et al., TACL 2024) with BoTorch and
NumPyro, which the extra `saas` installs: minutes instead of milliseconds.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from autopeft.errors import SpecError
from autopeft.surrogate.covariance import Covariance
from autopeft.surrogate.gp import SMALLEST_NOISE, GaussianPosterior, condition, fit_gp
from autopeft.surrogate.posterior import Floats, Paths, spread

GLOBAL_SCALE = 0.1
QUANTILES = (0.125, 0.375, 0.625, 0.875)
WARMUP, SAMPLES, THINNING = 256, 128, 16


@dataclass(frozen=True)
class SparsePrior:
    tau: float
    free_variance: bool = True

    @property
    def start(self) -> float:
        return -0.5 * math.log(self.tau)

    def __call__(self, log_lengthscales: Floats) -> tuple[float, Floats]:
        u = np.exp(-4 * log_lengthscales) / self.tau**2
        return float(-np.log1p(u).sum()), 4 * u / (1 + u)


@dataclass(frozen=True)
class MixturePaths:
    parts: tuple[Paths, ...]

    @property
    def values(self) -> Floats:
        return np.concatenate([part.values for part in self.parts])

    def predict(self, X: Floats) -> tuple[Floats, Floats]:
        means, variances = zip(*(part.predict(X) for part in self.parts), strict=True)
        return np.concatenate(means), np.concatenate(variances)


@dataclass(frozen=True)
class MixturePosterior:
    """Equally likely posteriors, one per draw of the hyperparameters."""

    members: tuple[GaussianPosterior, ...]

    def predict(self, X: Floats) -> tuple[Floats, Floats]:
        means, variances = (np.stack(column) for column in zip(*(m.predict(X) for m in self.members), strict=True))
        return means.mean(0), variances.mean(0) + means.var(0)

    def paths(self, base: Floats, count: int, rng: np.random.Generator) -> MixturePaths:
        """As equal shares of `count` from each member as it allows; members beyond `count` give none."""
        shares = [count // len(self.members) + (i < count % len(self.members)) for i in range(len(self.members))]
        return MixturePaths(tuple(m.paths(base, share, rng) for m, share in zip(self.members, shares, strict=True) if share))


def fit_ensemble(X: Floats, y: Floats, noise: Floats) -> MixturePosterior:
    """X [n, d] in [0, 1], y [n], noise [n] known variances (0 where unknown)."""
    taus = [GLOBAL_SCALE * math.tan(0.5 * math.pi * q) for q in QUANTILES]
    return MixturePosterior(tuple(fit_gp(X, y, noise, prior=SparsePrior(tau)) for tau in taus))


def fit_nuts(X: Floats, y: Floats, noise: Floats, seed: int = 0, warmup: int = WARMUP, samples: int = SAMPLES) -> MixturePosterior:
    """As `fit_ensemble`. Raises SpecError where NumPyro is not installed."""
    if find_spec("numpyro") is None:
        raise SpecError("the fully Bayesian SAAS surrogate needs NumPyro: pip install 'autopeft[saas]'")
    import torch
    from botorch.fit import fit_fully_bayesian_model_nuts
    from botorch.models.fully_bayesian import SaasFullyBayesianSingleTaskGP

    location, scale = float(y.mean()), spread(y)
    targets, fixed = (y - location) / scale, np.maximum(noise / scale**2, SMALLEST_NOISE)
    known: dict[str, Any] = {"train_Yvar": torch.as_tensor(fixed[:, None])} if noise.any() else {}
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        model = SaasFullyBayesianSingleTaskGP(torch.as_tensor(X), torch.as_tensor(targets[:, None]), **known)
        fit_fully_bayesian_model_nuts(model, warmup_steps=warmup, num_samples=samples, thinning=THINNING, disable_progbar=True, seed=seed)
    with torch.no_grad():
        kernel = model.covar_module
        lengthscales = kernel.base_kernel.lengthscale.reshape(-1, X.shape[1]).numpy()
        variances, means = kernel.outputscale.reshape(-1).tolist(), model.mean_module.constant.reshape(-1).tolist()
        noises = [0.0] * len(means) if known else model.likelihood.noise.reshape(-1).tolist()
    own = fixed if known else np.zeros(len(y))
    return MixturePosterior(
        tuple(
            condition(Covariance(1 / length, variance=v), n, X, targets, own, location, scale, mean)
            for length, v, n, mean in zip(lengthscales, variances, noises, means, strict=True)
        )
    )
