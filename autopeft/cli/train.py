"""`autopeft train`: full training of one trial's configuration, judged on the test split."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autopeft.cli import options
from autopeft.cli.console import Output, verb

Seeds = Annotated[int, typer.Option("--seeds", min=1, help="Number of training seeds; the interval is over them.")]
Epochs = Annotated[float | None, typer.Option("--epochs", min=0.01, help="Passes over the training data; the trials' steps by default.")]
Folder = Annotated[Path | None, typer.Option("--output", help="Where adapters go; STUDY/train/NUMBER by default.")]


@verb
def train(
    out: Output,
    study: options.Study,
    pick: options.Pick = "best",
    seeds: Seeds = 3,
    epochs: Epochs = None,
    output: Folder = None,
    device: options.Device = None,
) -> None:
    """Train one configuration in full, with its test score.

    Trains once per seed, saves the adapters, and gives the mean on the test split with its interval.
    """
    from autopeft import picks
    from autopeft.record import read as read_record

    read = read_record(study)
    trial = picks.find(read, pick)

    from autopeft.cli.progress import Bar
    from autopeft.train import train as run

    with Bar(read.spec, quiet=out.quiet) as bar:
        result = run(read, trial, seeds, bar, output=output, device=device, epochs=epochs)
    out.result(result.to_json(), result.in_words())
