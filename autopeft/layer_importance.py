"""Importance of layers as a product: what the runs of a study found, for reports, exports and later searches.

Runs under IST and Light-PEFT leave measurements `importance.<layer>` and `importance.<layer>.<role>` in
their observations; only ratios within a run mean something, so each run is brought to a mean of 1 first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from autopeft.spec import StudySpec
from autopeft.trial import IMPORTANCE, Observation, Trial
from autopeft_searchspace.prior import Prior
from autopeft_searchspace.settings import build_space
from autopeft_searchspace.shape import ModelShape
from autopeft_searchspace.space import Space


def space_of(spec: StudySpec, shape: ModelShape, environment: Mapping[str, Any]) -> Space:
    """The space of a study, with the importance of layers and roles that it was given when it was made."""
    space = build_space(spec.space.preset, shape, spec.space.change)
    given = environment.get("importance")
    return replace(space, prior=Prior.from_json(given)) if given else space


def of_run(observation: Observation, layers: int) -> list[float] | None:
    """Importance per layer, 0 for layers without an adapter; None where the run tells none."""
    found = [observation.measurements.get(f"{IMPORTANCE}.{layer}") for layer in range(layers)]
    return [m.value if m else 0.0 for m in found] if any(found) else None


def of_study(trials: Sequence[Trial], shape: ModelShape) -> Prior | None:
    """Mean over all final observations that tell importance; None where there is none."""
    runs = [o for trial in trials for o in trial.replicates()]
    by_layer = [_relative(found) for o in runs if (found := of_run(o, shape.layers))]
    if not by_layer:
        return None
    roles: dict[str, list[float]] = {}
    for observation in runs:
        told = [(name.split("."), measured.value) for name, measured in observation.measurements.items()]
        scores = [(parts[2], value) for parts, value in told if parts[0] == IMPORTANCE and len(parts) == 3]
        for (role, _), relative in zip(scores, _relative([value for _, value in scores]), strict=True):
            roles.setdefault(role, []).append(relative)
    layers = tuple(sum(run[layer] for run in by_layer) / len(by_layer) for layer in range(shape.layers))
    return Prior(layers, {role: sum(values) / len(values) for role, values in sorted(roles.items())})


def _relative(scores: Sequence[float]) -> list[float]:
    known = [score for score in scores if score > 0]
    mean = sum(known) / len(known) if known else 1.0
    return [score / mean for score in scores]
