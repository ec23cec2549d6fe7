"""Writing a question: what waits, what is kept, what is attached, by keys and on a phone."""

from __future__ import annotations

import json
import re

from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from .conftest import Watched
from .rig import lines, needs_libraries, turns

pytestmark = needs_libraries

SLOW = {"text": lines(300), "delay": 0.02, "chunk": 20}
GIF = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x05\x04\x04\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
)
# Hands over a file of these bytes as one that is pasted or dropped.
HAND = """
([kind, where, name, text]) => {
    const data = new DataTransfer()
    data.items.add(new File([text], name))
    const init = { bubbles: true, cancelable: true }
    const event = kind === "paste" ? new ClipboardEvent(kind, { ...init, clipboardData: data })
        : new DragEvent(kind, { ...init, dataTransfer: data })
    document.querySelector(where).dispatchEvent(event)
}
"""
STORED = """
async () => {
    const id = new URLSearchParams(location.hash.slice(1)).get("c")
    const { messages } = await (await fetch(`api/conversations/${id}`)).json()
    return messages.filter(({ role }) => role === "user").map(({ content }) => content.map(({ text }) => text))
}
"""


def deed(item: Locator, name: str) -> Locator:
    return item.get_by_role("button", name=re.compile(f"^{name}"))


def test_a_question_that_comes_early_waits_can_be_changed_and_is_sent_by_itself_or_held(open_page):
    watched = open_page([SLOW, *turns(lines(40)), *turns("The end.")])
    page: Page = watched.page
    waiting, field = page.locator("#queue > li"), page.locator("#input")
    watched.ask("Hi")
    page.wait_for_selector(".prose")
    field.fill("Second")
    expect(page.get_by_role("button", name="Send after this answer")).to_be_visible()
    field.press("Enter")
    page.fill("#input", "Third")
    page.click("#send")
    expect(field).to_be_focused()
    expect(waiting).to_have_count(2)
    expect(waiting.nth(0)).to_contain_text("Next: Second")
    expect(page.locator("#announcer")).to_contain_text("sent after this answer")

    # Back into the field, before what is being written there.
    field.fill("and more")
    deed(waiting.nth(0), "Edit").press("Enter")
    expect(field).to_have_value("Second\n\nand more")
    expect(field).to_be_focused()
    field.press("Enter")
    deed(waiting.nth(0), "Remove").click()
    expect(waiting).to_have_count(1)
    expect(field).to_be_focused()
    watched.reload()
    expect(waiting).to_have_text(re.compile("Second\\s+and more"))
    expect(deed(waiting, "Send now")).to_have_count(0)

    field.press("Escape")
    watched.wait_until_answered()
    deed(waiting, "Send now").click()
    expect(waiting).to_have_count(0)
    expect(page.locator(".bubble")).to_have_count(2)
    watched.ask("Last")
    expect(page.locator(".bubble").nth(2)).to_have_text("Last")
    expect(page.locator(".prose").last).to_have_text("The end.")
    expect(page.locator("#queue")).to_be_hidden()
    watched.assert_clean()


def test_what_is_written_is_kept_with_its_conversation_until_it_is_sent(open_page, context: BrowserContext):
    watched = open_page(turns("Hello."))
    page, field = watched.page, watched.page.locator("#input")
    field.fill("not yet")
    page.set_input_files("#files", [{"name": "a.py", "mimeType": "", "buffer": b"x = 1"}])
    expect(page.locator("#thumbs li")).to_have_count(1)
    watched.reload()
    expect(field).to_have_value("not yet")
    expect(page.locator("#thumbs li")).to_have_count(1)
    field.press("Enter")
    watched.wait_until_answered()
    expect(field).to_have_value("")

    field.fill("of the first")
    page.click("#clear")
    expect(field).to_have_value("")
    field.fill("of the new one")
    page.click("#list a >> nth=0")
    expect(field).to_have_value("of the first")
    # Another tab finds it, and takes nothing away from a field that is in use.
    other = Watched(context.new_page(), page.url)
    expect(other.page.locator("#input")).to_have_value("of the first")
    other.page.fill("#input", "by the other")
    other.reload()
    expect(other.page.locator("#input")).to_have_value("by the other")
    expect(field).to_have_value("of the first")
    other.page.close()
    field.fill("")
    watched.reload()
    expect(field).to_have_value("")
    page.click("#clear")
    expect(field).to_have_value("of the new one")
    # A key alone writes nothing down: a pause does.
    page.evaluate("""() => {
        window.writes = 0
        const write = Storage.prototype.setItem
        Storage.prototype.setItem = function (...entry) {
            writes += String(entry[0]).includes("draft") ? 1 : 0
            write.apply(this, entry)
        }
        for (const letter of "abcdefghij") {
            input.value += letter
            input.dispatchEvent(new InputEvent("input"))
        }
    }""")
    assert page.evaluate("writes") == 0
    watched.until("writes === 1")
    watched.assert_clean()


