import io
import sys
from dataclasses import replace
from typing import Any

import pytest
import synthetic

from autopeft.cli.progress import Bar, trial_line
from autopeft.record import StudyRecord


@pytest.fixture(scope="module")
def record() -> StudyRecord:
    return synthetic.record(12)


def drive(bar: Bar, record: StudyRecord) -> None:
    with bar:
        bar.plan(["study x: budget [60trials]"])
        for trial in record.trials[:3]:
            bar.started(trial, replace(record, trials=record.trials[: trial.number]))
            bar.step(trial.number, 5, 10, 0.7)
            bar.ended(trial, replace(record, trials=record.trials[: trial.number + 1]))


def test_without_a_terminal_there_are_plain_lines(record: StudyRecord, capsys: pytest.CaptureFixture[str]) -> None:
    drive(Bar(record.spec, quiet=False), record)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == ["study x: budget [60trials]", *(trial_line(t, record.spec) for t in record.trials[:3])]


def test_quiet_says_nothing(record: StudyRecord, capsys: pytest.CaptureFixture[str]) -> None:
    drive(Bar(record.spec, quiet=True), record)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_budget_hypervolume_front_and_steps(record: StudyRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal: Any = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.delenv("NO_COLOR", raising=False)
    bar = Bar(record.spec, quiet=False)
    drive(bar, record)
    with bar:
        bar.started(record.trials[3], replace(record, trials=record.trials[:4]))
        bar.step(3, 5, 10, 0.7)
    shown = terminal.getvalue()
    for expected in ("% of 60trials,30m", "4 trials done", "hypervolume 0.", "trial 3 step 5/10", "LoRA r=8 on q,v", "head only"):
        assert expected in shown


def test_lines_tell_state_objectives_and_reason() -> None:
    trials = synthetic.record(60).trials
    spec = synthetic.spec()
    assert trial_line(trials[0], spec).startswith("trial   0  complete, 3 seeds  accuracy ")
    assert "head only: head only; learning rate 0.005" in trial_line(trials[0], spec)
    assert trial_line(replace(trials[0], observations=trials[0].observations[:2]), spec).startswith("trial   0  complete  accuracy ")
    assert "infeasible" in trial_line(trials[20], spec)
    assert trial_line(trials[20], spec).endswith("too large: 3.1 M parameters, at most 2 M allowed")
