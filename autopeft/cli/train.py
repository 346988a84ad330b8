"""`autopeft train`: full training of one trial's configuration, judged on the test split."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autopeft.cli import options
from autopeft.cli.console import Output, verb

Seeds = Annotated[int, typer.Option("--seeds", min=1, help="Number of training seeds; the interval is over them.")]
Epochs = Annotated[float | None, typer.Option("--epochs", min=0.01, help="Passes over the training data; the trials' steps by default.")]
Against = Annotated[str | None, typer.Option("--against", help="Another pick, to compare with in pairs.")]
Other = Annotated[
    str | None, typer.Option("--data", help="Other data of the same kind of task, to train and test on instead of the study's.")
]
Merge = Annotated[bool, typer.Option("--merge", help="Also write the base model with the adapter folded into its weights.")]
Push = Annotated[
    str | None, typer.Option("--push", metavar="USER/NAME", help="Put the first seed's adapter on the Hugging Face hub, privately.")
]
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
    data: Other = None,
    merge: Merge = False,
    push: Push = None,
) -> None:
    """Train one configuration in full, with its test score.

    Trains once per seed, saves the adapters with a model card each, and gives the mean on the test split with
    its interval. Nothing leaves the machine unless --push names a repository.
    """
    from autopeft import hub, picks
    from autopeft.record import read as read_record

    read = read_record(study)
    if push:
        hub.check_push(push)
    trials = [picks.find(read, name) for name in (pick, against) if name is not None]

    from autopeft.cli.progress import Bar
    from autopeft.train import train as run
    from autopeft.train_result import against as compared
    from autopeft.train_result import comparison, note_comparison

    output = output or study / "train"
    folders = [output / (f"{trial.number}-on-{Path(data).stem}" if data else str(trial.number)) for trial in trials]
    with Bar(read.spec, quiet=out.quiet) as bar:
        results = [
            run(read, trial, seeds, bar, output=folder, device=device, epochs=epochs, data=data, merge=merge)
            for trial, folder in zip(trials, folders, strict=True)
        ]
    found = results[0].to_json()
    lines = [result.in_words() for result in results]
    if len(results) == 2:
        found["against"] = compared(*results)
        note_comparison(results[0], results[1], folders[0])
        lines.append(comparison(*results))
    if push:
        first = next(iter(results[0].adapters.values()))
        found["pushed"] = hub.push(Path(first), push)
        lines.append(f"pushed {first} to {found['pushed']}")
    out.result(found, "\n".join(lines))
