"""The native wire, byte for byte, and what its encoder promises."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chatstream.sse import Decoder
from chatstream.wires.native import Encoder
from tests.situations import GOLDEN, SDKS, SITUATIONS, encode, play


@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize("name", SITUATIONS)
async def test_a_situation_has_the_same_frames_as_ever(name: str, sdk: str) -> None:
    golden = (GOLDEN / f"{name}.{sdk}.sse").read_bytes()
    assert normal(encode(await play(sdk, SITUATIONS[name]))) == normal(golden)


def normal(stream: bytes) -> list[dict[str, Any]]:
    """Return what the frames say, adjacent text joined: how much one read brings is the network's business."""
    said: list[dict[str, Any]] = []
    for frame in Decoder().feed(stream):
        value = json.loads(frame.data)
        if said and value["type"] == said[-1]["type"] == "text":
            said[-1]["content"] += value["content"]
        else:
            said.append(value)
    return said


@pytest.mark.parametrize("name", SITUATIONS)
async def test_encoding_again_gives_the_same_bytes_and_ids_that_only_rise(name: str) -> None:
    events = await play("anthropic", SITUATIONS[name])
    first, second = ([Encoder("r").encode(n, event) for n, event in enumerate(events)] for _ in range(2))
    assert first == second
    ids = [int(frame.id) for frame in Decoder().feed(b"".join(first))]
    assert ids == sorted(set(ids))


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
