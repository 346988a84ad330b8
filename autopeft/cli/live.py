"""The front while it grows, drawn with characters: quality upwards, trainable parameters to the right."""

from __future__ import annotations

import math
import time
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from autopeft import front
from autopeft.report import words
from autopeft.spec import StudySpec
from autopeft.trial import Origin, Trial, TrialState

if TYPE_CHECKING:
    from autopeft.record import StudyRecord

MARKS = {"front": ("●", "bold cyan"), "baseline": ("◆", "yellow"), "dominated": ("·", "dim")}
"""What a complete trial is -> its character, which tells it without colours, and its style."""
LEFT = 9
"""Columns of the quality's labels."""


def front_plot(trials: Sequence[Trial], spec: StudySpec, width: int, height: int = 12) -> list[Text]:
    """Lines of at most `width` columns: `height` of the plot, its axis and a legend; none before a trial is complete."""
    kept, values = front.objective_values([t for t in trials if t.state is TrialState.COMPLETE], spec)
    if not kept:
        return []
    on = set(front.front_numbers(trials, spec))
    upward = front.sign(spec.quality)
    across = [math.log10(max(t.computed["trainable_parameters"], 100.0)) for t in kept]
    up = [upward * float(row[0]) for row in values]
    columns = max(width - LEFT - 1, 10)
    grid: dict[tuple[int, int], str] = {}
    for kind in ("dominated", "baseline", "front"):  # the last stands over the others
        for trial, x, y in zip(kept, across, up, strict=True):
            own = "front" if trial.number in on else "baseline" if trial.origin is Origin.BASELINE else "dominated"
            if own == kind:
                grid[_cell(y, up, height), _cell(x, across, columns)] = kind
    lines = []
    for row in reversed(range(height)):
        edge = {height - 1: max(up), 0: min(up)}.get(row)
        line = Text(f"{'' if edge is None else words.value(spec.quality, upward * edge):>{LEFT}}│", style="dim", no_wrap=True)
        for column in range(columns):
            mark, style = MARKS[grid[row, column]] if (row, column) in grid else (" ", "")
            line.append(mark, style)
        lines.append(line)
    low, high = (words.count(pick(t.computed["trainable_parameters"] for t in kept)) for pick in (min, max))
    axis = f"{low}{'trainable parameters (log scale)':^{max(columns - len(low) - len(high), 0)}}{high}"
    legend = "   ".join(f"{mark} {kind}" for kind, (mark, _) in MARKS.items())
    return [
        *lines,
        Text(f"{'':>{LEFT}}└{'─' * columns}", style="dim"),
        *(Text(f"{'':>{LEFT + 1}}{t}", style="dim") for t in (axis, legend)),
    ]


def _cell(value: float, among: Sequence[float], count: int) -> int:
    """Which of `count` cells holds a value."""
    low, high = min(among), max(among)
    return min(int((value - low) / (high - low) * count), count - 1) if high > low else count // 2


class GrowingReport:
    """The study's report, written again as trials end, at most a twentieth of the time; its page reloads itself.

    open_it: in the browser, once, when it is there.
    """

    def __init__(self, path: Path, *, open_it: bool = False) -> None:
        self.path, self._open_it = path, open_it
        self._next = 0.0

    def update(self, record: StudyRecord) -> bool:
        """Whether it was written now."""
        from autopeft import files, report

        start = time.monotonic()
        if start < self._next:
            return False
        files.write_text(self.path, report.render(record, growing=True))
        end = time.monotonic()
        self._next = end + 20 * (end - start)
        if self._open_it:
            self._open_it = False
            webbrowser.open(self.path.resolve().as_uri())
        return True
