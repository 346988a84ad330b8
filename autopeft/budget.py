"""Amounts as people write them: budgets (`24trials,8m`), memory (`24GB`), parameters (`1%`, `1M`)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from autopeft.errors import SpecError, near

SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
BYTES = {"b": 1} | {
    f"{prefix}{suffix}": base**power for power, prefix in enumerate("kmgt", start=1) for suffix, base in (("b", 1000), ("ib", 1024))
}
COUNTS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}

_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z%-]*)")


@dataclass(frozen=True)
class Budget:
    """What a search may use over the study's lifetime; None is without limit, the first reached ends it.

    trials: entries, baselines included. seconds: wall time. gpu_hours: hours times devices in use.
    """

    trials: int | None = None
    seconds: float | None = None
    gpu_hours: float | None = None

    @classmethod
    def parse(cls, text: str) -> Budget:
        """`40trials`, `30m`, `2h`, `4gpu-h` or several joined by commas.

        Raises SpecError for an unknown unit, a part given twice, or an amount that is not above 0.
        """
        found: dict[str, float] = {}
        for part in str(text).split(","):
            amount, unit = _split(part, rule=f"a budget is like 40trials, 30m, 2h, 4gpu-h or 40trials,30m; it is {text!r}")
            if unit in ("trial", "trials"):
                kind, value = "trials", amount
            elif unit in SECONDS:
                kind, value = "seconds", amount * SECONDS[unit]
            elif unit == "gpu-h":
                kind, value = "gpu_hours", amount
            else:
                known = ("trials", "gpu-h", *SECONDS)
                raise SpecError(f"budget {text!r} has the unknown unit {unit!r}{near(unit, known)}; e.g. 40trials, 30m, 2h, 4gpu-h")
            if kind in found:
                raise SpecError(f"budget {text!r} limits {kind.replace('_', ' ')} twice")
            if value <= 0 or (kind == "trials" and value != int(value)):
                rule = "a whole number of trials above 0" if kind == "trials" else "an amount above 0"
                raise SpecError(f"budget needs {rule}, it is {part.strip()!r}")
            found[kind] = value
        trials = found.get("trials")
        return cls(None if trials is None else int(trials), found.get("seconds"), found.get("gpu_hours"))

    def __str__(self) -> str:
        """In the form that `parse` reads."""
        parts = [] if self.trials is None else [f"{self.trials}trials"]
        if self.seconds is not None:
            parts.append(f"{self.seconds / 60:g}m" if self.seconds % 60 == 0 else f"{self.seconds:g}s")
        if self.gpu_hours is not None:
            parts.append(f"{self.gpu_hours:g}gpu-h")
        return ",".join(parts)


def parse_bytes(text: str | int) -> int:
    """Bytes of `24GB` (10^9 each), `24GiB` (2^30 each), `512MB` or a plain number. SpecError otherwise."""
    rule = f"memory is a number of bytes or an amount such as 24GB, 22.5GiB or 800MB; it is {text!r}"
    amount, unit = _split(text, rule)
    unit = unit.lower()
    factor = 1 if not unit else BYTES.get(unit, BYTES.get(f"{unit}b"))
    if factor is None or not amount * factor >= 1:
        raise SpecError(rule)
    return int(amount * factor)


def parse_parameters(text: str | int, base_parameters: int) -> int:
    """Number of weights in `100000`, `100k`, `1M`, `2B` or, as a share of `base_parameters`, `1%`.

    Raises SpecError where it cannot be read, is below 0, or a share is above 100 %.
    """
    rule = f"parameters are a number such as 100000, 100k or 1M, or a share of the base model such as 1%; it is {text!r}"
    amount, unit = _split(text, rule)
    if unit == "%":
        if amount > 100:
            raise SpecError(rule)
        return math.floor(base_parameters * amount / 100)
    if unit.lower() not in COUNTS:
        raise SpecError(rule)
    return int(amount * COUNTS[unit.lower()])


def _split(text: str | int, rule: str) -> tuple[float, str]:
    """Amount and unit of `12.5GB`; SpecError with `rule` where it is not of this form."""
    match = _AMOUNT.fullmatch(str(text).strip().replace("_", ""))
    if match is None:
        raise SpecError(rule)
    return float(match[1]), match[2]
