"""Front, hypervolume, axes and picks by hand-worked cases."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
import tiny
from made_up import head_only, shape, small_space, spec, trial

from autopeft.front import (
    Axes,
    Axis,
    front_numbers,
    head_only_quality,
    hypervolume,
    non_dominated,
    picks,
    progress,
    quality,
    quality_within,
    smallest_adapter,
    study_axes,
)
from autopeft.models.roles import find_shape
from autopeft.trial import Measurement, Observation, TrialState
from autopeft_searchspace.rules import trainable_parameters
from autopeft_searchspace.settings import build_space, presets

AXES = Axes((Axis("accuracy", 0.5, 1.0), Axis("trainable_parameters", 1e6, 100.0, 100.0)))


def test_non_dominated_keeps_ties_and_drops_nan() -> None:
    Y = [[1, 3], [3, 1], [2, 2], [2, 2], [1, 1], [2, 1], [np.nan, 9]]
    assert non_dominated(Y).tolist() == [True, True, True, True, False, False, False]


def test_nan_dominates_nothing_and_no_points_have_no_front() -> None:
    assert non_dominated([[np.nan, 5], [1, 1]]).tolist() == [False, True]
    assert non_dominated(np.empty((0, 2))).tolist() == []


def test_hypervolume_in_two_dimensions_by_hand() -> None:
    # steps of width 1: 3 + 2 + 1 over [0, 3]
    assert hypervolume([[1, 3], [2, 2], [3, 1]], [0, 0]) == pytest.approx(6)
    assert hypervolume([[1, 3], [2, 2], [3, 1], [1, 1], [2, 2]], [0, 0]) == pytest.approx(6)
    assert hypervolume([[1, 3], [2, 2]], [1, 0]) == pytest.approx(2)


def test_hypervolume_in_three_dimensions_by_hand() -> None:
    # three boxes of volume 2 that share the unit cube: 3 * 2 - 3 * 1 + 1
    assert hypervolume([[2, 1, 1], [1, 2, 1], [1, 1, 2]], [0, 0, 0]) == pytest.approx(4)
    assert hypervolume([[2, 2, 2]], [1, 1, -1]) == pytest.approx(3)


def test_hypervolume_in_four_dimensions_by_inclusion_and_exclusion() -> None:
    a, b = np.array([3.0, 2, 1, 4]), np.array([1.0, 3, 2, 2])
    assert hypervolume([a, b], np.zeros(4)) == pytest.approx(a.prod() + b.prod() - np.minimum(a, b).prod())


@pytest.mark.parametrize("m", [2, 3, 4])
def test_hypervolume_against_counting_grid_cells(m: int) -> None:
    Y = np.random.default_rng(m).integers(0, 5, (12, m))
    grid = np.stack(np.meshgrid(*[np.arange(5)] * m, indexing="ij"), -1).reshape(-1, m) + 0.5
    counted = (grid[:, None] < Y[None]).all(-1).any(1).sum()
    assert hypervolume(Y, np.zeros(m)) == pytest.approx(counted)


def test_points_below_the_reference_and_nan_add_nothing() -> None:
    assert hypervolume([[-1, 5], [np.nan, 5], [0, 5]], [0, 0]) == 0
    assert hypervolume(np.empty((0, 3)), [0, 0, 0]) == 0


def test_axes_normalise_floor_and_maximise() -> None:
    Y = AXES.points([[0.5, 1e6], [1.0, 0], [0.75, 1e4], [0.4, 100]])
    assert pytest.approx(np.array([[0, 0], [1, 1], [0.5, 0.5], [-0.2, 1]])) == Y
    assert AXES.hypervolume([[0.75, 1e4]]) == pytest.approx(0.25)
    assert Axes.from_json(json.loads(json.dumps(AXES.to_json()))) == AXES


def test_axes_of_a_metric_that_is_minimised() -> None:
    assert Axis("token_nll", 4.0, 0.0).points([4.0, 3.0, 0.0]).tolist() == [0, 0.25, 1]


def test_study_axes_start_at_head_only_and_at_full_fine_tuning() -> None:
    three = spec(objectives=[])
    trials = [head_only(0.6), trial(1, 0.4, 500)]
    axes = study_axes(three, small_space(), trials, full_memory_bytes=4e9)
    assert axes is not None
    assert axes.names == ("accuracy", "trainable_parameters", "peak_memory_bytes")
    assert axes.points([[0.6, 100_000, 4e9], [1.0, 16, 0], [1.0, 0, 0]]).tolist() == [[0, 0, 0], [1, 1, 1], [1, 1, 1]]
    assert study_axes(three, small_space(), [], 4e9) is None
    with pytest.raises(ValueError, match="full_memory_bytes"):
        study_axes(three, small_space(), trials)


def test_worst_quality_stands_for_a_missing_head_only() -> None:
    nll = spec(task={"kind": "causal_lm"}, objectives=[])
    trials = [trial(0, 2.0, 10, metric="token_nll"), trial(1, 3.0, 20, metric="token_nll")]
    assert head_only_quality(trials, nll) == Measurement(3.0, "", 0.01)


def test_smallest_adapter_by_hand() -> None:
    assert smallest_adapter(small_space()) == 16  # LoRA 1 on one 8 x 8 module: 8 + 8
    assert smallest_adapter(small_space(layers="all")) == 32
    assert smallest_adapter(build_space("default", shape())) == 16  # prefix: a key and a value of 8


@pytest.mark.parametrize("preset", sorted(presets()))
def test_every_preset_has_a_smallest_adapter(preset: str) -> None:
    """No drawn configuration is smaller, and it is no larger than the smallest of 300."""
    space = build_space(preset, find_shape(tiny.build("llama", device="meta")))
    rng = np.random.default_rng(0)
    drawn = [trainable_parameters(space.configuration(space.sample(rng)), space.shape) for _ in range(300)]
    assert 0 < smallest_adapter(space) <= min(count for count in drawn if count)


def test_front_holds_complete_trials_alone() -> None:
    trials = [
        head_only(0.5),
        trial(1, 0.8, 1000),
        trial(2, 0.7, 1000),
        trial(3, 0.7, 100),
        trial(4, None, 1, rung=0.9, state=TrialState.EARLY_STOPPED),
        trial(5, None, 1, state=TrialState.RUNNING),
        trial(6, float("nan"), 1),
    ]
    assert front_numbers(trials, spec()) == (0, 1, 3)


def test_picks_by_hand() -> None:
    trials = [
        head_only(0.5),
        trial(1, 0.80, 100_000),
        trial(2, 0.78, 1_000),
        trial(3, 0.795, 50_000),
        trial(4, 0.60, 500),
        trial(5, 0.80, 900_000),
    ]
    # best: 1 and 5 tie, 1 is smaller. Within .01 of .80: 1, 3 and 5. Knee: 2, nearly as good at 1 %.
    assert picks(trials, spec(), AXES) == {"best": 1, "knee": 2, "smallest-within-1se": 3}
    assert picks([], spec(), AXES) == {}
    assert picks(trials[:1], spec(), AXES) == {"best": 0, "knee": 0, "smallest-within-1se": 0}


def test_knee_averages_costs_so_that_two_do_not_outvote_quality() -> None:
    three = spec(objectives=[])
    axes = Axes((*AXES.axes, Axis("peak_memory_bytes", 1.0, 0.0)))
    # trial 2 lies above the chord from 0 to 1 by 0.3 * quality range; trial 3 below it, though cheap twice
    trials = [
        head_only(0.5, memory=0.2),
        trial(1, 0.9, 1e6, memory=0.8),
        trial(2, 0.82, 1e4, memory=0.5),
        trial(3, 0.52, 1e3, memory=0.25),
    ]
    assert picks(trials, three, axes)["knee"] == 2


def test_picks_of_a_minimised_metric() -> None:
    nll = spec(
        task={"kind": "causal_lm"}, objectives=[{"name": "token_nll", "direction": "minimize"}, *spec().model_dump()["objectives"][1:]]
    )
    axes = Axes((Axis("token_nll", 4.0, 0.0), AXES.axes[1]))
    trials = [
        trial(0, 4.0, 0, metric="token_nll"),
        trial(1, 2.0, 1e5, metric="token_nll", error=0.1),
        trial(2, 2.09, 1e4, metric="token_nll"),
    ]
    assert picks(trials, nll, axes) == {"best": 1, "knee": 2, "smallest-within-1se": 2}


def test_confirm_split_averages_replicates() -> None:
    observations = tuple(
        Observation("k", seed, 9, 9, "r", {"search.accuracy": Measurement(0.9), "confirm.accuracy": Measurement(value, "", 0.03)})
        for seed, value in ((0, 0.7), (1, 0.8))
    )
    made = trial(1, 0.9, 10)
    made = type(made)(**{**vars(made), "observations": observations})
    assert quality(made, spec()) == Measurement(0.9)
    confirmed = quality(made, spec(), "confirm")
    assert confirmed is not None
    assert confirmed.value == pytest.approx(0.75)
    assert confirmed.standard_error == pytest.approx(0.03 / 2**0.5)
    assert quality(trial(2, 0.9, 10), spec(), "confirm") is None


def test_quality_within_sizes() -> None:
    trials = [head_only(0.5), trial(1, 0.7, 10_000), trial(2, 0.8, 10_001), trial(3, None, 1, state=TrialState.FAILED)]
    assert quality_within(trials, spec(), (5, 10_000, 100_000)) == {"5": 0.5, "10000": 0.7, "100000": 0.8}
    assert quality_within([], spec(), (5,)) == {"5": None}


def test_progress_counts_finished_trials_and_never_falls() -> None:
    trials = [
        head_only(0.5),
        trial(1, 0.75, 1e4),
        trial(2, None, 1e4, state=TrialState.FAILED),
        trial(3, None, 1, state=TrialState.RUNNING),
        trial(4, 0.6, 1e2),
    ]
    curve = progress(trials, spec(), AXES)
    assert [c.trials for c in curve] == [1, 2, 3, 4]
    assert [c.seconds for c in curve] == [10, 20, 30, 40]
    assert [c.hypervolume for c in curve] == pytest.approx([0, 0.25, 0.25, 0.25 + 0.2 * 0.5])
    assert all(a.hypervolume <= b.hypervolume for a, b in pairwise(curve))
