"""What can be done with conversations and with the page: by keys, by menu and by touch."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from .conftest import Watched, fill
from .rig import needs_libraries, turns

pytestmark = needs_libraries

FOUR = {title: (f"What about {title}?", f"{title} are fine.") for title in ("Apples", "Birds", "Clouds", "Deserts")}
CHANGE = """async ([title, change]) => {
    const { conversations } = await (await fetch("/api/conversations")).json()
    const { id } = conversations.find((one) => one.title === title)
    const headers = { "Content-Type": "application/json" }
    await fetch(`/api/conversations/${id}`, { method: "PATCH", headers, body: JSON.stringify(change) })
    window.dispatchEvent(new Event("focus"))
}"""


def rows(page: Page) -> Locator:
    return page.locator("#list .row a")


def row(page: Page, title: str) -> Locator:
    return page.locator("#list").get_by_role("link", name=title)


def menu(page: Page, title: str, item: str) -> Locator:
    page.locator("#list .row", has_text=title).hover()
    page.get_by_role("button", name=f"What to do with {title}").click()
    return page.get_by_role("menuitem", name=item)


@pytest.fixture(scope="module")
def address(share) -> str:
    return share(turns("Indeed."))


@pytest.fixture
def watched(address, context) -> Watched:
    """A page with four conversations, the newest first, none of which is shown."""
    fill(context, address, FOUR)
    watched = Watched(context.new_page(), address)
    expect(rows(watched.page)).to_have_text(["Deserts", "Clouds", "Birds", "Apples"])
    return watched


# --- by keys ----------------------------------------------------------------------------------------------------------


def test_the_list_is_used_by_keys_alone(watched):
    page: Page = watched.page
    page.focus("#search")
    page.keyboard.press("ArrowDown")
    expect(row(page, "Deserts")).to_be_focused()
    for key, title in (("ArrowDown", "Clouds"), ("End", "Apples"), ("ArrowDown", "Apples"), ("ArrowUp", "Birds")):
        page.keyboard.press(key)
        expect(row(page, title)).to_be_focused()
    # One row is reached by Tab, the one where the reader was.
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('#list')") is None
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    expect(row(page, "Birds")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".prose")).to_have_text("Birds are fine.")
    row(page, "Birds").focus()
    page.keyboard.press("F2")
    expect(page.get_by_role("textbox", name="Title")).to_be_focused()
    page.keyboard.type("Beaks")
    page.keyboard.press("Enter")
    expect(row(page, "Beaks")).to_be_focused()
    page.keyboard.press("p")
    expect(page.locator("#list h2").first).to_have_text("Pinned")
    expect(rows(page).first).to_have_text("Beaks")
    expect(row(page, "Beaks")).to_be_focused()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowUp")
    expect(page.locator("#search")).to_be_focused()
    watched.assert_clean()


def test_a_menu_is_a_menu_by_its_keys(watched):
    page: Page = watched.page
    row(page, "Clouds").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    opener = page.get_by_role("button", name="What to do with Clouds")
    expect(opener).to_have_attribute("aria-expanded", "true")
    steps = [
        ("", "Pin"),
        ("ArrowUp", "Delete"),
        ("ArrowDown", "Pin"),
        ("End", "Delete"),
        ("Home", "Pin"),
        ("e", "Export as M"),
    ]
    for key, item in [*steps, ("e", "Export as J"), ("r", "Rename")]:
        if key:
            page.keyboard.press(key)
        expect(page.get_by_role("menuitem", name=item)).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("menu")).to_have_count(0)
    expect(opener).to_be_focused()
    expect(opener).to_have_attribute("aria-expanded", "false")


def test_what_others_change_in_the_list_does_not_move_the_focus(watched):
    page: Page = watched.page
    row(page, "Birds").focus()
    page.evaluate("window.moves = 0; list.addEventListener('focusout', () => moves++)")
    page.evaluate(CHANGE, ["Apples", {"pinned": True}])
    expect(rows(page)).to_have_text(["Apples", "Deserts", "Clouds", "Birds"])
    page.evaluate(CHANGE, ["Birds", {"title": "Finches", "pinned": True}])
    expect(page.locator("#list h2")).to_have_text(["Pinned", "Today"])
    expect(row(page, "Finches")).to_be_focused()
    assert page.evaluate("moves") == 0


# --- deletion ---------------------------------------------------------------------------------------------------------


def test_what_is_deleted_can_be_had_back_one_after_the_other(watched):
    page: Page = watched.page
    row(page, "Clouds").click()
    expect(page.locator(".prose")).to_have_text("Clouds are fine.")
    address = page.url
    page.fill("#input", "Not sent yet")
    row(page, "Clouds").focus()
    page.keyboard.press("Delete")
    expect(row(page, "Clouds")).to_have_count(0)
    expect(page.locator("#welcome")).to_be_visible()
    expect(page.locator("#announcer")).to_contain_text("Deleted \u201cClouds\u201d. Undo with Ctrl+Z.")
    expect(row(page, "Birds")).to_be_focused()
    page.keyboard.press("Delete")
    menu(page, "Apples", "Delete").click()
    expect(rows(page)).to_have_text(["Deserts"])
    expect(page.locator(".toast")).to_have_count(3)
    # The last is the first to come back; the others each have their button, next to the list by Tab.
    page.keyboard.press("Control+z")
    expect(row(page, "Apples")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.locator(".toast", has_text="Clouds").get_by_role("button", name="Undo")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".prose")).to_have_text("Clouds are fine.")
    assert page.url == address
    expect(page.locator("#input")).to_have_value("Not sent yet")
    expect(rows(page)).to_have_text(["Deserts", "Clouds", "Apples"])
    page.locator(".toast", has_text="Birds").get_by_role("button", name="Dismiss").click()
    expect(page.locator("#toasts")).to_be_hidden()
    watched.reload()
    expect(rows(page)).to_have_text(["Deserts", "Clouds", "Apples"])
    watched.assert_clean()


def test_a_toast_stays_for_ten_seconds_and_while_somebody_is_on_it(watched):
    page: Page = watched.page
    page.clock.install()
    menu(page, "Clouds", "Delete").click()
    toast = page.locator(".toast")
    expect(toast).to_be_visible()
    page.clock.run_for(10_000)
    expect(toast).to_be_visible()
    toast.hover()
    page.clock.run_for(60_000)
    expect(toast).to_be_visible()
    page.mouse.move(600, 300)
    page.clock.run_for(60_000)
    expect(toast).to_be_hidden()


# --- files ------------------------------------------------------------------------------------------------------------


def chatgpt(title: str, text: str) -> dict[str, Any]:
    said = {"author": {"role": "user"}, "content": {"content_type": "text", "parts": [text]}, "create_time": 1.7e9}
    mapping = {"root": {"parent": None, "message": None}, "q": {"parent": "root", "message": said}}
    return {"title": title, "create_time": 1.7e9, "mapping": mapping, "current_node": "q"}


def test_conversations_are_taken_in_from_files_and_all_of_them_given_out_as_one(watched, tmp_path):
    page: Page = watched.page

    def take_in(*values: Any) -> None:
        names = []
        for number, value in enumerate(values):
            names.append(tmp_path / f"file{number}.json")
            names[-1].write_text(value if isinstance(value, str) else json.dumps(value), "utf-8")
        page.click("#more")
        with page.expect_file_chooser() as chooser:
            page.get_by_role("menuitem", name="Import").click()
        chooser.value.set_files(names)

    take_in([chatgpt("Sea", "How deep is it?")])
    expect(page.locator(".bubble")).to_have_text("How deep is it?")
    expect(page.locator("#list h2").last).to_have_text("November 2023")
    expect(page.locator("#announcer")).to_contain_text("1 conversation imported.")
    webui = {
        "title": "Sums",
        "chat": {"history": {"currentId": "m", "messages": {"m": {"role": "user", "content": "1+1"}}}},
    }
    take_in([webui, {"title": "Odd", "messages": [{"id": "m", "role": "user", "content": 7}]}], "{")
    problem = page.get_by_role("dialog", name="Import")
    expect(problem.get_by_role("alert")).to_have_text("1 conversation imported. 2 could not be:")
    expect(problem.get_by_role("listitem")).to_have_text(
        [re.compile(r"^file0.json, Odd: .*messages"), "file1.json: It is no JSON."]
    )
    problem.get_by_role("button", name="Close").last.click()
    expect(page.locator("#more")).to_be_focused()
    page.click("#more")
    with page.expect_download() as started:
        page.get_by_role("menuitem", name="Export all").click()
    everything = json.loads(Path(started.value.path()).read_text("utf-8"))
    assert [one["title"] for one in everything] == ["Sums", "Deserts", "Clouds", "Birds", "Apples", "Sea"]
    take_in(everything)
    expect(rows(page)).to_have_count(12)
    watched.assert_clean()


# --- settings and the page --------------------------------------------------------------------------------------------


def test_a_system_prompt_is_kept_with_its_conversation(watched):
    page: Page = watched.page
    prompt = page.get_by_role("textbox", name="System prompt")
    page.keyboard.press("Control+,")
    expect(prompt).to_have_accessible_description(re.compile("operator"))
    prompt.fill("Be brief.")
    page.keyboard.press("Escape")
    expect(page.locator("#settings-panel")).to_have_count(0)
    watched.answer("Hi")
    read = "async () => (await (await fetch(`/api/conversations/${location.hash.slice(3)}`)).json()).system"
    assert page.evaluate(read) == "Be brief."
    row(page, "Birds").click()
    expect(page.locator(".prose")).to_have_text("Birds are fine.")
    page.click("#settings")
    expect(prompt).to_have_value("")
    expect(page.get_by_role("dialog")).to_contain_text(re.compile(r"chatstream \d+\.\d+"))
    prompt.fill("Name a bird.")
    page.get_by_role("button", name="Close").click()
    expect(page.locator("#settings")).to_be_focused()
    watched.reload()
    page.click("#settings")
    expect(prompt).to_have_value("Name a bird.")
    watched.assert_clean()


def test_a_theme_is_chosen_for_all_tabs_and_is_there_before_the_first_paint(watched, context):
    page: Page = watched.page
    page.emulate_media(color_scheme="light")
    other = Watched(context.new_page(), watched.base).page
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.click("#settings")
    page.get_by_role("radio", name="System").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("radio", name="Dark")).to_be_checked()
    dark = page.evaluate(ground)
    assert dark != light
    expect(other.locator("html")).to_have_attribute("data-theme", "dark")
    assert other.evaluate(ground) == dark
    metas = "[...document.querySelectorAll('meta[name=theme-color]')].map(({ content }) => content)"
    assert len(set(page.evaluate(metas))) == 1
    # Neither the modules nor the answers of the server are waited for.
    page.route(re.compile(r"app\.js|/api/"), lambda route: route.abort())
    page.reload()
    assert page.evaluate(ground) == dark


def test_the_list_is_folded_away_and_stays_so(watched):
    page: Page = watched.page
    width = page.evaluate("document.querySelector('main').offsetWidth")
    page.get_by_role("button", name="Hide the list").click()
    expect(page.locator("#menu-button")).to_be_focused()
    expect(page.locator("#search")).to_be_hidden()
    assert page.evaluate("document.querySelector('main').offsetWidth") > width
    watched.reload()
    expect(page.locator("#search")).to_be_hidden()
    page.locator("#scroller").focus()
    page.keyboard.press("b")
    expect(page.locator("#search")).to_be_focused()
    watched.reload()
    expect(page.locator("#search")).to_be_visible()


def test_what_is_touched_is_large_enough(address, browser):
    context = browser.new_context(viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True)
    page = context.new_page()
    fill(context, address, FOUR)
    page.goto(address)
    page.wait_for_selector("body.ready")
    page.tap("#menu-button")
    expect(rows(page)).to_have_count(4)
    page.get_by_role("button", name="What to do with Clouds").tap()
    small = """(where) => [...document.querySelectorAll(`:is(${where}) :is(a, button, input)`)]
        .filter((each) => each.checkVisibility({ visibilityProperty: true }))
        .filter((each) => each.offsetHeight < 44 || each.offsetWidth < 44).map((each) => each.outerHTML)"""
    assert page.evaluate(small, "#sidebar") == []
    page.get_by_role("menuitem", name="Delete").tap()
    expect(page.locator(".toast")).to_be_visible()
    assert page.evaluate(small, ".toast") == []
    page.get_by_role("button", name="Undo").tap()
    expect(rows(page)).to_have_count(4)
    context.close()
