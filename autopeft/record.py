"""A study as it stands, read-only: what status, report, export and train work from.

Read from a live study folder (`study.db`) or from a recorded one (`observations.csv`), with the same
result, so that every report can be made again from what the repository keeps.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from autopeft import storage
from autopeft.errors import AutopeftError
from autopeft.front import front_numbers, sign
from autopeft.ledger import Ledger
from autopeft.recorded import ENVIRONMENT, OBSERVATIONS, read_csv
from autopeft.spec import StudySpec
from autopeft.spec_file import read_spec
from autopeft.study_format import FIRST_FORMAT, check_format
from autopeft.tested import TrialTest, read_tests
from autopeft.trial import Origin, Trial, TrialState
from autopeft_searchspace.shape import ModelShape

SPEC = "study.yaml"
MOST_SAID = 300
"""Letters of an error that are told of damaged content."""

T = TypeVar("T")


@dataclass(frozen=True)
class StudyRecord:
    """folder: of the study. environment: what `search` wrote down: `environment` (versions, device),
    `data` (sha256, counts, labels), `recipe`, `threads`, `workers` (trials at once), `total_steps`, `limits`
    (`maximum_parameters`, `maximum_memory_bytes`), `full_memory_bytes`, `seconds_used`, `axes`.
    tests: scores on the test split, of trials that were trained in full."""

    folder: Path
    spec: StudySpec
    shape: ModelShape
    environment: Mapping[str, Any]
    trials: tuple[Trial, ...]
    tests: tuple[TrialTest, ...] = ()

    def trial(self, number: int) -> Trial:
        for trial in self.trials:
            if trial.number == number:
                return trial
        raise AutopeftError(f"study {self.folder} has no trial {number}; it has 0 to {len(self.trials) - 1}")

    @property
    def complete(self) -> tuple[Trial, ...]:
        return tuple(t for t in self.trials if t.state is TrialState.COMPLETE)

    @property
    def front(self) -> tuple[Trial, ...]:
        """Complete trials that no other dominates, by number."""
        return tuple(self.trial(number) for number in front_numbers(self.trials, self.spec))

    @property
    def head_only(self) -> Trial | None:
        """The best complete baseline that trains the head alone, if there is one."""
        return self.best_of([t for t in self.complete if t.origin is Origin.BASELINE and not t.configuration.components])

    def tested(self, number: int) -> TrialTest | None:
        """The test of a trial by the study's metric on its own data; None where there is none."""
        return next((t for t in self.tests if (t.trial, t.metric, t.data) == (number, self.spec.quality, "")), None)

    def best_of(self, trials: Sequence[Trial]) -> Trial | None:
        """The one of the highest final quality; None of none."""
        quality = self.spec.quality
        return max(trials, key=lambda t: sign(quality) * m.value if (m := t.value(quality, quality)) else float("-inf"), default=None)


def read(folder: Path) -> StudyRecord:
    """The study in `folder`; AutopeftError where there is none."""
    if not folder.is_dir():
        raise AutopeftError(f"there is no study folder {folder}")
    if storage.exists(folder):
        with _damage_in_words(folder / storage.DATABASE), Ledger(folder, read_only=True) as ledger:
            return replace(from_ledger(ledger, folder), tests=read_tests(folder))
    if not (folder / OBSERVATIONS).exists():
        raise AutopeftError(f"{folder} holds no study: neither {storage.DATABASE} nor {OBSERVATIONS} is there")
    spec, _ = read_spec(folder / SPEC, environ={})
    environment = _parsed(folder / ENVIRONMENT, json.loads)
    with _damage_in_words(folder / ENVIRONMENT):
        check_format(environment.pop("format", FIRST_FORMAT), environment, folder)
        shape = ModelShape.from_json(environment["shape"])
    return StudyRecord(folder, spec, shape, environment, _parsed(folder / OBSERVATIONS, read_csv), read_tests(folder))


def _parsed(path: Path, parse: Callable[[str], T]) -> T:
    """What `parse` makes of a recorded file; AutopeftError where it is missing or damaged."""
    with _damage_in_words(path):
        try:
            return parse(path.read_text("utf-8"))
        except OSError as error:
            raise AutopeftError(f"{path} cannot be read: {error.strerror or error}") from None


@contextmanager
def _damage_in_words(path: Path) -> Iterator[None]:
    """AutopeftError for what reading content of a wrong form raises."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError, csv.Error) as error:
        raise AutopeftError(f"{path} is damaged: {type(error).__name__}: {' '.join(str(error).split())[:MOST_SAID]}") from error


def from_ledger(ledger: Ledger, folder: Path) -> StudyRecord:
    """The record of an open ledger."""
    environment = ledger.fact("environment")
    if environment is None:
        raise AutopeftError(f"study {folder} was made but never started; run `autopeft search` on it")
    spec = StudySpec.model_validate(ledger.fact("spec"))
    return StudyRecord(folder, spec, ModelShape.from_json(environment["shape"]), environment, ledger.trials())
