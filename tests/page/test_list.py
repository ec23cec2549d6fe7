"""The list of conversations: what is in it, what can be done with it, and how it behaves on a phone."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from .conftest import Watched, fill
from .rig import lines, needs_libraries, turns

pytestmark = needs_libraries

TWO = {
    "Tell me about whales": ("Tell me about whales", "The first answer."),
    "Something else": ("Something else", "The second answer."),
}


def rows(page: Page) -> Locator:
    return page.locator("#list .row a")


def menu(page: Page, number: int, item: str) -> Locator:
    """Open the menu of a row, and return one thing that it offers."""
    page.locator("#list .row").nth(number).hover()
    page.locator("#list .row-menu").nth(number).click()
    return page.get_by_role("menuitem", name=item)


@pytest.fixture(scope="module")
def address(share) -> str:
    return share(turns("The third answer."))


@pytest.fixture
def watched(address, context) -> Watched:
    """A page with two conversations, the second being shown."""
    fill(context, address, TWO)
    watched = Watched(context.new_page(), address)
    rows(watched.page).first.click()
    expect(watched.page.locator(".prose")).to_have_text("The second answer.")
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
    expect(page.locator(".row-snippet b")).to_have_text(["Tell", "me", "abo"])
    expect(page.locator("#list").get_by_role("status")).to_have_text("1 found")
    # What was found is in the lines that are shown, however long the word is that it is part of.
    watched.answer(f"See https://example.org/{'a-long-way/' * 9}to-narwhals")
    page.fill("#search", "narwhals")
    expect(page.locator(".row-snippet b")).to_have_text(["narwhals"])
    assert page.eval_on_selector(
        ".row-snippet b",
        "b => b.getBoundingClientRect().bottom <= b.parentElement.getBoundingClientRect().bottom",
    )
    page.fill("#search", '"(* tell')
    expect(rows(page)).to_have_count(1)
    page.fill("#search", "nowhere")
    expect(page.locator("#list")).to_contain_text("Nothing was found.")
    page.press("#search", "Escape")
    expect(page.locator("#search")).to_have_value("")
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


def test_a_conversation_is_exported_as_a_file(watched):
    for label, suffix in (("Export as Markdown", ".md"), ("Export as JSON", ".json")):
        link = menu(watched.page, 1, label)
        with watched.page.expect_download() as started:
            link.click()
        assert started.value.suggested_filename.endswith(suffix)
        text = Path(started.value.path()).read_text("utf-8")
        assert "The first answer." in text
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


def test_a_long_list_is_loaded_as_it_is_scrolled(address, context):
    page = context.new_page()
    page.goto(f"{address}/theme.js")  # of the same origin, and quickly there
    page.evaluate("""async () => {
        const { conversations } = await (await fetch("/api/conversations?limit=200")).json()
        for (const { id } of conversations) await fetch(`/api/conversations/${id}`, { method: "DELETE" })
        for (let number = 0; number < 120; number++) {
            const body = JSON.stringify({ title: `Number ${number}` })
            await fetch("/api/conversations", { method: "POST", headers: { "Content-Type": "application/json" }, body })
        }
    }""")
    watched = Watched(page, address)
    expect(rows(watched.page).first).to_have_text("Number 119")
    watched.until("() => { list.scrollTop = list.scrollHeight; return list.querySelectorAll('.row').length >= 120 }")
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
