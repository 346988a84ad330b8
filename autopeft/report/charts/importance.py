"""Which dimensions decide each objective: PED-ANOVA (Watanabe, Bansal and Hutter, IJCAI 2023) as
Optuna computes it, conditional dimensions included."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna

from autopeft.layer_importance import space_of
from autopeft.report import words
from autopeft.report.charts.style import SERIES, Chart, layout, patterned
from autopeft.report.rows import ObjectiveView, Row
from autopeft.report.summary import Summary
from autopeft.report.tables import Cell, Column, table
from autopeft.spec import COMPUTED, COUNTS
from autopeft.view import distribution, parameters
from autopeft_searchspace.configuration import Configuration
from autopeft_searchspace.lasting import base_parameters, mean_trained_parameters
from autopeft_searchspace.rules import trainable_parameters
from autopeft_searchspace.shape import ModelShape
from autopeft_searchspace.space import Space

FEWEST_TRIALS = 10
SHOWN = 10
PATTERNS = ("", "/", "x", ".", "+")
IDLE = ("learning_rate",)
"""Dimensions that nothing computed depends on."""

SAMPLED = 512
"""Random configurations."""

WEIGHTS: dict[str, Callable[[Configuration, ModelShape], float]] = {
    "trainable_parameters": trainable_parameters,
    "mean_trained_parameters": mean_trained_parameters,
    "base_parameters": base_parameters,
}


@dataclass(frozen=True)
class Importance:
    """shares: dimension -> share of the importance for one objective, falling; they sum to 1.
    trials: how many it rests on, of the search or random ones."""

    shares: dict[str, float]
    trials: int


def importances(summary: Summary) -> dict[str, Importance]:
    """Objective -> importance for being among the best tenth in it.

    Quality counts complete trials, memory all that have one. Numbers of weights are known of any
    configuration, and counted over random ones: those of a search go together with what else it
    chose. Left out are dimensions that never varied or cannot matter, configurations that no point of
    the space stands for, and objectives with fewer than `FEWEST_TRIALS`; all where that is quality.
    """
    record = summary.record
    space = space_of(record.spec, record.shape, record.environment)
    found = {}
    for objective in summary.objectives:
        if objective.name in COUNTS:
            made = _importance(_counted(space, objective.name))
        else:
            made = _importance(_observed(space, summary.complete if objective is summary.quality else summary.rows, objective))
        if made is not None:
            found[objective.name] = made
    return found if summary.quality.name in found else {}


def _observed(space: Space, rows: Sequence[Row], objective: ObjectiveView) -> list[optuna.trial.FrozenTrial]:
    """PED-ANOVA takes low values as good, so that a maximised objective is negated."""
    sign, idle = (-1.0 if objective.direction == "maximize" else 1.0), IDLE if objective.name in COMPUTED else ()
    trials = []
    for row in rows:
        value = row.values[objective.name]
        params, distributions = parameters(row.trial, space)
        if params and value is not None:
            trials.append(_trial(params, distributions, sign * value, idle))
    return trials


def _counted(space: Space, objective: str) -> list[optuna.trial.FrozenTrial]:
    count, rng = WEIGHTS[objective], np.random.default_rng(0)
    points = [space.sample(rng) for _ in range(SAMPLED)]
    distributions = {d.name: distribution(d) for d in space.dimensions}
    return [_trial(p, distributions, count(space.configuration(p), space.shape), IDLE) for p in points]


def _trial(params: Mapping[str, Any], distributions: Mapping[str, Any], value: float, idle: Sequence[str] = ()) -> optuna.trial.FrozenTrial:
    kept = {name: value for name, value in params.items() if name not in idle}
    return optuna.trial.create_trial(params=kept, distributions={name: distributions[name] for name in kept}, value=value)


def _importance(trials: list[optuna.trial.FrozenTrial]) -> Importance | None:
    if len(trials) < FEWEST_TRIALS:
        return None
    study = _quiet_study()
    study.add_trials(trials)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        shares = optuna.importance.get_param_importances(study, evaluator=evaluator, normalize=True)
    varied = {name for name in shares if len({trial.params.get(name) for trial in trials}) > 1}
    if not varied:
        return None
    return Importance({name: shares[name] for name in sorted(varied, key=lambda name: (-shares[name], name))}, len(trials))


def _quiet_study() -> optuna.Study:
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(direction="minimize")
    finally:
        optuna.logging.set_verbosity(level)


def importance(summary: Summary) -> Chart | None:
    found = importances(summary)
    if not found:
        return None
    drawn = [o for o in summary.objectives if o.name in found]
    first = found[drawn[0].name].shares
    names = [*first, *sorted({name for made in found.values() for name in made.shares} - set(first))]
    shown = names[:SHOWN][::-1]
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": o.title,
            "y": shown,
            "x": [round(100 * found[o.name].shares.get(name, 0.0), 2) for name in shown],
            "marker": {"color": SERIES[i], "pattern": patterned(PATTERNS[i % len(PATTERNS)])},
            "hovertemplate": "%{y}: %{x:.0f} %<extra>" + o.title + "</extra>",
        }
        for i, o in enumerate(drawn)
    ]
    made = layout({"title": "share of importance, %"}, {"type": "category", "showgrid": False}, bargap=0.25, bargroupgap=0.1)
    made["legend"]["traceorder"] = "normal"
    counts = words.joined([f"{found[o.name].trials} {'random ones ' if o.name in COUNTS else ''}for {o.title}" for o in drawn])
    leaders = words.joined([f"{next(iter(found[o.name].shares))} for {o.title}" for o in drawn])
    few = " Few trials: read the order, not the lengths." if min(found[o.name].trials for o in drawn) < 50 else ""
    return Chart(
        "importance",
        "What decides each objective",
        f"Importance for being among the best tenth (PED-ANOVA); trials: {counts}.{few}",
        f"Bar chart of importance; the most important dimension is {leaders}. Trials: {counts}.",
        {"data": data, "layout": made},
        table(
            f"Share of importance per objective, in percent; trials: {counts}",
            [Column("dimension"), *(Column(words.short(o.name), numeric=True) for o in drawn)],
            [[Cell(name), *(_cell(found[o.name].shares.get(name, 0.0)) for o in drawn)] for name in names],
        ),
        height=130 + 33 * len(shown),
    )


def _cell(share: float) -> Cell:
    return Cell(f"{100 * share:.1f}", round(share, 4))
