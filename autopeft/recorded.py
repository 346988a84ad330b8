"""A study as plain files that a repository can keep: `observations.csv` and `environment.json`.

`observations.csv` has one row per observation, the trial's columns repeated; a trial that was never
measured has one row with empty observation columns. Measurements stand in columns of their name,
standard errors and units in `<name>|se` and `<name>|unit`. Nothing is lost: `read_csv` gives back
the trials that `write_csv` was given.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from autopeft import files
from autopeft.study_format import FORMAT
from autopeft.trial import Measurement, Observation, Origin, Trial, TrialState
from autopeft_searchspace.configuration import Configuration

OBSERVATIONS = "observations.csv"
ENVIRONMENT = "environment.json"

TRIAL_COLUMNS = ("number", "origin", "label", "state", "in_words", "reason", "note", "seconds", "started", "configuration", "computed")
LONGEST_FIELD = 2**31 - 1
"""Characters; a curve has a point for every step."""
OBSERVATION_COLUMNS = ("seed", "step", "total_steps", "recipe", "curve")


def write(folder: Path, environment: Mapping[str, Any], trials: Sequence[Trial]) -> None:
    """Both files; the format stands in `environment.json`, and one without is of the first format."""
    files.write_json(folder / ENVIRONMENT, {**environment, "format": FORMAT})
    files.write_text(folder / OBSERVATIONS, write_csv(trials))


def write_csv(trials: Sequence[Trial]) -> str:
    names = sorted({name for t in trials for o in t.observations for name in o.measurements})
    measured = [column for name in names for column in (name, f"{name}|se", f"{name}|unit")]
    text = io.StringIO()
    writer = csv.DictWriter(text, [*TRIAL_COLUMNS, *OBSERVATION_COLUMNS, *measured], restval="", lineterminator="\n")
    writer.writeheader()
    for trial in trials:
        own = {
            "number": trial.number,
            "origin": trial.origin.value,
            "label": trial.label,
            "state": trial.state.value,
            "in_words": trial.configuration.in_words(),
            "reason": trial.reason,
            "note": trial.note,
            "seconds": repr(trial.seconds),
            "started": trial.started,
            "configuration": json.dumps(trial.configuration.to_json()),
            "computed": json.dumps(dict(trial.computed)),
        }
        for observation in trial.observations:
            writer.writerow({**own, **_observation_row(observation)})
        if not trial.observations:
            writer.writerow(own)
    return text.getvalue()


def recorded_loss(loss: float) -> float:
    """A training loss as it is kept; what is made from a study rounds it too, so that its record gives the same."""
    return float(f"{loss:.6g}")


def _observation_row(observation: Observation) -> dict[str, object]:
    row: dict[str, object] = {name: getattr(observation, name) for name in OBSERVATION_COLUMNS[:-1]}
    row["curve"] = json.dumps([[step, recorded_loss(loss)] for step, loss in observation.curve])
    for name, measurement in observation.measurements.items():
        row[name] = repr(measurement.value)
        row[f"{name}|se"] = "" if measurement.standard_error is None else repr(measurement.standard_error)
        row[f"{name}|unit"] = measurement.unit
    return row


def read_csv(text: str) -> tuple[Trial, ...]:
    csv.field_size_limit(LONGEST_FIELD)
    rows: dict[int, list[dict[str, str]]] = {}
    for row in csv.DictReader(io.StringIO(text)):
        rows.setdefault(int(row["number"]), []).append(row)
    return tuple(_trial(rows[number]) for number in sorted(rows))


def _trial(rows: Sequence[dict[str, str]]) -> Trial:
    first = rows[0]
    configuration = Configuration.from_json(json.loads(first["configuration"]))
    return Trial(
        number=int(first["number"]),
        configuration=configuration,
        origin=Origin(first["origin"]),
        state=TrialState(first["state"]),
        computed=json.loads(first["computed"]),
        observations=tuple(_observation(row, configuration.key) for row in rows if row["seed"]),
        label=first["label"],
        reason=first["reason"],
        note=first["note"],
        seconds=float(first["seconds"]),
        started=first["started"],
    )


def _observation(row: dict[str, str], key: str) -> Observation:
    return Observation(
        key=key,
        seed=int(row["seed"]),
        step=int(row["step"]),
        total_steps=int(row["total_steps"]),
        recipe=row["recipe"],
        measurements={name: _measurement(row, name) for name in _measured(row) if row[name]},
        curve=tuple((int(step), float(loss)) for step, loss in json.loads(row["curve"])),
    )


def _measured(row: dict[str, str]) -> Iterable[str]:
    return (name for name in row if name not in TRIAL_COLUMNS + OBSERVATION_COLUMNS and "|" not in name)


def _measurement(row: dict[str, str], name: str) -> Measurement:
    error = row[f"{name}|se"]
    return Measurement(float(row[name]), row[f"{name}|unit"], float(error) if error else None)
