"""Takes pictures of the page in its states, light and dark, on a desktop and on a phone: `scripts/screens.py FOLDER`.

To be looked at, not compared: alignment, rhythm, contrast, what is cut off. Of each state there is one sheet with its
four pictures beside each other. Needs playwright (extra `test`) and Chromium.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

SIZES = {"desktop": (1280, 800), "phone": (390, 844)}
OVER_A_KEYBOARD = {"desktop": (1280, 420), "phone": (390, 420)}
ANSWERED = "article.assistant:last-child[aria-busy=false]"
PROSE = (
    "A **server-sent event** is a line of text that a server adds to an answer which it keeps open "
    "([the standard](https://html.spec.whatwg.org/multipage/server-sent-events.html)).\n\n"
    "- it goes one way\n- it needs no library\n- it says *where it was*\n\n> Short, and it survives proxies."
)
CODE = "\n".join(
    f"    total += weigh({number}, 'a text that is long enough to be wider than a phone')" for number in range(40)
)
LONG_CODE = (
    f"Here it is:\n\n```python\ndef count(total: int) -> int:  # adds\n{CODE}\n    return total\n```\n\nThat is all."
)
TABLE = (
    "| planet | radius (km) | moons | what is known of it |\n|---|--:|--:|---|\n"
    "| Mercury | 2,440 | 0 | small, hot and cold |\n| Jupiter | 69,911 | 95 | mostly hydrogen |\n\n"
    "Its volume is $V = \\frac{4}{3}\\pi r^3$, and\n\n$$\\int_0^\\infty e^{-x^2}\\,dx = \\frac{\\sqrt{\\pi}}{2}$$\n\n"
    "- [x] measured\n- [ ] visited, for $5 and $10\n\n![a map](https://example.org/map.png)"
)
RIGHT_TO_LEFT = (
    "## שלום\n\nתשובה **קצרה** עם `code` וגם [קישור](https://example.org).\n\n"  # noqa: RUF001
    "1. אחת\n2. שתיים\n\n> ציטוט"
)
TOOLS = '''
import asyncio
from chatstream.tools import Progress, tool

@tool(read_only=True)
async def measure(place: str, report: Progress) -> str:
    """Measure something at a place."""
    report("half of it")
    await asyncio.sleep(60)
    return "42"

@tool(approval="always")
def delete_file(path: str) -> str:
    """Delete a file."""
    return "deleted"
'''


def ask(page: Page, text: str, until: str = ANSWERED) -> None:
    page.fill("#input", text)
    page.click("#send")
    page.wait_for_selector(until)


def nothing(page: Page) -> None:
    page.wait_for_selector("#examples li")


def answered(page: Page) -> None:
    ask(page, "What are server-sent events?")


def streaming(page: Page) -> None:
    ask(page, "What are server-sent events?", ".prose li")


def tools(page: Page) -> None:
    ask(page, "What is the weather in Oslo, and what is 6 * 7?", ".tool[data-state=done]")
    page.wait_for_timeout(500)


def approval(page: Page) -> None:
    ask(page, "Delete that file", ".tool[data-state=waiting]")


def offline(page: Page) -> None:
    streaming(page)
    page.context.set_offline(True)
    page.wait_for_timeout(500)


def branches(page: Page) -> None:
    answered(page)
    page.locator(".assistant .change").click()
    page.wait_for_selector(".branches:not([hidden])")
    page.wait_for_selector(ANSWERED)


def search(page: Page) -> None:
    for question in ("What are server-sent events?", "Which events are sent?", "How is the weather?"):
        page.click("#clear")
        ask(page, question)
    if page.locator("#menu-button").is_visible():
        page.click("#menu-button")
    page.fill("#search", "events")
    page.wait_for_timeout(600)


def typing(page: Page) -> None:
    answered(page)
    page.fill("#input", "And what about proxies that\nhold everything back?")


def hebrew(page: Page) -> None:
    ask(page, "מה שלומך היום?")


def queue(page: Page) -> None:
    streaming(page)
    for question in ("And what about proxies that hold everything back, as some of them do?", "Thanks"):
        page.fill("#input", question)
        page.click("#send")
        page.wait_for_selector(f"#queue :text('{question}')")


def settings(page: Page) -> None:
    page.click("#settings")
    page.wait_for_selector(".panel")


def menu(page: Page) -> None:
    answered(page)
    if page.locator("#menu-button").is_visible():
        page.click("#menu-button")
    page.hover(".row >> nth=0")
    page.click(".row-menu >> nth=0")
    page.wait_for_selector(".menu")


# What is done in each state, and the turns of the script with which it is.
STATES: dict[str, tuple[Callable[[Page], None], list[dict[str, Any]]]] = {
    "empty": (nothing, [{"text": PROSE}]),
    "streaming": (streaming, [{"text": PROSE, "delay": 0.05, "chunk": 6}]),
    "tools": (
        tools,
        [
            {
                "reasoning": "Two things are asked, and both can be looked up.",
                "text": "Let me look.",
                "tools": [
                    {"name": "calculate", "arguments": {"expression": "6 * 7"}},
                    {"name": "calculate", "arguments": {"expression": "6 / 0"}},
                    {"name": "measure", "arguments": {"place": "Oslo"}},
                ],
            }
        ],
    ),
    "approval": (
        approval,
        [{"text": "I will.", "tools": [{"name": "delete_file", "arguments": {"path": "/srv/notes.txt"}}]}],
    ),
    "error": (answered, [{"text": PROSE, "error": "auth"}]),
    "offline": (offline, [{"text": PROSE, "delay": 0.05, "chunk": 6}]),
    "code": (answered, [{"text": LONG_CODE}]),
    "table": (answered, [{"text": TABLE}]),
    "branches": (branches, [{"text": PROSE}]),
    "search": (search, [{"text": PROSE}]),
    "keyboard": (typing, [{"text": PROSE}]),
    "rtl": (hebrew, [{"text": RIGHT_TO_LEFT}]),
    "queue": (queue, [{"text": PROSE * 9, "delay": 0.2, "chunk": 6}]),
    "settings": (settings, [{"text": PROSE}]),
    "menu": (menu, [{"text": PROSE}]),
}


@contextmanager
def serve(folder: Path, turns: list[dict[str, Any]]) -> Iterator[str]:
    """Start a server that plays `turns`, and give its address."""
    script, tools = folder / "screens.json", folder / "screens_tools.py"
    script.write_text(json.dumps([{"delay": 0} | turn for turn in turns]), "utf-8")
    tools.write_text(TOOLS, "utf-8")
    options = [
        "--model",
        f"scripted:{script}",
        "--tools",
        str(tools),
        "--data",
        ":memory:",
        "--port",
        "0",
        "--grace",
        "0",
    ]
    command = [sys.executable, "-m", "chatstream", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout
            for line in process.stdout:
                if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                    yield found[0]
                    return
            sys.exit("the server did not start")
        finally:
            process.terminate()


def take(browser: Browser, address: str, state: str, folder: Path) -> list[Path]:
    taken = []
    for name, size in (OVER_A_KEYBOARD if state == "keyboard" else SIZES).items():
        for scheme in ("light", "dark"):
            width, height = size
            context = browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme=scheme,
                has_touch=name == "phone",
                is_mobile=name == "phone",
            )
            page = context.new_page()
            page.goto(address)
            page.wait_for_selector("body.ready")
            STATES[state][0](page)
            page.wait_for_timeout(300)
            taken.append(folder / f"{state}-{name}-{scheme}.png")
            page.screenshot(path=taken[-1])
            context.close()
    return taken


def join(browser: Browser, pictures: list[Path], sheet: Path) -> None:
    """Put pictures beside each other."""
    page = browser.new_page(viewport={"width": 2400, "height": 600})
    page.goto(sheet.parent.as_uri())
    images = "".join(
        f"<img src='{picture.name}' style='height: 720px; margin: 4px; border: 1px solid #888'>" for picture in pictures
    )
    (sheet.parent / "sheet.html").write_text(f"<body style='margin: 0; background: #777'>{images}", "utf-8")
    page.goto((sheet.parent / "sheet.html").as_uri())
    page.screenshot(path=sheet, full_page=True)
    page.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("states", nargs="*", help=f"all by default: {', '.join(STATES)}")
    arguments = parser.parse_args()
    if unknown := set(arguments.states) - set(STATES):
        parser.error(f"there is no state {unknown.pop()!r}; there are {', '.join(STATES)}")
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium") or sys.exit("there is no chromium here (apt-get install chromium)")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as temporary:
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        for state in arguments.states or STATES:
            with serve(Path(temporary), STATES[state][1]) as address:
                join(browser, take(browser, address, state, folder), folder / f"{state}.png")
            print(folder / f"{state}.png", flush=True)
        browser.close()


if __name__ == "__main__":
    main()