def test_a_browser_that_keeps_nothing_is_no_error(serve, context: BrowserContext):
    context.add_init_script("""
        for (const name of ["localStorage", "sessionStorage"]) {
            Object.defineProperty(window, name, { get() { throw new DOMException("no", "SecurityError") } })
        }
    """)
    watched = Watched(context.new_page(), serve([*turns(lines(5), delay=0.01), *turns("More.")]))
    watched.ask("Hi")
    watched.ask("Next")
    expect(watched.page.locator(".prose").last).to_have_text("More.")
    watched.assert_clean()


def test_text_files_are_chosen_pasted_and_dropped_shown_as_chips_and_are_parts_of_the_question(open_page):
    watched = open_page(turns("Hello."))
    page, chips, note = watched.page, watched.page.locator("#thumbs .chip"), watched.page.locator("#note")
    page.set_input_files("#files", [{"name": "a.pdf", "mimeType": "text/plain", "buffer": b"%PDF-1.7"}])
    expect(note).to_contain_text("a.pdf is of type PDF")
    page.set_input_files("#files", [{"name": "one.py", "mimeType": "", "buffer": "x = 'é'\n".encode()}])
    page.evaluate(HAND, ["paste", "#input", "two.txt", "a </file> b"])
    page.evaluate(HAND, ["dragover", "#messages", "three.md", ""])
    expect(page.locator("#composer.dropping")).to_be_visible()
    page.evaluate(HAND, ["drop", "#messages", "three.md", "# 3"])
    expect(chips).to_have_text(["one.py 9 B", "two.txt 11 B", "three.md 3 B"])
    page.get_by_role("button", name="Remove three.md").press("Enter")
    expect(page.locator("#input")).to_be_focused()
    watched.answer("What is this?")
    question = ["<file name=\"one.py\">\nx = 'é'\n\n</file>", '<file name="two.txt">\na <\\/file> b\n</file>']
    assert page.evaluate(STORED) == [[*question, "What is this?"]]
    expect(page.locator("#title")).to_have_text("What is this?")

    watched.reload()
    shown = page.locator(".said .chip")
    expect(shown).to_have_text(["one.py 9 B", "two.txt 11 B"])
    expect(page.locator(".bubble")).to_have_text("What is this?")
    shown.nth(1).press("Enter")
    dialog = page.get_by_role("dialog", name="two.txt")
    expect(dialog.locator("pre")).to_have_text("a </file> b")
    expect(dialog.get_by_role("button", name="Copy")).to_be_visible()
    page.keyboard.press("Escape")
    expect(shown.nth(1)).to_be_focused()

    # The editor takes them too: dropped on it they are its own.
    page.locator(".user .edit").press("Enter")
    editor = page.locator(".editor")
    expect(editor.locator("textarea")).to_be_focused()
    page.evaluate(HAND, ["drop", ".editor", "four.txt", "4"])
    expect(editor.locator(".chip")).to_have_count(3)
    expect(chips).to_have_count(0)
    editor.locator("input[type=file]").set_input_files([{"name": "a.gif", "mimeType": "image/gif", "buffer": GIF}])
    expect(editor.get_by_role("status")).to_contain_text("cannot take images")
    editor.get_by_role("button", name="Remove one.py").click()
    expect(editor.locator("textarea")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".said .chip")).to_have_text(["two.txt 11 B", "four.txt 1 B"])
    watched.wait_until_answered()
    assert page.evaluate(STORED)[1] == [question[1], '<file name="four.txt">\n4\n</file>', "What is this?"]
    watched.assert_clean()


