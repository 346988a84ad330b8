"""Importance against functions whose total effects are known."""

from __future__ import annotations

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from synthetic import record

from autopeft.report.effects import effects, kinds
from autopeft.samplers.domain import Domain
from autopeft.samplers.importance import importance
from autopeft_searchspace.settings import build_space

DOMAIN = Domain(
    {
        "x": FloatDistribution(0.0, 1.0),
        "y": FloatDistribution(0.0, 1.0),
        "on": CategoricalDistribution([True, False]),
        "z": FloatDistribution(0.0, 1.0),
    },
    {"z": lambda p: p["on"]},
)
KINDS = {name: name for name in DOMAIN.distributions}


def test_total_effects_by_hand() -> None:
    found = {i.dimension: i for i in importance(DOMAIN, KINDS, {}, {"f": lambda p: 3 * p["x"] + 4 * p["y"]})}
    # independent and additive: 9 and 16 of 25 parts of the variance
    assert found["x"].share == pytest.approx(9 / 25, abs=0.1)
    assert found["y"].share == pytest.approx(16 / 25, abs=0.15)
    assert found["z"].share == found["on"].share == 0
    assert found["x"].low == found["x"].share == found["x"].high


def test_a_dimension_that_switches_another_counts_for_it() -> None:
    found = {i.dimension: i.share for i in importance(DOMAIN, KINDS, {}, {"f": lambda p: p.get("z", 0.0)})}
    assert found["on"] > found["z"] > 0.05
    assert found["x"] == found["y"] == 0


def test_intervals_cover_the_truth_and_narrow_with_observations() -> None:
    rng = np.random.default_rng(0)

    def learnt(n: int) -> dict[str, tuple[float, float, float]]:
        points = [DOMAIN.draw(rng) for _ in range(n)]
        y = np.array([3 * p["x"] + 4 * p["y"] for p in points]) + 0.1 * rng.standard_normal(n)
        return {i.dimension: (i.low, i.share, i.high) for i in importance(DOMAIN, KINDS, {"f": (points, y, np.full(n, 0.01))}, {})}

    few, many = learnt(10), learnt(80)
    assert many["y"][0] - 0.15 <= 16 / 25 <= many["y"][2] + 0.15
    assert many["y"][1] > many["x"][1] > 5 * many["z"][1]
    assert many["x"][2] - many["x"][0] < few["x"][2] - few["x"][0]
    assert learnt(5) == {}


def test_effects_of_a_study() -> None:
    study = record(trials=40)
    found = effects(study)
    space = build_space(study.spec.space.preset, study.shape, study.spec.space.change)
    assert {i.objective for i in found} == {o.name for o in study.spec.objectives}
    assert {i.dimension for i in found} == set(kinds(space).values())
    assert all(0 <= i.low <= i.share <= i.high for i in found)
    sizes = [i for i in found if i.objective == "trainable_parameters"]
    assert sizes[0].dimension.endswith(".size")
