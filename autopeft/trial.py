"""What is known of a trial. Frozen records that travel as JSON between coordinator and workers.

States, and the only ways between them:

    (new) ──> RUNNING ──> COMPLETE        all steps done, objectives measured
                 │ └────> EARLY_STOPPED   a rung decided that the rest is not worth it
                 ├──────> INFEASIBLE      out of memory, too large for a limit, diverged
                 ├──────> FAILED          a bug or a dead worker; the reason is kept
                 └──────> RUNNING         interrupted: runs again under its number
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from autopeft_searchspace.configuration import Configuration

IMPORTANCE = "importance"
"""Measurements `importance.<layer>` and `importance.<layer>.<role>`: higher is more important, within one run."""


class TrialState(StrEnum):
    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    EARLY_STOPPED = "EARLY_STOPPED"
    INFEASIBLE = "INFEASIBLE"
    FAILED = "FAILED"

    @property
    def finished(self) -> bool:
        return self is not TrialState.RUNNING


class Origin(StrEnum):
    """Who proposed a trial."""

    BASELINE = "baseline"
    INITIAL = "initial"
    SAMPLER = "sampler"


@dataclass(frozen=True)
class Measurement:
    """value: in `unit`. standard_error: of the value, None where it is exact or unknown."""

    value: float
    unit: str = ""
    standard_error: float | None = None


@dataclass(frozen=True)
class Observation:
    """One training run cut at one rung. Its identity is (configuration, seed, step, recipe).

    key: `Configuration.key`. step of total_steps: where the run stood when it was measured.
    recipe: hash of everything else that decides the numbers (data, precision, schedule ...).
    measurements: name -> measurement. Quality stands as `search.<metric>` and, at the last step
        only, `confirm.<metric>`; then `measured_peak_memory_bytes`, `train_seconds`,
        `seconds_per_step`, `stored_bytes`.
    curve: (step, training loss) pairs up to this rung.
    """

    key: str
    seed: int
    step: int
    total_steps: int
    recipe: str
    measurements: Mapping[str, Measurement]
    curve: tuple[tuple[int, float], ...] = ()

    @property
    def is_final(self) -> bool:
        return self.step == self.total_steps

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Observation:
        measurements = {name: Measurement(**m) for name, m in data["measurements"].items()}
        return cls(**{**data, "measurements": measurements, "curve": tuple((int(s), float(v)) for s, v in data["curve"])})


@dataclass(frozen=True)
class TrialSpec:
    """What a worker is asked to run.

    rungs: steps after which the worker measures and asks whether to go on; the last is the end.
    save_to: folder for the trained adapter, or None.
    """

    number: int
    configuration: Configuration
    seed: int
    rungs: tuple[int, ...]
    save_to: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "configuration": self.configuration.to_json(), "rungs": list(self.rungs)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TrialSpec:
        configuration = Configuration.from_json(data["configuration"])
        return cls(**{**data, "configuration": configuration, "rungs": tuple(data["rungs"])})


@dataclass(frozen=True)
class Trial:
    """One entry of a study: a configuration and all that was observed of it.

    computed: objectives known before training (`trainable_parameters`, `peak_memory_bytes`).
    label: a baseline's name in words, else empty. note: e.g. that a rung would have stopped it.
    seconds: wall time of all its runs. started: ISO 8601, UTC.
    """

    number: int
    configuration: Configuration
    origin: Origin
    state: TrialState
    computed: Mapping[str, float]
    observations: tuple[Observation, ...] = ()
    label: str = ""
    reason: str = ""
    note: str = ""
    seconds: float = 0.0
    started: str = ""

    def final(self, seed: int | None = None) -> Observation | None:
        """The observation at the last step, for `seed` or of the first seed observed."""
        finals = [o for o in self.observations if o.is_final and seed in (None, o.seed)]
        return finals[0] if finals else None

    def replicates(self) -> tuple[Observation, ...]:
        """Final observations, one per seed."""
        return tuple(o for o in self.observations if o.is_final)

    def value(self, objective: str, quality: str) -> Measurement | None:
        """The value of an objective: computed ones always, `quality` (a metric) of a complete trial.

        Quality is that of the search split for the search's own seed, so that trials compare.
        """
        if objective in self.computed:
            return Measurement(self.computed[objective])
        last = self.final()
        if self.state is not TrialState.COMPLETE or last is None:
            return None
        return last.measurements.get(f"search.{objective}" if objective == quality else objective)


@dataclass(frozen=True)
class Curve:
    """A point of the study's progress. hypervolume: of the front after `trials` finished trials."""

    trials: int
    seconds: float
    hypervolume: float
    within: Mapping[str, float | None] = field(default_factory=dict)
