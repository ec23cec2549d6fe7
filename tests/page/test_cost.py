"""What the page costs: bytes before it can be used, script while an answer streams, and nothing while none does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, CDPSession, Page, Response, Route, expect

from .conftest import Watched
from .rig import ANSWER, needs_libraries, turns

pytestmark = needs_libraries

# Bytes of script and style as they are sent, zipped: of the first load ours and all, and all when an answer is shown.
OURS, ALL, WITH_AN_ANSWER = 40_000, 80_000, 90_000
# How often script runs by itself; installed before the page's own.
COUNT = """
window.ran = 0
for (const name of ["setTimeout", "setInterval", "requestAnimationFrame", "requestIdleCallback"]) {
    const real = window[name]
    window[name] = (deed, ...rest) => real((...args) => { window.ran++; deed(...args) }, ...rest)
}
"""


class Loaded:
    """The script and style that a page loads, with the bytes that went over the wire."""

    def __init__(self, page: Page) -> None:
        self.sizes: dict[str, int] = {}
        page.on("response", self._note)

    def _note(self, response: Response) -> None:
        if response.request.resource_type in ("script", "stylesheet"):
            assert response.headers["content-encoding"] == "gzip"
            self.sizes[urlsplit(response.url).path] = int(response.headers["content-length"])

    def of(self, is_ours: bool) -> int:
        return sum(size for path, size in self.sizes.items() if is_ours is not path.startswith("/node_modules/"))

    def __str__(self) -> str:
        listed = sorted(self.sizes.items(), key=lambda item: -item[1])
        return "\n".join([f"ours {self.of(True)}, libraries {self.of(False)}", *(f"{n:7} {p}" for p, n in listed)])


def test_the_first_load_is_small(serve: Any, context: BrowserContext) -> None:
    page = context.new_page()
    loaded = Loaded(page)
    page.goto(serve(turns("A plain answer.")))
    page.wait_for_selector("body.ready")
    page.wait_for_load_state("networkidle")
    # What app.js needs is named in index.html, so that it comes at once and not one after the other.
    named = page.eval_on_selector_all(
        "link[rel=modulepreload]", "links => links.map((link) => new URL(link.href).pathname)"
    )
    assert {path for path in loaded.sizes if path.endswith(".js")} == {*named, "/app.js", "/theme.js"}
    assert loaded.of(True) <= OURS and loaded.of(True) + loaded.of(False) <= ALL, str(loaded)

    page.fill("#input", "Hi")
    page.click("#send")
    page.wait_for_selector("article.assistant[aria-busy=false] .prose")
    page.wait_for_load_state("networkidle")
    assert loaded.of(True) + loaded.of(False) <= WITH_AN_ANSWER, str(loaded)
    # So that what is counted is what was loaded.
    assert {"/app.js", "/style.css", "/node_modules/marked/lib/marked.esm.js"} <= loaded.sizes.keys()


def test_the_first_paint_waits_for_no_answer_of_the_server(serve: Any, context: BrowserContext) -> None:
    address = serve(None, "--token", "a-token-of-the-test")
    page = context.new_page()
    held: list[Route] = []
    hold: Callable[[Route], None] = held.append
    page.route("**/api/**", lambda route: hold(route))
    page.goto(address)

    expect(page.locator("#greeting")).to_be_visible()
    page.locator("#input").press_sequentially("typed before any answer")
    expect(page.locator("#input")).to_have_value("typed before any answer")
    assert page.evaluate("performance.getEntriesByType('paint').length") > 0
    (session,) = held
    assert urlsplit(session.request.url).path == "/api/session"

    hold = Route.continue_
    session.continue_()
    expect(page.locator("#models")).to_be_visible()
    expect(page.locator("#input")).to_have_value("typed before any answer")


def script_of(page: Page) -> Callable[[], float]:
    """Return what tells the seconds of script so far, by the clock of the page's own thread."""
    session: CDPSession = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def read() -> float:
        metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
        return metrics["ScriptDuration"]

    return read


def test_twice_the_answer_takes_about_twice_the_script_and_the_page_rests_afterwards(
    serve: Any, context: BrowserContext
) -> None:
    context.add_init_script(COUNT)
    size = 32 * 1024
    text = "".join(ANSWER.replace("[1]", f"[{number}]") for number in range(2 * size // len(ANSWER) + 1))
    played = [turns(text[:length], chunk=256, delay=0.004)[0] for length in (size, 2 * size)]
    watched = Watched(context.new_page(), serve(played))
    script = script_of(watched.page)

    took = []
    for question in ("Half?", "Whole?"):
        before = script()
        watched.answer(question)
        took.append(script() - before)
    assert took[1] <= 2.5 * took[0], took
    # What is still being done at the end may take a moment more.
    counts = [0, watched.page.evaluate("ran")]
    while counts[-1] != counts[-2] and len(counts) < 7:
        watched.page.wait_for_timeout(2000)
        counts.append(watched.page.evaluate("ran"))
    assert counts[-1] == counts[-2] > 0, counts
    # All is painted by now.
    streamed = watched.page.evaluate("[...document.querySelectorAll('.prose')].map((prose) => prose.innerHTML)")
    assert [len(text) > size for text in streamed] == [True, True]

    watched.reload()
    expect(watched.page.locator(".prose")).to_have_count(2)
    watched.until(
        "(all) => [...document.querySelectorAll('.prose')].every((prose, index) => prose.innerHTML === all[index])",
        streamed,
    )
    watched.assert_clean()
