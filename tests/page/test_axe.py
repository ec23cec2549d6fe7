"""axe finds nothing, in every state of the page, light and dark. The states come one after another on one page."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from .conftest import Watched
from .rig import ANSWER, ROOT, lines, needs_libraries

pytestmark = needs_libraries

GIF = "R0lGODlhAQABAIAAAAUEBAAAACwAAAAAAQABAAACAkQBADs="
TOOLS = """
import asyncio
from chatstream.tools import tool

@tool(approval="always")
async def pay(sum: int) -> str:
    "Pay a sum."
    return f"paid {sum}"

@tool
async def wait() -> str:
    "Wait."
    await asyncio.sleep(60)
    return "waited"
"""
EVERYTHING = f"""{ANSWER}
![A pixel](https://example.org/pixel.png) and $x^2$ and **bold** and ~~gone~~, <b>raw</b>

$$\\sum_i x_i$$

- [x] done
- [ ] to do
"""


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


SCRIPT = [
    {
        "text": EVERYTHING,
        "reasoning": "Hm.",
        "tools": [call("calculate", expression="1+1"), call("calculate", expression="1+")],
    },
    {"text": EVERYTHING, "tools": [call("wait")]},
    {"text": "Shall I?", "tools": [call("pay", sum=5)]},
    {"text": "That is it."},
    {"text": "Half", "error": "overloaded"},
    {"text": lines(2000), "delay": 0.02},
]

PICTURE = {"type": "image", "mediaType": "image/gif", "data": GIF}
IMAGE = {
    "id": "q",
    "parentId": None,
    "role": "user",
    "content": [PICTURE],
    "runId": None,
    "createdAt": "2026-01-01T00:00:00Z",
}

AXE = """async (rules) => {
    const found = await axe.run(rules ? { runOnly: { type: "rule", values: rules } } : {})
    return found.violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 160)).join(" | ")}`)
}"""


class Check:
    """Looks at the page in one state after another."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.found: list[str] = []

    def __call__(self, state: str) -> None:
        for scheme in ("light", "dark"):
            self.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            # What a scheme changes are colours.
            rules = None if scheme == "light" else ["color-contrast"]
            self.found += [f"{state}, {scheme}: {line}" for line in self.page.evaluate(AXE, rules)]


@pytest.fixture
def check(browser: Browser, serve, tmp_path):
    (tmp_path / "more.py").write_text(TOOLS)
    # axe is no part of the page, so the page's policy is lifted for it.
    context = browser.new_context(bypass_csp=True, viewport={"width": 1000, "height": 700}, reduced_motion="reduce")
    watched = Watched(context.new_page(), serve(SCRIPT, "--tools", str(tmp_path / "more.py")))
    watched.page.add_script_tag(path=ROOT / "web/node_modules/axe-core/axe.min.js")
    check = Check(watched.page)
    yield check, watched
    context.close()


def test_axe_finds_nothing_in_any_state(check):
    look, watched = check
    page = watched.page
    page.set_default_timeout(8000)
    look("empty")
    text = {"name": "a.txt", "mimeType": "text/plain", "buffer": b"One\nline"}
    page.set_input_files("#files", [text, {"name": "b.pdf", "mimeType": "", "buffer": b"%PDF-1.7"}])
    expect(page.locator("#note")).to_be_visible()
    page.locator("#thumbs .thumb, #thumbs button").first.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    look("an attached file large")
    page.keyboard.press("Escape")
    look("an attached file, and one that cannot be")
    watched.ask("Everything, please")
    page.wait_for_selector(".tool[data-state=running]")
    watched.until("CSS.highlights.size > 0")
    look("a tool runs")
    page.click("#stop")
    watched.wait_until_answered()
    look("stopped")
    watched.ask("Pay")
    page.wait_for_selector(".choice button:visible")
    look("an approval")
    page.click(".approve:visible")
    watched.wait_until_answered()
    page.locator(".foot > .details:visible").last.click()
    page.wait_for_selector(".facts dl")
    look("details")
    watched.ask("Fail")
    page.wait_for_selector(".error")
    look("an error")
    watched.ask("Go on")
    page.wait_for_selector("#stop:visible")
    watched.ask("And then?")
    page.wait_for_selector("#queue li")
    page.hover("#scroller")
    page.mouse.wheel(0, -300)
    look("streaming, with a queue")
    page.context.set_offline(True)
    page.wait_for_selector("#offline:visible")
    look("offline")
    page.context.set_offline(False)
    page.click("#stop")
    watched.wait_until_answered()
    page.wait_for_selector(".send-now")
    page.locator(".user .edit").first.click()
    page.wait_for_selector(".editor .chip")
    look("a question that waits, and an editor")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Keys").click()
    page.wait_for_selector("dialog[open]")
    look("help")
    page.keyboard.press("Escape")
    page.click("#settings")
    page.wait_for_selector("dialog[open]")
    look("settings")
    page.keyboard.press("Escape")
    page.fill("#search", "pay")
    page.wait_for_selector("#list .row-snippet:not(:empty)")
    look("found")
    page.locator("#list .row-menu").first.click()
    page.wait_for_selector("[role=menu]")
    look("a menu")
    page.get_by_role("menuitem", name="Rename").click()
    look("a new title")
    page.keyboard.press("Escape")
    page.locator("#list .row-menu").first.click()
    page.get_by_role("menuitem", name="Delete").click()
    page.wait_for_selector(".toast")
    look("a toast")
    page.set_viewport_size({"width": 390, "height": 700})
    look("a phone")
    page.click("#menu-button")
    page.wait_for_selector("#sidebar.open")
    look("a drawer")
    # The first empties the search.
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.goto(watched.keep({"title": "Image", "messages": [IMAGE], "runs": [], "leafId": "q"}))
    page.locator(".message .thumb").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    look("an image large")
    assert look.found == []
