"""`autopeft dashboard`: the Optuna dashboard on a study, on this machine alone and read-only."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer

from autopeft.cli import options
from autopeft.cli.console import Output, verb

Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")]


@verb
def dashboard(out: Output, study: options.Study, port: Port = 8080) -> None:
    """The Optuna dashboard on a study.

    Served on 127.0.0.1, read-only, until Ctrl-C.
    """
    from autopeft.dashboard import HOST, server

    with server(study, port) as running, contextlib.suppress(KeyboardInterrupt):
        url = f"http://{HOST}:{running.server_port}/"
        out.result({"url": url}, f"{url}  (Ctrl-C ends it)")
        running.serve_forever()
