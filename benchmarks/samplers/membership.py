"""How well probabilities of being on the front are calibrated, on studies resampled from the made-up family.

    python benchmarks/samplers/membership.py [--studies 200] [--trials 40]

A study draws configurations of one instance and measures their qualities once, with the instance's noise; costs are
exact. Each way of telling how sure the front is gives every trial a probability, and the truth says whether the
trial is on the front of the true qualities. Printed, per way and band of probability: the mean probability said,
the share that holds, and its standard error over studies. A 90 % statement is one of 85 to 95 %, or of 5 to 15 % turned round.

    measured    each quality normal around what was measured, independently
    surrogate   joint paths of the Gaussian process fitted to all trials of the study
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
from adapters import adapters
from problem import Problem

from autopeft.front import non_dominated, share_on_front
from autopeft.surrogate.gp import fit_gp

RESULTS = Path(__file__).parent / "membership.csv"
DRAWS, INSTANCES = 1000, 20
BANDS = (0.0, 0.05, 0.15, 0.5, 0.85, 0.95, 1.0)
Floats = np.ndarray
Draws = Callable[[Problem, list, Floats, np.random.Generator], Floats]


def measured(problem: Problem, points: list, y: Floats, rng: np.random.Generator) -> Floats:
    return y + problem.noise[0] * rng.standard_normal((DRAWS, len(y)))


def surrogate(problem: Problem, points: list, y: Floats, rng: np.random.Generator) -> Floats:
    domain = problem.domain()
    X = domain.encode(points, [domain.item(p) for p in points])
    posterior = fit_gp(X, y, np.full(len(y), problem.noise[0] ** 2), domain.groups(), domain.size_feature())
    return posterior.paths(X, DRAWS, rng).values


WAYS: dict[str, Draws] = {"measured": measured, "surrogate": surrogate}


def study(number: int, trials: int, family: str) -> dict[str, list[tuple[float, bool]]]:
    """Way -> (probability said, whether true) of every trial."""
    problem, rng = adapters(family, number % INSTANCES), np.random.default_rng([number, 8])
    domain = problem.domain()
    points = list({domain.key(domain.item(p)): p for p in (domain.draw(rng) for _ in range(trials))}.values())
    truth = np.array([problem.truth(domain.item(p)) for p in points])
    y = truth[:, 0] + problem.noise[0] * rng.standard_normal(len(points))
    on = non_dominated(problem.axes.points(truth))
    said = {way: share_on_front(truth[:, 1:], draws(problem, points, y, rng)) for way, draws in WAYS.items()}
    return {way: list(zip(shares.tolist(), on.tolist(), strict=True)) for way, shares in said.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--families", nargs="+", default=["peft", "faint"])
    arguments = parser.parse_args()
    rows = []
    for family in arguments.families:
        studies = [study(i, arguments.trials, family) for i in range(arguments.studies)]
        for way in WAYS:
            said, held, where = (np.array(c) for c in zip(*((p, on, i) for i, s in enumerate(studies) for p, on in s[way]), strict=True))
            for low, high in pairwise(BANDS):
                inside = (said >= low) & ((said < high) | (high == 1))
                rows.append(row(family, way, f"{low:.0%} to {high:.0%}", said[inside], held[inside], where[inside]))
            sure = np.where(said >= 0.5, said, 1 - said)
            right = np.where(said >= 0.5, held, ~held)
            inside = (sure >= 0.85) & (sure < 0.95)
            rows.append(row(family, way, "90 % statements", sure[inside], right[inside], where[inside]))
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for line in rows:
        print(*line.values(), sep="  ")


def row(family: str, way: str, band: str, said: Floats, held: Floats, where: Floats) -> dict[str, str | int]:
    """where: study of each statement; statements of one study are not independent."""
    own = np.array([held[where == i].mean() - held.mean() for i in np.unique(where)])
    weight = np.array([(where == i).sum() for i in np.unique(where)])
    error = float(np.sqrt(((own * weight) ** 2).sum()) / max(1, len(held)))
    return {
        "family": family,
        "way": way,
        "band": band,
        "statements": len(said),
        "said": f"{said.mean():.3f}",
        "held": f"{held.mean():.3f}",
        "standard_error": f"{error:.3f}",
    }


if __name__ == "__main__":
    main()
