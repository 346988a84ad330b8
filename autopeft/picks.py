"""A trial chosen by name, by number or by a rule.

best, knee, smallest-within-1se     the study's own picks
7                                   the trial of that number
parameters<1%, memory<=2GB          the best quality within the limits; several joined by commas
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable

from autopeft import front
from autopeft.budget import parse_bytes, parse_parameters
from autopeft.errors import AutopeftError, near
from autopeft.record import StudyRecord
from autopeft.report.summary import study_axes
from autopeft.trial import Trial

NAMES = ("best", "knee", "smallest-within-1se", "head-only")
LIMITED = {"parameters": "trainable_parameters", "memory": "peak_memory_bytes"}
_RULE = re.compile(r"\s*([A-Za-z_]+)\s*(<=|<)\s*([^<>=]+)")


def find(record: StudyRecord, pick: str) -> Trial:
    """The trial that `pick` names. AutopeftError with near names, or where no trial fits."""
    text = pick.strip()
    if re.fullmatch(r"\d+", text):
        trial = record.trial(int(text))
    elif "<" in text:
        trial = _within(record, text)
    elif text in NAMES:
        trial = _named(record, text)
    else:
        raise AutopeftError(f"unknown pick {pick!r}{near(text, NAMES)}; a trial number or a rule such as 'parameters<1%' will do too")
    return trial


def _named(record: StudyRecord, name: str) -> Trial:
    if name == "head-only":
        if record.head_only is None:
            raise AutopeftError(f"study {record.folder} has no complete trial that trains the task head alone")
        return record.head_only
    axes = study_axes(record)
    numbers = front.picks(record.trials, record.spec, axes) if axes else {}
    if name not in numbers:
        raise AutopeftError(f"study {record.folder} has no complete trial to pick from")
    return record.trial(numbers[name])


def _within(record: StudyRecord, text: str) -> Trial:
    tests = [_test(part, text, record.shape.total_parameters) for part in text.split(",")]
    kept, values = front.objective_values(record.trials, record.spec)
    fitting = [
        (front.sign(record.spec.quality) * row[0], -t.computed["trainable_parameters"], t)
        for t, row in zip(kept, values, strict=True)
        if all(compare(t.computed[name], limit) for name, compare, limit in tests)
    ]
    if not fitting:
        found = "; ".join(
            f"the smallest {name.replace('_', ' ')} is {min(t.computed[name] for t in kept):,.0f}" for name in {t[0] for t in tests} if kept
        )
        raise AutopeftError(f"no complete trial of study {record.folder} is within {text!r}{f'; {found}' if found else ''}")
    return max(fitting, key=lambda found: found[:2])[2]


def _test(part: str, text: str, base_parameters: int) -> tuple[str, Callable[[float, float], bool], int]:
    match = _RULE.fullmatch(part)
    if match is None:
        raise AutopeftError(f"a rule is like parameters<1%, memory<=2GB or both joined by a comma, it is {text!r}")
    name, sign, amount = match.groups()
    if name not in LIMITED:
        raise AutopeftError(f"rule {text!r} limits the unknown quantity {name!r}{near(name, LIMITED)}")
    limit = parse_parameters(amount, base_parameters) if name == "parameters" else parse_bytes(amount)
    return LIMITED[name], operator.le if sign == "<=" else operator.lt, limit
