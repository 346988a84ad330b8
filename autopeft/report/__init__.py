"""Reports on a study, from its record alone: one HTML file, JSON, Markdown or CSV. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autopeft import files
from autopeft.errors import AutopeftError, near
from autopeft.record import StudyRecord

FORMATS = ("html", "json", "md", "csv")


def render(record: StudyRecord, format: str = "html", random: StudyRecord | None = None, *, growing: bool = False) -> str:
    """The report on `record` as `html`, `json`, `md` or `csv`; the same record gives the same text.

    growing: an HTML page of a study that still runs, which loads itself again every quarter of a minute.
    random: a random search on the same data, whose hypervolume is drawn beside.
    Raises AutopeftError for any other format, or where the two do not compare.
    """
    if format not in FORMATS:
        raise AutopeftError(f"report format must be one of {', '.join(FORMATS)}, it is {format!r}{near(format, FORMATS)}")
    from autopeft.report import html, plain
    from autopeft.report.summary import summarise

    summary = summarise(record, random)
    if format == "html":
        return html.render(summary, growing=growing)
    renderers = {"json": plain.render_json, "md": plain.render_markdown, "csv": plain.render_csv}
    return renderers[format](summary)


def render_together(records: Sequence[StudyRecord]) -> str:
    """One HTML page that compares several studies."""
    from autopeft.report import html
    from autopeft.report.several import compare_studies

    return html.render_several(compare_studies(records))


def write(record: StudyRecord, path: Path) -> Path:
    """Write the report to `path`, in the format of its suffix (HTML where it has none); atomic.

    Raises AutopeftError for a suffix that is no format, OSError where the file cannot be written.
    """
    files.write_text(path, render(record, path.suffix.removeprefix(".").lower() or "html"))
    return path
