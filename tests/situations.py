"""Situations that every wire and every client must get right, as the turns that a provider takes.

Adding one adds a case for each provider and each wire; `python -m tests.situations` writes the golden files anew, for
a reader to look at before they are committed.
"""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

from chatstream import Retry, Settings, run, tool, user
from chatstream.errors import ToolError
from chatstream.events import Event
from chatstream.testing import Call, FakeProvider, Turn
from chatstream.wires.native import Encoder

GOLDEN = Path(__file__).parent / "wires" / "golden"
SDKS = ("anthropic", "openai", "openai_chat")


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


def messages_api(stop: str, *blocks: dict[str, Any]) -> Turn:
    """Return a turn of the Messages API that says these blocks, each whole at its start."""
    usage = {"input_tokens": 20, "output_tokens": 10, "server_tool_use": {"web_search_requests": 1}}
    message = {"id": "msg", "type": "message", "role": "assistant", "content": [], "usage": usage}
    values: list[dict[str, Any]] = [{"type": "message_start", "message": message}]
    for index, block in enumerate(blocks):
        values.append({"type": "content_block_start", "index": index, "content_block": block})
        values.append({"type": "content_block_stop", "index": index})
    values += [{"type": "message_delta", "delta": {"stop_reason": stop}, "usage": usage}, {"type": "message_stop"}]
    return Turn(raw=b"".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n".encode() for each in values))


def cited(text: str, *pages: str) -> dict[str, Any]:
    """Return a text block that names web pages as where it is from."""
    kind = "web_search_result_location"
    found = [{"type": kind, "url": page, "title": page[-1], "cited_text": f"All of {page}."} for page in pages]
    return {"type": "text", "text": text, "citations": found}


_SEARCH = {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"query": "streams"}}
_PAGE = {"type": "web_search_result", "url": "https://a.example/1", "title": "One", "encrypted_content": "x"}
_FOUND = {"type": "web_search_tool_result", "tool_use_id": "srv_1", "content": [_PAGE]}
# What only one API has a form for.
OF_ONE_API: dict[str, dict[str, list[Turn]]] = {
    "anthropic": {
        "provider_tool": [
            messages_api("pause_turn", {"type": "text", "text": "I search."}, _SEARCH),
            messages_api("end_turn", _FOUND, {"type": "text", "text": "Found."}),
        ],
        "citations": [
            messages_api(
                "end_turn",
                {"type": "text", "text": "They are "},
                cited("one way", "https://a.example/1"),
                cited(" and simple", "https://a.example/1", "https://b.example/2"),
                {"type": "text", "text": "."},
            )
        ],
    }
}
CASES = {
    f"{name}.{sdk}": (sdk, turns) for sdk in SDKS for name, turns in (SITUATIONS | OF_ONE_API.get(sdk, {})).items()
}
# What the other APIs say for the words above.
FINISHES = {"openai": {"max_tokens": "incomplete:max_output_tokens"}, "openai_chat": {"max_tokens": "length"}}


async def play(sdk: str, turns: list[Turn]) -> list[Event]:
    async def no_sleep(seconds: float) -> None:
        await asyncio.sleep(0)

    settings = Settings(retry=Retry(sleep=no_sleep, jitter=lambda: 1.0))
    if sdk in FINISHES:
        turns = [with_finish(turn, FINISHES[sdk].get(turn.finish, turn.finish)) for turn in turns]
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
    for name, (sdk, turns) in CASES.items():
        (GOLDEN / f"{name}.sse").write_bytes(encode(asyncio.run(play(sdk, turns))))


if __name__ == "__main__":
    write()
