"""The page in a browser, against the real server. What runs without one is tested in `tests/web/`."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from .conftest import Watched
from .rig import ANSWER, lines, needs_libraries, needs_model, turns

pytestmark = needs_libraries

HOSTILE = """\
<script>alert("script")</script>

<img src="https://evil.example/pixel.png" onerror="alert('img')"> and <b onclick="alert(1)">bold</b>

![pixel](https://evil.example/tracker.png?secret=1) [click](javascript:alert(1)) [click](java&Tab;script:alert(2))

[![nested](https://evil.example/nested.png)](data:text/html,<script>alert(3)</script>)

<svg onload="alert(4)"><style>body { background: url(https://evil.example/css.png) }</style></svg>

<iframe src="https://evil.example/frame"></iframe><link rel="preload" href="https://evil.example/preload">

```html
<script>alert("fence")</script>
```

| <img src=x onerror=alert(5)> | `<script>alert(6)</script>` |
|---|---|
| https://evil.example/auto | <https://evil.example/angle> |

The end.
"""

# Renders the whole text at once with the page's own modules; the answer on the page must look the same.
ONE_SHOT = """
async (source) => {
    const [{ createMarkdown }, { createPatch }, { createCodeBlock }, { createHighlight }, marked] = await Promise.all(
        ["/markdown.js", "/dom.js", "/code.js", "/highlight.js", "/lib/marked.js"].map((path) => import(path)),
    )
    const whole = document.createElement("div")
    createPatch({ "code-block": createCodeBlock(createHighlight()) })(whole, [], createMarkdown(marked).render(source))
    window.whole = whole
}
"""


# --- streaming and rendering ------------------------------------------------------------------------------------------


def test_a_streamed_answer_looks_like_one_that_is_rendered_at_once(open_page):
    watched = open_page(turns(ANSWER))
    watched.ask("Hi")
    watched.wait_until_answered()
    watched.page.evaluate(ONE_SHOT, ANSWER)
    watched.until("document.querySelector('.prose').innerHTML === whole.innerHTML")
    # The colours arrived, so that the comparison was not of two plain texts.
    watched.page.wait_for_selector(".prose .token-kwd")
    watched.assert_clean()


def test_a_settled_block_keeps_its_node_and_the_readers_selection(open_page):
    watched = open_page(turns(ANSWER, delay=0.01))
    watched.ask("Hi")
    watched.page.wait_for_selector(".prose h1 + p + ul")
    watched.page.evaluate("""() => {
        window.heading = document.querySelector(".prose h1")
        getSelection().selectAllChildren(heading)
    }""")
    watched.wait_until_answered()
    assert watched.page.evaluate("heading === document.querySelector('.prose h1')")
    assert watched.page.evaluate("getSelection().toString().trim()") == "Server-sent events"


def test_a_hostile_answer_runs_nothing_asks_for_nothing_and_stays_readable(open_page):
    watched = open_page(turns(HOSTILE))
    watched.ask("Hi")
    watched.wait_until_answered()
    text = watched.page.inner_text(".prose")
    for piece in (
        '<script>alert("script")</script>',
        "onerror=\"alert('img')\"",
        '<b onclick="alert(1)">',
        "javascript:alert(1)",
    ):
        assert piece in text
    assert "<iframe src=" in text
    assert "The end." in text
    assert watched.page.locator(".prose :is(script, img, svg, style, iframe, link, object)").count() == 0
    hrefs = watched.page.eval_on_selector_all(".prose [href]", "links => links.map((link) => link.href)")
    assert all(href.startswith("https://evil.example/") for href in hrefs)
    watched.page.hover(".prose a")
    watched.assert_clean()


def test_an_image_is_a_card_that_names_its_host(open_page):
    watched = open_page(turns("![a cat](https://images.example/cat.png)"))
    watched.ask("Hi")
    watched.wait_until_answered()
    card = watched.page.locator(".prose a.image")
    expect(card).to_have_text("Image from images.example: a cat")
    expect(card).to_have_attribute("target", "_blank")
    expect(card).to_have_attribute("rel", "noopener noreferrer")
    watched.assert_clean()


def test_without_its_libraries_the_page_shows_plain_text_and_says_why(serve, context):
    base = serve(turns("# Title\n\n  two <b>spaces</b>"))
    context.route("**/lib/**", lambda route: route.fulfill(status=404, body="{}"))
    page = context.new_page()
    page.goto(base)
    expect(page.locator("#banners")).to_contain_text("npm ci --prefix web")
    page.fill("#input", "Hi")
    page.press("#input", "Enter")
    page.wait_for_selector("article[aria-busy=false]")
    assert page.inner_text(".prose .raw") == "# Title\n\n  two <b>spaces</b>"


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


def test_the_field_is_disabled_while_an_answer_loads_and_has_the_focus_again_after_it(open_page):
    watched = open_page(turns(lines(5), delay=0.01))
    watched.ask("Hi")
    expect(watched.page.locator("#input")).to_be_disabled()
    expect(watched.page.locator("#send")).to_be_hidden()
    expect(watched.page.locator("#stop")).to_be_visible()
    watched.wait_until_answered()
    expect(watched.page.locator("#input")).to_be_enabled()
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


def test_stop_keeps_what_was_shown_and_the_chat_goes_on(open_page):
    watched = open_page(turns(lines(400), delay=0.02) + turns("And more."))
    watched.ask("Hi")
    watched.page.wait_for_selector(".prose p")
    watched.page.click("#stop")
    watched.wait_until_answered()
    expect(watched.page.locator(".ending")).to_contain_text("Stopped")
    assert "Paragraph 0" in watched.page.inner_text(".prose")
    watched.ask("More")
    expect(watched.page.locator(".prose").nth(1)).to_have_text("And more.")
    watched.assert_clean()


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


@pytest.mark.parametrize(
    ("reason", "words"),
    [("length", "limit of output tokens"), ("refusal", "declined"), ("content_filter", "content filter")],
)
def test_an_answer_that_was_cut_says_so(open_page, reason, words):
    watched = open_page(turns("Half an ans", finish=reason))
    watched.ask("Hi")
    watched.wait_until_answered()
    expect(watched.page.locator(".ending")).to_contain_text(words)


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
