"""Answers that outlive a page, a connection and a server: what is shown is what was said, once."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from .conftest import Watched
from .rig import lines, needs_libraries, turns, words

pytestmark = needs_libraries

LONG = turns(words(600), delay=0.01, chunk=8)


def shown(watched: Watched) -> str:
    return " ".join(watched.page.inner_text(".prose").split())


def wait_for_words(watched: Watched, count: int) -> None:
    watched.until("(count) => document.querySelector('.prose')?.textContent.split(' ').length > count", count)


# --- reload, offline, restart -----------------------------------------------------------------------------------------


def test_a_reload_in_mid_answer_goes_on_where_it_was(open_page):
    watched = open_page(LONG)
    watched.ask("Hi")
    wait_for_words(watched, 50)
    before = shown(watched)
    watched.reload()
    wait_for_words(watched, len(before.split()) + 5)
    expect(watched.page.locator("#stop")).to_be_visible()
    watched.wait_until_answered()
    assert shown(watched) == words(600)
    watched.assert_clean()


def test_a_reload_right_after_the_question_loses_nothing(open_page):
    watched = open_page(turns(words(200), delay=0.01, chunk=8))
    with watched.page.expect_response("**/api/chat"):
        watched.ask("Hi")
    watched.reload()
    expect(watched.page.locator(".bubble")).to_have_text("Hi")
    watched.wait_until_answered()
    assert shown(watched) == words(200)


def test_being_offline_is_visible_and_afterwards_no_text_is_doubled_or_lost(open_page, context):
    watched = open_page(LONG, "--heartbeat", "0.3")
    context.set_offline(True)
    expect(watched.page.locator("#offline")).to_be_visible()
    context.set_offline(False)
    expect(watched.page.locator("#offline")).to_be_hidden()
    watched.ask("Hi")
    for count in (50, 150):
        wait_for_words(watched, count)
        context.set_offline(True)
        expect(watched.page.locator("#offline")).to_contain_text("offline")
        # Chromium lets what is connected live on: the silence, and not the flag, is what a dead network is like.
        expect(watched.page.locator(".error")).to_have_count(0)
        watched.page.wait_for_timeout(300)
        context.set_offline(False)
        expect(watched.page.locator("#offline")).to_be_hidden()
    watched.wait_until_answered()
    assert shown(watched) == words(600)
    assert watched.errors == []


def test_a_server_that_is_killed_in_mid_answer_leaves_its_text_and_a_way_to_go_on(program, context):
    server = program([*LONG, *turns("And that is all.")])
    watched = Watched(context.new_page(), server.address)
    watched.ask("Hi")
    wait_for_words(watched, 80)
    server.kill()
    expect(watched.page.locator(".typing")).to_contain_text("trying again")
    expect(watched.page.locator("#offline")).to_be_visible()
    expect(watched.page.locator(".error")).to_have_count(0)
    before = shown(watched)
    server.start()
    watched.wait_until_answered()
    expect(watched.page.locator(".ending")).to_contain_text("Interrupted")
    expect(watched.page.locator("#offline")).to_be_hidden()
    assert shown(watched).startswith(before)
    watched.reload()
    expect(watched.page.locator(".ending")).to_contain_text("Interrupted")
    assert shown(watched).startswith(before)
    watched.page.get_by_role("button", name="Continue").click()
    expect(watched.page.locator(".prose").last).to_have_text("And that is all.")
    expect(watched.page.locator(".message")).to_have_count(2)
    assert shown(watched).startswith(before)
    watched.reload()
    expect(watched.page.locator(".prose").last).to_have_text("And that is all.")


def test_a_question_that_is_asked_while_the_server_is_away_is_answered_when_it_is_back(program, context):
    server = program(turns("Hello."))
    watched = Watched(context.new_page(), server.address)
    # What draws messages comes with the first sign of the reader.
    watched.page.mouse.move(99, 99)
    watched.page.wait_for_load_state("networkidle")
    server.kill()
    watched.ask("Hi")
    expect(watched.page.locator(".typing")).to_contain_text("trying again")
    server.start()
    watched.wait_until_answered()
    assert shown(watched) == "Hello."
    watched.reload()
    expect(watched.page.locator(".bubble")).to_have_text("Hi")
    assert shown(watched) == "Hello."


# --- stop -------------------------------------------------------------------------------------------------------------


def test_a_stop_that_does_not_arrive_says_so_and_one_that_does_shows_its_receipt_after_a_reload_too(open_page, context):
    watched = open_page(LONG + turns("And more."))
    page, ending = watched.page, watched.page.locator(".ending")
    context.route("**/stop", lambda route: route.abort())
    watched.ask("Hi")
    wait_for_words(watched, 20)
    page.click("#stop")
    expect(page.locator("#problem")).to_contain_text("Stop did not reach the server")
    expect(page.locator("#stop")).to_be_visible()
    context.unroute("**/stop")
    page.click("#stop")
    watched.wait_until_answered()
    expect(page.locator("#problem")).to_be_hidden()
    expect(ending).to_contain_text("connection was closed in")
    expect(ending).to_contain_text("tokens")
    text = shown(watched)
    watched.reload()
    expect(ending).to_contain_text("Stopped")
    assert shown(watched) == text != words(600)
    expect(page.get_by_role("button", name="Continue")).to_be_visible()
    watched.answer("More")
    expect(page.locator(".prose").nth(1)).to_have_text("And more.")
    assert watched.errors == []


# --- branches ---------------------------------------------------------------------------------------------------------


def test_edit_and_regenerate_make_branches_that_stay(open_page):
    watched = open_page(turns("The answer."))
    page: Page = watched.page
    watched.answer("One")
    page.get_by_role("button", name="Regenerate").click()
    switch = page.locator("article.assistant .branches")
    expect(switch).to_contain_text("2 / 2")
    watched.wait_until_answered()

    page.locator("article.user").hover()
    page.get_by_role("button", name="Edit").click()
    field = page.get_by_role("textbox", name="Edit your message")
    expect(field).to_be_focused()
    field.fill("Never mind")
    field.press("Escape")
    expect(page.locator(".bubble")).to_have_text("One")
    expect(page.get_by_role("button", name="Edit")).to_be_focused()
    page.keyboard.press("Enter")
    field.fill("Two")
    field.press("Enter")
    expect(page.locator(".bubble")).to_have_text("Two")
    expect(page.locator("article.user .branches")).to_contain_text("2 / 2")
    watched.wait_until_answered()

    page.get_by_role("button", name="Previous branch").first.click()
    expect(page.locator(".bubble")).to_have_text("One")
    expect(switch).to_contain_text("2 / 2")
    page.locator("article.assistant").get_by_role("button", name="Previous branch").click()
    expect(switch).to_contain_text("1 / 2")
    watched.reload()
    expect(page.locator(".bubble")).to_have_text("One")
    expect(switch).to_contain_text("1 / 2")
    watched.assert_clean()


def test_the_keyboard_stays_where_another_answer_comes_and_on_the_switch_between_branches(open_page):
    watched = open_page(turns("The answer."))
    page: Page = watched.page
    watched.answer("One")
    for count in (2, 3):
        page.get_by_role("button", name="Regenerate").press("Enter")
        expect(page.locator("article.assistant .branches")).to_contain_text(f"{count} / {count}")
        expect(page.locator("article.assistant")).to_be_focused()
        watched.wait_until_answered()
    back, forth = (page.get_by_role("button", name=f"{way} branch") for way in ("Previous", "Next"))
    back.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".branches:visible")).to_contain_text("2 / 3")
    expect(back).to_be_focused()
    page.keyboard.press("Enter")
    # There is none before the first.
    expect(forth).to_be_focused()


def test_an_edit_that_cannot_be_sent_yet_is_kept(open_page):
    watched = open_page(LONG)
    page: Page = watched.page
    watched.ask("One")
    wait_for_words(watched, 5)
    page.click("#stop")
    watched.wait_until_answered()
    page.get_by_role("button", name="Edit").evaluate("(button) => button.click()")
    page.get_by_role("button", name="Regenerate").click()
    wait_for_words(watched, 5)
    field = page.get_by_role("textbox", name="Edit your message")
    field.fill("Two")
    field.press("Enter")
    expect(field).to_have_value("Two")
    expect(page.get_by_role("button", name="Send")).to_be_hidden()
    page.click("#stop")
    watched.wait_until_answered()
    field.press("Enter")
    expect(page.locator(".bubble")).to_have_text("Two")


def test_what_is_edited_stays_in_view(open_page):
    watched = open_page(turns(lines(60), delay=0))
    watched.answer("One")
    # By key: a pointer would first scroll, and scrolling ends the following by itself.
    watched.page.get_by_role("button", name="Edit").evaluate("(button) => button.click()")
    watched.page.wait_for_timeout(200)
    expect(watched.page.get_by_role("textbox", name="Edit your message")).to_be_in_viewport()


# --- approvals --------------------------------------------------------------------------------------------------------

PAY = """
from chatstream.tools import tool

