"""The page in a real browser: charts drawn, policy kept, nothing fetched, tables that sort and filter."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import synthetic
from browser import MISSING, Browser

from autopeft import report
from autopeft.record import StudyRecord

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(MISSING), reason=MISSING)]
READY = "document.documentElement.dataset.ready"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def browser(folder: Path) -> Iterator[Browser]:
    with Browser(downloads=folder) as made:
        yield made


def show(browser: Browser, folder: Path, record: StudyRecord) -> None:
    """Open the report on `record`; forget what was logged before."""
    path = report.write(record, folder / "report.html")
    browser.open("about:blank")
    browser.console()
    browser.requests()
    browser.open(path.as_uri())
    browser.wait_for(READY)


@pytest.mark.parametrize("trials", [0, 1, 60, 200])
def test_charts_are_drawn_without_errors_or_requests(browser: Browser, folder: Path, trials: int) -> None:
    show(browser, folder, synthetic.record(trials))
    plots = browser.run(
        "return [...document.querySelectorAll('.plot')].map(p => [p.id, p.querySelectorAll('svg.main-svg').length, p.clientWidth])"
    )
    assert len(plots) == (13 if trials >= 60 else len(plots))
    assert all(drawings >= 1 and width > 300 for _, drawings, width in plots)
    assert browser.console() == []
    assert [url for url in browser.requests() if not url.startswith(("file:", "data:", "blob:"))] == []


def test_the_policy_blocks_scripts_and_requests(browser: Browser, folder: Path) -> None:
    show(browser, folder, synthetic.record(8))
    browser.run(
        "const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s);"
        "const i = document.createElement('img'); i.src = 'http://127.0.0.1:9/x.png'; document.body.append(i);"
        "document.body.insertAdjacentHTML('beforeend', '<b onclick=\"window.ran = 1\" id=bold>x</b>'); document.getElementById('bold').click();"
    )
    assert browser.run("return window.ran === undefined")
    refused = " ".join(browser.console())
    assert "Content Security Policy" in refused
    assert "img-src" in refused


@pytest.mark.parametrize(
    "text", ["</script><script>window.ran = 1</script>", "<img src=x onerror='window.ran = 1'>", "<a href='javascript:1'>x</a>"]
)
def test_hostile_names_do_not_run(browser: Browser, folder: Path, text: str) -> None:
    record = synthetic.record(60)
    trials = tuple(replace(t, label=text if t.number < 5 else "", reason=text, note=text) for t in record.trials)
    show(browser, folder, replace(record, trials=trials))
    assert browser.run("return window.ran === undefined")
    assert browser.run("return document.querySelectorAll('img, svg a[href^=\"javascript\"], .plot a[href]:not(.modebar-btn)').length") == 0
    assert browser.console() == []


def test_there_is_no_button_that_sends_the_chart_away(browser: Browser, folder: Path) -> None:
    show(browser, folder, synthetic.record(8))
    titles = browser.run("return [...document.querySelectorAll('.modebar-btn')].map(b => b.dataset.title)")
    assert titles
    assert not [title for title in titles if "share" in title.lower() or "cloud" in title.lower()]


def test_hovering_a_point_says_its_configuration(browser: Browser, folder: Path) -> None:
    record = synthetic.record(60)
    show(browser, folder, record)
    browser.run(
        "const p = document.getElementById('chart-front-accuracy-trainable-parameters');"
        "const i = p.data.findIndex(t => t.name === 'Pareto front'); Plotly.Fx.hover(p, [{curveNumber: i, pointNumber: 0}]);"
        "window.told = p.data[i].customdata[0]"
    )
    browser.wait_for("document.querySelector('.hoverlayer .hovertext')")
    text = browser.run("return document.querySelector('.hoverlayer').textContent")
    assert f"trial {browser.run('return window.told')}" in text
    assert "learning rate" in text


def test_the_trial_table_sorts_and_filters(browser: Browser, folder: Path) -> None:
    record = synthetic.record(60)
    show(browser, folder, record)
    column = (
        "return [...document.querySelectorAll('#trial-table tbody tr')].filter(r => !r.hidden).map(r => r.cells[arguments[0]].textContent)"
    )
    sort = "document.querySelectorAll('#trial-table th button')[arguments[0]].click()"
    browser.run(sort, 4)
    counts = {t.number: t.computed["trainable_parameters"] for t in record.trials}
    order = [counts[int(number)] for number in browser.run(column, 0)]
    assert order == sorted(order)
    browser.run(sort, 3)
    browser.run(sort, 3)
    shown = browser.run(column, 3)
    known = [float(text.split()[0]) for text in shown if text != "–"]
    assert known == sorted(known, reverse=True)
    assert shown == [text for text in shown if text != "–"] + ["–"] * shown.count("–")
    choose = "const e = document.getElementById(arguments[0]); e.value = arguments[1]; e.dispatchEvent(new Event('input'))"
    browser.run(choose, "by-state", "early stopped")
    stopped = [t for t in record.trials if t.state == "EARLY_STOPPED"]
    assert len(browser.run(column, 0)) == len(stopped) > 0
    browser.run(choose, "by-type", "lora")
    wanted = [t for t in stopped if "lora" in [c.type for c in t.configuration.components]]
    assert {int(n) for n in browser.run(column, 0)} == {t.number for t in wanted}
    assert browser.run("return document.getElementById('shown').textContent") == f"{len(wanted)} of 60 trials"


def test_downloads_are_the_report_in_other_formats(browser: Browser, folder: Path) -> None:
    record = synthetic.record(20)
    show(browser, folder, record)
    browser.run("document.querySelectorAll('[data-download]').forEach(b => b.click())")
    name = record.spec.name
    wanted = [folder / f"{name}-front.json", folder / f"{name}-trials.csv", folder / f"{name}.json"]
    end = time.monotonic() + 20
    while not all(path.exists() for path in wanted) and time.monotonic() < end:
        time.sleep(0.1)
    assert json.loads(wanted[2].read_text("utf-8")) == json.loads(report.render(record, "json"))
    assert wanted[1].read_text("utf-8") == report.render(record, "csv")


def test_a_dark_page_has_dark_charts(folder: Path) -> None:
    path = report.write(synthetic.record(20), folder / "dark.html")
    with Browser(dark=True) as browser:
        browser.open(path.as_uri())
        browser.wait_for(READY)
        page, ink = browser.run(
            "return [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('.plot .xtick text')).fill]"
        )
    dark, light = (sum(map(int, colour[4:-1].split(","))) for colour in (page, ink))
    assert dark < 120 < 400 < light


def test_a_narrow_page_does_not_overflow(folder: Path) -> None:
    path = report.write(synthetic.record(60), folder / "narrow.html")
    with Browser(width=500) as browser:
        browser.open(path.as_uri())
        browser.wait_for(READY)
        assert browser.run("return document.documentElement.scrollWidth <= window.innerWidth")


def test_the_page_prints(browser: Browser, folder: Path) -> None:
    show(browser, folder, synthetic.record(60))
    pdf = browser.pdf()
    assert pdf.startswith(b"%PDF")
    assert 4 <= pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") <= 40
    assert browser.console() == []
