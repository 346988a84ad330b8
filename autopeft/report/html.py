"""thin"""

from __future__ import annotations

from autopeft.report.summary import Summary


def render(summary: Summary) -> str:
    from html import escape

    items = "".join(f"<p>{escape(pick.sentence)}</p>" for pick in summary.picks)
    return f"<!doctype html><meta charset=utf-8><h1>{escape(summary.verdict.headline)}</h1>{items}"
