"""`autopeft train`: full training of one trial's configuration, judged on the test split."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from autopeft.cli import options
from autopeft.cli.console import Output, verb

Seeds = Annotated[int, typer.Option("--seeds", min=1, help="Number of training seeds; the interval is over them.")]
Epochs = Annotated[float | None, typer.Option("--epochs", min=0.01, help="Passes over the training data; the trials' steps by default.")]
Against = Annotated[str | None, typer.Option("--against", help="Another pick, to compare with in pairs.")]
Folder = Annotated[Path | None, typer.Option("--output", help="Where adapters go; STUDY/train/NUMBER by default.")]


@verb
def train(
    out: Output,
    study: options.Study,
    pick: options.Pick = "best",
    seeds: Seeds = 3,
    epochs: Epochs = None,
    against: Against = None,
    output: Folder = None,
    device: options.Device = None,
) -> None:
    """Train one configuration in full, with its test score.

    Trains once per seed, saves the adapters, and gives the mean on the test split with its interval.
    """
    from autopeft import picks
    from autopeft.record import read as read_record

    read = read_record(study)
    trials = [picks.find(read, name) for name in (pick, against) if name is not None]

    from autopeft.cli.progress import Bar
    from autopeft.train import comparison, paired_difference
    from autopeft.train import train as run

    output = output or study / "train"
    with Bar(read.spec, quiet=out.quiet) as bar:
        results = [run(read, trial, seeds, bar, output=output / str(trial.number), device=device, epochs=epochs) for trial in trials]
    found = results[0].to_json()
    lines = [result.in_words() for result in results]
    if len(results) == 2:
        found["against"] = {**results[1].to_json(), "difference": asdict(paired_difference(*results))}
        lines.append(comparison(*results))
    out.result(found, "\n".join(lines))
