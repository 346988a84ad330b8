"""Predicted peak memory of layer strategies, against what their steps really use."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench import lora, run, workbench

from autopeft.execute.workbench import Workbench
from autopeft.memory import MemoryPredictor
from autopeft_searchspace.configuration import Configuration
from autopeft_searchspace.settings import build_space
from autopeft_searchspace.strategies import published

PUBLISHED, SAVING = published("ist"), published("ist", redraw=10, drop_state=True)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return workbench(tmp_path_factory.mktemp("memory"))


@pytest.fixture(scope="module")
def memory(bench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> MemoryPredictor:
    space = build_space("layerwise", bench.shape, {"strategies": "all"})
    return MemoryPredictor(bench.spec, space, bench.recipe(0), bench.task.labels, tmp_path_factory.mktemp("cache"), bench.folder)


@pytest.mark.parametrize(
    "configuration",
    [lora(PUBLISHED, size=16), lora(SAVING, size=16), lora(published("frozen_below"), size=16), Configuration((), 1e-4, published("lisa"))],
    ids=["ist", "ist saving", "frozen_below", "lisa"],
)
def test_the_step_that_takes_most_is_predicted(bench: Workbench, memory: MemoryPredictor, configuration: Configuration) -> None:
    _, seen = run(bench, configuration)
    assert seen is not None
    assert memory.exact(configuration).peak == pytest.approx(seen.measurements["measured_peak_memory_bytes"].value, rel=0.02)


def test_memory_is_saved_where_layers_are_frozen_and_more_where_state_is_dropped(memory: MemoryPredictor) -> None:
    plain, published_, saving = (memory.exact(lora(strategy, size=16)).peak for strategy in (None, PUBLISHED, SAVING))
    assert saving < published_ < plain
    below = memory.exact(lora(published("frozen_below"), size=16)).peak
    assert below < saving
    assert memory.exact(lora(published("light_peft"), size=16)).peak > plain


def test_lisa_takes_more_with_more_layers_and_less_than_full_fine_tuning(memory: MemoryPredictor) -> None:
    one, two = (memory.exact(Configuration((), 1e-4, published("lisa", layers=layers))).peak for layers in (1, 2))
    assert one < two < memory.full().peak


def test_how_layers_are_chosen_does_not_change_the_prediction(memory: MemoryPredictor, tmp_path: Path) -> None:
    before = len(memory._exact)
    memory.exact(lora(PUBLISHED, size=8))
    memory.exact(lora(published("ist", rate=30.0, interval=5), size=8))
    assert len(memory._exact) == before + 1