def test_arrow_up_edits_the_last_question_and_escape_stops_the_answer(open_page):
    watched = open_page([*turns("Hello."), SLOW, *turns("Again.")])
    page, field = watched.page, watched.page.locator("#input")
    field.press("ArrowUp")
    watched.answer("First")
    field.fill("something")
    field.press("ArrowUp")
    expect(page.locator(".editor")).to_have_count(0)
    field.fill("")
    field.press("ArrowUp")
    edited = page.locator(".editor textarea")
    expect(edited).to_be_focused()
    expect(edited).to_have_value("First")
    expect(edited).to_have_attribute("dir", "auto")
    edited.press("Escape")
    expect(page.locator(".editor")).to_have_count(0)
    expect(page.locator(".user .edit")).to_be_focused()

    watched.ask("Second")
    page.wait_for_selector("article:last-child .prose p")
    watched.ask("Waits")
    field.press("ArrowUp")
    expect(field).to_have_value("Waits")
    expect(page.locator("#queue")).to_be_hidden()
    field.press("Escape")
    expect(page.locator(".ending").last).to_contain_text("Stopped")
    expect(field).to_have_value("Waits")
    # A paste of a book is text, and is there at once.
    page.evaluate(
        "() => document.execCommand('selectAll') && document.execCommand('insertText', false, 'word '.repeat(20000))"
    )
    assert page.evaluate("input.value.length") == 100_000
    expect(page.locator("#thumbs")).to_be_hidden()
    watched.assert_clean()


def test_on_a_phone_enter_begins_a_line_the_button_sends_and_the_field_stays_over_the_keyboard(serve, browser: Browser):
    phone = {"width": 390, "height": 780}
    context = browser.new_context(viewport=phone, has_touch=True, is_mobile=True)
    watched = Watched(context.new_page(), serve([*turns("Hello."), SLOW]))
    page, field = watched.page, watched.page.locator("#input")
    expect(field).to_have_attribute("enterkeyhint", "enter")
    field.tap()
    page.keyboard.type("one")
    page.keyboard.press("Enter")
    page.keyboard.type("two")
    expect(field).to_have_value("one\ntwo")
    page.tap("#send")
    expect(page.locator(".bubble")).to_have_text("one\ntwo")
    watched.wait_until_answered()
    page.set_input_files("#files", [{"name": "a.txt", "mimeType": "", "buffer": b"x"}])
    field.fill("Next")
    page.tap("#send")
    page.wait_for_selector("article:last-child .prose")
    field.fill("Waits")
    page.tap("#send")
    expect(page.locator("#queue li")).to_have_count(1)
    field.fill("x" * 2000)
    for control in page.locator("footer button:visible").all():
        box = control.bounding_box()
        assert box and box["width"] >= 44 and box["height"] >= 44, control.get_attribute("aria-label")
    assert page.evaluate("parseFloat(getComputedStyle(input).fontSize)") >= 16

    # Chromium makes the page smaller for a keyboard; Safari lays it over the page, and tells the visible part alone.
    for height in (340, 780):
        page.evaluate(
            """(height) => {
                Object.defineProperty(visualViewport, "height", { value: height, configurable: true })
                visualViewport.dispatchEvent(new Event("resize"))
            }""",
            height,
        )
        for part in ("#input", "#send", "#stop"):
            box = page.locator(part).bounding_box()
            assert box and box["y"] >= 0 and box["y"] + box["height"] <= height, part
    assert page.evaluate("document.body.style.length") == 0
    watched.assert_clean()
    context.close()


def test_a_model_stays_with_its_conversation_and_one_that_is_gone_is_said(open_page, context, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "test-key")
    watched = open_page(turns("Hello."))
    page = watched.page
    watched.answer("Hi")
    models = page.evaluate("async () => (await fetch('api/models')).json()")
    demo, other = (next(each for each in models["models"] if each["isDemo"] is is_demo) for is_demo in (True, False))
    with page.expect_response(re.compile("/api/conversations/")) as changed:
        page.select_option("#models", other["id"])
    assert changed.value.status == 200
    expect(page.locator("#attach")).to_have_attribute("title", re.compile("Attach images"))
    page.click("#clear")
    expect(page.locator("#models")).to_have_value(other["id"])
    page.select_option("#models", demo["id"])
    watched.reload()
    expect(page.locator("#models")).to_have_value(demo["id"])
    page.go_back()
    expect(page.locator("#models")).to_have_value(other["id"])

    fewer = json.dumps(models | {"models": [demo]})
    context.route("**/api/models", lambda route: route.fulfill(body=fewer, content_type="application/json"))
    watched.reload()
    expect(page.locator("#lost-model")).to_contain_text(
        f"{other['id']} is not available here any more; {demo['label']}"
    )
    expect(page.locator("#models")).to_have_value(demo["id"])
    watched.answer("And you?")
    expect(page.locator(".error")).to_have_count(0)
    watched.assert_clean()
