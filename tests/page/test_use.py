"""Using the page: keys, scrolling, models, a token, small screens and assistive technology."""

from __future__ import annotations

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from .rig import ANSWER, ROOT, lines, needs_libraries, turns

pytestmark = needs_libraries

# --- the keyboard -----------------------------------------------------------------------------------------------------

# Events as the browsers send them when Enter picks a candidate of an input method.
CHROME = [("compositionstart", {}), ("keydown", {"isComposing": True, "keyCode": 229}), ("compositionend", {})]
SAFARI = [("compositionstart", {}), ("compositionend", {}), ("keydown", {"isComposing": False, "keyCode": 229})]

DISPATCH = """
(events) => {
    const input = document.querySelector("#input")
    for (const [type, init] of events) {
        const more = { bubbles: true, cancelable: true, ...init }
        const isKey = type === "keydown"
        const event = isKey ? new KeyboardEvent(type, { key: "Enter", ...more }) : new CompositionEvent(type, more)
        input.dispatchEvent(event)
    }
}
"""


@pytest.mark.parametrize("events", [CHROME, SAFARI], ids=["chrome", "safari"])
def test_enter_does_not_send_while_an_input_method_is_composing(open_page, events):
    watched = open_page(turns("Hello."))
    watched.page.fill("#input", "にほん")
    watched.page.evaluate(DISPATCH, events)
    expect(watched.page.locator("#input")).to_have_value("にほん")
    expect(watched.page.locator(".message")).to_have_count(0)
    watched.page.press("#input", "Enter")
    expect(watched.page.locator(".bubble")).to_have_text("にほん")


def test_shift_enter_begins_a_line_and_enter_sends(open_page):
    watched = open_page(turns("Hello."))
    watched.page.focus("#input")
    watched.page.keyboard.type("one")
    watched.page.keyboard.press("Shift+Enter")
    watched.page.keyboard.type("two")
    assert watched.page.input_value("#input") == "one\ntwo"
    watched.page.keyboard.press("Enter")
    assert watched.page.inner_text(".bubble") == "one\ntwo"
    expect(watched.page.locator("#input")).to_have_value("")


def test_a_blank_question_is_not_sent(open_page):
    watched = open_page(turns("Hello."))
    expect(watched.page.locator("#send")).to_be_disabled()
    watched.page.fill("#input", "  \n ")
    watched.page.press("#input", "Enter")
    expect(watched.page.locator(".message")).to_have_count(0)


# --- following the text -----------------------------------------------------------------------------------------------

AT_END = "() => scroller.scrollHeight - scroller.clientHeight - scroller.scrollTop <= 24"


def wait_for_growth(watched):
    height = watched.page.evaluate("scroller.scrollHeight")
    watched.until("(height) => scroller.scrollHeight > height + 400", height)


def test_the_end_is_followed_until_the_wheel_goes_up_and_again_from_the_end(open_page):
    watched = open_page(turns(lines(600), delay=0.01, chunk=20))
    page: Page = watched.page
    watched.ask("Hi")
    watched.until("scroller.scrollTop > 300")
    watched.until(AT_END)
    page.mouse.move(500, 300)
    page.mouse.wheel(0, -200)
    watched.until(f"() => !({AT_END})()")
    # The wheel moves the text over several frames.
    wait_for_growth(watched)
    top = page.evaluate("scroller.scrollTop")
    wait_for_growth(watched)
    assert page.evaluate("scroller.scrollTop") == top
    expect(page.locator("#jump")).to_be_visible()
    page.click("#jump")
    watched.until(AT_END)
    wait_for_growth(watched)
    watched.until(AT_END)
    expect(page.locator("#jump")).to_be_hidden()


def test_keys_and_a_selection_stop_the_following_too(open_page):
    watched = open_page(turns(lines(600), delay=0.01, chunk=20))
    page: Page = watched.page
    watched.ask("Hi")
    watched.until("scroller.scrollTop > 300")
    page.focus("#scroller")
    page.keyboard.press("PageUp")
    watched.until(f"() => !({AT_END})()")
    page.click("#jump")
    watched.until(AT_END)
    page.evaluate("getSelection().selectAllChildren(document.querySelector('.prose').lastElementChild)")
    wait_for_growth(watched)
    assert not page.evaluate(AT_END)


# --- the server's side of the page ------------------------------------------------------------------------------------


