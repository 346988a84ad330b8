"""Memory of trials side by side, on a model whose coefficients are given."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny

from autopeft.memory.model import MemoryModel, Spots
from autopeft.memory.packs import predict_pack
from autopeft.models.roles import find_shape
from autopeft_searchspace.configuration import Component, Configuration

BASE, HEAD = 1000, 5
LOW = Configuration((Component("lora", 1, (0,), ("q",), {"alpha": 1}),), 1.0)
HIGH = Configuration((Component("lora", 1, (2,), ("q",), {"alpha": 1}),), 1.0)
NONE = Configuration((), 1.0)


@pytest.fixture
def model() -> MemoryModel:
    """Every block keeps 7 and takes 11 forward, 20 backward, 13 at its end; the task head takes 3, a frozen pass 9."""
    return MemoryModel(BASE + 12 * HEAD, (50.0, 50.0, 50.0), 9.0, 3.0, (0.0, 0.0, 0.0), {"block": (7.0, 11.0, 20.0, 13.0)})


@pytest.mark.parametrize(
    ("trials", "expected"),
    [
        ([LOW], 1000 + 16 * (64 + 5) + 50 + 2 * 7 + 20),
        ([HIGH], 1000 + 16 * (64 + 5) + 50 + 20),
        ([LOW, HIGH], 1000 + 2 * 16 * (64 + 5) + 2 * (50 + 2 * 7 + 20)),
        ([NONE, NONE], 1000 + 2 * 16 * 5 + 2 * 9),
    ],
    ids=["low", "high", "high joins low", "heads alone"],
)
def test_of_worked_cases(model: MemoryModel, trials: list[Configuration], expected: float) -> None:
    """LoRA r=1 on a square module of width 32 trains 64 weights; the second case of a pack keeps blocks that it does not adapt."""
    shape = find_shape(tiny.build("bert", device="meta"))
    assert shape.layers == 3
    assert predict_pack(model, trials, Spots(shape), shape, BASE, casts=False) == pytest.approx(expected)


def test_copies_of_weights_are_shared(model: MemoryModel) -> None:
    shape = find_shape(tiny.build("bert", device="meta"))
    large = replace(model, coefficients={"block": (1e5, 2e5, 3e5, 1e5)})
    one, two = (predict_pack(large, [HIGH] * n, Spots(shape), shape, BASE, casts=True) for n in (1, 2))
    linear = sum(modules[2].d_in * modules[2].d_out for modules in shape.modules.values())
    assert two - one == pytest.approx(16 * (64 + 5) + 50 + 3e5 - 2 * linear)
