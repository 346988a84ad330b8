"""Running trials: `workbench` does the work, `worker` is the process it lives in, executors start workers
and speak for them (`executor` says how)."""

from __future__ import annotations

from pathlib import Path

from autopeft.errors import SpecError
from autopeft.execute.executor import Executor
from autopeft.spec import StudySpec

LOG = "worker.log"
"""File in the study's folder to which workers write their output."""


def make_executor(spec: StudySpec, study: Path, base_parameters: int) -> Executor:
    """The executor that a study asks for, not yet started. Raises SpecError where its devices are not there.

    base_parameters: of the base model, which decide how many workers memory holds.
    """
    if spec.executor.name == "ray":
        try:
            from autopeft.execute.cluster import RayExecutor
        except ModuleNotFoundError as error:
            raise SpecError(f"executor ray needs the package {error.name}: pip install 'autopeft[ray]'") from None
        return RayExecutor(spec, study, study / LOG)
    from autopeft.device import find_devices, find_slots
    from autopeft.execute.local import LocalExecutor

    if spec.executor.name == "packed":  # one worker for each device, which makes room for several trials
        return LocalExecutor(spec, study, find_devices(spec.device), study / LOG)
    devices = [(device, find_slots(spec.workers, device, base_parameters)) for device in find_devices(spec.device)]
    places = [device for device, slots in devices for _ in range(slots.count)]
    return LocalExecutor(spec, study, places, study / LOG, devices[0][1].threads)