def test_the_model_picker_names_the_model_and_marks_a_demo(open_page):
    watched = open_page()
    picker = watched.page.locator("#models")
    expect(picker).to_be_visible()
    expect(picker).to_have_value("scripted:demo")
    expect(watched.page.locator("#demo")).to_be_visible()
    watched.assert_clean()


def test_the_demo_answers_with_text_code_and_tools(open_page):
    watched = open_page()
    watched.ask("What can you do?")
    watched.wait_until_answered()
    for part in (".reasoning", ".prose table", ".prose .code", ".tool[data-state=done]", ".tool[data-state=failed]"):
        assert watched.page.locator(part).count() > 0, part
    watched.assert_clean()


def test_the_token_of_the_address_becomes_a_session_and_leaves_the_address_bar(serve, context: BrowserContext):
    address = serve(turns("Hello."), "--token", "a-token-for-tests")
    page = context.new_page()
    page.goto(address.partition("#")[0])
    expect(page.locator("#banners")).to_contain_text("This server wants a token")

    # In the same tab the address differs in its fragment alone.
    page.goto(address)
    expect(page.locator("#models")).to_be_visible()
    expect(page.locator("#list")).to_contain_text("Nothing here yet.")
    assert "token" not in page.url
    page.fill("#input", "Hi")
    page.press("#input", "Enter")
    expect(page.locator(".prose")).to_have_text("Hello.")
    page.reload()
    expect(page.locator("#models")).to_be_visible()


# --- sizes and assistive technology -----------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_has_no_horizontal_scroll_and_the_field_does_not_zoom(open_page, width):
    wide = f"{ANSWER}\n\n{'unbroken' * 60}\n\n`{'code' * 80}`\n\n```\n{'x' * 300}\n```\n\n|{'a|' * 20}\n|{'-|' * 20}\n"
    calls = [{"name": "calculate", "arguments": {"expression": "1+" * 100 + "1"}}]
    watched = open_page(
        [{"text": wide, "tools": calls, "delay": 0.001, "chunk": 50}, {"text": "Done.", "delay": 0.001}]
    )
    watched.page.set_viewport_size({"width": width, "height": 700})
    assert watched.page.evaluate("document.documentElement.scrollWidth") == width
    watched.ask("question " * 30 + "w" * 200)
    watched.wait_until_answered()
    assert watched.page.evaluate("document.documentElement.scrollWidth") == width
    assert watched.page.evaluate("scroller.scrollWidth <= scroller.clientWidth")
    assert watched.page.evaluate("parseFloat(getComputedStyle(document.querySelector('#input')).fontSize)") >= 16
    composer = watched.page.locator("#composer").bounding_box()
    assert composer and composer["y"] + composer["height"] <= 700


def test_whole_blocks_are_announced_and_never_a_fragment(open_page):
    watched = open_page(turns("First block.\n\nSecond block, which is longer.\n\n- a\n- b", delay=0.01))
    watched.page.evaluate("""() => {
        window.spoken = []
        const read = (records) => {
            for (const { addedNodes } of records) spoken.push(...[...addedNodes].map((node) => node.textContent))
        }
        const everything = { childList: true, subtree: true, characterData: true }
        new MutationObserver(read).observe(document.querySelector("#announcer"), everything)
    }""")
    watched.ask("Hi")
    watched.wait_until_answered()
    spoken = watched.page.evaluate("spoken")
    assert spoken[:2] == ["The assistant is answering", "First block."]
    assert "\n".join(spoken[1:]) == "First block.\nSecond block, which is longer.\nab"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(serve, browser, scheme):
    base = serve(
        [
            {
                "text": ANSWER,
                "reasoning": "Hm.",
                "tools": [{"name": "calculate", "arguments": {"expression": "1"}}],
                "delay": 0.001,
            },
            {"text": ANSWER, "error": "overloaded", "delay": 0.001},
        ]
    )
    # axe is no part of the page, so the page's policy is lifted for it.
    context = browser.new_context(bypass_csp=True, color_scheme=scheme, reduced_motion="reduce")
    page = context.new_page()
    page.goto(base)
    page.wait_for_selector("body.ready")
    page.add_script_tag(path=ROOT / "web/node_modules/axe-core/axe.min.js")
    find = "async () => (await axe.run()).violations.map(({ id, nodes }) => [id, nodes.map((node) => node.html)])"
    assert page.evaluate(find) == []
    page.fill("#input", "Hi")
    page.press("#input", "Enter")
    page.wait_for_selector(".error")
    page.wait_for_selector(".token-kwd")
    assert page.evaluate(find) == []
    context.close()
