"""What trials cost: predicted against measured memory, and where the time went."""

from __future__ import annotations

from autopeft.report import words
from autopeft.report.charts.style import BLUE, GREY, ORANGE, PINK, RED, SOFT, Chart, layout, patterned, scale, scatter, trial_hover
from autopeft.report.summary import Summary
from autopeft.report.tables import Cell, Column, number_cell, reasons_table, table, value_cell
from autopeft.trial import TrialState

STATE_LOOKS = {
    TrialState.COMPLETE: (BLUE, ""),
    TrialState.EARLY_STOPPED: (PINK, "/"),
    TrialState.INFEASIBLE: (ORANGE, "x"),
    TrialState.FAILED: (RED, "+"),
    TrialState.RUNNING: (GREY, "."),
}


def memory(summary: Summary) -> Chart | None:
    pairs = [
        (row, predicted, measured)
        for row in summary.rows
        if (predicted := row.trial.computed.get("peak_memory_bytes")) and (measured := row.measured("measured_peak_memory_bytes"))
    ]
    if not pairs:
        return None
    drawn = scale("peak_memory_bytes", [v for _, p, m in pairs for v in (p, m)])
    ends = [min(min(p, m) for _, p, m in pairs) * drawn.factor, max(max(p, m) for _, p, m in pairs) * drawn.factor]
    unit = drawn.axis["title"].rpartition(" ")[2]
    data = [scatter(ends, ends, mode="lines", name="equal", line={"color": SOFT, "width": 1, "dash": "dot"}, hoverinfo="skip")]
    for name, wanted, look in (
        ("trials", False, {"color": BLUE, "size": 8, "opacity": 0.7}),
        ("baselines", True, {"color": RED, "size": 10, "symbol": "diamond"}),
    ):
        found = [(row, p, m) for row, p, m in pairs if row.is_baseline is wanted]
        x, y = [p * drawn.factor for _, p, _ in found], [m * drawn.factor for _, _, m in found]
        if found:
            data.append(scatter(x, y, name=name, mode="markers", marker=look, **trial_hover([row for row, _, _ in found])))
    fit = summary.memory
    said = f"Median error {words.share(fit.median_error or 0)}" + (f", rank correlation {fit.rank:.2f}" if fit.rank is not None else "")
    said += f" (n = {fit.trials})."
    return Chart(
        "memory",
        "Predicted and measured memory",
        f"{said} Predicted: the peak of the reference recipe, computed before training. Measured: what the run really used.",
        f"Scatter chart of measured against predicted peak memory. {said}",
        {"data": data, "layout": layout({"title": f"predicted peak, {unit}"}, {"title": f"measured peak, {unit}"})},
        table(
            "Peak memory before and after",
            [
                Column("trial", numeric=True),
                Column("predicted", numeric=True),
                Column("measured", numeric=True),
                Column("ratio", numeric=True),
            ],
            [
                [number_cell(row), value_cell("peak_memory_bytes", p), value_cell("peak_memory_bytes", m), Cell(f"{p / m:.2f}", p / m)]
                for row, p, m in pairs
            ],
        ),
        height=400,
    )


def seconds(summary: Summary) -> Chart | None:
    """Time per trial, replicates included, by state."""
    if not any(row.trial.seconds for row in summary.rows):
        return None
    data = []
    for state, (colour, pattern) in STATE_LOOKS.items():
        rows = [row for row in summary.rows if row.trial.state is state and row.trial.seconds]
        if rows:
            data.append(
                {
                    "type": "bar",
                    "name": state.value.lower().replace("_", " "),
                    "x": [row.number for row in rows],
                    "y": [row.trial.seconds for row in rows],
                    "width": 0.85,
                    "marker": {"color": colour, "pattern": patterned(pattern), "line": {"width": 0}},
                    **trial_hover(rows),
                }
            )
    spent = {state: sum(row.trial.seconds for row in summary.rows if row.trial.state is state) for state in STATE_LOOKS}
    parts = [f"{words.seconds(s)} on {state.value.lower().replace('_', ' ')} trials" for state, s in spent.items() if s]
    return Chart(
        "seconds",
        "Where the time went",
        f"{words.joined(parts)}. Trials with replicates take longer.",
        f"Bar chart of seconds per trial: {words.joined(parts)}.",
        {"data": data, "layout": layout({"title": "trial"}, {"title": "seconds"}, barmode="overlay")},
        reasons_table(summary),
        height=400,
    )
