"""The list of conversations: what is in it, what can be done with it, and how it behaves on a phone."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from .conftest import Watched
from .rig import ROOT, lines, needs_libraries, turns

pytestmark = needs_libraries

ANSWERS = turns("The first answer.") + turns("The second answer.")


def rows(page: Page) -> Locator:
    return page.locator("#list .row a")


def menu(page: Page, number: int, item: str) -> Locator:
    """Open the menu of a row, and return one thing that it offers."""
    page.locator("#list .row").nth(number).hover()
    page.locator("#list .row-menu").nth(number).click()
    return page.locator("#menu").get_by_text(item, exact=True)


@pytest.fixture
def watched(open_page) -> Watched:
    """A page with two conversations, the second being shown."""
    watched = open_page(ANSWERS)
    watched.answer("Tell me about whales")
    watched.page.click("#clear")
    expect(watched.page.locator("#welcome")).to_be_visible()
    watched.answer("Something else")
    expect(rows(watched.page)).to_have_text(["Something else", "Tell me about whales"])
    return watched


def test_conversations_are_listed_the_newest_first_and_opened_by_their_address(watched):
    page: Page = watched.page
    expect(page.locator("#list h2")).to_have_text("Today")
    expect(rows(page).nth(0)).to_have_attribute("aria-current", "page")
    rows(page).nth(1).click()
    expect(page.locator(".bubble")).to_have_text("Tell me about whales")
    expect(page.locator(".prose")).to_have_text("The first answer.")
    expect(page).to_have_title(re.compile("Tell me about whales"))
    first = page.url
    page.go_back()
    expect(page.locator(".bubble")).to_have_text("Something else")
    page.go_forward()
    expect(page.locator(".bubble")).to_have_text("Tell me about whales")
    page.click("#clear")
    expect(page.locator("#welcome")).to_be_visible()
    assert "#" not in page.url
    page.go_back()
    expect(page.locator(".bubble")).to_have_text("Tell me about whales")
    watched.open(first)
    expect(page.locator(".bubble")).to_have_text("Tell me about whales")
    watched.assert_clean()


def test_an_address_that_leads_nowhere_says_so_and_begins_a_new_chat(watched):
    watched.open(f"{watched.base}#c=conv_gone")
    expect(watched.page.locator("#problem")).to_be_visible()
    expect(watched.page.locator("#welcome")).to_be_visible()
    watched.answer("Hi")
    expect(watched.page.locator("#problem")).to_be_hidden()


def test_a_search_finds_words_of_messages_and_shows_them(watched):
    page: Page = watched.page
    page.fill("#search", "tell me abo")
    expect(rows(page)).to_have_count(1)
    expect(page.locator(".row-snippet").first).to_contain_text("about whales")
    page.fill("#search", '"(* tell')
    expect(rows(page)).to_have_count(1)
    page.fill("#search", "nowhere")
    expect(page.locator("#list")).to_contain_text("Nothing was found.")
    page.fill("#search", "")
    expect(rows(page)).to_have_count(2)
    watched.assert_clean()


def test_a_title_is_changed_in_its_place_and_stays(watched):
    page: Page = watched.page
    menu(page, 1, "Rename").click()
    field = page.get_by_role("textbox", name="Title")
    expect(field).to_have_value("Tell me about whales")
    field.fill("Never mind")
    field.press("Escape")
    expect(rows(page).nth(1)).to_have_text("Tell me about whales")
    menu(page, 1, "Rename").click()
    field.fill("Großes im Meer")
    field.press("Enter")
    expect(page.get_by_role("link", name="Großes im Meer")).to_be_visible()
    watched.reload()
    expect(page.get_by_role("link", name="Großes im Meer")).to_be_visible()


def test_nothing_is_deleted_by_accident_and_what_is_deleted_is_gone(watched):
    page: Page = watched.page
    for leave in ("Enter", "Escape"):
        menu(page, 0, "Delete").click()
        expect(page.get_by_role("dialog")).to_contain_text("Something else")
        expect(page.get_by_role("button", name="Cancel")).to_be_focused()
        page.keyboard.press(leave)
        expect(page.get_by_role("dialog")).to_be_hidden()
    expect(rows(page)).to_have_count(2)
    gone = page.url
    menu(page, 0, "Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(rows(page)).to_have_text(["Tell me about whales"])
    expect(page.locator("#welcome")).to_be_visible()
    watched.open(gone)
    watched.reload()
    expect(page.locator("#welcome")).to_be_visible()
    watched.assert_clean()


@pytest.mark.parametrize(("label", "suffix"), [("Export as Markdown", ".md"), ("Export as JSON", ".json")])
def test_a_conversation_is_exported_as_a_file(watched, label, suffix):
    link = menu(watched.page, 1, label)
    with watched.page.expect_download() as started:
        link.click()
    text = Path(started.value.path()).read_text("utf-8")
    assert started.value.suggested_filename.endswith(suffix)
    assert "The first answer." in text
    if suffix == ".json":
        assert [message["role"] for message in json.loads(text)["messages"]] == ["user", "assistant"]


def test_the_list_marks_what_is_being_answered_until_it_is(open_page):
    watched = open_page(turns(lines(20), delay=0.03, chunk=10))
    watched.page.clock.install()
    watched.ask("Long")
    page: Page = watched.page
    page.wait_for_selector(".prose p")
    expect(rows(page)).to_have_text("Long")
    page.click("#clear")
    mark = page.locator(".row-mark:not([hidden])")
    expect(mark).to_have_count(1)
    # The list is asked for anew after a while, until nothing in it is being answered.
    for _ in range(200):
        if mark.count() == 0:
            return
        page.clock.fast_forward(5000)
        page.wait_for_timeout(50)
    raise AssertionError("the mark stays")


def test_a_long_list_is_loaded_as_it_is_scrolled(open_page):
    watched = open_page(ANSWERS)
    make = """async () => {
        for (let number = 0; number < 120; number++) {
            const body = JSON.stringify({ title: `Number ${number}` })
            await fetch("/api/conversations", { method: "POST", headers: { "Content-Type": "application/json" }, body })
        }
    }"""
    watched.page.evaluate(make)
    watched.reload()
    expect(rows(watched.page).first).to_have_text("Number 119")
    for _ in range(20):
        watched.page.evaluate("list.scrollTop = list.scrollHeight")
        watched.page.wait_for_timeout(50)
    expect(rows(watched.page)).to_have_count(120)
    expect(rows(watched.page).last).to_have_text("Number 0")
    expect(watched.page.get_by_role("button", name="Show more")).to_have_count(0)


# --- a phone ----------------------------------------------------------------------------------------------------------


def test_on_a_phone_the_list_is_a_drawer(watched):
    page: Page = watched.page
    page.set_viewport_size({"width": 390, "height": 800})
    expect(page.locator("#search")).to_be_hidden()
    opener = page.locator("#menu-button")
    opener.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#search")).to_be_focused()
    expect(opener).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.closest('header, main, footer')") is None
    page.keyboard.press("Escape")
    expect(page.locator("#search")).to_be_hidden()
    expect(opener).to_be_focused()
    opener.click()
    page.mouse.click(380, 400)
    expect(page.locator("#search")).to_be_hidden()
    opener.click()
    rows(page).nth(1).click()
    expect(page.locator("#search")).to_be_hidden()
    expect(page.locator(".bubble")).to_have_text("Tell me about whales")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    watched.assert_clean()


def test_the_list_is_used_by_keys_alone(watched):
    page: Page = watched.page
    page.focus("#search")
    page.keyboard.press("Tab")
    expect(rows(page).nth(0)).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#menu")).to_be_visible()
    expect(page.locator("#menu button").first).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#menu")).to_be_hidden()
    expect(page.locator(".row-menu").nth(0)).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_in_the_list_its_menu_and_its_question(serve, browser, scheme, width):
    context = browser.new_context(bypass_csp=True, color_scheme=scheme, reduced_motion="reduce")
    page = context.new_page()
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(serve(ANSWERS))
    page.wait_for_selector("body.ready")
    page.fill("#input", "Hi")
    page.press("#input", "Enter")
    expect(page.locator("#list .row")).to_have_count(1)
    page.wait_for_selector("article[aria-busy=false]")
    page.add_script_tag(path=ROOT / "web/node_modules/axe-core/axe.min.js")
    find = "async () => (await axe.run()).violations.map(({ id, nodes }) => [id, nodes.map((node) => node.html)])"
    if width < 800:
        assert page.evaluate(find) == []
        page.click("#menu-button")
        page.wait_for_timeout(300)
    assert page.evaluate(find) == []
    rename = menu(page, 0, "Rename")
    assert page.evaluate(find) == []
    rename.click()
    assert page.evaluate(find) == []
    page.keyboard.press("Escape")
    menu(page, 0, "Delete").click()
    assert page.evaluate(find) == []
    context.close()
