"""Running trials: `workbench` does the work, `worker` is the process it lives in, executors start workers
and speak for them (`executor` says how)."""

from __future__ import annotations

from pathlib import Path

from autopeft.execute.executor import Executor
from autopeft.spec import StudySpec

LOG = "worker.log"
"""File in the study's folder to which workers write their output."""


def make_executor(spec: StudySpec, study: Path) -> Executor:
    """The executor that a study asks for, not yet started. Raises SpecError where its devices are not there."""
    from autopeft.device import find_devices
    from autopeft.execute.local import LocalExecutor

    return LocalExecutor(spec, study, find_devices(spec.device), study / LOG)
