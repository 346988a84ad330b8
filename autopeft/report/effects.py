"""Which dimensions of the space matter for which objective, from the study's own surrogate."""

from __future__ import annotations

import numpy as np

from autopeft.front import objective_values, quality
from autopeft.layer_importance import space_of
from autopeft.record import StudyRecord
from autopeft.samplers.convert import SpaceDomain
from autopeft.samplers.importance import Importance, importance
from autopeft.samplers.limits import computed
from autopeft_searchspace.space import OutsideSpace, Space


def effects(record: StudyRecord) -> list[Importance]:
    """Importance per objective and dimension with 90 % intervals; empty where too little was observed.

    Parameters are computed for any configuration; quality and memory are learnt from the complete trials,
    memory from what was predicted for them.
    """
    space = space_of(record.spec, record.shape, record.environment)
    domain = SpaceDomain(space)
    trials, values = objective_values(record.trials, record.spec)
    points, rows, errors = [], [], []
    for trial, row in zip(trials, values, strict=True):
        try:
            points.append(space.values(trial.configuration))
        except OutsideSpace:
            continue
        measured = quality(trial, record.spec)
        errors.append((measured.standard_error or 0.0) if measured else 0.0)
        rows.append(row)
    Y, noise = np.array(rows).reshape(len(rows), len(record.spec.objectives)), np.array(errors) ** 2
    known = {name: f for name, f in computed({}, space).items() if name in (o.name for o in record.spec.objectives)}
    learnt = {
        o.name: (points, Y[:, i], noise if o.name == record.spec.quality else np.zeros(len(Y)))
        for i, o in enumerate(record.spec.objectives)
        if o.name not in known
    }
    return importance(domain, kinds(space), learnt, known)


def kinds(space: Space) -> dict[str, str]:
    """Dimension -> what it counts under: layers are one, and so are the module roles of a type."""
    found = {}
    for d in space.dimensions:
        owner, _, rest = d.name.partition(".")
        found[d.name] = "layers" if owner == "layers" else f"{owner}.roles" if rest.startswith("roles.") else d.name
    return found
