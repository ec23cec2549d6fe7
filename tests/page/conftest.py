"""A real server in a process of its own, and Chromium looking at its page."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from chatstream.testing import FakeProvider, Turn
from tests import fork

INSTALL = "apt-get install chromium (or any chromium on the PATH)"

Serve = Callable[..., str]
Open = Callable[..., "Watched"]
Provide = Callable[..., FakeProvider]

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

    def keep(self, conversation: dict[str, Any]) -> str:
        """Put a conversation on the server, as it is exported, and return its address."""
        server = self.base.rstrip("/")
        headers = {"Content-Type": "application/json"}
        response = self.page.request.post(
            f"{server}/api/conversations/import", data=json.dumps(conversation), headers=headers
        )
        assert response.status == 201, response.text()
        return f"{server}/#c={response.json()['id']}"

    def assert_clean(self) -> None:
        """Nothing was asked of another origin, no rule of the policy was broken, nothing threw."""
        origin = re.match(r"https?://[^/]+", self.base)
        assert origin
        assert [url for url in self.requests if not url.startswith((f"{origin[0]}/", "data:"))] == []
        assert self.page.evaluate("violations") == []
        assert self.page.evaluate("alerts") == []
        assert self.errors == []


# The popups of an address bar that nobody sees are pages too, and took more time than most tests (measured).
CHROMIUM = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    "--disable-features=WebUIOmniboxPopup,WebUIOmniboxAimPopup",
]


# One for each module, not for the session: while it runs so does its event loop, and no async test can.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        missing = f"no chromium: {INSTALL}"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM)
        yield browser
        browser.close()


class Program:
    """The server as a process of its own; it can be killed, and started again where it was.

    When it has ended `log` is what it wrote since it was ready.
    """

    def __init__(self, options: list[str], *command: str) -> None:
        self._options = options
        self._command = command
        self.address = ""
        self.log = ""
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
        self.log = self._output.read()
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


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Start a server that plays `turns` for all tests of a module, and return its address."""
    programs: list[Program] = []

    def start(turns: list[dict[str, Any]]) -> str:
        script = tmp_path_factory.mktemp("shared") / "script.json"
        script.write_text(json.dumps(turns), "utf-8")
        # Nobody reads what it writes: its log would fill the pipe.
        options = ["--data", ":memory:", "--grace", "0", "--log-level", "warning"]
        programs.append(Program(["--model", f"scripted:{script}", *options]))
        return programs[-1].address

    yield start
    for program in programs:
        program.end()


def fill(context: BrowserContext, address: str, conversations: Mapping[str, tuple[str, str]]) -> None:
    """Let the server have these conversations by their titles, a question and its answer each, and no other."""
    for had in context.request.get(f"{address}/api/conversations?limit=200").json()["conversations"]:
        context.request.delete(f"{address}/api/conversations/{had['id']}")
    for title, (question, answer) in conversations.items():
        asked = {"id": "q", "role": "user", "content": question}
        answered = {"id": "a", "parentId": "q", "role": "assistant", "content": answer}
        made = {"title": title, "messages": [asked, answered]}
        assert context.request.post(f"{address}/api/conversations/import", data=made).status == 201


@pytest.fixture
def serve(program: Callable[..., Program]) -> Serve:
    """Start a server that plays `turns`, or the demo, and return the address it printed."""
    return lambda *arguments: program(*arguments).address


@pytest.fixture
def provide(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provide]:
    """Start a fake provider in a thread of its own, where the server that the page is of finds it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    fakes: list[FakeProvider] = []

    def provide(*turns: Turn) -> FakeProvider:
        fakes.append(FakeProvider(turns))
        asyncio.run_coroutine_threadsafe(fakes[-1].__aenter__(), loop).result(30)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "test-key")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", fakes[-1].url)
        return fakes[-1]

    yield provide
    for fake in fakes:
        asyncio.run_coroutine_threadsafe(fake.__aexit__(None, None, None), loop).result(30)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


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
