"""Which dimensions decide each objective: PED-ANOVA (Watanabe, Bansal and Hutter, IJCAI 2023) as
Optuna computes it, conditional dimensions included."""

from __future__ import annotations

import warnings

import optuna

from autopeft.report.charts.style import SERIES, Chart, layout, patterned
from autopeft.report.rows import ObjectiveView, Row
from autopeft.report.summary import Summary
from autopeft.report.tables import Cell, Column, table
from autopeft.view import parameters
from autopeft_searchspace.space import build_space

FEWEST_TRIALS = 10
SHOWN = 10
PATTERNS = ("", "/", "x", ".", "+")


def importances(summary: Summary) -> tuple[dict[str, dict[str, float]], int]:
    """objective -> dimension -> share of the objective's importance (sums to 1), and the number of
    complete trials that it rests on; empty for fewer than `FEWEST_TRIALS`.

    Importance for being among the best tenth of the trials. Configurations outside of the space
    (a baseline that no point stands for) are left out.
    """
    record = summary.record
    space = build_space(record.spec.space.preset, record.shape, record.spec.space.change)
    study = _quiet_study([o.direction for o in summary.objectives])
    used = 0
    for row in summary.complete:
        values, distributions = parameters(row.trial, space)
        goals = _values(summary, row)
        if values and goals:
            study.add_trial(optuna.trial.create_trial(params=values, distributions=distributions, values=goals))
            used += 1
    if used < FEWEST_TRIALS:
        return {}, used
    return {o.name: _of(study, i, o) for i, o in enumerate(summary.objectives)}, used


def _quiet_study(directions: list[str]) -> optuna.Study:
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(directions=directions)
    finally:
        optuna.logging.set_verbosity(level)


def _values(summary: Summary, row: Row) -> list[float]:
    values = [row.values[o.name] for o in summary.objectives]
    return [v for v in values if v is not None] if None not in values else []


def _of(study: optuna.Study, index: int, objective: ObjectiveView) -> dict[str, float]:
    """PED-ANOVA takes low targets as good, so that a maximised objective is negated."""
    sign = -1.0 if objective.direction == "maximize" else 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = optuna.importance.get_param_importances(
            study,
            evaluator=optuna.importance.PedAnovaImportanceEvaluator(),
            target=lambda trial: sign * trial.values[index],
            normalize=True,
        )
    return dict(found)


def importance(summary: Summary) -> Chart | None:
    found, trials = importances(summary)
    if not found:
        return None
    names = sorted({name for shares in found.values() for name in shares}, key=lambda name: -found[summary.quality.name].get(name, 0.0))
    shown = names[:SHOWN][::-1]
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": objective.title,
            "y": shown,
            "x": [100 * found[objective.name].get(name, 0.0) for name in shown],
            "marker": {"color": SERIES[i], "pattern": patterned(PATTERNS[i % len(PATTERNS)])},
            "hovertemplate": "%{y}: %{x:.0f} %<extra>" + objective.title + "</extra>",
        }
        for i, objective in enumerate(summary.objectives)
    ]
    up = {"type": "category", "showgrid": False}
    made = layout({"title": "share of importance, %"}, up, bargap=0.25, bargroupgap=0.1)
    made["legend"]["traceorder"] = "normal"
    leader = {o.title: max(found[o.name], key=lambda name: found[o.name][name]) for o in summary.objectives}
    return Chart(
        "importance",
        "What decides each objective",
        f"Importance for being among the best tenth, from {trials} complete trials (PED-ANOVA). "
        + ("Few trials: read the order, not the lengths." if trials < 50 else "Dimensions that are off count for nothing."),
        "Bar chart of importance; the most important dimension is "
        + "; ".join(f"{name} for {title}" for title, name in leader.items())
        + f" (n = {trials}).",
        {"data": data, "layout": made},
        table(
            f"Share of importance per objective, in percent, from {trials} complete trials",
            [Column("dimension"), *(Column(o.title, numeric=True) for o in summary.objectives)],
            [
                [Cell(n), *(Cell(f"{100 * found[o.name].get(n, 0.0):.1f}", found[o.name].get(n, 0.0)) for o in summary.objectives)]
                for n in names
            ],
        ),
        height=130 + 33 * len(shown),
    )
