"""Contracts of every objective, and the values of each."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import synthetic

from autopeft import objectives
from autopeft.objectives import Measured, Objective, Predicted, Run
from autopeft.spec import COMPUTED, DIRECTIONS, UNITS
from autopeft.tracing import MemoryEstimate
from autopeft_searchspace.configuration import Component, Configuration

LORA = Configuration((Component("lora", 8, (0, 5), ("q", "v"), {"alpha": 8}),), 1e-3)
MEMORY = SimpleNamespace(exact=lambda _: MemoryEstimate(70, 10, 10, 10, 100), fast=lambda _: 101.5)


def run(**changes):
    return Run(**{"step_ends": (1.0, 1.5, 2.0, 9.0, 9.5), "stored_bytes": 4321, "measure_peak": lambda: 12_345, **changes})


@pytest.mark.parametrize("objective", objectives.objectives().values(), ids=lambda objective: objective.name)
def test_every_objective_says_what_it_is(objective):
    assert isinstance(objective, Predicted) != isinstance(objective, Measured)
    assert type(objective).__module__ == f"autopeft.objectives.{objective.name}"
    assert objective.direction in ("minimize", "maximize")
    assert objective.unit
    assert DIRECTIONS.get(objective.name, objective.direction) == objective.direction
    assert UNITS.get(objective.name, objective.unit) == objective.unit


def test_what_specs_call_computed_is_what_is_predicted():
    assert sorted(objectives.predicted()) == sorted(COMPUTED)


def test_trainable_parameters_are_counted():
    objective = objectives.predicted()["trainable_parameters"]
    assert objective.predict(LORA, synthetic.shape(), MEMORY) == objective.rank(LORA, synthetic.shape(), MEMORY) == 2 * 2 * 8 * (384 + 384)


def test_memory_is_recorded_exactly_and_ranked_fast():
    objective = objectives.predicted()["peak_memory_bytes"]
    assert objective.predict(LORA, synthetic.shape(), MEMORY) == 100
    assert objective.rank(LORA, synthetic.shape(), MEMORY) == 101.5


def test_measured_values():
    values = {name: objective.measure(run()) for name, objective in objectives.measured().items()}
    assert values == {"measured_peak_memory_bytes": 12_345, "seconds_per_step": 0.5, "stored_bytes": 4321}


def test_what_a_run_cannot_tell_is_none():
    untold = run(step_ends=(1.0,), stored_bytes=None)
    assert objectives.measured()["seconds_per_step"].measure(untold) is None
    assert objectives.measured()["stored_bytes"].measure(untold) is None


def test_a_name_is_taken_once():
    with pytest.raises(ValueError, match="registered twice"):

        @objectives.register
        class Again(Objective):
            name = "stored_bytes"

    assert type(objectives.objectives()["stored_bytes"]).__name__ == "StoredBytes"
