"""A run that one server recorded, as the page of another shows it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import BrowserContext

from .conftest import Program, Watched
from .rig import needs_libraries, words

CALL = [{"name": "calculate", "arguments": {"expression": "6 * 7"}}]
TURNS = [{"delay": 0.001, "reasoning": "Hm.", "text": "I **work** it out.", "tools": CALL}]
SHOWN = """() => [...document.querySelectorAll("article.assistant:last-child :is(p, .tool)")]
    .map((element) => element.textContent.replace(/[0-9.]+ m?s/, ""))"""


@needs_libraries
def test_whoever_opens_the_address_watches_the_recorded_answer(
    program: Callable[..., Program], context: BrowserContext, tmp_path: Path
) -> None:
    turns = [*TURNS, {"text": words(60), "delay": 0.01}]
    first = Watched(context.new_page(), (recording := program(turns, "--record", str(tmp_path / "runs"))).address)
    first.answer("What is 6 * 7?")
    shown = first.page.evaluate(SHOWN)
    assert words(60) in shown
    recording.end()
    (file,) = (tmp_path / "runs").iterdir()
    replay = Program(["--log-level", "error"], "replay", str(file))
    try:
        watched = Watched(context.new_page(), replay.address)
        watched.page.wait_for_selector("article.assistant[aria-busy=true]")
        watched.wait_until_answered()
        assert watched.page.inner_text("article.user") == first.page.inner_text("article.user")
        assert watched.page.evaluate(SHOWN) == shown
        watched.answer("Once more")
        assert watched.page.evaluate(SHOWN) == shown
        watched.assert_clean()
    finally:
        replay.end()
