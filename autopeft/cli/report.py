"""`autopeft report`: a study as one HTML file, or as tables."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from autopeft.cli import options
from autopeft.cli.console import Output, verb
from autopeft.errors import SpecError


class Format(StrEnum):
    HTML = "html"
    JSON = "json"
    MD = "md"
    CSV = "csv"


As = Annotated[Format, typer.Option("--format", help="html, json, md or csv.")]
File = Annotated[Path | None, typer.Option("--output", help="File to write; for html STUDY/report.html, else stdout by default.")]


Others = Annotated[list[Path] | None, typer.Argument(metavar="[STUDY ...]", help="Further studies, to compare with in one page.")]


Random = Annotated[Path | None, typer.Option("--random", metavar="STUDY", help="A random search, to draw its hypervolume beside.")]


@verb
def report(
    out: Output, study: options.Study, others: Others = None, format_: As = Format.HTML, output: File = None, random: Random = None
) -> None:
    """A study's report as HTML, JSON, Markdown or CSV; of several studies one HTML page that compares them.

    HTML goes to STUDY/report.html (of several to comparison.html in the first), the others to stdout, unless
    --output names a file.
    """
    from autopeft import files, record
    from autopeft import report as reporting

    if others and format_ is not Format.HTML:
        raise SpecError(f"several studies are compared in html; --format {format_.value} takes one study")
    if others and random:
        raise SpecError("--random takes one study; of several the page draws every hypervolume")
    if others:
        text = reporting.render_together([record.read(folder) for folder in (study, *others)])
    else:
        text = reporting.render(record.read(study), format_.value, record.read(random) if random else None)
    if output is None and format_ is Format.HTML:
        output = study / ("comparison.html" if others else "report.html")
    if output is not None:
        files.write_text(output, text)
        out.result({"report": str(output), "bytes": output.stat().st_size}, f"wrote {output}")
    else:
        out.text(text)
