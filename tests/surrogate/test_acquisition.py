"""Cells and expected improvement against hand-worked values, integration and the hypervolume itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from botorch.utils.multi_objective.hypervolume import Hypervolume
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from autopeft.front import Axes, Axis, hypervolume, non_dominated
from autopeft.surrogate.acquisition import cells, expected_improvement, log_tail


def improvement(Y: np.ndarray, point: np.ndarray) -> float:
    zero = np.zeros(Y.shape[1])
    return hypervolume(np.concatenate([Y, point[None]]), zero) - hypervolume(Y, zero)


def test_cells_of_two_points_by_hand() -> None:
    region = cells(np.array([[1.0, 3.0], [2.0, 1.0]]))
    # below 1 the second point rules up to 2, from 1 to 3 the first up to 1, above 3 nobody
    assert region.lower[:, 0].tolist() == [0, 1, 3]
    assert region.upper[:, 0].tolist() == [1, 3, np.inf]
    assert region.level.tolist() == [2, 1, 0]


def test_expected_improvement_of_a_certain_value_by_hand() -> None:
    region = cells(np.array([[1.0, 3.0], [2.0, 1.0]]))
    got = expected_improvement(np.array([1.5]), np.array([0.0]), np.array([[2.0]]), region)
    assert got == pytest.approx([0.5])  # from 1 to 2 in the known objective, from 1 to 1.5 in the other


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_expected_improvement_against_numerical_integration(m: int) -> None:
    rng = np.random.default_rng(m)
    Y = rng.random((7, m))
    Y[0] = -0.2  # dominates nothing above the reference
    known, mean, sd = rng.random((4, m - 1)), rng.random(4), rng.uniform(0.05, 0.4, 4)
    got = expected_improvement(mean, sd**2, known, cells(Y))
    for i in range(4):

        def integrand(y: float, i: int = i) -> float:
            return float(improvement(Y, np.array([y, *known[i]])) * norm.pdf(y, mean[i], sd[i]))

        kinks = sorted({0.0, *Y[:, 0]})
        expected, _ = quad(integrand, mean[i] - 8 * sd[i], mean[i] + 8 * sd[i], points=kinks, limit=400)
        assert got[i] == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_without_base_points_all_is_improvement() -> None:
    got = expected_improvement(np.array([0.5]), np.array([1e-12]), np.array([[0.5, 0.4]]), cells(np.empty((0, 3))))
    assert got == pytest.approx([0.1])


def test_far_below_the_front_stays_finite_and_not_negative() -> None:
    region = cells(np.array([[0.9, 0.9]]))
    got = expected_improvement(np.array([-50.0, 0.1]), np.array([1e-6, 0.0]), np.array([[0.5], [0.5]]), region)
    assert (got >= 0).all()
    assert got == pytest.approx([0, 0], abs=1e-100)


def test_the_tail_by_hand_and_in_the_order_of_the_improvement() -> None:
    region = cells(np.array([[0.9, 0.9]]))  # up to .9 in the known objective the level is .9, above it 0
    known, variance = np.array([[0.5], [0.5], [0.95]]), np.array([0.01, 0.01, 0.01])
    mean = np.array([0.4, 0.5, -0.2])
    assert log_tail(mean, variance, known, region) == pytest.approx([-12.5, -8.0, -2.0])  # u = -5, -4, and -2 above level 0
    assert np.argsort(expected_improvement(mean, variance, known, region)).tolist() == [0, 1, 2]
    assert log_tail(np.array([-1e4]), np.array([1e-4]), known[:1], region)[0] == pytest.approx(-0.5 * (1e4 + 0.9) ** 2 / 1e-4)
    assert log_tail(mean[:1], variance[:1], np.zeros((1, 1)), region).tolist() == [-np.inf]


def test_ties_in_the_uncertain_objective() -> None:
    Y = np.array([[0.5, 0.2, 0.9], [0.5, 0.9, 0.2], [0.5, 0.5, 0.5]])
    point = np.array([0.8, 0.6, 0.6])
    got = expected_improvement(point[:1], np.zeros(1), point[None, 1:], cells(Y))
    assert got == pytest.approx([improvement(Y, point)])


@pytest.mark.parametrize("m", [2, 3, 4])
@pytest.mark.parametrize("direction", [1, -1])
def test_expected_improvement_against_monte_carlo(m: int, direction: int) -> None:
    """Objectives in their own units and direction, through the axes, as a study states them."""
    rng = np.random.default_rng(10 + m)
    worst, best = (2.0, 9.0) if direction > 0 else (9.0, 2.0)
    axes = Axes(tuple(Axis(str(i), worst, best) for i in range(m)))
    values, known, mean, sd = rng.uniform(2, 9, (6, m)), rng.uniform(2, 9, m - 1), 6.0, 1.5
    Y, z = axes.points(values), axes.points([[0.0, *known]])[:, 1:]
    got = expected_improvement(axes.axes[0].points([mean]), np.array([(sd / 7) ** 2]), z, cells(Y))[0]
    draws = rng.normal(mean, sd, 400)
    found = np.array([axes.hypervolume(np.concatenate([values, [[y, *known]]])) for y in draws]) - axes.hypervolume(values)
    assert got == pytest.approx(found.mean(), abs=4 * found.std() / len(draws) ** 0.5)
    assert found.std() > 0


@given(st.integers(2, 4), st.integers(1, 12), st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_hypervolume_against_another_library(m: int, n: int, seed: int) -> None:
    Y = np.round(np.random.default_rng(seed).normal(0.4, 0.5, (n, m)), 1)  # rounded, so that there are ties
    other = Hypervolume(torch.zeros(m, dtype=torch.double)).compute(torch.as_tensor(Y[non_dominated(Y)]))
    assert hypervolume(Y, np.zeros(m)) == pytest.approx(other, rel=1e-9, abs=1e-12)
