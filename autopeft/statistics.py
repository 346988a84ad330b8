"""Intervals: how sure a measured value is, and whether two values can be told apart.

Two things make a measured quality uncertain. *Data*: it is measured on n examples out of many; seeds
trained on the same data share this error, so that more seeds do not shrink it. *Seeds*: training
again gives another model. Their half-widths are added in squares (Zou and Donner 2008, "Construction
of confidence limits about effect measures", eq. 3-4: the square of each side's distance adds up).

All intervals are two-sided at `LEVEL`. Edge rules are stated per function; nothing here is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

from scipy.special import betaincinv, stdtrit

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A value with its interval. seeds: training seeds averaged. examples: n behind each, if known.

    low and high equal value where nothing is known of the error.
    """

    value: float
    low: float
    high: float
    seeds: int = 1
    examples: int | None = None

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2

    @property
    def has_interval(self) -> bool:
        return self.high > self.low

    @property
    def negated(self) -> Estimate:
        """The other way round, where this is a difference."""
        return Estimate(-self.value, -self.high, -self.low, self.seeds, self.examples)

    @property
    def contains_zero(self) -> bool:
        return self.low <= 0 <= self.high


def proportion_interval(share: float, examples: int, level: float = LEVEL) -> tuple[float, float]:
    """Exact interval of a proportion (Clopper and Pearson 1934): beta quantiles; always within [0, 1].

    share * examples need not be whole, so that a mean over seeds can be given.
    Raises ValueError unless 0 <= share <= 1 and examples >= 1.
    """
    if not (0 <= share <= 1 and examples >= 1):
        raise ValueError(f"a proportion needs a share in [0, 1] of at least one example, got {share} of {examples}")
    tail = (1 - level) / 2
    hits = share * examples
    misses = examples - hits
    low = 0.0 if hits <= 0 else float(betaincinv(hits, misses + 1, tail))
    high = 1.0 if misses <= 0 else float(betaincinv(hits + 1, misses, 1 - tail))
    return min(low, share), max(high, share)


def share_error(share: float, examples: int) -> float:
    """Standard error of a proportion for comparing two: with one success and one failure added (Agresti
    and Caffo 2000), so that 100 % of n examples is not taken for certainty.
    """
    adjusted = (share * examples + 1) / (examples + 2)
    return math.sqrt(adjusted * (1 - adjusted) / (examples + 2))


def normal_interval(value: float, standard_error: float, level: float = LEVEL) -> tuple[float, float]:
    """value -+ z * standard_error."""
    half = NormalDist().inv_cdf((1 + level) / 2) * standard_error
    return value - half, value + half


def t_half_width(values: Sequence[float], level: float = LEVEL) -> float:
    """Half-width of the t interval of the mean of `values`; 0 for fewer than two values."""
    if len(values) < 2:
        return 0.0
    return float(stdtrit(len(values) - 1, (1 + level) / 2)) * stdev(values) / math.sqrt(len(values))


def seed_half_width(values: Sequence[float], spread: float, level: float = LEVEL) -> float:
    """`t_half_width` of values, one per seed; for a single seed the normal half-width that follows from
    `spread`, the standard deviation between seeds that is assumed then."""
    return t_half_width(values, level) if len(values) > 1 else normal_interval(0.0, spread, level)[1]


def pooled_spread(groups: Sequence[Sequence[float]]) -> float | None:
    """Standard deviation within groups, pooled over those of two values or more; None where there is none."""
    freedom = sum(len(values) - 1 for values in groups if len(values) > 1)
    squares = sum((len(values) - 1) * stdev(values) ** 2 for values in groups if len(values) > 1)
    return math.sqrt(squares / freedom) if freedom else None


def mean_over_seeds(
    values: Sequence[float],
    standard_errors: Sequence[float | None] = (),
    examples: int | None = None,
    spread: float = 0.0,
    level: float = LEVEL,
) -> Estimate:
    """Mean over seeds, with data error and seed error.

    values: one per seed, at least one. standard_errors: of each, from the data; None where unknown.
    examples: give it where the values are proportions of this many examples; the data error is then
    exact (Clopper-Pearson) instead of normal. spread: between seeds, where there is a single one.
    """
    mean = fmean(values)
    known = [error for error in standard_errors if error is not None]
    if examples is not None:
        low, high = proportion_interval(min(max(mean, 0.0), 1.0), examples, level)
    elif known:
        low, high = normal_interval(mean, math.sqrt(fmean(error**2 for error in known)), level)
    else:
        low = high = mean
    seed = seed_half_width(values, spread, level)
    low, high = mean - math.hypot(mean - low, seed), mean + math.hypot(high - mean, seed)
    if examples is not None:
        low, high = max(low, 0.0), min(high, 1.0)
    return Estimate(mean, low, high, len(values), examples)


def difference(
    first: dict[int, tuple[float, float | None]],
    second: dict[int, tuple[float, float | None]],
    spread: float = 0.0,
    level: float = LEVEL,
) -> Estimate:
    """first - second, paired by seed where they share two seeds or more, else of their means.

    first, second: seed -> (value, standard error from the data or None); neither empty. The data
    errors are taken as independent, which is wide where both models fail on the same examples:
    a difference that is called real here is real under either reading. spread: between seeds, for a
    side with a single one.
    """
    common = sorted(first.keys() & second.keys())
    if len(common) >= 2:
        pairs = [first[seed][0] - second[seed][0] for seed in common]
        value, seed_half, seeds = fmean(pairs), t_half_width(pairs, level), len(common)
        used = [[side[seed] for seed in common] for side in (first, second)]
    else:
        used = [list(side.values()) for side in (first, second)]
        value = fmean(v for v, _ in used[0]) - fmean(v for v, _ in used[1])
        seed_half = math.hypot(*(seed_half_width([v for v, _ in side], spread, level) for side in used))
        seeds = min(len(side) for side in used)
    data_error = math.sqrt(sum(fmean([(error or 0.0) ** 2 for _, error in side]) for side in used))
    low, high = normal_interval(0.0, data_error, level)
    half = math.hypot((high - low) / 2, seed_half)
    return Estimate(value, value - half, value + half, seeds)


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rank correlation, ties at their mean rank; None for fewer than three pairs or no spread."""
    if len(first) != len(second):
        raise ValueError(f"rank correlation needs pairs, got {len(first)} and {len(second)} values")
    if len(first) < 3:
        return None
    a, b = _ranks(first), _ranks(second)
    mean = (len(a) + 1) / 2
    spread = math.sqrt(sum((x - mean) ** 2 for x in a) * sum((y - mean) ** 2 for y in b))
    return sum((x - mean) * (y - mean) for x, y in zip(a, b, strict=True)) / spread if spread else None


def _ranks(values: Sequence[float]) -> list[float]:
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end + 1 < len(order) and values[order[end + 1]] == values[order[start]]:
            end += 1
        for position in range(start, end + 1):
            ranks[order[position]] = (start + end) / 2 + 1
        start = end + 1
    return ranks
