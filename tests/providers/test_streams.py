"""Recorded streams of many providers, where they are at hand: CHATSTREAM_STREAMS names their folder."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from chatstream import errors
from chatstream.messages import Message, Reasoning
from chatstream.providers.anthropic import MessagesTranslator
from chatstream.providers.base import Told, Translator, translate
from chatstream.providers.openai_chat import ChatTranslator
from chatstream.turn import Turn
from tests.cuts import random_cut

FOLDER = Path(os.environ.get("CHATSTREAM_STREAMS", "/nowhere"))
TRANSLATORS: dict[str, type[Translator]] = {
    "anthropic-messages": MessagesTranslator,
    "openai-chat": ChatTranslator,
}
MANIFEST = FOLDER / "manifest.json"
STREAMS = (
    {each["name"]: each for each in json.loads(MANIFEST.read_text())["streams"] if each["api"] in TRANSLATORS}
    if MANIFEST.is_file()
    else {}
)
# What is not read as it should be yet, with what is special about it.
NOT_YET = {
    "snowflake-thinking-streaming": "reasoning_details",
}

pytestmark = pytest.mark.skipif(not STREAMS, reason="CHATSTREAM_STREAMS names no folder of recorded streams")


async def read(stream: dict[str, Any], chunks: Sequence[bytes]) -> tuple[Message, str]:
    """Return the message that a stream stands for, and the code of the error that it ends in, empty for none."""

    async def pieces() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    turn, code = Turn(0, "p:m"), ""
    try:
        async for batch in translate(pieces(), TRANSLATORS[stream["api"]](Told("Provider", "m"))):
            turn.feed(batch)
    except errors.ProviderError as error:
        code = error.code
    turn.close()
    return turn.message, code


@pytest.mark.parametrize("name", STREAMS)
async def test_a_stream_is_read_the_same_however_it_is_cut(name: str) -> None:
    stream = STREAMS[name]
    data = (FOLDER / stream["file"]).read_bytes()
    whole = await read(stream, [data])
    for seed in range(3):
        assert await read(stream, random_cut(data, seed, 200)) == whole


@pytest.mark.parametrize("name", [name for name in STREAMS if name not in NOT_YET])
async def test_a_stream_means_what_the_official_sdk_makes_of_it(name: str) -> None:
    stream = STREAMS[name]
    message, code = await read(stream, [(FOLDER / stream["file"]).read_bytes()])
    expected = stream["expected"]
    assert message.text == (expected.get("text") or "")
    thought = "".join(part.text for part in message.parts if isinstance(part, Reasoning))
    assert thought == (expected.get("thinking_text") or "")
    called = [(call.name, call.arguments if call.input is None else call.input) for call in message.calls]
    assert called == [
        (each["name"], each.get("input", each.get("input_raw"))) for each in expected.get("tool_calls") or ()
    ]
    assert bool(code) != bool(expected["complete"])
