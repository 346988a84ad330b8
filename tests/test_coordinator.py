"""Whole searches on the real MiniLM: budget, resumption, kill -9, limits, refusals."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from small import Quiet, run_small, small_spec

import autopeft
from autopeft import promotion
from autopeft.coordinator import CUT, search
from autopeft.errors import DataError, NothingFits, SpecError, StudyLocked
from autopeft.record import StudyRecord, read
from autopeft.recorded import read_csv
from autopeft.spec import StudySpec
from autopeft.spec_file import read_spec
from autopeft.storage import DATABASE
from autopeft.trial import Origin, Trial, TrialState
from autopeft_searchspace.rules import trainable_parameters

HOLD = """
import sys, time, filelock
lock = filelock.FileLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
time.sleep(60)
"""


def copy_of(study: Path, folder: Path) -> Path:
    """A copy beside its source data, which the study finds by a relative path."""
    shutil.copytree(study.parent, folder, dirs_exist_ok=True)
    return folder / "study"


def resume(study: Path, budget: str) -> tuple[StudyRecord, Quiet]:
    spec, home = read_spec(study / "study.yaml", [f"budget={budget}"], environ={})
    progress = Quiet()
    return search(spec, home, study, progress), progress


def test_a_search_spends_its_budget_on_distinct_configurations(small_study: Path) -> None:
    record = read(small_study)
    assert len(record.trials) == 9
    assert len({t.configuration.key for t in record.trials}) == 9
    assert all(t.state in (TrialState.COMPLETE, TrialState.EARLY_STOPPED) for t in record.trials)
    origins = [t.origin for t in record.trials]
    assert origins[:5] == [Origin.BASELINE] * 5
    assert origins == sorted(origins, key=[Origin.BASELINE, Origin.INITIAL, Origin.SAMPLER].index)
    for trial in record.complete:
        assert trial.computed["trainable_parameters"] == trainable_parameters(trial.configuration, record.shape)
        assert trial.computed["peak_memory_bytes"] > 80e6
        last = trial.final()
        assert last is not None
        assert last.step == record.environment["total_steps"] == 6


def test_picks_are_replicated_with_another_seed(small_study: Path) -> None:
    record = autopeft.load(small_study)
    best = max(record.front, key=lambda t: t.value("accuracy", "accuracy").value)
    assert {o.seed for o in best.replicates()} >= {0, 1}
    assert record.head_only is not None
    assert {o.seed for o in record.head_only.replicates()} >= {0, 1}


def test_the_front_keeps_its_adapters_and_nothing_else_does(small_study: Path) -> None:
    front = {t.number for t in read(small_study).front}
    kept = {int(path.parents[1].name) for path in small_study.glob("trials/*/adapter/configuration.json")}
    assert front <= kept
    assert len(kept) <= len(front) + 3
    assert not [p for p in small_study.rglob("*") if p.suffix in (".pt", ".bin", ".pkl")]


def test_report_files_and_view_tell_what_the_ledger_tells(small_study: Path) -> None:
    record = read(small_study)
    assert len(read_csv((small_study / "observations.csv").read_text("utf-8"))) == len(record.trials)
    assert "<html" in (small_study / "report.html").read_text("utf-8")[:500]
    study = optuna.load_study(study_name="small", storage=f"sqlite:///{small_study / DATABASE}")
    assert study.metric_names == ["accuracy", "trainable_parameters", "peak_memory_bytes"]
    for trial, seen in zip(record.trials, study.trials, strict=True):
        assert seen.user_attrs["state"] == trial.state.value
        if trial.state is TrialState.COMPLETE:
            assert seen.values == [trial.value(o.name, "accuracy").value for o in record.spec.objectives]


def test_a_spent_budget_adds_nothing_and_a_larger_one_adds_the_difference(small_study: Path, tmp_path: Path) -> None:
    study = copy_of(small_study, tmp_path)
    before = read(study).trials
    again, progress = resume(study, "9trials")
    assert again.trials == before
    assert progress.ends == []
    more, _ = resume(study, "11trials")
    assert len(more.trials) == 11
    assert [t.configuration for t in more.trials[:9]] == [t.configuration for t in before]


def test_a_trial_that_the_end_of_the_time_budget_cut_is_run_again(small_study: Path, tmp_path: Path) -> None:
    study = copy_of(small_study, tmp_path)
    whole = read(study).complete[-1]
    with contextlib.closing(sqlite3.connect(study / DATABASE)) as database, database:  # as if it had been cut before its first rung
        database.execute("DELETE FROM autopeft_observations WHERE trial = ?", (whole.number,))
        database.execute("UPDATE autopeft_trials SET state = 'EARLY_STOPPED', reason = ? WHERE number = ?", (CUT, whole.number))
    again, _ = resume(study, "9trials")
    assert len(again.trials) == 9
    assert again.trial(whole.number).state is not TrialState.RUNNING
    assert (
        again.trial(whole.number).observations[0].measurements["search.accuracy"] == whole.observations[0].measurements["search.accuracy"]
    )


class InterruptedWhileWriting(Quiet):
    """Ctrl-C comes while the end of the first trial is being told."""

    writing = False

    def ended(self, trial: Trial, record: StudyRecord) -> None:
        super().ended(trial, record)
        if len(self.ends) == 1:
            self.writing = True
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
            self.writing = False

    def say(self, text: str) -> None:
        assert not self.writing, "a line within another line"
        super().say(text)


def test_an_interrupt_in_the_middle_of_a_line_lets_what_runs_finish(tmp_path: Path) -> None:
    spec, home = read_spec(small_spec(tmp_path, budget="6trials", device="cpu", workers=1), environ={})
    progress = InterruptedWhileWriting()
    with pytest.raises(KeyboardInterrupt):
        search(spec, home, tmp_path / "study", progress)
    record = read(tmp_path / "study")
    assert all(trial.state is not TrialState.RUNNING for trial in record.trials)
    assert len(record.trials) < 6
    assert (tmp_path / "study" / "report.html").exists()


def test_hours_of_gpus_are_no_budget_without_one(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="counts hours of GPUs, and this search runs on cpu"):
        run_small(tmp_path, tmp_path / "study", budget="1gpu-h", device="cpu")
    assert not (tmp_path / "study" / "study.yaml").exists()


@pytest.mark.slow
def test_a_thawed_trial_ends_as_if_it_had_never_been_stopped(small_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = copy_of(small_study, tmp_path)
    whole = next(t for t in read(study).complete if t.origin is not Origin.BASELINE)
    with contextlib.closing(sqlite3.connect(study / DATABASE)) as database, database:  # as it was when it stood at the rung
        database.execute("DELETE FROM autopeft_observations WHERE trial = ? AND content LIKE '%confirm%'", (whole.number,))
        database.execute("UPDATE autopeft_trials SET state = 'EARLY_STOPPED' WHERE number = ?", (whole.number,))

    def thaw(trials: tuple[Trial, ...], spec: StudySpec) -> Trial | None:
        return trials[whole.number] if trials[whole.number].state is TrialState.EARLY_STOPPED else None

    monkeypatch.setattr(promotion, "thaw", thaw)
    record, _ = resume(study, "10trials")
    again = record.trial(whole.number)
    assert again.state is TrialState.COMPLETE
    assert again.value("accuracy", "accuracy") == whole.value("accuracy", "accuracy")
    assert len(record.trials) == 10


def test_other_settings_and_other_data_are_refused(small_study: Path, tmp_path: Path) -> None:
    study = copy_of(small_study, tmp_path)
    spec, home = read_spec(study / "study.yaml", ["training.batch_size=4"], environ={})
    with pytest.raises(SpecError, match=r"training\.batch_size: was 8, is 4"):
        search(spec, home, study, Quiet())


def test_a_study_that_is_open_elsewhere_is_locked(small_study: Path, tmp_path: Path) -> None:
    study = copy_of(small_study, tmp_path)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(study / "study.lock")],
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(StudyLocked):
            resume(study, "9trials")
    finally:
        holder.kill()
        holder.wait()


def test_limits_nothing_fits_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(NothingFits, match="limit is 1 MiB"):
        run_small(tmp_path / "source", tmp_path / "study", constraints={"maximum_memory": "1MiB"})
    assert not (tmp_path / "study").exists()


def test_data_errors_leave_no_folder(tmp_path: Path) -> None:
    path = small_spec(tmp_path / "source")
    (tmp_path / "source" / "data" / "validation.jsonl").write_text('{"text": "a", "label": "neither"}\n', "utf-8")
    spec, home = read_spec(path, environ={})
    with pytest.raises(DataError, match="neither"):
        search(spec, home, tmp_path / "study", Quiet())
    assert not (tmp_path / "study").exists()


def test_a_killed_search_goes_on_where_it_stood(tmp_path: Path) -> None:
    """SIGKILL of the coordinator in the middle of a trial: nothing lost, nothing left running, same proposals."""
    path = small_spec(tmp_path / "source", budget="8trials", seeds={"replicates": 0})
    study = tmp_path / "study"
    command = [sys.executable, "-m", "autopeft", "search", str(path), "--study", str(study), "--quiet"]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        if (study / DATABASE).exists() and _finished(study) >= 3:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed = read(study).trials
    done = [t for t in killed if t.state.finished]
    assert len(done) >= 3
    subprocess.run(command, check=True)
    record = read(study)
    assert len(record.trials) == 8
    assert not [t for t in record.trials if t.state is TrialState.RUNNING]
    assert record.trials[: len(done)] == tuple(done)
    connection = sqlite3.connect(study / DATABASE)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def _finished(study: Path) -> int:
    connection = sqlite3.connect(study / DATABASE, timeout=5)
    try:
        return int(connection.execute("SELECT count(*) FROM autopeft_trials WHERE state != 'RUNNING'").fetchone()[0])
    except sqlite3.OperationalError:
        return 0
    finally:
        connection.close()
