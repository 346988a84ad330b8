"""The ledger keeps what it was told, once, and gives it back; so do the plain files."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import made_up
import optuna
import pytest

from autopeft.errors import AutopeftError
from autopeft.ledger import Ledger, observation_of
from autopeft.recorded import read_csv, write_csv
from autopeft.storage import DATABASE
from autopeft.trial import Measurement, Observation, Origin, Trial, TrialState
from autopeft.view import View
from autopeft_searchspace.configuration import Component, Configuration

LORA = Configuration((Component("lora", 8, (0, 2), ("q", "v"), {"alpha": 16}),), 0.005)
HEAD = Configuration((), 0.005)


def observation(seed: int = 0, step: int = 4, value: float = 0.1 + 0.2) -> Observation:
    measurements = {"search.accuracy": Measurement(value, "", 0.01), "train_seconds": Measurement(1.5, "s")}
    return Observation(LORA.key, seed, step, 4, "recipe", measurements, ((1, 0.5), (2, 0.25)))


def filled(folder: Path) -> tuple[Trial, ...]:
    with Ledger(folder) as ledger:
        assert ledger.add(HEAD, Origin.BASELINE, "head only", {"trainable_parameters": 0.0}, "2026-01-01T00:00:00+00:00") == 0
        assert ledger.add(LORA, Origin.SAMPLER, "", {"trainable_parameters": 12.0}, "2026-01-01T00:00:01+00:00") == 1
        for o in (observation(step=2), observation(), observation(seed=1)):
            ledger.observe(1, o)
        ledger.end(0, TrialState.FAILED, reason='worker died, "badly"\nthen more', seconds=2.0)
        ledger.end(1, TrialState.COMPLETE, note="ran on", seconds=0.1)
        ledger.spend(1, 0.2)
        return ledger.trials()


def test_what_was_told_comes_back_after_reopening(tmp_path: Path) -> None:
    told = filled(tmp_path)
    with Ledger(tmp_path, read_only=True) as ledger:
        trials = ledger.trials()
    assert trials == told
    assert [t.state for t in trials] == [TrialState.FAILED, TrialState.COMPLETE]
    assert trials[1].configuration == LORA
    assert trials[1].observations == (observation(step=2), observation(), observation(seed=1))
    assert trials[1].seconds == pytest.approx(0.3)
    assert trials[1].value("accuracy", "accuracy") == Measurement(0.1 + 0.2, "", 0.01)


def test_the_same_observation_is_kept_once_and_unchanged(tmp_path: Path) -> None:
    filled(tmp_path)
    with Ledger(tmp_path) as ledger:
        ledger.observe(1, observation(value=0.9))
        found = observation_of(ledger.trials(), LORA.key, 0, 4, "recipe")
    assert found == observation()


def test_a_stopped_trial_that_goes_on_keeps_what_was_seen_and_the_view_follows(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        number = ledger.add(made_up.lora(), Origin.SAMPLER, "", {"trainable_parameters": 12.0}, "")
        rung = Observation(made_up.lora().key, 0, 2, 4, "recipe", {"search.accuracy": Measurement(0.4, "", 0.01)})
        ledger.observe(number, rung)
        ledger.end(number, TrialState.EARLY_STOPPED, reason="stopped at step 2 of 4", seconds=1.0)
        view = View(ledger.url, made_up.spec(), made_up.small_space())
        view.update(ledger.trials())
        assert view.study.trials[0].state is optuna.trial.TrialState.PRUNED
        ledger.go_on(number)
        (trial,) = ledger.trials()
        assert (trial.state, trial.reason, trial.seconds, trial.observations) == (TrialState.RUNNING, "", 1.0, (rung,))
        view.update(ledger.trials())
        assert view.study.trials[0].state is optuna.trial.TrialState.RUNNING
        ledger.observe(number, replace(rung, step=4))
        ledger.end(number, TrialState.COMPLETE, seconds=2.0)
        view.update(ledger.trials())
        assert view.study.trials[0].values == [0.4, 12.0]
        assert len(view.study.trials) == 1


def test_a_configuration_is_entered_once(tmp_path: Path) -> None:
    filled(tmp_path)
    with Ledger(tmp_path) as ledger, pytest.raises(Exception, match="UNIQUE"):
        ledger.add(LORA, Origin.SAMPLER, "", {}, "")


def test_reading_needs_a_study_and_cannot_write(tmp_path: Path) -> None:
    with pytest.raises(AutopeftError, match="holds no study"):
        Ledger(tmp_path, read_only=True)
    filled(tmp_path)
    with Ledger(tmp_path, read_only=True) as ledger, pytest.raises(Exception, match="readonly"):
        ledger.set_fact("x", 1)


def test_the_database_is_in_wal_mode_and_sound(tmp_path: Path) -> None:
    filled(tmp_path)
    connection = sqlite3.connect(tmp_path / DATABASE)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_csv_gives_back_the_trials_it_was_made_from(tmp_path: Path) -> None:
    trials = filled(tmp_path)
    assert read_csv(write_csv(trials)) == trials


def test_a_folder_may_have_any_name(tmp_path):
    folder = tmp_path / "what? 50% of #1"
    folder.mkdir()
    trials = filled(folder)
    with Ledger(folder, read_only=True) as ledger:
        assert ledger.trials() == trials
    with Ledger(folder) as ledger:
        optuna.create_study(storage=ledger.url, study_name="view")
    assert {path.name.split("-")[0] for path in folder.iterdir()} == {DATABASE}
    assert {path.name for path in tmp_path.iterdir()} == {folder.name}


def test_a_full_disk_is_told_and_loses_nothing(tmp_path):
    trials = filled(tmp_path)
    with Ledger(tmp_path) as ledger:
        with ledger._engine.connect() as connection:
            connection.exec_driver_sql(f"PRAGMA max_page_count={connection.exec_driver_sql('PRAGMA page_count').scalar()}")
        with pytest.raises(AutopeftError, match=r"database or disk is full; what was stored stays"):
            ledger.set_fact("much", "x" * 100_000)
        assert ledger.trials() == trials
    with Ledger(tmp_path) as ledger:
        assert ledger.trials() == trials
        assert ledger.fact("much") is None


def test_a_damaged_database_is_told(tmp_path):
    filled(tmp_path)
    path = tmp_path / DATABASE
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(AutopeftError, match="file is not a database"):
        Ledger(tmp_path, read_only=True)
