"""The page in a browser, against the real server. What runs without one is tested in `tests/web/`."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from .conftest import Watched
from .rig import lines, needs_libraries, needs_model, turns

pytestmark = needs_libraries


def test_without_its_libraries_the_page_shows_plain_text_and_says_why(serve, context):
    base = serve(turns("# Title\n\n  two <b>spaces</b>"))
    context.route("**/node_modules/**", lambda route: route.fulfill(status=404, body="{}"))
    page = context.new_page()
    page.goto(base)
    page.fill("#input", "Hi")
    expect(page.locator("#banners")).to_contain_text("npm ci --prefix web")
    page.press("#input", "Enter")
    page.wait_for_selector("article[aria-busy=false]")
    assert page.inner_text(".prose .raw") == "# Title\n\n  two <b>spaces</b>"


def test_what_could_not_be_loaded_comes_by_itself_when_the_server_is_back(serve, context):
    watched = Watched(context.new_page(), serve([*turns("The answer."), *turns(lines(100), delay=0.02)]))
    page = watched.page
    page.route("**/drawing.js", lambda route: route.abort())
    watched.ask("Hi")
    expect(page.locator("#list")).to_contain_text("Hi")
    expect(page.locator("#stop")).to_be_hidden()
    expect(page.locator(".message")).to_have_count(0)
    page.unroute("**/drawing.js")
    expect(page.locator(".prose")).to_have_text("The answer.")

    watched.reload()
    page.route("**/queue.js", lambda route: route.abort(), times=1)
    watched.ask("Again")
    page.wait_for_selector("article.assistant:last-child .prose")
    watched.ask("What waits")
    expect(page.locator("#queue")).to_contain_text("What waits")


# --- reasoning and tools ----------------------------------------------------------------------------------------------


def test_tools_are_cards_with_state_arguments_and_result(open_page):
    calls = [
        {"name": "calculate", "arguments": {"expression": "6*7"}},
        {"name": "calculate", "arguments": {"expression": "1/0"}},
    ]
    watched = open_page([{"text": "Let me see.", "tools": calls, "delay": 0.001}, {"text": "Done.", "delay": 0.001}])
    watched.ask("Hi")
    watched.wait_until_answered()
    cards = watched.page.locator(".tool")
    expect(cards).to_have_count(2)
    expect(cards.nth(0)).to_have_attribute("data-state", "done")
    expect(cards.nth(0)).to_contain_text("calculate")
    expect(cards.nth(0)).to_contain_text("6*7")
    expect(cards.nth(0)).to_contain_text("42")
    expect(cards.nth(0)).to_contain_text(" ms")
    # Folded they say what was asked for, or what went wrong.
    expect(cards.nth(0).locator("summary")).to_contain_text('{"expression":"6*7"}')
    expect(cards.nth(1).locator("summary")).to_contain_text("divides by zero")
    expect(cards.locator("pre:visible")).to_have_count(0)
    cards.nth(0).locator("summary").click()
    expect(cards.locator("pre:visible")).to_have_text([re.compile("6.7"), "42"])
    expect(cards.nth(0).locator(".tool-line")).to_be_hidden()
    expect(cards.nth(1)).to_have_attribute("data-state", "failed")
    expect(cards.nth(1)).to_contain_text("Failed")
    assert watched.page.eval_on_selector_all(".parts > *", "all => all.map((one) => one.className)") == [
        "prose",
        "tool",
        "tool",
        "prose",
    ]
    watched.assert_clean()


def test_reasoning_is_folded_and_says_how_long_it_took(open_page):
    watched = open_page(turns("Yes.", reasoning="Let me think about it. " * 20, delay=0.02, chunk=8))
    watched.ask("Hi")
    summary = watched.page.locator(".reasoning summary")
    expect(summary).to_have_text("Thinking\u2026")
    watched.wait_until_answered()
    expect(summary).to_have_text(re.compile(r"Thought for (\d+ s|a moment)"))
    expect(watched.page.locator(".reasoning-text")).to_be_hidden()
    summary.click()
    expect(watched.page.locator(".reasoning-text")).to_contain_text("Let me think")


# --- sending, stopping, trying again ----------------------------------------------------------------------------------


def test_an_empty_chat_greets_and_offers_examples(open_page):
    watched = open_page(turns("Hello."))
    expect(watched.page.locator("h1:visible")).to_have_text("How can I help you today?")
    examples = watched.page.locator("#examples button:visible")
    expect(examples).to_have_count(4)
    question = examples.nth(0).inner_text()
    examples.nth(0).click()
    expect(watched.page.locator(".bubble")).to_have_text(question)
    expect(watched.page.locator("#welcome")).to_be_hidden()
    watched.wait_until_answered()
    watched.page.click("#clear")
    expect(watched.page.locator("#welcome")).to_be_visible()
    expect(watched.page.locator(".message")).to_have_count(0)


def test_the_field_can_be_written_in_while_an_answer_loads_and_keeps_the_focus(open_page):
    watched = open_page(turns(lines(5), delay=0.01))
    watched.ask("Hi")
    expect(watched.page.locator("#stop")).to_be_visible()
    # Send is beside Stop only where there is something to queue.
    expect(watched.page.locator("#send")).to_be_hidden()
    expect(watched.page.locator("#input")).to_be_enabled()
    expect(watched.page.locator("#input")).to_be_focused()
    watched.wait_until_answered()
    expect(watched.page.locator("#send")).to_be_visible()
    expect(watched.page.locator("#input")).to_be_focused()
    expect(watched.page.locator("#stop")).to_be_hidden()


def test_a_typing_indicator_shows_until_the_first_content(open_page, context):
    watched = open_page(turns("Hello."))
    context.route("**/api/chat", lambda route: None)
    watched.ask("Hi")
    expect(watched.page.locator(".typing")).to_be_visible()
    watched.page.clock.install()
    watched.page.click("#stop")
    expect(watched.page.locator(".typing")).to_contain_text("Stopping")
    watched.page.clock.fast_forward(5000)
    # Nobody ever answers: whether the question arrived cannot be known, and the reader is told so.
    expect(watched.page.get_by_role("alert")).to_contain_text("could not be reached")
    expect(watched.page.locator(".typing")).to_be_hidden()


def test_an_error_offers_retry_and_the_second_answer_takes_the_place_of_the_first(open_page):
    watched = open_page(turns("The answer is 42.", error="overloaded", times=1))
    watched.ask("Hi")
    alert = watched.page.get_by_role("alert")
    expect(alert).to_be_visible()
    expect(watched.page.locator(".prose")).to_have_text("The answer is 42.")
    alert.get_by_role("button", name="Retry").click()
    expect(alert).to_have_count(0)
    watched.wait_until_answered()
    expect(watched.page.locator(".prose")).to_have_text("The answer is 42.")
    expect(watched.page.locator(".message")).to_have_count(2)


def test_a_wait_before_another_try_is_announced(open_page, context):
    watched = open_page(turns("Hello."))
    context.route("**/api/chat", lambda route: route.abort())
    watched.ask("Hi")
    expect(watched.page.locator(".typing")).to_contain_text("trying again in 1 s")
    context.unroute("**/api/chat")
    watched.wait_until_answered()
    expect(watched.page.locator(".prose")).to_have_text("Hello.")


def test_an_answer_that_was_cut_says_so(open_page):
    said = {"length": "limit of output tokens", "refusal": "declined", "content_filter": "content filter"}
    watched = open_page([turn for reason in said for turn in turns("Half an ans", finish=reason)])
    for words in said.values():
        watched.answer("Hi")
        expect(watched.page.locator(".ending").last).to_contain_text(words)


# --- the real model ---------------------------------------------------------------------------------------------------


@needs_model
def test_a_question_is_answered_by_a_real_model_and_streamed(serve, context):
    watched = Watched(context.new_page(), serve(None, "--model", "local", "--max-output-tokens", "60"))
    watched.page.evaluate(
        """() => {
            window.lengths = new Set()
            const note = () => lengths.add(document.querySelector("article.assistant .parts")?.textContent.length ?? 0)
            new MutationObserver(note).observe(document.body, { subtree: true, childList: true, characterData: true })
        }"""
    )
    watched.ask("Name three colours.")
    watched.wait_until_answered()
    assert watched.page.evaluate("lengths.size") > 3, "the answer grew while it was watched"
    expect(watched.page.locator(".error")).to_have_count(0)
    watched.assert_clean()
