"""Situations that every wire and every client must get right, as the turns that a provider takes.

Adding one adds a case for each provider and each wire; `python -m tests.situations` writes the golden files anew, for
a reader to look at before they are committed.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

from chatstream import Retry, Settings, run, tool, user
from chatstream.errors import ToolError
from chatstream.events import Event
from chatstream.testing import Call, FakeProvider, Turn
from chatstream.wires.native import Encoder

GOLDEN = Path(__file__).parent / "wires" / "golden"
SDKS = ("anthropic", "openai_chat")


# Async, so that the order of their results is the order of the calls and not that of two threads.
@tool
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool
async def fail(why: str) -> str:
    """Fail, and say why."""
    raise ToolError(why)


SITUATIONS: dict[str, list[Turn]] = {
    "plain_text": [Turn(text='A line,\n"quoted" and \N{GRINNING FACE}.')],
    "reasoning_then_text": [Turn(reasoning="Let me see.", text="Yes.")],
    "two_tools_one_failing": [
        Turn(text="I add.", tools=[Call("add", {"a": 1, "b": 2}, "x"), Call("fail", {"why": "no"}, "y")]),
        Turn(text="Three, and no."),
    ],
    "arguments_cut": [Turn(tools=[Call("add", '{"a": 1', "x")]), Turn(text="Sorry.")],
    "cut_by_length": [Turn(text="Once upon", finish="max_tokens")],
    "overloaded_then_well": [Turn(status=529), Turn(text="Here I am.")],
    "fails_in_the_middle": [Turn(text="Once upon a time there was", drop=900, chunk=1, write=100)],
    "a_wrong_key": [Turn(status=401)],
}
FINISH_IN_CHAT = {"max_tokens": "length"}


async def play(sdk: str, turns: list[Turn]) -> list[Event]:
    async def no_sleep(seconds: float) -> None:
        await asyncio.sleep(0)

    settings = Settings(retry=Retry(sleep=no_sleep, jitter=lambda: 1.0))
    if sdk == "openai_chat":
        turns = [with_finish(turn, FINISH_IN_CHAT.get(turn.finish, turn.finish)) for turn in turns]
    async with FakeProvider(turns) as fake, getattr(fake, sdk)() as provider:
        return [event async for event in run(provider, [user("Hi")], [add, fail], settings)]


def with_finish(turn: Turn, finish: str) -> Turn:
    fields: dict[str, Any] = {name: getattr(turn, name) for name in turn.__dataclass_fields__}
    return Turn(**fields | {"finish": finish})


def encode(events: list[Event]) -> bytes:
    """Return the native wire of a run, its random ids and its times replaced."""
    encoder = Encoder("req_1")
    stream = b"".join(encoder.encode(number, event) for number, event in enumerate(events, 1))
    stream = re.sub(rb"127\.0\.0\.1:\d+", b"the provider", stream)
    stream = re.sub(rb"(run|msg)_[0-9a-f]{32}", rb"\1_1", stream)
    return re.sub(rb'"durationMs":\d+', b'"durationMs":1', stream)


def write() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for name, turns in SITUATIONS.items():
        for sdk in SDKS:
            (GOLDEN / f"{name}.{sdk}.sse").write_bytes(encode(asyncio.run(play(sdk, turns))))


if __name__ == "__main__":
    write()
