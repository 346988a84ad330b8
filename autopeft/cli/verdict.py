"""The answer of a study in words, as `search` ends with it and `status` shows it."""

from __future__ import annotations

import shutil
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autopeft.report.summary import Summary

WIDEST = 110


def verdict(summary: Summary) -> str:
    """The verdict, then each pick with its numbers and the command that trains it, on a line of its own."""
    width = min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns)

    def filled(text: str, indent: str = "") -> str:
        return textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)

    parts = [filled(f"{summary.verdict.headline}. {' '.join(summary.verdict.text)}")]
    for pick in summary.picks:
        parts.append("\n".join([pick.title, filled(pick.sentence, "  "), f"  {pick.command}"]))
    return "\n\n".join(parts)
