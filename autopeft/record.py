"""A study as it stands, read-only: what status, report, export and train work from.

Read from a live study folder (`study.db`) or from a recorded one (`observations.csv`), with the same
result, so that every report can be made again from what the repository keeps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autopeft_searchspace.shape import ModelShape

from autopeft.errors import AutopeftError
from autopeft.spec import StudySpec
from autopeft.trial import Origin, Trial, TrialState


@dataclass(frozen=True)
class StudyRecord:
    """folder: of the study. environment: versions, device, seeds, data hash and counts, recipe,
    total steps, limits in numbers (`maximum_parameters`, `maximum_memory_bytes`), memory of full
    fine-tuning (`full_memory_bytes`), seconds used. picks: name (`best`, `knee`,
    `smallest-within-1se`) -> trial number."""

    folder: Path
    spec: StudySpec
    shape: ModelShape
    environment: Mapping[str, Any]
    trials: tuple[Trial, ...]

    def trial(self, number: int) -> Trial:
        for trial in self.trials:
            if trial.number == number:
                return trial
        raise AutopeftError(f"study {self.folder} has no trial {number}; it has 0..{len(self.trials) - 1}")

    @property
    def complete(self) -> tuple[Trial, ...]:
        return tuple(t for t in self.trials if t.state is TrialState.COMPLETE)

    @property
    def head_only(self) -> Trial | None:
        """The complete baseline that trains the head alone, if there is one."""
        return next((t for t in self.complete if t.origin is Origin.BASELINE and not t.configuration.components), None)
