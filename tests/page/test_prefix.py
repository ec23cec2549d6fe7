"""The page in an application of somebody else's, behind a prefix, with a token."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, expect

from .conftest import Watched
from .rig import ROOT, needs_libraries, turns

pytestmark = needs_libraries

APP = """
import asyncio, sys
from aiohttp import web
from chatstream.config import Config
from chatstream.server import add_routes

async def main():
    app = web.Application()
    app.router.add_get("/", lambda request: web.Response(text="mine"))
    config = Config(model=f"scripted:{sys.argv[1]}", token="a-token-of-mine")
    add_routes(app, config, prefix="/deep/chat", parts=["api", "page"])
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    script = tmp_path / "script.json"
    script.write_text(json.dumps(turns("Here:\n\n```python\ndef f(x): return 1\n```\n")))
    with subprocess.Popen([sys.executable, "-c", APP, script], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.kill()


def test_the_page_works_behind_a_prefix(address: str, context: BrowserContext) -> None:
    watched = Watched(context.new_page(), f"{address}/deep/chat#token=a-token-of-mine")
    page = watched.page

    watched.answer("Hello")
    # The code of an answer is coloured by a library that is loaded when the first is seen.
    watched.until("CSS.highlights.size > 0")
    expect(page.locator("#list a")).to_have_count(1)
    watched.reload()
    expect(page.locator("article.assistant")).to_have_count(1)
    page.locator("#list .row-menu").click()
    with page.expect_download() as download:
        page.get_by_role("menuitem", name="Export as Markdown").click()
    assert "def f(x)" in download.value.path().read_text()
    assert [url for url in watched.requests if not url.startswith((f"{address}/deep/chat", "data:"))] == []
    assert any("/deep/chat/node_modules/@speed-highlight/" in url for url in watched.requests)
    watched.assert_clean()

    page.evaluate("new Image().src = 'https://images.example/x'")
    with page.expect_event("requestfinished", lambda request: request.url == f"{address}/deep/chat/api/csp-reports"):
        page.evaluate("new Image().src = 'https://images.example/y'")
