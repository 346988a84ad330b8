"""`autopeft export`: one trial's configuration as files that other programs read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autopeft.cli import options
from autopeft.cli.console import Output, verb

To = Annotated[str, typer.Option("--to", help="peft, configuration, transformers, trl, axolotl, llamafactory or study.")]
Folder = Annotated[Path | None, typer.Option("--output", help="Folder to write; STUDY/exports/NUMBER-FORMAT by default.")]


@verb
def export(out: Output, study: options.Study, pick: options.Pick = "best", to: To = "peft", output: Folder = None) -> None:
    """Write a configuration for other programs.

    peft: adapter_config.json, for plain peft where it is a single peft type. configuration: JSON for
    `autopeft.apply`. transformers, trl: a training script. axolotl, llamafactory: YAML for a single LoRA
    on a language model. study: the whole study in plain files, to warm-start, transfer or train from elsewhere.
    """
    from autopeft import export as exporting
    from autopeft import picks
    from autopeft.record import read as read_record

    exporting.format_called(to)  # an unknown name is told before anything is read
    read = read_record(study)
    trial = picks.find(read, pick)
    folder = output or study / "exports" / f"{trial.number}-{to}"
    written = exporting.export(read, trial, to, folder)
    out.result(
        {"trial": trial.number, "configuration": trial.configuration.to_json(), "to": to, "files": [str(path) for path in written]},
        "\n".join([f"trial {trial.number}: {trial.configuration.in_words()}", *(f"wrote {path}" for path in written)]),
    )
