"""A search's or a training's progress on stderr: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from autopeft import front
from autopeft.budget import Budget
from autopeft.cli.console import printable
from autopeft.cli.live import GrowingReport, front_plot
from autopeft.report import words
from autopeft.report.summary import study_axes
from autopeft.spending import gpu_hours
from autopeft.trial import Trial, TrialState

if TYPE_CHECKING:
    from autopeft.record import StudyRecord
    from autopeft.spec import StudySpec

FRONT_LINES = 8


class Bar:
    """Draws what `autopeft.coordinator.search` tells: trials, budget used, hypervolume, current front.

    growing: the report that is written again as trials end; the front is then drawn as a plot too.
    """

    def __init__(self, spec: StudySpec, *, quiet: bool, growing: GrowingReport | None = None) -> None:
        self._growing = growing
        self._spec, self._budget, self._quiet = spec, Budget.parse(spec.budget), quiet
        self._console = Console(file=sys.stderr, highlight=False)
        self._live = Live(console=self._console, refresh_per_second=4, transient=True) if self._console.is_terminal and not quiet else None
        self._record: StudyRecord | None = None
        self._hypervolume = ""
        self._steps: dict[int, tuple[int, int]] = {}
        self._since = time.monotonic()
        self._used_before = 0.0

    def __enter__(self) -> Bar:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def plan(self, lines: list[str]) -> None:
        for line in lines:
            self.say(line)

    def say(self, text: str) -> None:
        if not self._quiet:
            self._console.print(printable(text), markup=False, soft_wrap=True)

    def step(self, number: int, step: int, of: int, loss: float) -> None:
        self._steps[number] = (step, of)
        self._draw()

    def started(self, trial: Trial, record: StudyRecord) -> None:
        self._look_at(record)
        self._steps[trial.number] = (0, 0)
        self._draw()

    def ended(self, trial: Trial, record: StudyRecord) -> None:
        self._steps.pop(trial.number, None)
        self._look_at(record)
        axes = study_axes(record)
        self._hypervolume = f"{axes.hypervolume(front.objective_values(record.trials, record.spec)[1]):.4f}" if axes else ""
        self.say(trial_line(trial, self._spec))
        if self._growing is not None:
            self._growing.update(record)
        self._draw()

    def _look_at(self, record: StudyRecord) -> None:
        self._record = record
        self._used_before, self._since = float(record.environment.get("seconds_used") or 0.0), time.monotonic()

    def _draw(self) -> None:
        if self._live is not None:
            self._live.update(Group(self._status(), *self._plot(), *self._front()))

    def _share(self) -> float:
        """Of the budget: of trials, time or hours of GPUs, whichever is furthest."""
        seconds = self._used_before + time.monotonic() - self._since
        finished = sum(t.state.finished for t in self._record.trials) if self._record else 0
        by_trials = finished / self._budget.trials if self._budget.trials else 0.0
        by_seconds = seconds / self._budget.seconds if self._budget.seconds else 0.0
        by_gpu_hours = 0.0
        if self._budget.gpu_hours and self._record:
            by_gpu_hours = gpu_hours(self._record.trials, self._record.environment) / self._budget.gpu_hours
        return min(1.0, max(by_trials, by_seconds, by_gpu_hours))

    def _status(self) -> Table:
        running = ", ".join(f"trial {n} step {step}/{of}" if of else f"trial {n}" for n, (step, of) in sorted(self._steps.items()))
        finished = sum(t.state.finished for t in self._record.trials) if self._record else 0
        line = Table.grid(padding=(0, 2))
        line.add_row(
            ProgressBar(total=1.0, completed=self._share(), width=30),
            Text(f"{self._share():.0%} of {self._budget}"),
            Text(f"{finished} trials done"),
            Text(f"hypervolume {self._hypervolume}" if self._hypervolume else ""),
            Text(running),
        )
        return line

    def _plot(self) -> list[Text]:
        if self._growing is None or self._record is None:
            return []
        return front_plot(self._record.trials, self._spec, min(self._console.width, 100))

    def _front(self) -> list[Text]:
        if self._record is None:
            return []
        numbers = front.front_numbers(self._record.trials, self._spec)
        on = [self._record.trial(number) for number in numbers]
        on.sort(key=lambda t: -t.computed.get("trainable_parameters", 0))
        lines = [Text(f"  {trial_line(t, self._spec)}", style="dim", overflow="ellipsis", no_wrap=True) for t in on[:FRONT_LINES]]
        if len(on) > FRONT_LINES:
            lines.append(Text(f"  and {len(on) - FRONT_LINES} more on the front", style="dim"))
        return lines


def trial_line(trial: Trial, spec: StudySpec) -> str:
    """One trial in one line: number, state, objectives, configuration."""
    seeds = len(trial.replicates())
    parts = [f"trial {trial.number:>3}", trial.state.value.lower().replace("_", " ") + (f", {seeds} seeds" if seeds > 1 else "")]
    for objective in spec.objectives:
        found = trial.value(objective.name, spec.quality)
        if found is not None:
            parts.append(f"{words.name(objective.name)} {words.value(objective.name, found.value)}")
    parts.append(f"{trial.label}: {trial.configuration.in_words()}" if trial.label else trial.configuration.in_words())
    if trial.reason and trial.state is not TrialState.COMPLETE:
        parts.append(trial.reason)
    return "  ".join(parts)
