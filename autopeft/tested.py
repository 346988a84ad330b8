"""Scores on the test split that `autopeft train` left with a study: `train/<number>/result.json`, and the
same results in one file, `tests.json`, of a recorded study."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autopeft.errors import AutopeftError
from autopeft.statistics import Estimate

RESULT, TESTS = "result.json", "tests.json"
LARGE = "per_example"
"""What a recorded study leaves out of a result."""


@dataclass(frozen=True)
class TrialTest:
    """A trial's score on the test split, the mean over seeds that the search did not use.

    data: sha256 of the data where they were not the study's, else "".
    difference: this minus trial `against`, paired by seed and example; both None where nothing was compared.
    """

    trial: int
    metric: str
    steps: int
    estimate: Estimate
    data: str = ""
    against: int | None = None
    difference: Estimate | None = None


def read_results(folder: Path) -> dict[str, dict[str, Any]]:
    """Name -> result as `autopeft train --json` gives it, without scores of single examples: those of
    `tests.json`, then those of `train/`. Raises AutopeftError for a damaged file."""
    found: dict[str, dict[str, Any]] = {}
    for path in (folder / TESTS, *sorted((folder / "train").glob(f"*/{RESULT}"))):
        if path.exists():
            content = _parsed(path)
            found |= content if path.name == TESTS else {path.parent.name: content}
    for result in found.values():
        for one in (result, result.get("against") or {}):
            one.pop(LARGE, None)
    return found


def read_tests(folder: Path) -> tuple[TrialTest, ...]:
    """What was tested in the study in `folder`, by trial; of several results of a trial on the same data the
    last, and one that was compared before one that was not. Raises AutopeftError for a damaged file."""
    found: dict[tuple[int, str], TrialTest] = {}
    for name, result in read_results(folder).items():
        try:
            tested = _with_the_other(result)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise AutopeftError(f"test result {name!r} of {folder} is damaged: {type(error).__name__}: {error}") from error
        for one in tested:
            known = found.get((one.trial, one.data))
            if known is None or one.difference or not known.difference:
                found[one.trial, one.data] = one
    return tuple(found[key] for key in sorted(found))


def _parsed(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, RecursionError, ValueError) as error:
        raise AutopeftError(f"{path} is damaged: {type(error).__name__}: {error}") from error
    results = content.values() if path.name == TESTS and isinstance(content, dict) else [content]
    if not all(isinstance(result, dict) for result in results):
        raise AutopeftError(f"{path} is damaged: a result must be an object")
    return dict(content)


def _with_the_other(plain: Mapping[str, Any]) -> list[TrialTest]:
    """The result, after that of the trial it was compared with."""
    other = plain.get("against")
    if not other:
        return [_tested(plain)]
    return [_tested(other), _tested(plain, int(other["trial"]), _estimate(other["difference"]))]


def _tested(plain: Mapping[str, Any], against: int | None = None, difference: Estimate | None = None) -> TrialTest:
    number, steps, data = int(plain["trial"]), int(plain["steps"]), str(plain.get("data", ""))
    return TrialTest(number, str(plain["metric"]), steps, _estimate(plain["estimate"]), data, against, difference)


def _estimate(plain: Mapping[str, Any]) -> Estimate:
    made = Estimate(**plain)
    if not all(isinstance(value, int | float) for value in (made.value, made.low, made.high)):
        raise TypeError(f"an estimate must be numbers, it is {plain!r}")
    return made
