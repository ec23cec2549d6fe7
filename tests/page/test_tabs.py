"""Many tabs of one browser: they share a connection, which outlives the tab that has it, and tell each other news."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from playwright.sync_api import BrowserContext, Error, Page, Request, expect

from chatstream import tool
from chatstream.config import Config
from chatstream.server import Server, make_app
from chatstream.tools import Toolbox
from tests.prove.proxy import Cut, Proxy

from .conftest import Watched
from .rig import needs_libraries, words

pytestmark = needs_libraries

HANG = 60


class Stage:
    """A server in a thread of its own, with the number of streams that are open, and a proxy that cuts them.

    An answer is PARTS, each when `go_on` lets it, or `short`, at once.
    """

    PARTS = ("Once upon", " a time", " there was", " an answer", " that went on.")

    def __init__(self, folder: Path, short: str = "", heartbeat: float = 15) -> None:
        self.open = 0
        self._folder = folder
        self._short = short
        self._heartbeat = heartbeat
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._stack = AsyncExitStack()
        self.do(self._start())

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(HANG)

    def end(self) -> None:
        self.do(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(HANG * 100):
            if condition():
                return
            time.sleep(0.01)
        raise AssertionError("it never came to pass")

    def go_on(self) -> None:
        """Let every run say its next part."""
        self.do(self._let_on())

    async def _let_on(self) -> None:
        async with self._may:
            self._step += 1
            self._may.notify_all()

    async def _start(self) -> None:
        self._may = asyncio.Condition()
        self._step = 0
        waits = {"name": "wait", "arguments": {}}
        turns = [{"text": part, "delay": 0, "tools": [waits]} for part in self.PARTS[:-1]]
        turns += [{"text": self.PARTS[-1], "delay": 0}]
        script = self._folder / "script.json"
        script.write_text(json.dumps([{"text": self._short, "delay": 0.001, "chunk": 9}] if self._short else turns))

        @tool
        async def wait() -> str:
            "Wait."
            async with self._may:
                step = self._step
                await self._may.wait_for(lambda: self._step > step)
            return "done"

        config = Config(model=f"scripted:{script}", heartbeat=self._heartbeat)
        server = Server(config, tools=Toolbox([wait]))
        app = make_app(server)
        app.middlewares.append(self._count)
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        self._stack.push_async_callback(server.close)
        self._stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        await server.open()
        port = runner.addresses[0][1]
        self.address = f"http://127.0.0.1:{port}/"
        self.proxy = await self._stack.enter_async_context(Proxy(port, b"/api/events"))

    async def head(self) -> int:
        """Return how many bytes stand before the body of a stream."""
        reader, writer = await asyncio.open_connection("127.0.0.1", int(self.address.split(":")[2].strip("/")))
        writer.write(b"GET /api/events?run=none HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        writer.close()
        return len(head)

    @web.middleware
    async def _count(self, request: web.Request, handler: Callable[..., Any]) -> web.StreamResponse:
        if request.path != "/api/events":
            return await handler(request)
        self.open += 1
        try:
            return await handler(request)
        finally:
            self.open -= 1


class Streams:
    """Counts the streams of a browser, as it sees them itself: those that are open, and the most that were."""

    def __init__(self, context: BrowserContext) -> None:
        self.open = self.most = 0
        context.on("request", lambda request: self._note(request, 1))
        context.on("requestfinished", lambda request: self._note(request, -1))
        context.on("requestfailed", lambda request: self._note(request, -1))

    def _note(self, request: Request, change: int) -> None:
        if "/api/events" in request.url:
            self.open += change
            self.most = max(self.most, self.open)


@pytest.fixture
def stage(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Stage]:
    stage = Stage(tmp_path, **getattr(request, "param", {}))
    yield stage
    stage.end()


@pytest.fixture
def tab(stage: Stage, context: BrowserContext) -> Callable[..., Watched]:
    """Open another tab, of the conversation that one shows or of a new one."""
    return lambda other=None: Watched(context.new_page(), other.page.url if other else stage.address)


def shows(watched: Watched, count: int, first: int = 0) -> None:
    """Wait until the last answer has its parts up to this one, each once."""
    prose = watched.page.locator("article.assistant").last.locator(".prose")
    expect(prose).to_have_text([part.strip() for part in Stage.PARTS[first:count]])


def crash(page: Page) -> None:
    """End the process of a tab as if it had crashed."""
    with page.expect_event("crash"), suppress(Error):
        page.goto("chrome://crash", wait_until="commit")


def freeze(page: Page) -> Callable[[], None]:
    """Let no script of a tab run any more, until what is returned is called.

    Chromium freezes only what is hidden, which no page is here; to a script a debugger is the same.
    """
    devtools = page.context.new_cdp_session(page)
    devtools.send("Debugger.enable")
    devtools.send("Debugger.pause")
    return lambda: devtools.send("Debugger.disable") and None


def stored(watched: Watched) -> list[str]:
    ask = "async () => (await fetch(`api/conversations/${location.hash.slice(3)}`)).json()"
    messages = watched.page.evaluate(ask)["messages"]
    return [part["text"] for each in messages if each["role"] == "assistant" for part in each["content"][:1]]


def test_twelve_tabs_with_three_live_answers_share_one_connection_and_leave_room_for_more(stage, tab, context):
    streams = Streams(context)
    first = [tab() for _ in range(3)]
    for one in first:
        one.ask("Hi")
        shows(one, 1)
    tabs = [*first, *(tab(one) for one in first for _ in range(3))]
    for one in tabs:
        shows(one, 1)
    assert (streams.open, stage.open) == (1, 1)

    # With a stream for each tab nothing further would come through: a browser has six connections to a server.
    new = tab()
    expect(new.page.locator("#list .row")).to_have_count(3)
    new.ask("Another one")
    shows(new, 1)
    for count in range(2, len(Stage.PARTS) + 1):
        stage.go_on()
        shows(new, count)
    for one in (*tabs, new):
        shows(one, len(Stage.PARTS))
        one.wait_until_answered()
        assert stored(one) == [*Stage.PARTS]
        assert one.errors == []
    assert streams.most <= 2
    expect(new.page.locator(".row-mark:not([hidden])")).to_have_count(0)
    stage.until(lambda: stage.open == 0)


@pytest.mark.parametrize("stage", [{"heartbeat": 0.5}], indirect=True, ids=["heartbeat"])
def test_an_answer_goes_on_whatever_becomes_of_the_tab_that_has_the_connection(stage, tab):
    first = tab()
    first.ask("Hi")
    shows(first, 1)
    second, third = tab(first), tab(first)
    for one in (second, third):
        shows(one, 1)

    # It dies.
    crash(first.page)
    stage.go_on()
    for one in (second, third):
        shows(one, 2)

    # It is frozen, or stuck: it has the lock, and no script of it runs.
    for count, (leader, other) in enumerate([(second, third), (third, second)], 3):
        wake = freeze(leader.page)
        stage.go_on()
        shows(other, count)
        failed: list[str] = []
        leader.page.once("requestfailed", lambda request, failed=failed: failed.append(request.url))
        wake()
        shows(leader, count)
        assert [url for url in failed if "/api/events" not in url] == []
        assert leader.page.locator(".error").count() == 0

    stage.go_on()
    for one in (second, third):
        one.wait_until_answered()
        shows(one, 5)
        assert stored(one) == [*Stage.PARTS]
        assert (one.errors, one.page.locator(".error").count()) == ([], 0)
    stage.until(lambda: stage.open == 0)


def test_what_one_tab_does_the_others_show_by_themselves(stage, tab):
    first = tab()
    first.ask("Hi")
    shows(first, 1)
    second, third = tab(first), tab()
    expect(third.page.locator("#list .row a")).to_have_text(["Hi"])
    for count in range(2, 6):
        stage.go_on()
        shows(second, count)
    expect(third.page.locator(".row-mark:not([hidden])")).to_have_count(0)

    # A question of the second is seen in the first, and its answer as it is written; so is a stop.
    first.wait_until_answered()
    second.ask("And then?")
    expect(first.page.locator(".bubble")).to_have_text(["Hi", "And then?"])
    shows(first, 1)
    first.page.click("#stop")
    for one in (first, second):
        one.wait_until_answered()
        expect(one.page.locator(".ending").last).to_contain_text("Stopped")

    # What a page that is kept for the way back had is another's, and what it missed is there when it is shown again.
    persisted = "(kind) => void dispatchEvent(new PageTransitionEvent(kind, { persisted: true }))"
    first.page.evaluate(persisted, "pagehide")
    held = "async () => (await navigator.locks.query()).held.length"
    second.until(f"async () => await ({held})() === 3")
    second.ask("More")  # the script goes on where it was stopped
    shows(second, 2, first=1)
    stage.go_on()
    shows(second, 3, first=1)
    assert first.page.locator(".bubble").count() == 2
    first.page.evaluate(persisted, "pageshow")
    expect(first.page.locator(".bubble")).to_have_text(["Hi", "And then?", "More"])
    shows(first, 3, first=1)
    second.page.close()
    stage.go_on()
    shows(first, 4, first=1)

    # The list follows too.
    id = first.page.url.partition("#c=")[2]
    expect(third.page.locator(".row-mark:not([hidden])")).to_have_count(1)
    first.page.click("#stop")
    first.wait_until_answered()
    expect(third.page.locator(".row-mark:not([hidden])")).to_have_count(0)
    third.open(f"{stage.address}#c={id}")
    assert (first.errors, third.errors) == ([], [])


@pytest.mark.parametrize("stage", [{"short": words(60)}], indirect=True, ids=["short"])
def test_a_stream_that_is_cut_again_and_again_shows_in_the_end_what_the_uncut_one_does(stage, context, tmp_path):
    # Waits for another try are shorter: what is shown here is not about time.
    context.add_init_script(
        "const later = setTimeout; setTimeout = (work, ms) => later(work, ms < 1000 ? ms : ms / 50)"
    )
    watched = Watched(context.new_page(), f"{stage.proxy.url}/")
    page = watched.page
    head = stage.do(stage.head())
    once = [[Cut(at, is_reset=at % 2 == 0)] for at in (-1, head // 2, head + 30)]
    # The longest frame has to fit in, or nothing is ever gained.
    longest = 900 + len(str(tmp_path))
    often = [[Cut(head + longest + more, is_reset=more % 2 == 0)] * 100 for more in (0, 51, 438)]
    for faults in (*once, *often):
        stage.proxy.meet(faults)
        watched.answer("Hi")
        assert page.locator(".prose").all_inner_texts() == [words(60)] == stored(watched)
        assert stage.proxy.streams > 1
        assert page.locator(".error").count() == 0
        page.click("#clear")
        expect(page.locator(".message")).to_have_count(0)
    assert watched.errors == []
