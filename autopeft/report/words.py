"""Numbers as people read them. Every format of the report writes a value the same way.

Qualities between 0 and 1 read as percent (differences as points), others with three decimals;
parameters in k and M, memory in MB and GB (powers of ten), times in s, min and h.
"""

from __future__ import annotations

import math

from autopeft.spec import COUNTS
from autopeft.statistics import Estimate

MINUS = "−"
IN_PERCENT = ("accuracy", "macro_f1", "exact_match")
NAMES = {
    "macro_f1": "macro F1",
    "matthews": "Matthews correlation",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
    "token_nll": "loss per token",
    "exact_match": "exact match",
    "trainable_parameters": "trainable parameters",
    "peak_memory_bytes": "peak training memory",
    "mean_trained_parameters": "parameters trained in a step",
    "base_parameters": "parameters of the base",
}


def name(objective: str) -> str:
    return NAMES.get(objective, objective.replace("_", " "))


SHORT = {
    "trainable_parameters": "parameters",
    "peak_memory_bytes": "memory",
    "mean_trained_parameters": "trained in a step",
    "base_parameters": "base",
}


def short(objective: str) -> str:
    """A name for the head of a narrow column."""
    return SHORT.get(objective, name(objective))


def value(objective: str, number: float | None) -> str:
    """A value with its unit; a dash for None."""
    if number is None or not math.isfinite(number):
        return "–"
    if objective in IN_PERCENT:
        return f"{100 * number:.1f} %".replace("-", MINUS)
    if objective in COUNTS:
        return count(number)
    if objective.endswith("_bytes"):
        return bytes_(number)
    if objective.endswith("seconds"):
        return seconds(number)
    return f"{number:.3f}".replace("-", MINUS)


def measured(objective: str, number: float) -> str:
    """A value beside its name: `91.2 % accuracy`, `loss per token 2.314`."""
    if objective in IN_PERCENT:
        return f"{value(objective, number)} {name(objective)}"
    return f"{name(objective)} {value(objective, number)}"


def interval(objective: str, estimate: Estimate) -> str:
    """Both ends, e.g. `87.6–93.4 %`; a dash where there is no interval."""
    if not estimate.has_interval:
        return "–"
    if objective in IN_PERCENT:
        return f"{100 * estimate.low:.1f}–{100 * estimate.high:.1f} %"
    return f"{estimate.low:.3f} to {estimate.high:.3f}".replace("-", MINUS)


def signed(objective: str, number: float) -> str:
    """A difference, without unit: `+1.2` (points for percentages)."""
    scaled, digits = (100 * number, 1) if objective in IN_PERCENT else (number, 3)
    rounded = round(scaled, digits) + 0.0
    return f"{'+' if rounded > 0 else MINUS if rounded < 0 else ''}{abs(rounded):.{digits}f}"


def difference(objective: str, estimate: Estimate, *, ends: bool = True) -> str:
    """`+1.2 points (−0.4 to +2.8)`; without the interval's ends where they stand elsewhere."""
    unit = " points" if objective in IN_PERCENT else " nats" if objective == "token_nll" else ""
    shown = ends and estimate.has_interval
    both = f" ({signed(objective, estimate.low)} to {signed(objective, estimate.high)})" if shown else ""
    return f"{signed(objective, estimate.value)}{unit}{both}"


def count(number: float) -> str:
    """`0`, `640`, `24.6 k`, `1.18 M`."""
    return _scaled(number, ("", " k", " M", " B", " T"))


def round_count(number: float) -> str:
    """`10 k`, `1 M`: of a round number, without decimals."""
    return count(number).replace(".00", "").replace(".0", "")


def bytes_(number: float) -> str:
    return _scaled(number, (" B", " kB", " MB", " GB", " TB"))


def share(number: float) -> str:
    """A share of the whole in percent, to two significant digits: `0.11 %`."""
    percent = 100 * number
    if percent == 0:
        return "0 %"
    return "<0.001 %" if percent < 0.001 else f"{percent:.0f} %" if percent >= 10 else f"{percent:.2g} %"


def seconds(number: float) -> str:
    """`0.31 s`, `14 s`, `3 min 20 s`, `2 h 5 min`."""
    if number < 10:
        return f"{number:.2g} s"
    whole = round(number)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    hours, minutes = divmod(round(number / 60), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def times(ratio: float) -> str:
    """How many times: `4.5`, `27`."""
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}".removesuffix(".0")


def plural(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def joined(parts: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else ""


def _scaled(number: float, units: tuple[str, ...]) -> str:
    power = 0
    while abs(number) >= 999.5 and power < len(units) - 1:
        number, power = number / 1000, power + 1
    if power == 0:
        return f"{number:.0f}{units[0]}"
    digits = 0 if abs(number) >= 99.95 else 1 if abs(number) >= 9.995 else 2
    return f"{number:.{digits}f}{units[power]}"
