"""A real server in a process of its own, and Chromium looking at its page."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests import fork

INSTALL = "apt-get install chromium (or any chromium on the PATH)"

Serve = Callable[..., str]
Open = Callable[..., "Watched"]

# Installed before the page's own scripts: what the policy would have to stop is counted, not only stopped.
WATCH = """
window.violations = []
document.addEventListener("securitypolicyviolation", (event) => {
    violations.push(`${event.violatedDirective}: ${event.blockedURI}`)
})
window.alerts = []
window.alert = (text) => alerts.push(text)
"""


class Watched:
    """A page, the addresses it asked for, and what went wrong in it."""

    def __init__(self, page: Page, base: str) -> None:
        self.page = page
        self.base = base
        self.requests: list[str] = []
        self.errors: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.add_init_script(WATCH)
        self.open(base)

    def open(self, address: str) -> None:
        self.page.goto(address)
        self.page.wait_for_selector("body.ready")

    def reload(self) -> None:
        self.page.reload()
        self.page.wait_for_selector("body.ready")

    def ask(self, text: str) -> None:
        self.page.fill("#input", text)
        self.page.press("#input", "Enter")

    def answer(self, text: str) -> None:
        """Ask, and wait until it is answered."""
        count = self.page.locator(".message").count()
        self.ask(text)
        self.page.wait_for_selector(f"article.assistant:nth-child({count + 2})[aria-busy=false]")

    def wait_until_answered(self) -> None:
        self.page.wait_for_selector("article.assistant:last-child[aria-busy=false]")

    def until(self, expression: str, arg: Any = None) -> None:
        """Wait until `expression` holds; Playwright's own wait evaluates strings, which the policy forbids."""
        for _ in range(1500):
            if self.page.evaluate(expression, arg):
                return
            self.page.wait_for_timeout(20)
        raise AssertionError(f"it never came to pass: {expression}")

    def assert_clean(self) -> None:
        """Nothing was asked of another origin, no rule of the policy was broken, nothing threw."""
        origin = re.match(r"https?://[^/]+", self.base)
        assert origin
        assert [url for url in self.requests if not url.startswith((f"{origin[0]}/", "data:"))] == []
        assert self.page.evaluate("violations") == []
        assert self.page.evaluate("alerts") == []
        assert self.errors == []


# One for each module, not for the session: while it runs so does its event loop, and no async test can.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        missing = f"no chromium: {INSTALL}"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield browser
        browser.close()


class Program:
    """The server as a process of its own; it can be killed, and started again where it was."""

    def __init__(self, options: list[str], *command: str) -> None:
        self._options = options
        self._command = command
        self.address = ""
        self.start()

    def start(self) -> None:
        port = re.findall(r":(\d+)", self.address) or ["0"]
        self._process, self._output = fork.start([*self._command, "--port", port[0], *self._options])
        lines = []
        for line in self._output:
            lines.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+\S*", line):
                self.address = found[0]
                return
        raise AssertionError("".join(["the server did not start:\n", *lines]))

    def kill(self) -> None:
        self._process.kill()
        self._wait()

    def end(self) -> None:
        if self._output.closed:
            return
        self._process.terminate()
        self._wait()

    def _wait(self) -> None:
        # Reading to its end also lets the server write its last lines.
        self._output.read()
        self._output.close()
        self._process.join()


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Start a server that plays `turns`, or the demo, and keeps what it is told in a folder of its own."""
    programs: list[Program] = []

    def start(turns: list[dict[str, Any]] | None = None, *options: str) -> Program:
        model = "scripted:demo"
        if turns is not None:
            script = tmp_path / f"script{len(programs)}.json"
            script.write_text(json.dumps(turns), "utf-8")
            model = f"scripted:{script}"
        data = tmp_path / f"data{len(programs)}"
        programs.append(Program(["--model", model, "--data", str(data), "--grace", "0", *options]))
        return programs[-1]

    yield start
    for program in programs:
        program.end()


@pytest.fixture
def serve(program: Callable[..., Program]) -> Serve:
    """Start a server that plays `turns`, or the demo, and return the address it printed."""
    return lambda *arguments: program(*arguments).address


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1000, "height": 700})
    yield context
    context.close()


@pytest.fixture
def open_page(serve: Serve, context: BrowserContext) -> Open:
    """Open the page of a server that plays `turns`."""

    def open_page(turns: list[dict[str, Any]] | None = None, *options: str) -> Watched:
        return Watched(context.new_page(), serve(turns, *options))

    return open_page
