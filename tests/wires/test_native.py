"""The native wire, byte for byte, and what its encoder promises."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chatstream import events
from chatstream.messages import Citation, Opaque, Text
from chatstream.sse import Decoder
from chatstream.wires.native import Encoder
from tests.situations import CASES, SITUATIONS, encode, golden, joined, play


@pytest.mark.parametrize("name", CASES)
async def test_a_situation_has_the_same_frames_as_ever(name: str) -> None:
    wanted = golden("native")[name].read_bytes()
    assert joined(encode(await play(*CASES[name])), "content") == joined(wanted, "content")


@pytest.mark.parametrize("name", CASES)
async def test_encoding_again_gives_the_same_bytes_and_ids_that_only_rise(name: str) -> None:
    told = await play(*CASES[name])
    first, second = ([Encoder("r").encode(n, event) for n, event in enumerate(told)] for _ in range(2))
    assert first == second
    ids = [int(frame.id) for frame in Decoder().feed(b"".join(first))]
    assert ids == sorted(set(ids))


FRAMES: dict[str, tuple[events.Event, dict[str, Any] | None]] = {
    "a provider's own tool begins": (
        events.PartStarted(0, "opaque", "s", "search"),
        {"type": "tool_start", "toolCallId": "s", "toolName": "search", "providerExecuted": True},
    ),
    "what has no name begins": (events.PartStarted(0, "opaque"), None),
    "a provider's own tool is called": (
        events.PartFinished(0, Opaque("p:m", {"a": 1}, "s", "search", {"q": "?"})),
        {
            "type": "tool_call",
            "toolCallId": "s",
            "toolName": "search",
            "input": {"q": "?"},
            "providerExecuted": True,
        },
    ),
    "a provider's own tool answers": (
        events.PartFinished(0, Opaque("p:m", {"a": 1}, "s", "search", None, "", True)),
        {
            "type": "tool_result",
            "toolCallId": "s",
            "toolName": "search",
            "result": "",
            "isError": True,
            "providerExecuted": True,
        },
    ),
    "a provider's own tool is told in one": (
        events.PartFinished(0, Opaque("p:m", {"a": 1}, "s", "search", {"q": "?"}, "Found.")),
        {
            "type": "tool_result",
            "toolCallId": "s",
            "toolName": "search",
            "input": {"q": "?"},
            "result": "Found.",
            "isError": False,
            "providerExecuted": True,
        },
    ),
    "what nobody can read ends": (events.PartFinished(0, Opaque("p:m", {"a": 1})), None),
    "a text has sources": (
        events.PartFinished(0, Text("Hi", (Citation("u", "t"), Citation("", text="x")))),
        {"type": "citations", "citations": [{"url": "u", "title": "t"}, {"url": "", "text": "x"}]},
    ),
}


@pytest.mark.parametrize(("event", "value"), FRAMES.values(), ids=FRAMES)
def test_an_event_makes_its_frame(event: events.Event, value: dict[str, Any] | None) -> None:
    frames = Decoder().feed(Encoder("r").encode(1, event))
    assert [json.loads(frame.data) for frame in frames] == ([] if value is None else [value])


async def test_a_reader_that_knows_four_types_can_follow_a_tool_loop() -> None:
    stream = encode(await play("openai_chat", SITUATIONS["two_tools_one_failing"])).decode()
    seen = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: ")]
    known = [event for event in seen if event["type"] in ("text", "tool_start", "tool_result", "done")]
    assert "".join(event["content"] for event in known if event["type"] == "text") == "I add.Three, and no."
    assert [event["toolName"] for event in known if event["type"] == "tool_start"] == ["add", "fail"]
    results = {
        event["toolName"]: (event["result"], event["isError"]) for event in known if event["type"] == "tool_result"
    }
    assert results == {"add": ("3", False), "fail": ("no", True)}
    assert [event["type"] for event in known][-1] == "done"
