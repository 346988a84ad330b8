"""A study as plain files: what long runs leave in them."""

from __future__ import annotations

from dataclasses import replace

import synthetic

from autopeft.recorded import read_csv, write_csv


def test_the_curve_of_a_long_run_is_read_again() -> None:
    trial = synthetic.record(8).complete[0]
    curve = tuple((step, 0.123456) for step in range(20_000))
    long = replace(trial, observations=tuple(replace(observation, curve=curve) for observation in trial.observations))
    text = write_csv([long])
    assert max(map(len, text.split('"'))) > 131_072
    assert read_csv(text)[0].observations[-1].curve == curve
