"""The report as one HTML file that needs nothing else: no network, no server.

Text from specs, data and trials is escaped by the template. Data for scripts stands in JSON blocks, in
which `<`, `>` and `&` are written as escapes, so that no name can end the block. The Content-Security-Policy
names the hash of each of the two scripts: nothing else can run, nothing can be fetched or sent.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from autopeft import __version__
from autopeft.report import page, words
from autopeft.report.charts.style import DARK, hover
from autopeft.report.plain import contract, render_csv
from autopeft.report.summary import Summary
from autopeft.report.tables import trials_table

HERE = Path(__file__).parent
UNIT = re.compile(r"(?<=\d) (?=%|[kMBT]\b|[kMGT]B\b)")
"""The space between a number and its unit, at which a line must not break."""


def render(summary: Summary) -> str:
    plotly, own = plotly_script(), (HERE / "report.js").read_text("utf-8")
    style = (HERE / "report.css").read_text("utf-8")
    shown = page.sections(summary)
    charts = [chart for section in shown for chart in section.charts]
    blocks = {
        "chart-data": {
            "charts": {chart.name: chart.content for chart in charts},
            "hover": {row.number: hover(summary, row) for row in summary.rows},
            "dark": DARK,
        },
        "download-json": contract(summary),
        "download-front": page.front_configurations(summary),
        "download-csv": render_csv(summary),
    }
    template = _environment().get_template("report.html")
    return template.render(
        summary=summary,
        spec=summary.record.spec,
        verdict=summary.verdict,
        sections=shown,
        trials=trials_table(summary),
        strips=page.strips(summary),
        facts=page.facts(summary),
        environment=page.environment(summary),
        commands=page.commands(summary),
        version=__version__,
        placed=lambda row: page.placed(summary, row),
        words=words,
        policy=policy([plotly, own]),
        style=Markup(style),
        scripts=[Markup(plotly), Markup(own)],
        blocks={name: embedded(content) for name, content in blocks.items()},
    )


def policy(scripts: list[str]) -> str:
    """A Content-Security-Policy under which these inline scripts run and no other.

    Styles may stand inline, since plotly writes style attributes; they could fetch nothing either.
    """
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {' '.join(map(_hash, scripts))}",
            "style-src 'unsafe-inline'",
            "img-src data: blob:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def embedded(content: Any) -> Markup:
    """JSON that can stand inside a script element whatever it holds."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for mark in "<>&\u2028\u2029":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return Markup(text)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def plotly_script() -> str:
    """plotly.js as the installed package carries it."""
    from plotly.offline import get_plotlyjs

    text = str(get_plotlyjs())
    assert "</script" not in text.lower()
    return text


@cache
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters["unbroken"] = lambda text: UNIT.sub("\u00a0", text)
    made.filters["sentence"] = lambda text: text[:1].upper() + text[1:]
    return made
