#!/usr/bin/env python3
"""Measures what the page costs the browser: script in each frame of a long answer, and how fast a long chat opens.

    .venv/bin/python scripts/page_cost.py [--sizes 32 64 128] [--tokens 500] [--messages 1000]

A scripted model writes Markdown of so many kB at so many tokens (of four characters) a second into the page of a real
server. Chromium's own tracing says how long script ran on the page's main thread (by the clock of that thread, so that
other programs are not counted) and between which frames, from the question to the end of the answer. Then a
conversation of many messages is opened from the list, and at last the page is left alone for some seconds, in which it
should run nothing. Needs playwright (extra `test`) and Chromium; quote figures of a quiet machine.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, CDPSession, Page, sync_playwright

ANSWERED = "article.assistant:last-child[aria-busy=false]"
BLOCK = """\
## Part {n}

A paragraph with **strong** words, `code`, [a link](https://example.org/{n}) and enough text to be more than one line on
a screen of usual width, so that the browser has to break it.

- one point of {n}
- another point, with *emphasis*

```python
def part_{n}(x: int) -> int:
    return x * {n}  # part {n}
```

| name | value |
|---|--:|
| part | {n} |

"""
# Events of the main thread in which script runs; one may hold another.
SCRIPT = {
    "FunctionCall",
    "EvaluateScript",
    "RunMicrotasks",
    "v8.callFunction",
    "v8.run",
    "FireAnimationFrame",
    "TimerFire",
}
FRAME = ("AnimationFrame", "b")
COUNT = """
window.ran = 0
for (const name of ["setTimeout", "setInterval", "requestAnimationFrame", "requestIdleCallback"]) {
  const real = window[name]
  window[name] = (deed, ...rest) => real((...args) => { window.ran++; deed(...args) }, ...rest)
}
"""
OPEN = """async () => {
  const began = performance.now()
  document.querySelector("#list a").click()
  while (document.querySelectorAll(".message").length < 2) await new Promise(requestAnimationFrame)
  await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)))
  return performance.now() - began
}"""


def markdown(size: int) -> str:
    text = ""
    for number in itertools.count(1):
        text += BLOCK.format(n=number)
        if len(text) >= size:
            return text[:size]
    raise AssertionError


@contextmanager
def served(folder: Path, turn: dict[str, Any]) -> Iterator[str]:
    """Start a server that answers with this turn, and return its address."""
    script = folder / "script.json"
    script.write_text(json.dumps([turn]))
    command = [sys.executable, "-m", "chatstream", "--port", "0", "--data", ":memory:", "--model", f"scripted:{script}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout
            yield process.stdout.readline().split("ready: ")[1].strip()
        finally:
            process.terminate()


class Trace:
    """What Chromium's tracing says of one page's main thread, between `start` and `stop`."""

    def __init__(self, browser: Browser) -> None:
        self._cdp: CDPSession = browser.new_browser_cdp_session()
        self._events: list[dict[str, Any]] = []
        self._is_complete = False
        self._cdp.on("Tracing.dataCollected", lambda data: self._events.extend(data["value"]))
        self._cdp.on("Tracing.tracingComplete", self._complete)

    def _complete(self, _: Any) -> None:
        self._is_complete = True

    def start(self) -> None:
        categories = "devtools.timeline,disabled-by-default-devtools.timeline,v8,__metadata"
        config = {"recordMode": "recordAsMuchAsPossible", "includedCategories": categories.split(",")}
        self._cdp.send("Tracing.start", {"transferMode": "ReportEvents", "traceConfig": config})

    def stop(self, page: Page) -> list[float]:
        """Return the ms of script in each frame."""
        self._cdp.send("Tracing.end")
        while not self._is_complete:
            page.wait_for_timeout(50)
        mains = {(e["pid"], e["tid"]) for e in self._events if e.get("args", {}).get("name") == "CrRendererMain"}
        script: dict[tuple[int, int], list[dict[str, Any]]] = {main: [] for main in mains}
        for event in self._events:
            if event["name"] in SCRIPT and event["ph"] == "X" and (event["pid"], event["tid"]) in script:
                script[event["pid"], event["tid"]].append(event)
        main = max(script, key=lambda main: len(script[main]))
        frames = sorted(e["ts"] for e in self._events if (e["name"], e["ph"]) == FRAME and (e["pid"], e["tid"]) == main)
        cost = [0.0] * (len(frames) + 1)
        end = 0
        for event in sorted(script[main], key=lambda event: event["ts"]):
            if event["ts"] >= end:  # and is in no other one
                end = event["ts"] + event["dur"]
                cost[bisect_right(frames, event["ts"])] += event["tdur"] / 1000
        return cost


def answer(browser: Browser, size: int, tokens: float) -> float:
    """Measure one answer, and return the ms of script that it took."""
    turn = {"text": markdown(size * 1024), "chunk": 4, "delay": 1 / tokens}
    with tempfile.TemporaryDirectory() as folder, served(Path(folder), turn) as address:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(address)
        page.wait_for_selector("body.ready")
        page.fill("#input", "Hi")
        trace = Trace(browser)
        trace.start()
        page.press("#input", "Enter")
        page.wait_for_selector(ANSWERED, timeout=0)
        cost = trace.stop(page)
        page.close()
    mean, most, worst = statistics.mean(cost), sorted(cost)[len(cost) * 99 // 100], max(cost)
    print(f"{size:4} kB  {len(cost):6} frames  {sum(cost):7.0f} ms of script", end="  ")
    print(f"a frame: mean {mean:.2f} ms, p99 {most:.1f} ms, worst {worst:.1f} ms", flush=True)
    return sum(cost)


def conversation(count: int) -> dict[str, Any]:
    """Return a long conversation in the form of the export."""
    nodes = []
    for number in range(count):
        role = "assistant" if number % 2 else "user"
        text = BLOCK.format(n=number) if number % 2 else f"Question {number}?"
        parent = f"m{number - 1}" if number else None
        node = {"id": f"m{number}", "parentId": parent, "role": role, "content": [{"type": "text", "text": text}]}
        nodes.append(node | {"runId": None, "createdAt": "2026-01-01T00:00:00.000Z"})
    return {"title": "A long one", "leafId": f"m{count - 1}", "messages": nodes, "runs": []}


def opening(browser: Browser, count: int) -> None:
    """Measure how long a conversation takes to open, and what runs when nothing happens."""
    with tempfile.TemporaryDirectory() as folder, served(Path(folder), {"text": "Hi"}) as address:
        body = json.dumps(conversation(count)).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{address}/api/conversations/import", body, headers, method="POST")
        urllib.request.urlopen(request, timeout=60).close()
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.add_init_script(COUNT)
        times = []
        for _ in range(5):
            page.goto(address)
            page.wait_for_selector("#list a")
            times.append(page.evaluate(OPEN))
        print(f"{count} messages: open in {statistics.median(times):.0f} ms (worst of 5: {max(times):.0f} ms)")
        page.wait_for_timeout(10_000)
        before = page.evaluate("ran")
        page.wait_for_timeout(3000)
        print(f"left alone: {page.evaluate('ran') - before} timers and frames of script in 3 s")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=[32, 64, 128], help="kB of each answer")
    parser.add_argument("--tokens", type=float, default=500, help="tokens a second")
    parser.add_argument("--messages", type=int, default=1000, help="of the conversation that is opened")
    options = parser.parse_args()
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        took = [answer(browser, size, options.tokens) for size in options.sizes]
        for (small, less), (large, more) in itertools.pairwise(zip(options.sizes, took, strict=True)):
            print(f"{large} kB took {more / less:.2f} times the script of {small} kB")
        opening(browser, options.messages)
        browser.close()


if __name__ == "__main__":
    main()
