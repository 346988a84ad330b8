"""Maximises an acquisition function over a mixed, conditional domain: random, crossed and mutated points,
then moves to neighbours in batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import numpy as np

from autopeft.surrogate.posterior import Floats

P = TypeVar("P")


class Moves(Protocol[P]):
    """What the optimiser asks of a domain."""

    def draw(self, rng: np.random.Generator) -> P: ...

    def mutate(self, point: P, rng: np.random.Generator) -> P: ...

    def cross(self, one: P, other: P, rng: np.random.Generator) -> P: ...

    def neighbours(self, point: P, rng: np.random.Generator) -> list[P]: ...


def maximise(
    moves: Moves[P],
    evaluate: Callable[[Sequence[P]], tuple[list[P], Floats]],
    parents: Sequence[P],
    rng: np.random.Generator,
    candidates: int = 1000,
    climbers: int = 4,
    steps: int = 6,
) -> P | None:
    """The best point found, or None where none may be proposed.

    evaluate: the points that may be proposed, each once, and their acquisition values.
    parents: good points; half of the `candidates` are mutants of them and of their crosses.
    """
    drawn = [moves.draw(rng) for _ in range(candidates // 2 if parents else candidates)]
    for i in range(candidates - len(drawn)):
        one = parents[i % len(parents)]
        parent = moves.cross(one, parents[int(rng.integers(len(parents)))], rng) if i % 3 == 0 else one
        drawn.append(moves.mutate(parent, rng))
    points, values = evaluate(drawn)
    if not points:
        return None
    for _ in range(steps):
        top = np.argsort(-values, kind="stable")[:climbers]
        best = values[top[0]]
        near, near_values = evaluate([n for i in top for n in moves.neighbours(points[i], rng)])
        points = [points[i] for i in top] + near
        values = np.concatenate([values[top], near_values])
        if not len(near_values) or near_values.max() <= best:
            break
    return points[int(np.argmax(values))]
