"""Counts that layer strategies change, by hand and against runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import synthetic
from bench import lora, run, workbench

from autopeft_searchspace.configuration import Component, Configuration, Strategy
from autopeft_searchspace.lasting import base_parameters, mean_trained_parameters
from autopeft_searchspace.strategies import published

SHAPE = replace(synthetic.shape(), key_value_heads=12)
LORA = Configuration((Component("lora", 8, (0, 2, 5), ("q", "v"), {"alpha": 8}),), 1e-3)
A_LAYER = 2 * 8 * (384 + 384)


def mean(strategy: Strategy | None) -> float:
    return mean_trained_parameters(replace(LORA, strategy=strategy), SHAPE)


def test_without_a_strategy_all_train_in_every_step():
    assert mean(None) == 3 * A_LAYER
    assert base_parameters(LORA, SHAPE) == SHAPE.total_parameters


def test_drawn_layers_share_the_steps():
    assert mean(published("random_layers", active=0.75)) == mean(published("ist", active=0.75)) == 2 * A_LAYER


def test_growing_from_above_trains_one_layer_then_two():
    assert mean(published("frozen_below", active=0.75)) == 2 * A_LAYER
    assert mean(published("frozen_below", active=0.75, growing=True)) == 1.5 * A_LAYER


def test_light_peft_trains_all_and_then_what_it_keeps():
    """Six modules: int(0.75 * 6) = 4 go, and of the 16 ranks of the other two 8."""
    assert mean(published("light_peft", estimation=0.2, modules=0.75, ranks=0.5)) == pytest.approx(3 * A_LAYER * (0.2 + 0.8 * 2 / 6 / 2))


def test_light_peft_keeps_one_module_and_one_rank():
    single = replace(LORA, components=(Component("lora", 1, (2,), ("q",), {"alpha": 1}),))
    pruned = replace(single, strategy=published("light_peft", estimation=0.5))
    assert mean_trained_parameters(pruned, SHAPE) == mean_trained_parameters(single, SHAPE) == 2 * 384


def test_pruned_heads_and_units_leave_the_base():
    pruned = replace(LORA, strategy=published("light_peft", heads=1 / 3, units=0.5))
    # a head is 32 wide: rows of q, k, v with biases, columns of o. a unit: a row and a bias in, a column out
    gone = SHAPE.layers * (4 * 32 * (3 * 385 + 384) + 768 * (385 + 384))
    assert base_parameters(pruned, SHAPE) == SHAPE.total_parameters - gone


@pytest.mark.parametrize("name", ["random_layers", "frozen_below", "lisa", "light_peft"])
def test_runs_measure_what_is_computed(name: str, tmp_path: Path) -> None:
    bench = workbench(tmp_path)
    settings = {"layers": 1} if name == "lisa" else {"estimation": 0.5} if name == "light_peft" else {}
    configuration = lora(published(name, **settings))
    if name == "lisa":
        configuration = replace(configuration, components=())
    _, last = run(bench, configuration)
    assert last
    measured = last.measurements
    if name == "light_peft":
        assert measured["base_parameters"].value == base_parameters(configuration, bench.shape)
    else:
        assert measured["mean_trained_parameters"].value == mean_trained_parameters(configuration, bench.shape)
