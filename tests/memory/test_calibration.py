"""Corrections learnt from measured peaks."""

from __future__ import annotations

import numpy as np
import pytest

from autopeft.memory import Calibration, calibrate

GIB = 2**30


def test_nothing_measured_changes_nothing():
    assert calibrate([]).apply(3 * GIB) == 3 * GIB


def test_finds_what_a_device_always_adds():
    learnt = calibrate([(p, p + 40_000_000) for p in (1.0e9, 1.2e9, 1.5e9)])
    assert learnt == Calibration(1.0, 40_000_000, 3, 0.0)


def test_finds_slope_and_offset_in_spite_of_an_odd_measurement():
    rng = np.random.default_rng(0)
    pairs = [(p, 1.04 * p + 5e7 + rng.normal(0, 1e6)) for p in np.linspace(1e9, 4e9, 20)]
    pairs[7] = (pairs[7][0], 9e9)
    learnt = calibrate(pairs)
    assert learnt.scale == pytest.approx(1.04, abs=0.005)
    assert learnt.apply(2e9) == pytest.approx(1.04 * 2e9 + 5e7, rel=0.002)
    assert learnt.median_error < 2e6


def test_predictions_that_hardly_differ_have_no_slope():
    learnt = calibrate([(1e9, 1.1e9)] * 10)
    assert (learnt.scale, learnt.offset) == (1.0, 1e8)
