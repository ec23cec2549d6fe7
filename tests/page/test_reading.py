"""Reading: following the text, long conversations, details, keys, what is said aloud, small windows and paper."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from .conftest import CHROMIUM, Program, Watched
from .rig import ANSWER, lines, needs_libraries, turns

pytestmark = needs_libraries

AT_END = "scroller.scrollHeight - scroller.clientHeight - scroller.scrollTop <= 1"

# What the reader looks at: the first block of text that is in view, and where it is.
PLACE = """() => {
    const top = scroller.getBoundingClientRect().top
    const all = [...document.querySelectorAll(".prose > *, .bubble")]
    window.place = all.find((element) => element.getBoundingClientRect().top >= top)
    return place.getBoundingClientRect().top
}"""
# In whole pixels: a scroll position has no others, a line may begin between two.
DRIFT = "(before) => Math.round(place.getBoundingClientRect().top - before)"

# --- long conversations -----------------------------------------------------------------------------------------------


def conversation(count: int) -> dict[str, Any]:
    """A conversation of so many questions, each with an answer, as it is exported."""
    messages: list[dict[str, Any]] = []
    runs: list[dict[str, Any]] = []
    for number in range(count):
        at = f"2026-01-01T{number // 60:02d}:{number % 60:02d}:00.000Z"
        said = f"Answer {number}.\n\n- a\n- b\n\n{'Some words. ' * (number % 60)}"
        question = {"id": f"q{number}", "parentId": f"a{number - 1}" if number else None, "role": "user", "runId": None}
        answer = {"id": f"a{number}", "parentId": f"q{number}", "role": "assistant", "runId": f"r{number}"}
        messages.append({**question, "content": f"Question {number}", "createdAt": at})
        messages.append({**answer, "content": [{"type": "text", "text": said}], "createdAt": at})
        run = {"id": f"r{number}", "messageId": f"a{number}", "parentId": f"q{number}", "model": "scripted:x"}
        usage = {"inputTokens": 10, "outputTokens": 20, "cachedTokens": 0, "reasoningTokens": 0}
        ended = {"outcome": "completed", "finishReason": "stop", "usage": usage, "error": None, "approvals": []}
        runs.append({**run, **ended, "state": "ended", "createdAt": at})
    return {"title": "Long", "messages": messages, "runs": runs, "leafId": f"a{count - 1}"}


# Idle time comes when the test says so.
IDLE = "window.idle = []; window.requestIdleCallback = (deed) => idle.push(deed)"
UNSEEN = """() => [...document.querySelectorAll(".message")]
    .filter((one) => getComputedStyle(one).contentVisibility === "auto").length"""
SHOWN = """() => [...document.querySelectorAll(".message")]
    .map((message) => message.querySelector(".bubble, .prose p").textContent)"""


def test_of_a_long_conversation_the_end_is_there_first_and_what_is_read_stays_while_the_rest_comes(open_page):
    watched = open_page(turns("And **more**."))
    page = watched.page
    address = watched.keep(conversation(500))
    page.add_init_script(IDLE)
    page.goto("about:blank")
    page.goto(address)
    page.wait_for_selector("text=Answer 499.")
    shown = page.evaluate(SHOWN)
    assert shown == [
        f"{what} {number}{end}" for number in range(485, 500) for what, end in (("Question", ""), ("Answer", "."))
    ]
    assert page.evaluate(AT_END)

    page.evaluate("scroller.scrollTop = 0")
    page.wait_for_selector("#jump")
    before = page.evaluate(PLACE)
    for count in (40, 50, 60):
        assert page.evaluate("() => { idle.shift()(); return document.querySelectorAll('.message').length }") == count
        page.evaluate("new Promise((end) => requestAnimationFrame(() => requestAnimationFrame(end)))")
        assert page.evaluate(DRIFT, before) == 0
    # The branch that is asked for now stands below all of it.
    page.click("#jump")
    watched.ask("And then?")
    page.wait_for_selector("text=And more.")
    assert page.evaluate("document.querySelectorAll('.message').length") == 62
    page.keyboard.press("Control+f")
    assert page.evaluate("document.querySelectorAll('.message').length") == 1002
    assert page.evaluate(SHOWN)[:3] == ["Question 0", "Answer 0.", "Question 1"]
    assert page.evaluate(UNSEEN) == 1000
    # What is not laid out is there all the same for those who search and for those who listen.
    assert page.get_by_role("article").count() == 1002
    assert page.evaluate("find('Answer 250.', false, false, true)")
    assert watched.errors == []


# --- details, keys and what is said aloud -----------------------------------------------------------------------------

SPOKEN = """() => {
    window.spoken = []
    const read = (records) => {
        for (const { addedNodes } of records) spoken.push(...[...addedNodes].map((node) => node.textContent))
    }
    new MutationObserver(read).observe(announcer, { childList: true, subtree: true, characterData: true })
}"""


def test_an_answer_tells_what_it_was_made_with_live_and_after_a_reload(open_page):
    watched = open_page(turns("Hello there. " * 20))
    page = watched.page
    watched.answer("Hi")
    told = []
    for _ in range(2):
        assert not [url for url in watched.requests if "details.js" in url][len(told) :]
        expect(page.locator(".facts")).to_be_hidden()
        page.click(".foot > .details")
        expect(page.locator(".foot > .details")).to_have_attribute("aria-expanded", "true")
        told.append(page.inner_text(".facts"))
        watched.reload()
        page.wait_for_selector(".foot > .details")
    for line in (
        "Model\nscripted:",
        "Written\nabout ",
        " tokens/s",
        "First token after",
        "completed, stop",
        "Run\nrun_",
    ):
        assert line in told[0]
    # The reader's clock and the server's may differ in the seconds.
    assert [facts.split("\nTime")[0] for facts in told] == [told[0].split("\nTime")[0]] * 2
    assert page.get_attribute(".assistant time", "datetime")
    watched.assert_clean()


def test_every_function_has_a_key_and_the_sheet_names_them(open_page):
    watched = open_page([*turns("First."), *turns("Second."), *turns("Third.", delay=5)])
    page = watched.page
    page.evaluate(SPOKEN)
    branch = page.locator(".assistant .branches span")
    watched.answer("One")
    # Who writes means letters.
    page.keyboard.type("?jr")
    expect(page.locator("#input")).to_have_value("?jr")
    page.fill("#input", "")
    page.focus("#scroller")

    def focused() -> str:
        return str(page.evaluate("document.activeElement.textContent"))

    page.keyboard.press("k")
    page.keyboard.press("k")
    assert "One" in focused()
    page.keyboard.press("Alt+ArrowDown")
    assert "First." in focused()
    page.keyboard.press("i")
    expect(page.locator(".facts")).to_be_visible()
    page.keyboard.press("r")
    expect(branch).to_have_text("2 / 2")
    watched.wait_until_answered()
    page.focus("#scroller")
    page.keyboard.press("j")
    page.keyboard.press("[")
    expect(branch).to_have_text("1 / 2")
    # What had the focus was replaced: what is in its place has it.
    assert "First." in focused()
    page.keyboard.press("]")
    expect(branch).to_have_text("2 / 2")
    page.keyboard.press("c")
    watched.until("spoken.some((text) => text.includes('opied'))")
    page.keyboard.press("e")
    expect(page.locator(".editor textarea")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator(".editor")).to_have_count(0)
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "input"
    page.keyboard.press("Control+Shift+F")
    assert page.evaluate("document.activeElement.id") == "search"
    page.focus("#scroller")

    page.keyboard.press("?")
    sheet = page.get_by_role("dialog", name="Keys")
    expect(sheet).to_contain_text("Another answer")
    expect(sheet.locator("kbd").first).to_have_text("?")
    sheet.get_by_role("checkbox").uncheck()
    page.keyboard.press("Escape")
    expect(sheet).to_have_count(0)
    page.keyboard.press("?")
    page.keyboard.press("r")
    expect(sheet).to_have_count(0)
    expect(branch).to_have_text("2 / 2")
    page.get_by_role("button", name="Keys").click()
    sheet.get_by_role("checkbox").check()
    page.keyboard.press("Escape")

    page.focus("#scroller")
    page.keyboard.press("n")
    expect(page.locator(".message")).to_have_count(0)
    watched.answer("Two")
    watched.answer("Three")
    watched.ask("Four")
    page.wait_for_selector("#stop:visible")
    page.keyboard.press("Escape")
    expect(page.locator(".message:last-child .ending")).to_contain_text("Stopped")
    watched.assert_clean()


def test_sentences_are_said_and_the_end_once_and_an_error_at_once(open_page):
    sentences = "The first block.\n\nA second one, which is longer. It has two sentences."
    text = f"{sentences}\n\n- a\n- b\n\n```python\nprint(1)\n```\n\nThe end"
    watched = open_page([*turns(text, delay=0.002), {"text": "Half a", "error": "overloaded"}])
    page = watched.page
    page.evaluate(SPOKEN)
    watched.answer("Hi")
    watched.until("spoken.at(-1) === 'The answer is complete.'")
    spoken = page.evaluate("spoken")
    assert spoken[0] == "The assistant is answering"
    said = " ".join(" ".join(spoken[1:-1]).split())
    assert (
        said
        == "The first block. A second one, which is longer. It has two sentences. a b Code in python, 1 line. The end"
    )
    assert all(part.rstrip().endswith((".", "b", "end")) for part in spoken[1:-1])
    assert len(spoken) <= 6
    page.evaluate("spoken.length = 0")
    watched.ask("And now?")
    alert = page.get_by_role("alert").filter(has_text="verload")
    expect(alert).to_be_visible()
    watched.until("spoken.length > 1")
    assert page.evaluate("spoken") == ["The assistant is answering", "Half a"]
    # What went wrong long ago is no alarm.
    watched.reload()
    page.wait_for_selector(".error")
    expect(page.locator("#messages [role=alert]")).to_have_count(0)


def test_tab_goes_through_the_page_in_the_order_that_it_is_read(open_page):
    tool = {"name": "calculate", "arguments": {"expression": "1"}}
    watched = open_page([{"text": ANSWER, "reasoning": "Hm.", "tools": [tool]}, *turns("Done.")])
    page = watched.page
    watched.answer("Hi")
    page.evaluate("document.activeElement.blur()")
    page.evaluate("getSelection().collapse(document.body, 0)")
    places = []
    for _ in range(60):
        page.keyboard.press("Tab")
        place = page.evaluate("""() => {
            const one = document.activeElement
            const { width, height } = one.getBoundingClientRect()
            const isLarge = width >= 24 || height >= 24 || one.localName === "a"
            const isSeen = getComputedStyle(one).outlineStyle !== "none" || ["search", "input"].includes(one.id)
            return [one.id || one.className || one.localName, isLarge, isSeen || one === document.body]
        }""")
        if place[0] in ("body", "empty") or place[0] == (places or [[None]])[0][0]:
            break
        places.append(place)
    assert [place for place in places if not (place[1] and place[2])] == []
    names = [place[0] for place in places]
    order = [
        "search",
        "models",
        "help-button",
        "clear",
        "scroller",
        "quiet change edit",
        "summary",
        "quiet copy",
        "attach",
        "input",
    ]
    found = [names.index(name) for name in order]
    assert found == sorted(found), names
    # The message itself is no stop on the way: keys go from one to the next.
    assert not any("message" in name for name in names)


def test_small_windows_large_text_and_the_other_direction_need_no_scrolling_sideways(open_page):
    """WCAG 1.4.10 and 1.4.12: 320 px is a window of 1280 at 400 %."""
    wide = f"{ANSWER}\n\n{'unbroken' * 60}\n\n`{'code' * 80}`\n\n```\n{'x' * 300}\n```\n\n|{'a|' * 20}\n|{'-|' * 20}\n"
    calls = [{"name": "calculate", "arguments": {"expression": "1+" * 100 + "1"}}]
    watched = open_page([{"text": wide, "tools": calls, "chunk": 50}, *turns("Done.")])
    page = watched.page
    watched.answer("question " * 30 + "w" * 200)
    page.click(".foot > .details")
    page.wait_for_selector(".facts dl")
    spaced = "* { line-height: 1.5 !important; letter-spacing: 0.12em !important; word-spacing: 0.16em !important }"
    settings = [
        (320, "ltr", ""),
        (390, "rtl", ""),
        (320, "rtl", spaced),
        (1280, "rtl", spaced),
        (1280, "ltr", "html { font-size: 200% }"),
    ]
    for width, direction, style in settings:
        page.set_viewport_size({"width": width, "height": 700})
        page.evaluate(
            """([direction, style]) => {
                document.documentElement.dir = direction
                const sheet = new CSSStyleSheet()
                sheet.replaceSync(style)
                document.adoptedStyleSheets = [sheet]
            }""",
            [direction, style],
        )
        at = (width, direction, style)
        assert page.evaluate("document.documentElement.scrollWidth") == width, at
        assert page.evaluate("scroller.scrollWidth <= scroller.clientWidth"), at
        composer = page.locator("#composer").bounding_box()
        assert composer and composer["x"] >= 0 and composer["y"] + composer["height"] <= 700, at
        assert page.evaluate("parseFloat(getComputedStyle(document.querySelector('#input')).fontSize)") >= 16


def test_on_paper_is_the_whole_conversation_and_nothing_else(open_page):
    watched = open_page([{"text": ANSWER, "reasoning": "What was thought."}])
    page = watched.page
    page.goto("about:blank")
    page.add_init_script(IDLE)
    page.goto(watched.keep(conversation(40)))
    page.wait_for_selector("text=Answer 39.")
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator(".message:visible").count() == 80
    for gone in ("#sidebar", "body > header", "body > footer", ".foot"):
        expect(page.locator(gone).first).to_be_hidden()
    assert page.evaluate("scroller.scrollHeight === scroller.clientHeight && scroller.clientHeight > 5000")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


# --- following the text -----------------------------------------------------------------------------------------------


def grow(watched: Watched) -> None:
    height = watched.page.evaluate("scroller.scrollHeight")
    watched.until("(height) => scroller.scrollHeight > height + 120", height)


def assert_followed(watched: Watched, what: object) -> None:
    grow(watched)
    assert watched.page.evaluate(AT_END), what
    assert watched.page.is_hidden("#jump"), what


def assert_left(watched: Watched, what: object) -> None:
    watched.page.wait_for_selector("#jump", timeout=3000)
    # The wheel and the keys move the text over several frames.
    watched.until("""() => new Promise((end) => {
        const top = scroller.scrollTop
        setTimeout(() => end(scroller.scrollTop === top), 60)
    })""")
    before = watched.page.evaluate(PLACE)
    grow(watched)
    assert watched.page.evaluate(DRIFT, before) == 0, what
    assert watched.page.get_attribute("#jump", "aria-label") == "Jump to the end, there is more to read"


@pytest.fixture(scope="module")
def endless(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """An answer that goes on for longer than any test, in a browser that shows scrollbars."""
    script = tmp_path_factory.mktemp("reading") / "script.json"
    script.write_text(json.dumps(turns(lines(9000), delay=0.02, chunk=20)), "utf-8")
    options = ["--data", ":memory:", "--grace", "0", "--log-level", "warning"]
    program = Program(["--model", f"scripted:{script}", *options])
    chromium = browser.browser_type.launch(
        executable_path=shutil.which("chromium"), args=CHROMIUM, ignore_default_args=["--hide-scrollbars"]
    )
    context = chromium.new_context(viewport={"width": 1000, "height": 600})
    watched = Watched(context.new_page(), program.address)
    watched.ask("Hi")
    watched.until("scroller.scrollTop > 300")
    yield watched
    chromium.close()
    program.end()


def drag(page: Page, x: float, start: float, end: float) -> None:
    page.mouse.move(x, start)
    page.mouse.down()
    page.mouse.move(x + 30, (start + end) / 2, steps=3)
    page.mouse.move(x + 60, end)
    page.mouse.up()


def drag_scrollbar(page: Page) -> None:
    bar = page.evaluate(
        "() => { const { right, bottom, width } = scroller.getBoundingClientRect(); return [right - 6, bottom - 24] }"
    )
    page.mouse.move(*bar)
    page.mouse.down()
    page.mouse.move(bar[0], bar[1] - 120, steps=4)
    page.mouse.up()


def touch(page: Page, distance: int = 0) -> None:
    """Put a finger on the text, move it down, and take it away."""
    client = page.context.new_cdp_session(page)
    steps = [
        ("touchStart", 0),
        *(("touchMove", distance * part / 4) for part in range(1, 5) if distance),
        ("touchEnd", None),
    ]
    for kind, moved in steps:
        points = [] if moved is None else [{"x": 600, "y": 200 + moved}]
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    client.detach()


def press(key: str) -> Callable[[Page], None]:
    def act(page: Page) -> None:
        page.focus("#scroller")
        page.keyboard.press(key)

    return act


def wheel(page: Page) -> None:
    page.mouse.move(600, 200)
    page.mouse.wheel(0, -150)


LEAVING: dict[str, Callable[[Page], Any]] = {
    "the wheel": wheel,
    "a finger": lambda page: touch(page, 150),
    "page up": press("PageUp"),
    "arrow up": press("ArrowUp"),
    "home": press("Home"),
    "shift and space": press("Shift+Space"),
    "the scrollbar": drag_scrollbar,
    "a selection by mouse": lambda page: drag(page, 500, 300, 330),
    "a selection by keys": lambda page: page.evaluate(
        "getSelection().selectAllChildren(document.querySelector('.prose').lastElementChild)"
    ),
    # Neither finding in the page nor a screen reader tells the page anything but that it has scrolled.
    "what only scrolls": lambda page: page.evaluate("document.querySelector('.prose').children[3].scrollIntoView()"),
    "a message by key": press("k"),
}

JUMPS: dict[str, Callable[[Page], Any]] = {
    "a smaller window": lambda page: page.set_viewport_size({"width": 700, "height": 400}),
    "a larger window": lambda page: page.set_viewport_size({"width": 1000, "height": 600}),
    "a field that grows": lambda page: page.fill("#input", "\n" * 8),
    "a field that shrinks": lambda page: page.fill("#input", ""),
    "a larger font": lambda page: page.evaluate("document.documentElement.style.fontSize = '20px'"),
    "a smaller font": lambda page: page.evaluate("document.documentElement.style.fontSize = ''"),
    "an image that comes": lambda page: page.evaluate(
        "document.querySelector('.prose').children[2].style.height = '300px'"
    ),
    "a part that folds": lambda page: page.evaluate("document.querySelector('.prose').children[2].style.height = ''"),
    "a tap": touch,
    "a click": lambda page: page.mouse.click(600, 200),
}


def test_whatever_the_reader_does_stops_the_following_at_once_and_layout_never_does(endless):
    page = endless.page
    for name, act in JUMPS.items():
        act(page)
        assert_followed(endless, name)
    for name, act in LEAVING.items():
        act(page)
        assert_left(endless, name)
        page.evaluate("getSelection().empty()")
        page.click("#jump")
        assert_followed(endless, name)


def test_while_the_reader_is_elsewhere_nothing_moves_what_is_read(endless):
    page = endless.page
    page.evaluate("document.querySelector('.prose').children[4].scrollIntoView()")
    page.wait_for_selector("#jump")
    for name, act in JUMPS.items():
        # What is wider or larger cannot stay as it is.
        if "window" in name or "font" in name:
            continue
        before = page.evaluate(PLACE)
        act(page)
        grow(endless)
        assert page.evaluate(DRIFT, before) == 0, name
    # The end is reached by the reader, and so it is followed again.
    press("End")(page)
    assert_followed(endless, "the end")


def test_nothing_moves_beneath_a_finger_or_a_pressed_button(endless):
    page = endless.page
    press("g")(page)
    assert_followed(endless, "before")
    page.mouse.move(600, 200)
    page.mouse.down()
    before = page.evaluate(PLACE)
    grow(endless)
    assert page.evaluate(DRIFT, before) == 0
    page.mouse.up()
    assert_followed(endless, "after")
