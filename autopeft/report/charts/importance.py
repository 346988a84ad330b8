"""Which dimensions decide each objective: PED-ANOVA (Watanabe, Bansal and Hutter, IJCAI 2023) as
Optuna computes it, conditional dimensions included."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import optuna

from autopeft.report import words
from autopeft.report.charts.style import SERIES, Chart, layout, patterned
from autopeft.report.rows import ObjectiveView, Row
from autopeft.report.summary import Summary
from autopeft.report.tables import Cell, Column, table
from autopeft.view import parameters
from autopeft_searchspace.space import Space, build_space

FEWEST_TRIALS = 10
SHOWN = 10
PATTERNS = ("", "/", "x", ".", "+")


@dataclass(frozen=True)
class Importance:
    """shares: dimension -> share of the importance for one objective, falling; they sum to 1.
    trials: how many it rests on."""

    shares: dict[str, float]
    trials: int


def importances(summary: Summary) -> dict[str, Importance]:
    """Objective -> importance for being among the best tenth of the trials in it.

    Quality counts complete trials; what is computed counts all trials, since those that ran to the end
    were chosen by quality. Left out are dimensions that never varied, configurations that no point of the
    space stands for, and objectives with fewer than `FEWEST_TRIALS`.
    """
    record = summary.record
    space = build_space(record.spec.space.preset, record.shape, record.spec.space.change)
    found = {}
    for objective in summary.objectives:
        rows = summary.complete if objective is summary.quality else summary.rows
        made = _importance(space, rows, objective)
        if made is not None:
            found[objective.name] = made
    return found


def _importance(space: Space, rows: tuple[Row, ...], objective: ObjectiveView) -> Importance | None:
    """PED-ANOVA takes low values as good, so that a maximised objective is negated."""
    sign = -1.0 if objective.direction == "maximize" else 1.0
    trials = []
    for row in rows:
        value = row.values[objective.name]
        params, distributions = parameters(row.trial, space)
        if params and value is not None:
            trials.append(optuna.trial.create_trial(params=params, distributions=distributions, value=sign * value))
    if len(trials) < FEWEST_TRIALS:
        return None
    study = _quiet_study()
    study.add_trials(trials)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        shares = optuna.importance.get_param_importances(study, evaluator=evaluator, normalize=True)
    varied = {name for name in shares if len({trial.params.get(name) for trial in trials}) > 1}
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
            "x": [100 * found[o.name].shares.get(name, 0.0) for name in shown],
            "marker": {"color": SERIES[i], "pattern": patterned(PATTERNS[i % len(PATTERNS)])},
            "hovertemplate": "%{y}: %{x:.0f} %<extra>" + o.title + "</extra>",
        }
        for i, o in enumerate(drawn)
    ]
    made = layout({"title": "share of importance, %"}, {"type": "category", "showgrid": False}, bargap=0.25, bargroupgap=0.1)
    made["legend"]["traceorder"] = "normal"
    counts = words.joined([f"{found[o.name].trials} for {o.title}" for o in drawn])
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
    return Cell(f"{100 * share:.1f}", share)
