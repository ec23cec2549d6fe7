"""Situations that every wire and every client must get right, as the turns that a provider takes.

Adding one adds a case for each provider and each wire; `python -m tests.situations` writes the golden files anew, for
a reader to look at before they are committed. The wires of other front ends are held against the cases of one provider.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chatstream import Retry, Settings, run, sse, tool, user
from chatstream.errors import ToolError
from chatstream.events import Event
from chatstream.testing import Call, FakeProvider, Turn
from chatstream.tools import caller_tool
from chatstream.wires import agui, native, openai, vercel

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


@tool(approval="always")
async def delete(path: str) -> str:
    """Delete a file."""
    return "deleted"


TOOLS = [add, fail, delete, caller_tool("pick", "Pick a colour.", {"type": "object"})]
_DELETE, _PICK = Call("delete", {"path": "a"}, "d"), Call("pick", {"of": "sky"}, "p")

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
# How a run pauses has nothing to do with the provider.
PAUSES: dict[str, list[Turn]] = {
    "waits_for_approval": [Turn(text="I delete.", tools=[Call("add", {"a": 1, "b": 2}, "x"), _DELETE])],
    "waits_for_the_caller": [Turn(tools=[_PICK])],
    "waits_for_both": [Turn(text="Both.", tools=[_DELETE, _PICK])],
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
    "openai_chat": PAUSES,
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
    },
}
CASES = {
    f"{name}.{sdk}": (sdk, turns) for sdk in SDKS for name, turns in (SITUATIONS | OF_ONE_API.get(sdk, {})).items()
}
_ONLY = OF_ONE_API["anthropic"]
WIRES: dict[str, Callable[[], Any]] = {
    "native": lambda: native.Encoder("req_1"),
    "agui": lambda: agui.Encoder("thread_1", "run_0"),
    "vercel": vercel.Encoder,
    "openai": lambda: openai.Encoder(1_700_000_000, "agent", ("pick",), with_usage=True),
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
        return [event async for event in run(provider, [user("Hi")], TOOLS, settings)]


def with_finish(turn: Turn, finish: str) -> Turn:
    fields: dict[str, Any] = {name: getattr(turn, name) for name in turn.__dataclass_fields__}
    return Turn(**fields | {"finish": finish})


def encode(events: list[Event], wire: str = "native") -> bytes:
    """Return a run on a wire, its random ids and its times replaced."""
    encoder = WIRES[wire]()
    return normal(b"".join(encoder.encode(number, event) for number, event in enumerate(events, 1)))


def normal(stream: bytes) -> bytes:
    """Return a stream with its random ids and its times replaced."""
    stream = re.sub(rb"127\.0\.0\.1:\d+", b"the provider", stream)
    stream = re.sub(rb"(run_|msg_|chatcmpl-)[0-9a-f]{32}", rb"\g<1>1", stream)
    return re.sub(rb'"(durationMs|firstTokenMs|generationMs)":\d+', rb'"\1":1', stream)


def joined(stream: bytes, *names: str) -> list[dict[str, Any]]:
    """Return what the frames of a stream say, the pieces of one text joined.

    How much one read brings is the network's business. `names` are the members that hold pieces.
    """
    said: list[dict[str, Any]] = []
    for frame in sse.Decoder().feed(stream):
        value = json.loads(frame.data) if frame.data != b"[DONE]" else {"type": "[DONE]"}
        before = said[-1] if said else {}
        name = next((name for name in names if name in value), "")
        if name and {**before, name: ""} == {**value, name: ""}:
            before[name] += value[name]
        else:
            said.append(value)
    return said


def golden(wire: str) -> dict[str, Path]:
    """Return the file of each case that a wire is held against."""
    if wire == "native":
        return {name: GOLDEN / f"{name}.sse" for name in CASES}
    names = [name for name, (sdk, _) in CASES.items() if sdk == "openai_chat" or name.partition(".")[0] in _ONLY]
    return {name: GOLDEN / wire / f"{name}.sse" for name in names}


def write() -> None:
    for name, (sdk, turns) in CASES.items():
        events = asyncio.run(play(sdk, turns))
        for wire in WIRES:
            if path := golden(wire).get(name):
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(encode(events, wire))


if __name__ == "__main__":
    write()