@tool(approval="always")
async def pay(sum: int) -> str:
    "Pay a sum."
    return f"paid {sum}"
"""


@pytest.fixture
def asked(open_page, tmp_path) -> Watched:
    """A page on which a tool waits for approval."""
    (tmp_path / "pay.py").write_text(PAY)
    call = {"name": "pay", "arguments": {"sum": 5}}
    script = [{"text": "Shall I?", "tools": [call], "delay": 0.001}, {"text": "That is it.", "delay": 0.001}]
    watched = open_page(script, "--tools", str(tmp_path / "pay.py"))
    watched.answer("Pay 5")
    return watched


@pytest.mark.parametrize(
    ("button", "state", "result", "is_reloaded"), [("Approve", "done", "paid 5", True), ("Deny", "denied", "", False)]
)
def test_a_call_waits_for_the_reader_after_a_reload_too(asked, is_reloaded, button, state, result):
    page: Page = asked.page
    if is_reloaded:
        asked.reload()
    card = page.locator(".tool")
    expect(card).to_have_attribute("data-state", "waiting")
    expect(card).to_contain_text('"sum": 5')
    page.get_by_role("button", name=f"{button} pay").click()
    expect(card).to_have_attribute("data-state", state)
    expect(card).to_contain_text(result)
    expect(page.get_by_role("button", name="Approve pay")).to_be_hidden()
    expect(page.locator(".prose").last).to_have_text("That is it.")
    asked.wait_until_answered()
    expect(page.locator(".ending")).to_be_hidden()
    asked.reload()
    expect(card).to_have_attribute("data-state", state)
    expect(page.locator(".prose")).to_have_text(["Shall I?", "That is it."])
    expect(page.locator(".message")).to_have_count(2)
    asked.assert_clean()


def test_a_call_is_decided_by_keys_and_the_focus_stays_at_it(asked):
    page: Page = asked.page
    page.keyboard.press("Shift+Tab")
    page.get_by_role("button", name="Approve pay").focus()
    page.keyboard.press("Enter")
    asked.until("() => document.querySelectorAll('.prose').length > 1")
    expect(page.locator(".tool summary")).to_be_focused()


def test_a_decision_that_does_not_arrive_says_so(asked, context):
    page: Page = asked.page
    context.route("**/approvals", lambda route: route.abort())
    page.get_by_role("button", name="Approve pay").click()
    expect(page.locator("#problem")).to_contain_text("The decision did not reach the server")
    expect(page.locator("#offline")).to_be_hidden()
    context.unroute("**/approvals")
    page.get_by_role("button", name="Approve pay").click()
    expect(page.locator(".tool")).to_have_attribute("data-state", "done")
    expect(page.locator("#problem")).to_be_hidden()
