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
import shlex
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from autopeft import __version__
from autopeft.report import page, words
from autopeft.report.charts.style import DARK, hover
from autopeft.report.plain import cell_of, configuration_text, contract, csv_lines, line_of
from autopeft.report.several import Several
from autopeft.report.summary import Summary
from autopeft.report.tables import trials_table

HERE = Path(__file__).parent
LIMITS = {"trainable_parameters": "100k, 1%", "peak_memory_bytes": "500MB"}
"""Costs by which the page filters trials -> how a limit may be written."""
UNIT = re.compile(r"(?<=\d) (?=%|[kMBT]\b|[kMGT]B\b)")
"""The space between a number and its unit, at which a line must not break."""


def render(summary: Summary, *, growing: bool = False) -> str:
    """The page; `growing`: one that loads itself again, as its study still runs."""
    shown = page.sections(summary)
    charts = [chart for section in shown for chart in section.charts]
    blocks = {
        "chart-data": {
            "charts": {chart.name: in_six_digits(chart.content) for chart in charts},
            "hover": {row.number: hover(summary, row) for row in summary.rows},
            "dark": DARK,
            "study": {"folder": shlex.quote(str(summary.record.folder)), "base_parameters": summary.record.shape.total_parameters},
        },
        "download-front": page.front_configurations(summary),
        **downloads(summary),
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
        answer=page.answer(summary),
        environment=page.environment(summary),
        commands=page.commands(summary),
        version=__version__,
        growing=growing,
        placed=lambda row: page.placed(summary, row),
        words=words,
        limits=LIMITS,
        **_frame(blocks),
    )


def render_several(page: Several) -> str:
    """The page on several studies."""
    blocks = {
        "chart-data": {"charts": {c.name: in_six_digits(c.content) for c in page.charts}, "hover": {}, "dark": DARK, "study": {}},
        "configurations": [],
        "download-json": {"trials": [], "front": []},
    }
    return _environment().get_template("several.html").render(page=page, version=__version__, **_frame(blocks))


def _frame(blocks: dict[str, Any]) -> dict[str, Any]:
    """Style, scripts with the policy that names them, and data. Ours stands before plotly, for which nothing
    that can be read or typed waits."""
    plotly, own = plotly_script(), (HERE / "report.js").read_text("utf-8")
    return {
        "policy": policy([plotly, own]),
        "style": Markup((HERE / "report.css").read_text("utf-8")),
        "scripts": [Markup(own), Markup(plotly)],
        "blocks": {name: embedded(content) for name, content in blocks.items()},
    }


def downloads(summary: Summary) -> dict[str, Any]:
    """The report as JSON and as CSV, which share one copy of the configurations: `configurations` has the
    text of each trial's, `download-json` the rest of the contract, and `download-csv` its head and what
    stands before and after the configuration, in words (which the page takes from its table) and as JSON, in
    each trial's line."""
    texts = [configuration_text(row) for row in summary.rows]
    head, *lines = csv_lines(summary)
    both = [line_of([cell_of(row.configuration), text]).rstrip() for row, text in zip(summary.rows, texts, strict=True)]
    without = contract(summary)
    without["trials"] = [{k: v for k, v in trial.items() if k != "configuration"} for trial in without["trials"]]
    return {
        "configurations": texts,
        "download-json": without,
        "download-csv": {"head": head, "rows": [line.rpartition(text)[::2] for line, text in zip(lines, both, strict=True)]},
    }


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


def in_six_digits(content: Any) -> Any:
    """With every float to six significant digits: no eye sees more, and further ones hang on the machine."""
    if isinstance(content, float):
        return float(f"{content:.6g}")
    if isinstance(content, Mapping):
        return {name: in_six_digits(value) for name, value in content.items()}
    return [in_six_digits(value) for value in content] if isinstance(content, list | tuple) else content


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
