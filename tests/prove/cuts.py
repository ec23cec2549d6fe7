"""R7: a stream that is cut at any byte, and taken up again, is the stream.

A recorded run is replayed to a client in Python, which asks for it with the turn's id as often as it likes, and cut at
every byte of the response. The page's own client (`web/chat.js`, under node) asks a question of its own each time: its
stream is cut, cut again where it is resumed, begins before the client's cursor, or comes doubled and out of order; and
so is the answer that the question was taken.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from .proxy import Cut, Fault, Mix, Proxy, Rewind
from .rig import HANG, LOST, ROOT, Client, Frame, Program, Report, Viewer, all_frames, text_of, turn_of

PAUSE = 0.0005  # seconds between two deltas, so that a client comes back while the answer is still written
PAGES = 4  # that ask at once
SCRIPT: list[dict[str, Any]] = [
    {
        "reasoning": "Zwölf Boxkämpfer, \N{THINKING FACE}.",
        "text": 'I add:\n\n```\n"6 * 7"\n```\n\N{GRINNING FACE} 好的。',
        "tools": [
            {"name": "calculate", "id": "a", "arguments": {"expression": "6 * 7"}},
            {"name": "calculate", "id": "b", "arguments": {"expression": "1 / 0"}},
        ],
        "delay": PAUSE,
    },
    {"text": "It is **42**, and the other one is nothing that there is.\n\n- one\n- two\n", "delay": PAUSE},
]
QUESTION = "What is 6 * 7?"
WHOLE = Cut(1 << 30)  # what the answer to the page's question meets where its stream is what is cut


async def prove(report: Report, folder: Path, count: int) -> None:
    """Cut at `count` places, spread over the whole response; at every byte where there are fewer."""
    script = folder / "script.json"
    script.write_text(json.dumps(SCRIPT))
    async with Program(folder, "--model", f"scripted:{script}") as program:
        await _recorded(report, program, count)
        if shutil.which("node"):
            await _by_pages(report, program, count)
        else:
            report.say("the page's client was left out: there is no node")


async def _recorded(report: Report, program: Program, count: int) -> None:
    async with Client(program.url) as straight, Proxy(program.port) as proxy, Client(proxy.url) as client:
        conversation = await straight.conversation()
        body = turn_of(conversation, "turn", QUESTION)
        whole = await all_frames(await straight.ask(body))
        stored = await straight.tree(conversation)
        assert await all_frames(await client.ask(body)) == whole, "asked again the answer is another one"
        size = proxy.longest
        places = _places(size, count)
        for at in places:
            proxy.meet([Cut(at, is_reset=at % 2 == 1), Cut(random.Random(at).randrange(size))])
            met = await _ask_again(client, body)
            assert met == whole, f"cut at byte {at}: {_difference(whole, met)}"
            report.progress(f"{at:,} of {size:,} bytes")
        assert await straight.tree(conversation) == stored, "what is stored has changed"
    text = f"{len(text_of(whole))} characters of text"
    report.say(
        f"a recorded run, {len(whole)} frames, {text}, {size:,} bytes: cut at {len(places):,} of them and resumed,"
    )
    report.say("  and each resumed stream cut again: frames, text and stored history are those of the uncut one")


async def _ask_again(client: Client, body: dict[str, Any]) -> list[Frame]:
    """Ask until the run is known, then resume it to its end."""
    viewer = Viewer(client)
    while not viewer.has_ended:
        assert viewer.connections < 10, f"the end never comes: {viewer.seen[-3:]}"
        try:
            if viewer.run:
                await viewer.resume()
            else:
                await viewer.read(await client.ask(body))
        except LOST:
            pass
    return viewer.seen


async def _by_pages(report: Report, program: Program, count: int) -> None:
    async with _Page(program) as page:
        whole = await page.send([])
        size = page.proxy.longest
    places = _places(size, count)
    seeds = range(max(len(places) // 20, 3))
    faults: list[list[Fault]] = [[WHOLE, Cut(at, is_reset=at % 2 == 1), *_further(at, size)] for at in places]
    faults += [[WHOLE, Mix(seed, reach=(2, 10, 1000)[seed % 3])] for seed in seeds]
    faults += [[Cut(at, is_reset=at % 2 == 1)] for at in _places(1500, max(count // 10, 2))]
    left = deque(faults)

    async def ask() -> None:
        async with _Page(program) as page:
            while left:
                met = left.popleft()
                report.progress(f"the page's client, {len(left):,} answers to go")
                shown = await page.send(met)
                assert shown == whole, f"{met}: {json.dumps(shown)} instead of {json.dumps(whole)}"

    await asyncio.gather(*(ask() for _ in range(PAGES)))
    async with Client(program.url) as straight:
        told = (await straight.get("/api/conversations?limit=200"))["conversations"]
    assert not [each for each in told if each["isRunning"]], "an answer goes on"
    report.say(
        f"the page's client: {len(places):,} live answers of {size:,} bytes, each cut at another one and resumed, and"
    )
    report.say(f"  {len(seeds)} doubled and out of order: what it shows, live and loaded, is what the uncut one shows")


class _Page:
    """The page's own client, in a process, with a proxy of its own."""

    def __init__(self, program: Program) -> None:
        self.proxy = Proxy(program.port)
        self._server = program.url

    async def __aenter__(self) -> Self:
        await self.proxy.__aenter__()
        self._process = await asyncio.create_subprocess_exec(
            *("node", str(ROOT / "tests/prove/viewer.js"), self.proxy.url, self._server),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=2**24,
        )
        return self

    async def __aexit__(self, *raised: object) -> None:
        self._process.kill()
        await self._process.communicate()
        await self.proxy.__aexit__(None, None, None)

    async def send(self, faults: Sequence[Fault]) -> Any:
        """Let it ask and meet these faults, and return what it shows."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self.proxy.meet(faults)
        self._process.stdin.write(f"{QUESTION}\n".encode())
        async with asyncio.timeout(HANG):
            line = await self._process.stdout.readline()
        assert line, f"node ended: {faults}"
        assert self.proxy.streams > 0
        return json.loads(line)


def _further(at: int, size: int) -> Iterator[Fault]:
    """Yield what the streams meet that are resumed: another cut, or frames that are known."""
    draw = random.Random(at)
    if at % 3:
        yield Cut(draw.randrange(size))
    yield Rewind(draw.randrange(40))


def _places(size: int, count: int) -> list[int]:
    """Return places from before the first byte to behind the last one."""
    every = range(-1, size + 1)
    return (
        list(every)
        if count >= len(every)
        else sorted({round(-1 + each * (size + 1) / (count - 1)) for each in range(count)})
    )


def _difference(whole: Sequence[Frame], met: Sequence[Frame]) -> str:
    at = next((at for at, pair in enumerate(zip(whole, met, strict=False)) if pair[0] != pair[1]), -1)
    return f"{len(met)} frames instead of {len(whole)}, first other one {met[at] if at >= 0 else None}"
