"""Pages that somebody else wrote: `useChat` of TanStack AI and of the AI SDK, with React, in an application of his own.

It serves its pages and has chatstream's routes beside them; the same pages stand at another origin too.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web
from playwright.sync_api import BrowserContext, Locator, Page, expect

from chatstream import tool
from chatstream.config import Config
from chatstream.server import add_routes
from chatstream.testing import FakeProvider
from chatstream.tools import Toolbox
from tests.clients.rig import FOLDER, INSTALL, MODEL, TOOLS, play
from tests.server.conftest import provider_environment
from tests.server.rig import HANG, told

NAMES = ("tanstack", "vercel")
HTML = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{name}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{name}.css">
<div id="root"></div>
<script type="module" src="{name}.js"></script>
"""
# As a development server bundles: React and the clients then say on the console what they think is wrong.
BUNDLE = ("--bundle", "--format=esm", "--jsx=automatic", "--jsx-dev", '--define:process.env.NODE_ENV="development"')


@dataclass
class Site:
    """`url` is the application's origin, `elsewhere` one that has nothing but the pages."""

    url: str
    elsewhere: str
    fake: FakeProvider
    let_go: Callable[[], None]


@asynccontextmanager
async def listening(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def application(pages: Path) -> AsyncIterator[Site]:
    held = asyncio.Event()

    @tool
    async def hold() -> str:
        """Wait until it is let go."""
        await held.wait()
        held.clear()
        return "held"

    alone = web.Application()
    alone.router.add_static("/", pages)
    async with FakeProvider(play) as fake, listening(alone) as elsewhere:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in provider_environment(fake.url).items():
                patch.setenv(name, value)
            app = web.Application()
            app.router.add_static("/pages", pages)
            config = Config(model=MODEL, cors_origins=(elsewhere,), linger=HANG)
            add_routes(app, config, tools=Toolbox([*TOOLS, hold]))
            async with listening(app) as url:
                loop = asyncio.get_running_loop()
                yield Site(f"{url}/pages", elsewhere, fake, lambda: loop.call_soon_threadsafe(held.set))


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages, bundled."""
    esbuild = shutil.which(FOLDER / "node_modules/.bin/esbuild")
    if esbuild is None:
        missing = f"the clients are not installed: {INSTALL}"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    folder = tmp_path_factory.mktemp("pages")
    sources = [str(FOLDER / f"pages/{name}.jsx") for name in NAMES]
    subprocess.run([esbuild, *sources, *BUNDLE, f"--outdir={folder}", "--log-level=warning"], check=True)
    for name in NAMES:
        (folder / f"{name}.html").write_text(HTML.format(name=name))
    return folder


@pytest.fixture(scope="module")
def site(pages: Path) -> Iterator[Site]:
    """The application, in a thread of its own: Playwright's loop has this one."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    opened = application(pages)
    try:
        yield asyncio.run_coroutine_threadsafe(opened.__aenter__(), loop).result(HANG)
        asyncio.run_coroutine_threadsafe(opened.__aexit__(None, None, None), loop).result(HANG)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class Visit:
    """A page in which a chat is, and what it said on its console that it should not have to."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.on("console", lambda said: said.type in ("warning", "error") and self.complaints.append(said.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(address)
        self.answer = page.locator("article.assistant")

    def ask(self, text: str) -> None:
        self.page.get_by_label("Message").fill(text)
        self.page.get_by_label("Message").press("Enter")

    def wait(self) -> None:
        """Wait until nothing is being answered."""
        expect(self.page.locator("main[aria-busy=false]")).to_be_visible()

    def tool(self, name: str) -> Locator:
        return self.page.get_by_label(f"Tool {name}").last

    def check_tool(self, name: str, state: str, *texts: str) -> None:
        expect(self.tool(name).locator(".state")).to_have_text(state)
        for text in texts:
            expect(self.tool(name)).to_contain_text(text)


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def visit(site: Site, context: BrowserContext) -> Iterator[Callable[[str], Visit]]:
    """Open a page of the site, or that of another address, and see at the end that it had nothing to complain about."""
    visits: list[Visit] = []

    def visit(path: str, base: str = site.url) -> Visit:
        visits.append(Visit(context.new_page(), f"{base}/{path}"))
        return visits[-1]

    yield visit
    assert [complaint for each in visits for complaint in each.complaints] == []


def last_told(site: Site) -> list[str]:
    return told(site.fake.requests[-1].body)


def test_a_page_chats_with_tools_and_sends_its_own_history_back(visit, site, name):
    page = visit(f"{name}.html")
    page.ask("thoughtful: how much is it?")
    expect(page.answer.last).to_contain_text("Three.")
    page.wait()
    page.check_tool("add", "done", '"a": 1', "3")
    expect(page.answer.first).to_contain_text("I add.")
    expect(page.page.locator(".reasoning")).to_have_text(["ThoughtI need a sum.", "ThoughtSo."])
    page.ask("parallel: and now?")
    expect(page.answer.last).to_contain_text("Three, and no.")
    page.wait()
    page.check_tool("add", "done", "3")
    page.check_tool("fail", "failed", "no")
    page.ask("plain: thanks")
    expect(page.answer.last).to_contain_text("A line,")
    assert last_told(site)[:4] == [
        "user: thoughtful: how much is it?",
        "assistant: I add.",
        'call_add add {"a": 1, "b": 2}',
        "call_add: 3",
    ]
    assert [line for line in last_told(site) if line.startswith("user")][1:] == [
        "user: parallel: and now?",
        "user: plain: thanks",
    ]


@pytest.mark.parametrize(
    ("button", "state", "shown", "model_told"),
    [("Approve", "done", "a.txt is deleted", "a.txt is deleted"), ("Deny", "denied", "a.txt", "denied")],
)
def test_a_call_waits_for_its_approval(visit, site, name, button, state, shown, model_told):
    page = visit(f"{name}.html")
    page.ask("approval: clean up")
    page.check_tool("delete_file", "needs your approval", '"path": "a.txt"')
    page.wait()
    page.tool("delete_file").get_by_role("button", name=button).click()
    expect(page.answer.last).to_contain_text("I see.")
    page.wait()
    page.check_tool("delete_file", state, shown)
    assert model_told in last_told(site)[-1]


def test_a_failing_provider_is_an_error_and_what_it_said_stays(visit, name):
    page = visit(f"{name}.html")
    page.ask("breaks: tell me")
    expect(page.page.get_by_role("alert")).to_contain_text("connection")
    page.wait()
    expect(page.answer).to_contain_text("Once")
    page.ask("plain: and now?")
    expect(page.answer.last).to_contain_text("A line,")
    expect(page.page.get_by_role("alert")).to_have_count(0)


def test_a_stop_keeps_what_was_said_and_the_chat_goes_on(visit, site, name):
    page = visit(f"{name}.html")
    page.ask("slow: tell me")
    expect(page.answer).to_contain_text("Once upon")
    asked = site.fake.requests[-1]
    page.page.get_by_role("button", name="Stop").click()
    page.wait()
    said = page.answer.inner_text()
    page.ask("plain: thanks")
    expect(page.answer.last).to_contain_text("A line,")
    expect(page.answer.first).to_have_text(said)
    # These clients stop by leaving; what nobody watches is ended by the next question, if not before.
    for _ in range(HANG * 50):
        if asked.left:
            break
        page.page.wait_for_timeout(20)
    assert asked.left
    assert "assistant: Once" in " ".join(last_told(site))


def test_a_reload_in_mid_answer_goes_on_where_it_was(visit, site, name):
    page = visit(f"{name}.html?chat=reloaded-{name}")
    page.ask("held: tell me")
    page.check_tool("hold", "running")
    page.page.reload()
    page.check_tool("hold", "running")
    expect(page.page.locator("article.user")).to_have_text("held: tell me")
    asked = len(site.fake.requests)
    site.let_go()
    expect(page.answer.last).to_contain_text("The end.")
    page.wait()
    page.check_tool("hold", "done", "held")
    assert page.page.inner_text("main").count("Once upon a time.") == 1
    assert len(site.fake.requests) == asked + 1
    page.ask("plain: thanks")
    expect(page.answer.last).to_contain_text("A line,")
    assert last_told(site)[1:4] == ["assistant: Once upon a time.", "call_hold hold {}", "call_hold: held"]


def test_a_call_that_waits_is_decided_after_a_reload(visit, site, name):
    page = visit(f"{name}.html?chat=waiting-{name}")
    page.ask("approval: clean up")
    page.check_tool("delete_file", "needs your approval")
    page.wait()
    page.page.reload()
    page.check_tool("delete_file", "needs your approval", '"path": "a.txt"')
    page.tool("delete_file").get_by_role("button", name="Approve").click()
    expect(page.answer.last).to_contain_text("I see.")
    page.check_tool("delete_file", "done", "a.txt is deleted")
    assert last_told(site)[1:] == [
        "assistant: I delete it.",
        'call_delete delete_file {"path": "a.txt"}',
        "call_delete: a.txt is deleted",
    ]


def test_a_page_of_a_named_origin_chats_from_there(visit, site, name):
    page = visit(f"{name}.html?api={site.url.removesuffix('/pages')}/api/chat", site.elsewhere)
    page.ask("approval: clean up")
    page.check_tool("delete_file", "needs your approval")
    page.tool("delete_file").get_by_role("button", name="Approve").click()
    expect(page.answer.last).to_contain_text("I see.")
    page.check_tool("delete_file", "done", "a.txt is deleted")


def test_a_phone_shows_all_of_a_page_in_its_width(visit, name):
    page = visit(f"{name}.html")
    page.page.set_viewport_size({"width": 390, "height": 844})
    page.ask("mixed: " + "a long word " * 20 + "x" * 200)
    page.check_tool("delete_file", "needs your approval")
    assert page.page.evaluate("document.documentElement.scrollWidth") == 390
    expect(page.page.get_by_role("button", name="Approve")).to_be_in_viewport()
    expect(page.page.get_by_label("Message")).to_be_in_viewport()
