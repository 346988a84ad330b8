"""Trials with batches of unlike length go through the model together as long as that is cheaper than a pass of their own."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from autopeft.packing.passes import cost_of_pass, in_passes

FOREVER = float("inf")


def batch(rows: int, length: int) -> dict[str, torch.Tensor]:
    return {"input_ids": torch.zeros(rows, length)}


def test_a_worked_case() -> None:
    """Four rows each of 10, 12 and 40 tokens: together 12 * 40 = 480 tokens; the two short ones apart 8 * 12 + 4 * 40 = 256; all apart
    40 + 48 + 160 = 248. With 10 tokens for each pass: 490, 276 and 278; with 300: 780, 856, 1148; with 5: 485, 266, 263."""
    batches = {7: batch(4, 40), 3: batch(4, 10), 5: batch(4, 12)}
    assert sorted(map(sorted, in_passes(batches, 10))) == [[3, 5], [7]]
    assert in_passes(batches, 300) == [[7, 3, 5]]
    assert sorted(map(sorted, in_passes(batches, 5))) == [[3], [5], [7]]
    assert in_passes(batches, FOREVER) == [[7, 3, 5]]


def test_trials_with_one_batch_stay_together() -> None:
    shared = batch(2, 9)
    found = in_passes({0: shared, 1: batch(2, 30), 2: shared}, 0.0)
    assert sorted(found) == [[0, 2], [1]]


@pytest.mark.parametrize("cost", [0.0, 3.0, 20.0, 100.0])
def test_no_other_way_to_part_them_is_cheaper(cost: float) -> None:
    shapes = [(3, 5), (1, 17), (4, 8), (2, 30), (5, 6)]
    batches = {number: batch(*shape) for number, shape in enumerate(shapes)}

    def price(parts: list[list[int]]) -> float:
        return sum(cost + max(shapes[n][1] for n in part) * sum(shapes[n][0] for n in part) for part in parts)

    every = []
    for where in product(range(len(shapes)), repeat=len(shapes)):
        every.append([[n for n in range(len(shapes)) if where[n] == place] for place in set(where)])
    assert price(in_passes(batches, cost)) == pytest.approx(min(map(price, every)))


def test_what_a_pass_costs_by_itself() -> None:
    assert cost_of_pass(one=3.0, two=5.0, tokens=100) == pytest.approx(50)  # 1 s and 2 s for each 100 tokens
    assert cost_of_pass(one=2.0, two=4.1, tokens=100) == 0.0
    assert cost_of_pass(one=2.0, two=2.0, tokens=100) == FOREVER
    assert cost_of_pass(one=2.0, two=1.9, tokens=100) == FOREVER
