"""The command `autopeft`: one file per verb. Nothing heavy is imported before a verb runs.

Exit codes: 0 done; 1 finished without a usable trial; 2 usage, spec or data error, nothing written;
3 refused before starting, nothing fits the limits; 4 study locked by a live process; 130 interrupted.
"""

from __future__ import annotations

from typing import Annotated

import typer

from autopeft import __version__
from autopeft.cli import (
    adapters,
    dashboard,
    doctor,
    estimate,
    export,
    init,
    list_,
    report,
    schema,
    search,
    spaces,
    status,
    train,
    transfer,
)

app = typer.Typer(
    name="autopeft",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _autopeft(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """Find the parameter-efficient configuration to train, for your model, data and budget."""


for _name, _command in {
    "init": init.init,
    "doctor": doctor.doctor,
    "spaces": spaces.spaces,
    "adapters": adapters.adapters,
    "estimate": estimate.estimate,
    "search": search.search,
    "status": status.status,
    "list": list_.list_,
    "report": report.report,
    "dashboard": dashboard.dashboard,
    "export": export.export,
    "train": train.train,
    "transfer": transfer.transfer,
    "schema": schema.schema,
}.items():
    app.command(_name)(_command)


def main() -> None:
    app()
