"""The front drawn in a terminal, and the report that grows with it."""

from __future__ import annotations

import io
import re
import webbrowser
from pathlib import Path

import pytest
import synthetic
from rich.console import Console, Group

from autopeft.cli import live
from autopeft.cli.live import GrowingReport, front_plot
from autopeft.cli.progress import Bar
from autopeft.report.summary import summarise


def drawn(trials: int, width: int = 90) -> list[str]:
    record = synthetic.record(trials)
    console = Console(file=io.StringIO(), width=width)
    console.print(Group(*front_plot(record.trials, record.spec, width)))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_the_front_rises_to_the_right() -> None:
    lines = drawn(60)
    plot = [line.partition("│")[2] for line in lines if "│" in line]
    assert len(plot) == 12
    summary = summarise(synthetic.record(60))
    assert 2 <= sum(line.count("●") for line in plot) <= len(summary.front)
    assert "◆" in "".join(plot)
    assert "●" in plot[0], "the best is on the front"
    assert lines[0].strip().startswith(f"{100 * max(row.values['accuracy'] or 0 for row in summary.complete):.1f} %")
    assert re.search(r"0 +trainable parameters \(log scale\) +\d", lines[-2])
    assert max(map(len, lines)) <= 90


@pytest.mark.parametrize("trials", [0, 1])
def test_little_can_be_drawn_too(trials: int) -> None:
    assert len([line for line in drawn(trials) if "│" in line]) == 12 * trials


def test_the_report_is_written_as_trials_end_and_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    now = 0.0
    monkeypatch.setattr(live.time, "monotonic", lambda: now)
    growing = GrowingReport(tmp_path / "report.html", open_it=True)
    record = synthetic.record(8)
    bar = Bar(record.spec, quiet=True, growing=growing)
    bar.ended(record.trials[0], record)
    assert '<meta http-equiv="refresh" content="15">' in growing.path.read_text("utf-8")
    assert opened == [growing.path.as_uri()]
    now = 1.0
    assert growing.update(record)
    assert len(opened) == 1


def test_writing_takes_a_twentieth_of_the_time_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 2.0, 41.9, 42.1, 42.1])
    monkeypatch.setattr(live.time, "monotonic", lambda: next(times))
    growing = GrowingReport(tmp_path / "report.html")
    assert [growing.update(synthetic.record(1)) for _ in range(3)] == [True, False, True]
