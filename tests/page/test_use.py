"""Using the page: the field's keys, models, a token."""

from __future__ import annotations

from playwright.sync_api import BrowserContext, expect

from .rig import needs_libraries, turns

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


def test_enter_sends_unless_an_input_method_is_composing_or_there_is_nothing_and_shift_enter_begins_a_line(open_page):
    watched = open_page(turns("Hello."))
    page, field = watched.page, watched.page.locator("#input")
    expect(page.locator("#send")).to_be_disabled()
    field.fill("  \n ")
    field.press("Enter")
    field.fill("にほん")
    for events in (CHROME, SAFARI):
        page.evaluate(DISPATCH, events)
        expect(field).to_have_value("にほん")
    expect(page.locator(".message")).to_have_count(0)
    field.press("Shift+Enter")
    page.keyboard.type("two")
    expect(field).to_have_value("にほん\ntwo")
    field.press("Enter")
    assert page.inner_text(".bubble") == "にほん\ntwo"
    expect(field).to_have_value("")


# --- the server's side of the page ------------------------------------------------------------------------------------


def test_the_demo_says_what_it_is_and_answers_with_text_code_and_tools(open_page):
    watched = open_page()
    expect(watched.page.locator("#models")).to_have_value("scripted:demo")
    expect(watched.page.locator("#demo")).to_be_visible()
    watched.answer("What can you do?")
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
