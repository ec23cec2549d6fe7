"""The load report in a browser: clean, whole on a phone, light and dark, and with values under the pointer."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from scripts.loads import report
from tests.load_results import histogram, ramp, result, scenario, stop

from .conftest import WATCH
from .rig import ROOT, needs_libraries
from .test_axe import Check

EVIL = "<img src=x onerror=alert(1)> with a name that is longer than a phone is wide " + "x" * 60
WIDER = """() => [document.documentElement.scrollWidth - innerWidth,
    ...[...document.querySelectorAll("svg text")].filter((text) => {
        const [own, around] = [text, text.ownerSVGElement].map((each) => each.getBoundingClientRect())
        return own.left < around.left - 1 || own.right > around.right + 1
    }).map((text) => text.textContent)]"""


@pytest.fixture
def opened(browser, tmp_path: Path):
    def opened(*files, **options) -> tuple[Page, list[str]]:
        (tmp_path / "report.html").write_text(report.render(list(files)), "utf-8")
        contexts.append(browser.new_context(**options))
        page, noted = contexts[-1].new_page(), []
        page.on("console", lambda message: noted.append(message.text))
        page.on("pageerror", lambda error: noted.append(str(error)))
        page.on("request", lambda request: noted.append(request.url))
        page.add_init_script(WATCH)
        page.goto((tmp_path / "report.html").as_uri())
        assert noted.pop(0) == page.url
        return page, noted

    contexts = []
    yield opened
    for context in contexts:
        context.close()


def both() -> tuple[dict, dict]:
    bad = scenario(by=6, errors={EVIL: 3})
    return result("ours", scenario(), ramp(), stop()), result(EVIL, bad, ramp(2), stop(2), command=[EVIL])


def test_it_asks_for_nothing_and_shows_the_values_under_the_pointer(opened):
    page, noted = opened(*both(), viewport={"width": 1280, "height": 900})
    figure = page.locator("figure", has_text="Latency over time, median").first
    tip = figure.locator(".tip")
    expect(tip).to_be_hidden()
    figure.locator("> svg").hover()
    # The wave of the first result is 0.4 ms, give or take a tenth, and the second's six times that.
    expect(tip.locator("b")).to_have_text(
        [re.compile(r"^0\.(3|4)\d* at (9|10)"), re.compile(r"^2\.[2-6]\d* at (9|10)")]
    )
    page.mouse.move(0, 0)
    expect(tip).to_be_hidden()
    expect(figure.locator("title").first).to_have_text("Latency over time, median")
    assert noted == []
    assert page.evaluate("[violations, alerts]") == [[], []]


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_page(opened, width):
    page, _ = opened(*both(), viewport={"width": width, "height": 844})
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true })")
    assert page.evaluate(WIDER) == [0]


def test_it_is_read_without_script(opened):
    page, noted = opened(*both(), java_script_enabled=False)
    expect(page.get_by_text("Failed: 1 of 6 checks did not hold")).to_be_visible()
    expect(page.locator("figure > svg .line").first).to_be_visible()
    page.get_by_text("All figures of ramp").click()
    expect(page.get_by_role("rowheader", name="Streams held").last).to_be_visible()
    assert noted == []


@needs_libraries
def test_axe_finds_nothing(opened):
    # A few plots are enough: the others are made of the same.
    few = {"series": {"t": [1, 2], "cpu": [0.4, 0.5]}, "errors": {EVIL: 3}, "histograms": {"gapMs": histogram(20)}}
    files = result("ours", stop(1, **few)), result(EVIL, stop(6, **few), command=[EVIL], machine={"cpu": "another"})
    page, _ = opened(*files, bypass_csp=True, viewport={"width": 1280, "height": 900})
    page.add_script_tag(path=ROOT / "web/node_modules/axe-core/axe.min.js")
    page.evaluate(
        "document.querySelectorAll('.all, figure:first-child details').forEach((each) => { each.open = true })"
    )
    look = Check(page)
    look("all of it")
    assert look.found == []
