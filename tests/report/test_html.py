"""The page: one file, nothing fetched, nothing hostile run, readable without charts."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest
import synthetic

from autopeft import report
from autopeft.record import StudyRecord
from autopeft.report.plain import line_of
from autopeft.report.summary import summarise
from autopeft.report.tables import BESIDE_A_CHART, Cell, Column, shortened, table
from autopeft.trial import Trial
from autopeft_searchspace.configuration import Component, Configuration

HOSTILE = (
    "</script><script>document.title='run'</script>",
    "<img src=x onerror=\"document.title='run'\">",
    "\"><svg onload=document.title='run'>",
    "{{ 7 * 7 }}{% raw %}",
    "<!--<script>",
    "' onmouseover='x",
    "\u2028\u2029",
)


class Page(HTMLParser):
    """Elements with their attributes, text of scripts and visible text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.text = ""
        self._in_script = self._in_style = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._in_script, self._in_style = tag == "script", tag == "style"
        if self._in_script:
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self._in_script = self._in_style = False

    def handle_data(self, data: str) -> None:
        if self._in_script:
            attributes, text = self.scripts[-1]
            self.scripts[-1] = (attributes, text + data)
        elif not self._in_style:
            self.text += data

    def data(self, name: str) -> object:
        return json.loads(next(text for attributes, text in self.scripts if attributes.get("id") == name))

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.elements if found == tag]


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(report.render(synthetic.record(), "html"))


def hostile(text: str) -> StudyRecord:
    """A record with `text` wherever a text can come from outside."""

    def spoil(trial: Trial) -> Trial:
        parts = tuple(Component(f"{text}{i}", 4, (0, 1), (text,), {text: text}) for i in range(2))
        configuration = Configuration(parts, 1e-3) if trial.number in (2, 9) else trial.configuration
        return replace(trial, label=text, reason=text, note=text, configuration=configuration)

    record = synthetic.record()
    data = record.spec.model_dump(mode="json")
    data["model"]["base"] = text
    environment = {**record.environment, "note": text, "data": {**record.environment["data"], "labels": [text, text]}, text: text}
    spec = type(record.spec).model_validate(data)
    return replace(record, spec=spec, environment=environment, trials=tuple(map(spoil, record.trials)), folder=record.folder / text)


def test_the_policy_names_every_script_and_lets_nothing_be_fetched(page: Page) -> None:
    (policy,) = [m["content"] for m in page.named("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    rules = dict(part.split(" ", 1) for part in policy.split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "data: blob:"
    assert "unsafe" not in rules["script-src"]
    running = [text for attributes, text in page.scripts if "type" not in attributes]
    hashes = {f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in running}
    assert len(running) == 2
    assert set(rules["script-src"].split()) == hashes


def test_nothing_is_loaded_from_elsewhere(page: Page) -> None:
    for tag, attributes in page.elements:
        assert not {"src", "srcset", "data", "action", "formaction", "poster", "background"} & attributes.keys(), tag
        assert not attributes.get("href") or str(attributes["href"]).startswith("#"), attributes
        assert tag not in ("iframe", "object", "embed", "link", "base", "img")


@pytest.mark.parametrize(("trials", "most"), [(200, 6_000_000), pytest.param(2000, 10_000_000, marks=pytest.mark.slow)])
def test_there_is_one_copy_of_plotly_and_the_file_is_bounded(trials: int, most: int) -> None:
    text = report.render(synthetic.record(trials), "html")
    assert text.count("* plotly.js v") == 1
    assert len(text.encode()) <= most


def test_the_table_beside_a_chart_is_bounded_and_says_so() -> None:
    column = [Column("trial", numeric=True)]
    short = table("Loss", column, [[Cell(str(i))] for i in range(BESIDE_A_CHART)])
    long = table("Loss", column, [[Cell(str(i))] for i in range(2000)])
    assert shortened(short) is short
    assert len(shortened(long).rows) == BESIDE_A_CHART
    assert "of 2,000 rows" in shortened(long).caption


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_stay_texts(page: Page, text: str) -> None:
    found = Page(report.render(hostile(text), "html"))
    assert len(found.scripts) == len(page.scripts)
    assert {tag for tag, _ in found.elements} <= {tag for tag, _ in page.elements}
    assert not [name for _, attributes in found.elements for name in attributes if name.startswith("on")]
    content = found.data("download-json")
    assert isinstance(content, dict)
    assert content["trials"][0]["reason"] == text
    if text.strip():
        assert text in found.text


def test_every_chart_has_a_name_a_title_and_a_table(page: Page) -> None:
    plots = [a for a in page.named("div") if a.get("class") == "plot" and "id" in a]
    data = page.data("chart-data")
    assert isinstance(data, dict)
    assert [f"chart-{name}" for name in data["charts"]] == [a["id"] for a in plots]
    assert all(a.get("role") == "img" and a.get("aria-label") for a in plots)
    assert len(page.named("details")) >= len(plots)
    assert len(page.named("caption")) >= len(plots)


def test_ids_are_unique_and_links_lead_somewhere(page: Page) -> None:
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    targets = {str(a["href"])[1:] for a in page.named("a")}
    assert targets <= set(ids)
    assert {str(a["aria-labelledby"]) for _, a in page.elements if "aria-labelledby" in a} <= set(ids)


def test_headings_go_down_one_level_at_a_time(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_the_verdict_comes_first_with_commands(page: Page) -> None:
    assert page.text.index("Verdict") < page.text.index("Trade-offs")
    picks = summarise(synthetic.record()).picks
    assert len(picks) > 1
    assert all(pick.command in page.text for pick in picks)
    assert "not distinguishable" in page.text


def test_downloads_hold_the_front_the_trials_and_everything(page: Page) -> None:
    record = synthetic.record()
    everything, front, csv = (page.data(f"download-{name}") for name in ("json", "front", "csv"))
    configurations = page.data("configurations")
    assert isinstance(front, dict)
    assert isinstance(everything, dict)
    assert isinstance(csv, dict)
    assert isinstance(configurations, list)
    for trial, text in zip(everything["trials"], configurations, strict=True):
        trial["configuration"] = json.loads(text)
    assert everything == json.loads(report.render(record, "json"))
    both = [[t.configuration.in_words(), text] for t, text in zip(record.trials, configurations, strict=True)]
    rows = [before + line_of(text).rstrip() + after for (before, after), text in zip(csv["rows"], both, strict=True)]
    assert csv["head"] + "".join(rows) == report.render(record, "csv")
    assert sorted(entry["number"] for entry in front["front"]) == everything["front"]


@pytest.mark.parametrize("trials", [0, 1, 3])
def test_small_studies_have_a_page_too(trials: int) -> None:
    found = Page(report.render(synthetic.record(trials), "html"))
    assert "Verdict" in found.text
    assert len(found.named("tr")) > trials


def test_head_only_being_enough_is_the_headline() -> None:
    assert "Train the task head alone: no adapter found is distinguishably better" in report.render(synthetic.record(gain=0.0), "html")
