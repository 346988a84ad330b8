"""How every chart looks: colours that colour-blind readers can tell apart (Okabe and Ito 2008), shapes
that say the same, and one layout."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from autopeft.report import words
from autopeft.report.rows import Row
from autopeft.report.summary import Summary
from autopeft.report.tables import Table
from autopeft.spec import COUNTS

BLUE, RED, GREEN, ORANGE, PINK, SKY = "#0072b2", "#d55e00", "#009e73", "#e69f00", "#b8568f", "#56b4e9"
GREY, INK, SOFT, GRID, PAPER = "#9aa3ae", "#1c2530", "#5b6673", "#e4e8ed", "#ffffff"
SERIES = (BLUE, RED, GREEN, ORANGE, PINK, SKY)
SHAPES = ("diamond", "square", "triangle-up", "pentagon", "hexagon", "star-triangle-up", "bowtie", "cross")
DASHES = ("solid", "dash", "dot", "dashdot")
SEQUENCE = ("#eef4f9", "#c3ddef", "#85bbdf", "#3d92c9", "#0072b2", "#004a75")
"""Low to high, for heat-maps."""

DARK = {
    BLUE: "#4aa8f0",
    RED: "#ff8d54",
    GREEN: "#2fc79a",
    ORANGE: "#f2b63c",
    PINK: "#e08fc0",
    SKY: "#8fd0f7",
    GREY: "#6d7783",
    INK: "#e7ebf0",
    SOFT: "#a3aebb",
    GRID: "#2b333d",
    PAPER: "#161b22",
    **dict(zip(SEQUENCE[:-2], ("#1c2733", "#1d3c57", "#1f567f", "#2a7ab3"), strict=True)),
    SEQUENCE[-1]: "#a9d8fb",
}
"""Light colour -> dark colour."""

FONT = '-apple-system, BlinkMacSystemFont, "Segoe UI", Inter, Roboto, "Helvetica Neue", Arial, "Liberation Sans", sans-serif'
WRAP = 64


@dataclass(frozen=True)
class Chart:
    """name: unique, an HTML id. note: what to look for, in a sentence. alt: what the chart shows, for
    those who do not see it. content: plotly's data and layout. table: the same numbers. wide: over the
    whole page. height: in pixels."""

    name: str
    title: str
    note: str
    alt: str
    content: Mapping[str, Any]
    table: Table
    wide: bool = False
    height: int = field(default=380)


def layout(x: Mapping[str, Any] | None = None, y: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """The common layout, with axes `x` and `y` and any further keys of plotly's layout."""
    made: dict[str, Any] = {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 13, "color": INK},
        "margin": {"l": 56, "r": 16, "t": 12, "b": 48},
        "hovermode": "closest",
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": GREY, "activecolor": BLUE, "orientation": "v"},
        "hoverlabel": {"align": "left", "bgcolor": PAPER, "bordercolor": GRID, "font": {"family": FONT, "size": 12.5, "color": INK}},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 12, "color": SOFT}},
        "xaxis": axis(**(x or {})),
        "yaxis": axis(**(y or {})),
    }
    return {**made, **more}


def axis(title: str = "", **more: Any) -> dict[str, Any]:
    return {
        "title": {"text": title, "font": {"size": 12.5, "color": SOFT}, "standoff": 10},
        "gridcolor": GRID,
        "linecolor": GRID,
        "zeroline": False,
        "automargin": True,
        "tickfont": {"size": 12, "color": SOFT},
        **more,
    }


def scatter(x: Sequence[Any], y: Sequence[Any], **more: Any) -> dict[str, Any]:
    return {"type": "scatter", "x": list(x), "y": list(y), **more}


def patterned(shape: str) -> dict[str, Any]:
    """A bar's pattern over its colour; "" for none."""
    return {"shape": shape, "fillmode": "overlay", "fgcolor": PAPER, "size": 6}


def safe(text: str) -> str:
    """Text that plotly shows as it stands; it reads a few HTML tags otherwise."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def wrapped(text: str, width: int = WRAP) -> str:
    return "<br>".join(safe(line) for line in textwrap.wrap(text, width, break_long_words=True)) or ""


def trial_hover(rows: Sequence[Row | None]) -> dict[str, Any]:
    """Keys of a trace whose points are trials (None: a gap in a line). The page fills in the text of
    `hover`, of which it holds one copy per trial."""
    return {"customdata": [row.number if row else None for row in rows], "hovertemplate": "%{hovertext}<extra></extra>"}


def hover(summary: Summary, row: Row) -> str:
    """What charts say of a trial: number and standing, objectives, costs. The page adds its configuration in
    words, which it takes from the table of all trials, after the first line."""
    standing = [*row.picks, *(["front"] if row.on_front else []), *([row.trial.label] if row.trial.label else [])]
    state = row.trial.state.value.lower().replace("_", " ")
    lines = [f"<b>trial {row.number}</b>, {safe(', '.join(standing) or state)}"]
    for objective in summary.objectives:
        lines.append(
            f"{objective.title}: {words.value(objective.name, row.values[objective.name])}{_interval(summary, row, objective.name)}"
        )
    if (chance := summary.probability.get(row.number)) is not None:
        lines.append(f"on the front with probability {100 * chance:.0f} %")
    if row.quality is None and row.seen_quality is not None and row.fidelity is not None:
        seen = words.value(summary.quality.name, row.seen_quality)
        lines.append(f"{seen} when stopped after {words.share(row.fidelity)} of the steps")
    if measured := row.measured("measured_peak_memory_bytes"):
        lines.append(f"measured memory: {words.bytes_(measured)}")
    if row.trial.seconds:
        lines.append(f"{words.seconds(row.trial.seconds)}, {words.plural(row.seeds, 'full run')}")
    if row.trial.reason:
        lines.append(wrapped(row.trial.reason))
    return "<br>".join(lines)


def _interval(summary: Summary, row: Row, objective: str) -> str:
    known = row.quality if objective == summary.quality.name else None
    return f" ({words.interval(objective, known)})" if known and known.has_interval else ""


@dataclass(frozen=True)
class Scale:
    """How an objective is drawn: `at` gives the position of a value, `axis` what `layout` takes for its axis."""

    objective: str
    factor: float
    zero: float | None
    axis: Mapping[str, Any]

    def at(self, value: float | None) -> float | None:
        if value is None:
            return None
        return self.zero if self.zero is not None and value <= 0 else value * self.factor


def scale(objective: str, values: Sequence[float | None]) -> Scale:
    """Quality in percent where it is a share; memory in MB or GB; parameters on a log axis on which 0
    stands left of the smallest adapter."""
    known = [v for v in values if v is not None]
    title = words.name(objective)
    if objective in COUNTS:
        positive = [v for v in known if v > 0] or [1.0]
        powers = [10.0**k for k in range(13) if min(positive) / 2 < 10.0**k <= max(positive) * 2]
        zero = min(positive) / 2.5 if any(v <= 0 for v in known) else None
        ticks = [zero, *powers] if zero is not None else powers
        texts = ["0" if zero is not None and t == zero else words.round_count(t) for t in ticks]
        return Scale(objective, 1.0, zero, {"title": title, "type": "log", "tickvals": ticks, "ticktext": texts})
    if objective.endswith("_bytes"):
        factor, unit = (1e-9, "GB") if max(known, default=0) >= 2e9 else (1e-6, "MB")
        return Scale(objective, factor, None, {"title": f"{title}, {unit}"})
    if objective in words.IN_PERCENT:
        return Scale(objective, 100.0, None, {"title": f"{title}, %"})
    return Scale(objective, 1.0, None, {"title": title})
