"""Test functions of BoTorch: several objectives, real or mixed dimensions, no noise.

vehicle     VehicleSafety (Tanabe and Ishibuchi 2020): 5 real dimensions, 3 objectives; the mass is computed
penicillin  Penicillin (Liang and Lai 2021): 7 real dimensions, 3 objectives, none computed
dtlz2       DTLZ2 (Deb et al. 2005): 6 real dimensions, 3 objectives, none computed
ackley      AckleyMixed: 20 binary and 3 real dimensions; value, and the computed number of zeros
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from botorch.test_functions.multi_objective import DTLZ2, MultiObjectiveTestProblem, Penicillin, VehicleSafety
from botorch.test_functions.synthetic import AckleyMixed
from optuna.distributions import FloatDistribution, IntDistribution
from problem import Problem

from autopeft.front import Axes, Axis

# worst and best of the axes: the nadir of BoTorch's own reference points, and what a long search reaches
REAL: dict[str, tuple[Callable[[], MultiObjectiveTestProblem], tuple[tuple[float, float], ...], tuple[int, ...]]] = {
    "vehicle": (VehicleSafety, ((1698.55, 1661.0), (11.21, 6.14), (0.29, 0.04)), (0,)),
    "penicillin": (Penicillin, ((1.85, 13.0), (86.93, 2.0), (514.7, 45.0)), ()),
    "dtlz2": (lambda: DTLZ2(dim=6, num_objectives=3), ((1.1, 0.0),) * 3, ()),
}


@cache
def function(name: str) -> Problem:
    if name == "ackley":
        return _ackley()
    make, ends, computed = REAL[name]
    own = make()

    def truth(p: Mapping[str, Any]) -> list[float]:
        values = own.evaluate_true(torch.tensor([[p[f"x{i}"] for i in range(own.dim)]], dtype=torch.double))[0].tolist()
        return [-v for v in values[:1]] + values[1:] if name == "penicillin" else values  # its yield is stated negative

    return Problem(
        name=name,
        directions=tuple("maximize" if best > worst else "minimize" for worst, best in ends),
        space={f"x{i}": FloatDistribution(*map(float, own.bounds[:, i])) for i in range(own.dim)},
        known={i: lambda p, i=i: truth(p)[i] for i in computed},
        truth=truth,
        axes=Axes(tuple(Axis(str(i), *e) for i, e in enumerate(ends))),
        noise=(0.0,) * len(ends),
    )


def _ackley() -> Problem:
    own = AckleyMixed(dim=23)
    zeros = lambda p: float(sum(not p[f"bit{i}"] for i in range(20)))  # noqa: E731

    def truth(p: Mapping[str, Any]) -> list[float]:
        x = [float(p[f"bit{i}"]) for i in range(20)] + [p[f"x{i}"] for i in range(3)]
        return [float(own.evaluate_true(torch.tensor([x], dtype=torch.double))), zeros(p)]

    return Problem(
        name="ackley",
        directions=("minimize", "minimize"),
        space={f"bit{i}": IntDistribution(0, 1) for i in range(20)} | {f"x{i}": FloatDistribution(0.0, 1.0) for i in range(3)},
        known={1: zeros},
        truth=truth,
        axes=Axes((Axis("value", 3.5, 0.0), Axis("zeros", 21.0, 0.0))),
        noise=(0.0, 0.0),
    )
