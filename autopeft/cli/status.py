"""`autopeft status`: where one study stands."""

from __future__ import annotations

import time

from autopeft.cli import options
from autopeft.cli.console import Output, pairs, table, verb


@verb
def status(out: Output, study: options.Study) -> None:
    """Where a study stands.

    Trials by state, budget used, hypervolume, front and picks.
    """
    from autopeft import record, study_folder
    from autopeft.budget import Budget
    from autopeft.cli.verdict import verdict
    from autopeft.report import words
    from autopeft.report.summary import summarise
    from autopeft.spending import Spending

    summary = summarise(record.read(study))
    spec, environment, running = summary.record.spec, summary.record.environment, study_folder.is_open(study)
    states = {state.value: count for state, count in summary.states.items()}
    counts = [f"{count} {_in_words(state, running)}" for state, count in states.items()]
    spending = Spending(Budget.parse(spec.budget), environment, spec.seeds.replicates, environment.get("workers", 1), time.monotonic())
    remaining = spending.remaining(summary.record.trials)
    hypervolume = summary.progress[-1].hypervolume if summary.progress else None
    names = [o.name for o in spec.objectives]
    data = {
        "study": str(study),
        "name": spec.name,
        "running": running,
        "budget": spec.budget,
        "states": states,
        "seconds": summary.seconds,
        "seconds_used": summary.seconds_used,
        "remaining_seconds": remaining,
        "hypervolume": hypervolume,
        "front": [{"trial": row.number, "configuration": row.configuration, **row.values} for row in summary.front],
        "picks": dict(summary.chosen),
    }
    head = {
        "study": f"{spec.name} in {study}{' (running)' if running else ''}",
        "trials": ", ".join(counts) or "none",
        "budget": f"{spec.budget}; used {len(summary.rows)} trials, {words.seconds(summary.seconds_used)}"
        + (f"; about {words.seconds(remaining)} to go" if remaining else ""),
        "hypervolume": "-" if hypervolume is None else f"{hypervolume:.4f}",
    }
    cells = [[row.number, *(words.value(n, row.values[n]) for n in names), row.configuration] for row in summary.front]
    shown = table(["trial", *(words.name(n) for n in names), "configuration"], cells)
    out.result(data, "\n\n".join([pairs(head), f"Pareto front\n{shown}", verdict(summary)]))


def _in_words(state: str, running: bool) -> str:
    """A trial that an ended search left RUNNING waits for the next one."""
    return "interrupted, to be run again" if state == "RUNNING" and not running else state.lower().replace("_", " ")
