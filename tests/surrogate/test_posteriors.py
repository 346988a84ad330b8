"""What every surrogate must do, and what the GP alone can be held to."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from autopeft.errors import SpecError
from autopeft.surrogate.covariance import Covariance, group_weights
from autopeft.surrogate.gp import LogNormal, _Likelihood, fit_gp
from autopeft.surrogate.models import MODELS, feasibility, surrogate
from autopeft.surrogate.posterior import Surrogate
from autopeft.surrogate.rungs import fit_rung
from autopeft.surrogate.saas import SparsePrior, fit_ensemble, fit_nuts

EVERY = pytest.mark.parametrize("name", [name for name in MODELS if name != "saas-nuts"])


def fitting(name: str, features: int) -> Surrogate:
    return surrogate(name, list(range(features)), None, 0)


def truth(X: np.ndarray) -> np.ndarray:
    return np.asarray(np.sin(3 * X[:, 0]) + 2 * X[:, 1])


def data(n: int = 40, d: int = 4) -> tuple[np.ndarray, np.ndarray]:
    X = np.random.default_rng(0).random((n, d))
    return X, truth(X)


@EVERY
def test_predicts_what_it_was_shown_in_shape_and_order(name: str) -> None:
    fit = fitting(name, 4)
    X, y = data()
    posterior = fit(X, 100 + 5 * y, np.zeros(len(y)))
    fresh = np.random.default_rng(1).random((200, 4))
    mean, variance = posterior.predict(fresh)
    assert mean.shape == variance.shape == (200,)
    assert (variance > 0).all()
    assert np.corrcoef(mean, truth(fresh))[0, 1] > 0.8


@EVERY
def test_paths_are_joint_and_repeatable(name: str) -> None:
    fit = fitting(name, 4)
    X, y = data()
    paths = fit(X, y, np.full(len(y), 0.01)).paths(X[:10], 16, np.random.default_rng(2))
    again = fit(X, y, np.full(len(y), 0.01)).paths(X[:10], 16, np.random.default_rng(2))
    mean, variance = paths.predict(X[:12])
    assert paths.values.shape == (16, 10)
    assert mean.shape == variance.shape == (16, 12)
    assert np.array_equal(paths.values, again.values)
    assert paths.values.std(0).max() > 0


@EVERY
def test_constant_observations_are_no_error(name: str) -> None:
    fit = fitting(name, 4)
    X, _ = data(6)
    mean, variance = fit(X, np.full(6, 0.5), np.zeros(6)).predict(X)
    assert mean == pytest.approx(np.full(6, 0.5), abs=1e-6)
    assert np.isfinite(variance).all()


def test_gp_paths_know_their_own_base_points() -> None:
    X, y = data()
    paths = fit_gp(X, y, np.full(len(y), 0.04)).paths(X[:10], 8, np.random.default_rng(0))
    mean, variance = paths.predict(X[:10])
    assert mean == pytest.approx(paths.values, abs=1e-2)
    assert variance.max() < 1e-3


def test_gp_paths_average_to_the_posterior() -> None:
    X, y = data(20)
    posterior, rng = fit_gp(X, y, np.full(20, 0.05)), np.random.default_rng(5)
    fresh = rng.random((5, 4))
    mean, variance = posterior.predict(fresh)
    inner_mean, inner_variance = posterior.paths(X[:8], 4000, rng).predict(fresh)
    assert inner_mean.mean(0) == pytest.approx(mean, abs=0.02)
    assert inner_variance.mean(0) + inner_mean.var(0) == pytest.approx(variance, rel=0.1, abs=1e-3)
    assert posterior.paths(fresh, 4000, rng).values.var(0) == pytest.approx(variance, rel=0.1, abs=1e-3)


def test_gp_trusts_a_precise_value_more_than_a_noisy_one() -> None:
    X, y = data(30)
    y = y.copy()
    y[0] += 2.0
    noise = np.full(30, 1e-4)
    noise[0] = 4.0
    doubted = fit_gp(X, y, noise).predict(X[:1])[0][0]
    noise[0] = 1e-4
    believed = fit_gp(X, y, noise).predict(X[:1])[0][0]
    assert abs(doubted - truth(X[:1])[0]) < abs(believed - truth(X[:1])[0])


def test_feasibility_tells_the_halves_apart() -> None:
    X = np.random.default_rng(0).random((40, 3))
    probability = feasibility(fit_gp, X[X[:, 0] < 0.6], X[X[:, 0] >= 0.6])(np.array([[0.1, 0.5, 0.5], [0.95, 0.5, 0.5]]))
    assert probability[0] > 0.8
    assert probability[1] < 0.2


def test_rung_model_by_hand() -> None:
    model = fit_rung([0.5, 0.6, 0.7], [0.6, 0.8, 1.0])
    assert model is not None
    assert model.bias == pytest.approx(0.2)
    assert model.spread == pytest.approx(0.1 * (4 / 3) ** 0.5)
    assert fit_rung([0.5, 0.6], [0.6, 0.8]) is None


def test_grouped_features_share_a_lengthscale_and_count_as_one() -> None:
    covariance = Covariance(group_weights([0, 1, 1, 1, 1]))
    zero, one, four = np.zeros((1, 5)), np.array([[1.0, 0, 0, 0, 0]]), np.array([[0, 1.0, 1, 1, 1]])
    assert covariance(zero, one) == pytest.approx(covariance(zero, four))
    assert covariance(zero, one).item() == pytest.approx((1 + 5**0.5 + 5 / 3) * np.exp(-(5**0.5)))


@pytest.mark.parametrize("free", [False, True])
def test_slopes_of_the_log_posterior_against_differences(free: bool) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.random((20, 5)), rng.standard_normal(20)
    posterior = _Likelihood(X, y, np.full(20, 0.01), [0, 1, 2, 2, 3], 1, LogNormal(free_variance=free))
    theta = np.array([0.2, -0.3, 0.1, 0.4, -3.0, 0.7, 0.2])
    assert posterior(theta)[1] == pytest.approx(approx_fprime(theta, lambda t: posterior(t)[0], 1e-6), abs=1e-5)


def test_gp_learns_that_effects_grow_with_size() -> None:
    rng = np.random.default_rng(0)
    X = rng.random((60, 3))
    y = 0.6 + np.exp(4 * (X[:, 0] - 1)) * np.sin(6 * X[:, 1] + 9 * X[:, 2])
    grown, plain = (fit_gp(X, y, np.full(60, 1e-6), size=size) for size in (0, None))
    assert grown.kernel.growth > 1
    tiny = np.column_stack([np.full(50, 0.05), rng.random((50, 2))])
    assert grown.predict(tiny)[1].mean() < 0.5 * plain.predict(tiny)[1].mean()
    cross = grown.covariance(tiny[:3], tiny[:3])
    assert np.diag(cross) == pytest.approx(grown.predict(tiny[:3])[1], rel=1e-6)


@pytest.mark.parametrize("tau", [0.02, 1.0])
def test_slope_of_the_sparse_prior(tau: float) -> None:
    theta = np.array([-1.0, 0.0, 2.0])
    assert SparsePrior(tau)(theta)[1] == pytest.approx(approx_fprime(theta, lambda t: SparsePrior(tau)(t)[0], 1e-6), abs=1e-5)


def test_sparse_prior_finds_the_two_dimensions_that_matter() -> None:
    X, y = data(40, 20)
    posterior = fit_ensemble(X, y, np.zeros(40))
    for member in posterior.members:
        assert set(np.argsort(-member.kernel.scales)[:2]) == {0, 1}
    fresh = np.random.default_rng(9).random((100, 20))
    assert np.corrcoef(posterior.predict(fresh)[0], truth(fresh))[0, 1] > 0.95
    assert posterior.paths(X[:3], 6, np.random.default_rng(0)).values.shape == (6, 3)
    assert posterior.paths(X[:3], 2, np.random.default_rng(0)).predict(X[:5])[0].shape == (2, 5)


@pytest.mark.slow
def test_sampled_hyperparameters() -> None:
    pytest.importorskip("numpyro", reason="needs the extra saas")
    X, y = data(15, 5)
    posterior = fit_nuts(X, y, np.zeros(15), warmup=32, samples=32)
    assert len(posterior.members) == 2
    mean, variance = posterior.predict(X)
    assert np.corrcoef(mean, y)[0, 1] > 0.9
    assert (variance > 0).all()


def test_the_sampled_surrogate_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autopeft.surrogate.saas.find_spec", lambda name: None)
    with pytest.raises(SpecError, match=r"pip install 'autopeft\[saas\]'"):
        fit_nuts(*data(5), np.zeros(5))


def test_what_known_noise_explains_is_not_taken_for_signal() -> None:
    rng = np.random.default_rng(4)
    X, y = rng.random((30, 4)), 0.6 + 0.02 * rng.standard_normal(30)
    far = np.full((1, 4), 3.0)
    told, untold = (fit_gp(X, y, np.full(30, noise)).predict(far)[1][0] for noise in (0.02**2, 0.0))
    assert told < 0.25 * y.var()  # of a place that nothing is known of
    assert untold == pytest.approx(y.var(), rel=0.2)
