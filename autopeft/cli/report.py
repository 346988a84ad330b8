"""`autopeft report`: a study as one HTML file, or as tables."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from autopeft.cli import options
from autopeft.cli.console import Output, verb


class Format(StrEnum):
    HTML = "html"
    JSON = "json"
    MD = "md"
    CSV = "csv"


As = Annotated[Format, typer.Option("--format", help="html, json, md or csv.")]
File = Annotated[Path | None, typer.Option("--output", help="File to write; for html STUDY/report.html, else stdout by default.")]


@verb
def report(out: Output, study: options.Study, format_: As = Format.HTML, output: File = None) -> None:
    """A study's report as HTML, JSON, Markdown or CSV.

    HTML goes to STUDY/report.html, the others to stdout, unless --output names a file.
    """
    from autopeft import files, record
    from autopeft import report as reporting

    text = reporting.render(record.read(study), format_.value)
    if output is None and format_ is Format.HTML:
        output = study / "report.html"
    if output is not None:
        files.write_text(output, text)
        out.result({"report": str(output), "bytes": output.stat().st_size}, f"wrote {output}")
    else:
        out.text(text)
