"""Intervals against values from tables, scipy, and simulated coverage."""

import random

import pytest
from scipy import stats

from autopeft.statistics import (
    Estimate,
    difference,
    mean_over_seeds,
    normal_interval,
    pooled_spread,
    proportion_interval,
    rank_correlation,
    seed_half_width,
    share_error,
    t_half_width,
)


@pytest.mark.parametrize(("hits", "examples"), [(0, 10), (1, 10), (47, 50), (300, 300), (133, 400)])
def test_the_exact_interval_is_that_of_scipy(hits: int, examples: int) -> None:
    exact = stats.binomtest(hits, examples).proportion_ci(0.95, method="exact")
    assert proportion_interval(hits / examples, examples) == pytest.approx((exact.low, exact.high), abs=1e-9)


def test_a_proportion_outside_of_0_to_1_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got 1\.2 of 10"):
        proportion_interval(1.2, 10)


def test_all_of_few_examples_is_not_certainty() -> None:
    assert share_error(1.0, 30) == pytest.approx((31 / 32 * 1 / 32 / 32) ** 0.5)
    assert share_error(0.5, 10_000) == pytest.approx(0.005, rel=1e-3)


def test_t_half_width_follows_the_table() -> None:
    assert t_half_width([1.0]) == 0
    assert seed_half_width([1.0, 2.0, 3.0], spread=9.0) == t_half_width([1.0, 2.0, 3.0])
    assert t_half_width([1.0, 2.0, 3.0]) == pytest.approx(4.302653 / 3**0.5, rel=1e-5)  # t(2, 97.5 %) = 4.3027, sd 1


def test_one_seed_without_known_error_has_no_interval() -> None:
    assert mean_over_seeds([0.7]) == Estimate(0.7, 0.7, 0.7, 1, None)
    assert not mean_over_seeds([0.7]).has_interval


def test_one_seed_with_standard_error_is_normal_and_with_examples_exact() -> None:
    normal = mean_over_seeds([0.7], [0.02])
    assert (normal.low, normal.high) == pytest.approx(normal_interval(0.7, 0.02))
    exact = mean_over_seeds([0.7], [0.02], examples=100)
    assert (exact.low, exact.high) == pytest.approx(proportion_interval(0.7, 100))


def test_seeds_widen_the_data_error_and_do_not_shrink_it() -> None:
    one = mean_over_seeds([0.7], [0.02])
    assert mean_over_seeds([0.7, 0.7, 0.7], [0.02] * 3).half_width == pytest.approx(one.half_width)
    assert mean_over_seeds([0.68, 0.7, 0.72], [0.02] * 3).half_width > one.half_width


def test_an_interval_of_a_proportion_stays_within_0_and_1() -> None:
    estimate = mean_over_seeds([1.0, 0.9], examples=20)
    assert 0 <= estimate.low < estimate.value < estimate.high <= 1


def test_coverage_of_the_mean_over_seeds_is_at_least_95_percent() -> None:
    """True quality .8; data error .02 shared by all seeds, seed error .01 each."""
    rng = random.Random(0)
    covered = 0
    for _ in range(2000):
        shared = rng.gauss(0, 0.02)
        estimate = mean_over_seeds([0.8 + shared + rng.gauss(0, 0.01) for _ in range(3)], [0.02] * 3)
        covered += estimate.low <= 0.8 <= estimate.high
    assert covered / 2000 >= 0.95


def test_a_single_seed_is_given_the_spread_of_others() -> None:
    assert seed_half_width([0.7], 0.01) == pytest.approx(1.959964 * 0.01, rel=1e-6)
    assert mean_over_seeds([0.7], [0.02], spread=0.02).half_width == pytest.approx(1.959964 * 0.02 * 2**0.5, rel=1e-6)
    both = difference({0: (0.75, None)}, {0: (0.7, None)}, spread=0.01)
    assert both.half_width == pytest.approx(1.959964 * 0.01 * 2**0.5, rel=1e-6)


def test_the_pooled_spread_weighs_groups_by_their_freedom() -> None:
    assert pooled_spread([[0.5], []]) is None
    assert pooled_spread([[1.0, 3.0], [5.0], [1.0, 1.0, 1.0]]) == pytest.approx((2 / 3) ** 0.5)


def test_pairing_by_seed_removes_what_seeds_share() -> None:
    seeds = {0: 0.60, 1: 0.70, 2: 0.80}
    first = {seed: (value + 0.05, None) for seed, value in seeds.items()}
    second = {seed: (value, None) for seed, value in seeds.items()}
    paired = difference(first, second)
    assert paired.value == pytest.approx(0.05)
    assert paired.half_width == pytest.approx(0, abs=1e-12)
    unpaired = difference(first, {seed + 10: value for seed, value in second.items()})
    assert unpaired.value == pytest.approx(0.05)
    assert unpaired.contains_zero


def test_a_small_difference_on_few_examples_cannot_be_told_apart() -> None:
    assert difference({0: (0.72, 0.026)}, {0: (0.70, 0.026)}).contains_zero
    assert not difference({0: (0.90, 0.02)}, {0: (0.70, 0.02)}).contains_zero


def test_a_difference_is_antisymmetric() -> None:
    first, second = {0: (0.7, 0.02), 1: (0.72, 0.02)}, {0: (0.6, 0.03), 1: (0.66, 0.03)}
    there, back = difference(first, second), difference(second, first)
    assert (there.value, there.low, there.high) == pytest.approx((-back.value, -back.high, -back.low))


def test_rank_correlation_with_ties_is_that_of_scipy() -> None:
    first, second = [1.0, 2.0, 2.0, 5.0, 3.0, 9.0], [0.1, 0.4, 0.3, 0.3, 0.2, 0.9]
    assert rank_correlation(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)
    assert rank_correlation([1, 2], [1, 2]) is None
    assert rank_correlation([1, 1, 1], [1, 2, 3]) is None
    with pytest.raises(ValueError, match="pairs"):
        rank_correlation([1, 2, 3], [1, 2])
