from __future__ import annotations

import random

import pytest

from autopeft.batches import MEGA_BATCH, evaluation_batches, training_batches

RNG = random.Random(0)
LENGTHS = [RNG.randint(3, 60) for _ in range(1000)]


def test_same_seed_same_batches_and_a_prefix_is_the_same():
    assert training_batches(LENGTHS, 32, 80, 3) == training_batches(LENGTHS, 32, 80, 3)
    assert training_batches(LENGTHS, 32, 200, 3)[:80] == training_batches(LENGTHS, 32, 80, 3)
    assert training_batches(LENGTHS, 32, 80, 3) != training_batches(LENGTHS, 32, 80, 4)


def test_an_epoch_visits_every_example_once_and_epochs_differ():
    batches = training_batches(LENGTHS, 25, 80, 0)
    first, second = batches[:40], batches[40:]
    assert sorted(i for batch in first for i in batch) == list(range(1000))
    assert sorted(i for batch in second for i in batch) == list(range(1000))
    assert first != second


def test_lengths_are_grouped_but_batches_are_not_in_order_of_length():
    batches = training_batches(LENGTHS, 20, MEGA_BATCH, 0)
    padding = sum(20 * max(LENGTHS[i] for i in b) - sum(LENGTHS[i] for i in b) for b in batches)
    assert padding < 0.05 * sum(LENGTHS)
    longest = [max(LENGTHS[i] for i in b) for b in batches]
    assert longest != sorted(longest)


def test_incomplete_last_batch_is_dropped():
    batches = training_batches([5] * 10, 4, 4, 0)
    assert [len(b) for b in batches] == [4, 4, 4, 4]
    assert len({i for b in batches[:2] for i in b}) == 8


def test_fewer_examples_than_a_batch():
    assert [sorted(b) for b in training_batches([5, 6, 7], 8, 3, 0)] == [[0, 1, 2]] * 3


@pytest.mark.parametrize(("lengths", "size", "steps"), [([], 4, 1), ([3], 0, 1), ([3], 4, -1)])
def test_bad_arguments(lengths, size, steps):
    with pytest.raises(ValueError, match="at least"):
        training_batches(lengths, size, steps, 0)


def test_evaluation_visits_all_longest_first():
    batches = evaluation_batches([2, 9, 4, 9, 1], 2)
    assert batches == [[1, 3], [2, 0], [4]]
    assert evaluation_batches([], 2) == []
