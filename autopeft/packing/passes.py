"""Which trials go through the model together, where their batches are of unlike length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from autopeft.tasks import Batch


def in_passes(batches: Mapping[int, Batch], pass_cost: float) -> list[list[int]]:
    """Trials parted so that all tokens, padding included, and `pass_cost` for each pass are the fewest.

    pass_cost: tokens that take as long as a pass does by itself, however small it is; infinite for one pass in all.
    Trials of one length stay together. O(n^2) in the number of lengths.
    """
    rows = {number: tuple(batch["input_ids"].shape) for number, batch in batches.items()}
    lengths = [(length, list(numbers)) for length, numbers in groupby(sorted(rows, key=lambda n: rows[n][1]), lambda n: rows[n][1])]
    if pass_cost == float("inf") or len(lengths) == 1:
        return [list(batches)]
    counts = [sum(rows[number][0] for number in numbers) for _, numbers in lengths]
    best: list[tuple[float, int]] = [(0.0, 0)]  # cost of the shortest lengths up to here, and where their last pass begins
    for end in range(1, len(lengths) + 1):
        longest = lengths[end - 1][0]
        best.append(min((best[start][0] + pass_cost + longest * sum(counts[start:end]), start) for start in range(end)))
    found: list[list[int]] = []
    end = len(lengths)
    while end:
        start = best[end][1]
        found.append(_in_order(batches, [number for _, numbers in lengths[start:end] for number in numbers]))
        end = start
    return found


def cost_of_pass(one: float, two: float, tokens: float) -> float:
    """Tokens that take as long as a pass by itself. one, two: seconds of a pass of `tokens` tokens, and of twice as many.

    With seconds = a + b tokens it is a / b: 0 where work alone counts, infinite where more of it takes no longer.
    """
    each = (two - one) / tokens
    return max(0.0, (one - each * tokens) / each) if each > 0 else float("inf")


def _in_order(batches: Mapping[int, Batch], chosen: Sequence[int]) -> list[int]:
    return [number for number in batches if number in chosen]
