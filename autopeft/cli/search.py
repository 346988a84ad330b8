"""`autopeft search`: run or resume a study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autopeft.cli import options
from autopeft.cli.console import Output, verb
from autopeft.errors import SpecError

if TYPE_CHECKING:
    from autopeft.spec import StudySpec

StudyFolder = Annotated[Path | None, typer.Option("--study", help="Study folder; studies/NAME by default. Alone, it resumes that study.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Start again: what the study folder holds of an earlier search is removed.")]


Live = Annotated[
    bool, typer.Option("--live", help="Draw the front as it grows; the report is written again as trials end, and reloads itself.")
]
Open = Annotated[bool, typer.Option("--open", help="Open the growing report in the browser; goes with --live.")]


@verb
def search(
    out: Output,
    spec: options.Spec = None,
    study: StudyFolder = None,
    model: options.Model = None,
    data: options.Data = None,
    task: options.Task = None,
    name: options.Name = None,
    budget: options.Budget = None,
    max_memory: options.MaxMemory = None,
    max_parameters: options.MaxParameters = None,
    preset: options.Preset = None,
    adapters: options.Types = None,
    sampler: options.Sampler = None,
    seed: options.Seed = None,
    warm_start: options.WarmStart = None,
    device: options.Device = None,
    executor: options.Executor = None,
    storage: options.Storage = None,
    set_: options.Set = None,
    fresh: Fresh = False,
    live: Live = False,
    open_: Open = False,
) -> None:
    """Search the Pareto front; resumes where it stood.

    Ctrl-C once ends the running trial, twice stops; the same command goes on later.
    """
    if open_ and not live:
        raise SpecError("--open shows the report that --live writes; give both")
    if spec is None and study is not None and model is None and data is None:
        spec = study
    flags = {
        "--model": model,
        "--data": data,
        "--task": task,
        "--name": name,
        "--budget": budget,
        "--max-memory": max_memory,
        "--max-parameters": max_parameters,
        "--preset": preset,
        "--adapters": adapters.split(",") if adapters else None,
        "--sampler": sampler,
        "--seed": seed,
        "--device": device,
        "--executor": executor,
        "--storage": storage,
        "--warm-start": [str(path.resolve()) for path in warm_start] if warm_start else None,
    }
    found, folder = options.given_spec(spec, set_, flags)
    run_search(out, found, folder, study or Path("studies", found.name), fresh, live=live, open_report=open_)


def run_search(
    out: Output, found: StudySpec, folder: Path, study: Path, fresh: bool, *, live: bool = False, open_report: bool = False
) -> None:
    """Search, and say what was found, where the report is and what to do next."""
    from autopeft.cli.live import GrowingReport
    from autopeft.cli.progress import Bar
    from autopeft.cli.verdict import verdict
    from autopeft.coordinator import search as run
    from autopeft.report.picks import recommended
    from autopeft.report.summary import summarise

    growing = GrowingReport(study / "report.html", open_it=open_report) if live else None
    with Bar(found, quiet=out.quiet, growing=growing) as bar:
        record = run(found, folder, study, bar, fresh=fresh)
    summary = summarise(record)
    head = summary.row(record.head_only.number) if summary.verdict.head_is_enough and record.head_only else None
    report, then = study / "report.html", recommended(summary.picks, head).command
    out.result(
        {
            "study": str(study),
            "report": str(report),
            "picks": dict(summary.chosen),
            "front": [row.number for row in summary.front],
            "states": {state.value: count for state, count in summary.states.items()},
            "next": then,
        },
        f"{verdict(summary)}\n\nreport  {report}\nnext    {then}",
    )
