"""The page in a real browser: charts drawn, policy kept, nothing fetched, tables that sort and filter."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import synthetic
from browser import MISSING, Browser, print_page

from autopeft import report
from autopeft.record import StudyRecord

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(MISSING), reason=MISSING)]
READY = "document.documentElement.dataset.ready"
HOSTILE = "</script><script>window.ran = 1</script><img src=x onerror='window.ran = 1'><a href='javascript:window.ran = 1'>x</a>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def browser(folder: Path) -> Iterator[Browser]:
    with Browser(downloads=folder) as made:
        yield made


@pytest.fixture(scope="module")
def record() -> StudyRecord:
    return synthetic.record()


@pytest.fixture
def page(browser: Browser, folder: Path, record: StudyRecord) -> Browser:
    """The browser on the report of `record`; loaded once for all tests that ask for it in a row."""
    if not browser.run("return document.title.startsWith(arguments[0])", record.spec.name):
        show(browser, folder, record)
    return browser


def show(browser: Browser, folder: Path, record: StudyRecord) -> None:
    """Open the report on `record`; forget what was logged before."""
    path = report.write(record, folder / f"{record.spec.name}-{len(record.trials)}.html")
    browser.open("about:blank")
    browser.console()
    browser.requests()
    browser.open(path.as_uri())
    browser.wait_for(READY)


def draw_all(browser: Browser) -> None:
    """Charts are drawn when they come into view."""
    browser.run("document.documentElement.style.scrollBehavior = 'auto'")
    for i in range(browser.run("return document.querySelectorAll('.plot[data-height]').length")):
        browser.run("document.querySelectorAll('.plot[data-height]')[arguments[0]].scrollIntoView({block: 'center'})", i)
        browser.wait_for(f"document.querySelectorAll('.plot[data-height]')[{i}].dataset.drawn")


def elsewhere(browser: Browser) -> list[str]:
    return [url for url in browser.requests() if not url.startswith(("file:", "data:", "blob:"))]


def test_charts_are_drawn_without_errors_or_requests(page: Browser) -> None:
    draw_all(page)
    each = "p => [p.id, p.querySelectorAll('svg.main-svg').length, p.clientWidth]"
    plots = page.run(f"return [...document.querySelectorAll('.plot[data-height]')].map({each})")
    assert len(plots) == 13
    assert all(drawings >= 1 and width > 300 for _, drawings, width in plots)
    assert page.console() == []
    assert elsewhere(page) == []


def test_there_is_no_button_that_sends_the_chart_away(page: Browser) -> None:
    titles = page.run("return [...document.querySelectorAll('.modebar-btn')].map(b => b.dataset.title)")
    assert titles
    assert not [title for title in titles if "share" in title.lower() or "cloud" in title.lower()]


def test_charts_are_drawn_when_they_come_into_view(browser: Browser, folder: Path, record: StudyRecord) -> None:
    show(browser, folder, record)
    assert browser.run("return document.querySelectorAll('.plot[data-drawn]').length") < 13
    draw_all(browser)
    assert browser.run("return document.querySelectorAll('.plot[data-drawn]').length") == 13


def test_hovering_a_point_says_its_configuration(page: Browser, record: StudyRecord) -> None:
    page.run(
        "const p = document.getElementById('chart-front-accuracy-trainable-parameters');"
        "const i = p.data.findIndex(t => t.name === 'Pareto front'); Plotly.Fx.hover(p, [{curveNumber: i, pointNumber: 0}]);"
        "window.told = p.data[i].customdata[0]"
    )
    page.wait_for("document.querySelector('.hoverlayer .hovertext')")
    text = page.run("return document.querySelector('.hoverlayer').textContent")
    assert f"trial {page.run('return window.told')}" in text
    assert "peak training memory" in text
    told = int(page.run("return window.told"))
    assert record.trial(told).configuration.in_words().replace(" ", "") in text.replace(" ", "")


def test_the_trial_table_sorts_and_filters(page: Browser, record: StudyRecord) -> None:
    column = (
        "return [...document.querySelectorAll('#trial-table tbody tr')].filter(r => !r.hidden).map(r => r.cells[arguments[0]].textContent)"
    )
    sort = "document.querySelectorAll('#trial-table th button')[arguments[0]].click()"
    page.run(sort, 4)
    counts = {t.number: t.computed["trainable_parameters"] for t in record.trials}
    order = [counts[int(number)] for number in page.run(column, 0)]
    assert order == sorted(order)
    page.run(sort, 3)
    page.run(sort, 3)
    shown = page.run(column, 3)
    known = [float(text.split()[0]) for text in shown if text != "–"]
    assert known == sorted(known, reverse=True)
    assert shown == [text for text in shown if text != "–"] + ["–"] * shown.count("–")
    choose(page, "state", "EARLY_STOPPED")
    stopped = [t for t in record.trials if t.state == "EARLY_STOPPED"]
    assert len(page.run(column, 0)) == len(stopped) > 0
    choose(page, "type", "lora")
    wanted = [t for t in stopped if "lora" in [c.type for c in t.configuration.components]]
    assert {int(n) for n in page.run(column, 0)} == {t.number for t in wanted}
    assert page.run("return document.getElementById('shown').textContent") == f"{len(wanted)} of 60 trials"
    page.run("document.querySelector('#filters [type=reset]').click()")
    page.wait_for("document.getElementById('shown').textContent === '60 trials'")


def choose(page: Browser, name: str, value: str) -> None:
    """Set a field of the filter and wait until it has worked."""
    page.run(
        "const e = document.querySelector(`#filters [name=${arguments[0]}]`); e.value = arguments[1];"
        "document.getElementById('shown').textContent = ''; e.dispatchEvent(new Event('input', {bubbles: true}))",
        name,
        value,
    )
    page.wait_for("document.getElementById('shown').textContent")


def test_limits_filter_the_table_and_the_charts(page: Browser, record: StudyRecord) -> None:
    draw_all(page)
    seen = (
        "const p = document.getElementById('chart-front-accuracy-trainable-parameters');"
        "return p.data.filter(t => t.customdata).flatMap(t => t.customdata.filter((n, i) => t.x[i] !== null))"
    )
    inside = {t.number for t in record.trials if t.computed["trainable_parameters"] <= 50_000}
    assert set(page.run(seen)) - inside
    choose(page, "trainable_parameters", "50k")
    assert set(page.run(seen)) <= inside
    numbers = page.run("return [...document.querySelectorAll('#trial-table tbody tr:not([hidden])')].map(r => +r.cells[0].textContent)")
    assert set(numbers) == inside
    choose(page, "trainable_parameters", "fifty")
    assert page.run("return document.querySelector('[name=trainable_parameters]').getAttribute('aria-invalid')") == "true"
    page.run("document.querySelector('#filters [type=reset]').click()")
    page.wait_for("document.getElementById('shown').textContent === '60 trials'")


def test_clicking_a_point_opens_its_configuration_curve_and_commands(page: Browser, record: StudyRecord) -> None:
    draw_all(page)
    trial = next(t for t in record.complete if t.configuration.components)
    chart = "document.getElementById('chart-front-accuracy-trainable-parameters')"
    page.run(f"{chart}.emit('plotly_click', {{points: [{{customdata: arguments[0]}}]}})", trial.number)
    assert page.run("return document.getElementById('details').open")
    said = page.run(
        "return Object.fromEntries([...document.querySelectorAll('#details [data-of]')].map(e => [e.dataset.of, e.textContent]))"
    )
    assert said["title"].startswith(f"Trial {trial.number}")
    assert said["train"] == f"autopeft train {record.folder} --pick {trial.number}"
    assert json.loads(said["configuration"]) == trial.configuration.to_json()
    points = page.run("return document.querySelector('#details .plot').data[0].x.length")
    assert points > 10
    page.run("document.querySelector('#details [data-close]').click()")
    assert not page.run("return document.getElementById('details').open")
    page.run("document.querySelector(`#trial-table [data-trial='3']`).click()")
    assert page.run("return document.querySelector('#details [data-of=title]').textContent").startswith("Trial 3")
    page.run("document.querySelector('#details [data-close]').click()")


def test_downloads_are_the_report_in_other_formats(page: Browser, folder: Path, record: StudyRecord) -> None:
    page.run("document.querySelectorAll('[data-download]').forEach(b => b.click())")
    name = record.spec.name
    wanted = [folder / f"{name}-front.json", folder / f"{name}-trials.csv", folder / f"{name}.json"]
    end = time.monotonic() + 60
    while not all(path.exists() for path in wanted) and time.monotonic() < end:
        time.sleep(0.1)
    assert json.loads(wanted[2].read_text("utf-8")) == json.loads(report.render(record, "json"))
    assert wanted[1].read_text("utf-8") == report.render(record, "csv")


def test_the_policy_blocks_scripts_and_requests(page: Browser) -> None:
    page.run(
        "const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s);"
        "const i = document.createElement('img'); i.src = 'http://127.0.0.1:9/x.png'; document.body.append(i);"
        "document.body.insertAdjacentHTML('beforeend', '<b onclick=\"window.ran = 1\" id=bold>x</b>');"
        "document.getElementById('bold').click();"
    )
    assert page.run("return window.ran === undefined")
    refused = " ".join(page.console())
    assert "Content Security Policy" in refused
    assert "img-src" in refused


def test_hostile_names_do_not_run(browser: Browser, folder: Path) -> None:
    record = synthetic.record(60, name="hostile")
    trials = tuple(replace(t, label=HOSTILE if t.number < 5 else "", reason=HOSTILE, note=HOSTILE) for t in record.trials)
    show(browser, folder, replace(record, trials=trials))
    assert browser.run("return window.ran === undefined")
    assert browser.run("return document.querySelectorAll('img, a[href^=\"javascript\"], .plot svg a[*|href]').length") == 0
    assert browser.console() == []
    assert elsewhere(browser) == []


@pytest.mark.parametrize("trials", [0, 200, 2000])
def test_small_and_large_studies_are_drawn(browser: Browser, folder: Path, trials: int) -> None:
    record = synthetic.record(trials, name=f"of-{trials}")
    show(browser, folder, record)
    assert (folder / f"of-{trials}-{trials}.html").stat().st_size < (6e6 if trials <= 200 else 9.7e6)
    draw_all(browser)
    assert browser.run("return document.querySelectorAll('.plot svg.main-svg').length") >= (13 if trials else 0)
    assert browser.console() == []
    assert elsewhere(browser) == []


@pytest.mark.parametrize(("trials", "most"), [(200, 3.0), (2000, 10.0)])
def test_a_report_opens_fast(browser: Browser, folder: Path, trials: int, most: float) -> None:
    path = report.write(synthetic.record(trials, name=f"of-{trials}"), folder / f"open-{trials}.html")
    assert browser.busy_seconds(path.as_uri()) < most


def test_the_page_prints(folder: Path, record: StudyRecord) -> None:
    print_page(report.write(record, folder / "print.html").as_uri(), folder / "print.pdf")
    pages = (folder / "print.pdf").read_bytes().count(b"/Type /Page\n")
    assert 4 <= pages <= 30


def test_a_dark_page_has_dark_charts_and_a_narrow_one_does_not_overflow(folder: Path, record: StudyRecord) -> None:
    with Browser(width=500, dark=True) as browser:
        show(browser, folder, record)
        draw_all(browser)
        colours = browser.run(
            "return [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('.plot .xtick text')).fill]"
        )
        page, ink = (sum(map(int, colour[4:-1].split(","))) for colour in colours)
        assert page < 120 < 400 < ink
        assert browser.run("return document.documentElement.scrollWidth <= window.innerWidth")
