"""Warm start: what earlier studies, on other data or models, tell a new one.

Gathered once, when a study is made, and kept in its environment, so that a resumed search proposes the
same whatever becomes of the earlier folders.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from autopeft.errors import SpecError
from autopeft.front import sign
from autopeft.layer_importance import of_study
from autopeft.record import read
from autopeft.samplers.convert import values_to_params
from autopeft.samplers.earlier import Results, carried, earlier_front
from autopeft.spec import PROBE, StudySpec, resolve
from autopeft_searchspace.configuration import Configuration
from autopeft_searchspace.shape import ModelShape
from autopeft_searchspace.space import Space


@dataclass(frozen=True)
class Earlier:
    """candidates: the fronts of the earlier studies, the studies taking turns. results: quality of every complete
    trial that the space can express, per study, in the direction of the new study's metric. left_out: complete trials with
    something to train that it cannot express."""

    candidates: tuple[Configuration, ...] = ()
    results: tuple[Results, ...] = ()
    left_out: int = 0

    def to_json(self) -> dict[str, Any]:
        results = [list(map(list, r)) for r in self.results]
        return {"candidates": [c.to_json() for c in self.candidates], "results": results, "left_out": self.left_out}

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> Earlier:
        if not data:
            return cls()
        results = tuple([(params, value) for params, value in study] for study in data["results"])
        return cls(tuple(Configuration.from_json(c) for c in data["candidates"]), results, data.get("left_out", 0))


def gather(spec: StudySpec, folder: Path, space: Space) -> Earlier:
    """What the studies under `warm_start` say for `space`. folder: what relative paths start from.

    Raises AutopeftError where a folder holds no study, SpecError where nothing of it fits the space.
    """
    fronts, results, left_out = [], [], 0
    for path in spec.warm_start:
        record = read(Path(resolve(path, folder)))
        upward = sign(record.spec.quality) * sign(spec.quality)
        found, fits = [], False
        for trial in record.complete:
            point = carried(trial.configuration, record.shape, space)
            measured = trial.value(record.spec.quality, record.spec.quality)
            left_out += point is None
            fits |= point is not None and not trial.configuration.head_only
            if point is not None and measured is not None:
                found.append((values_to_params(space, point), upward * measured.value))
        if not fits:
            raise SpecError(f"no trial of {path} can be expressed in space {space.name!r} of types {', '.join(space.types)}")
        fronts.append(earlier_front(record.trials, record.spec, record.shape, space))
        results.append(found)
    turns = {c.key: c for c in chain.from_iterable(zip_longest(*fronts)) if c is not None}
    return Earlier(tuple(turns.values()), tuple(results), left_out)


def earlier_importance(spec: StudySpec, folder: Path, shape: ModelShape) -> dict[str, Any] | None:
    """What the study under `importance` found of layers and roles, None where none is named.

    Raises AutopeftError where the folder holds no study, SpecError where it tells no importance of such layers.
    """
    if spec.importance in ("", PROBE):
        return None
    record = read(Path(resolve(spec.importance, folder)))
    if record.shape.layers != shape.layers:
        raise SpecError(f"importance: the model of {spec.importance} has {record.shape.layers} layers, this one has {shape.layers}")
    if (found := of_study(record.trials, record.shape)) is None:
        raise SpecError(f"importance: no run of {spec.importance} was under a strategy that tells it, ist or light_peft")
    return found.to_json()
