"""What holds for every stream, however broken it is."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import orjson
from jsonschema import Draft202012Validator

from chatstream.events import event_from_json, event_to_json
from chatstream.messages import MESSAGE_SCHEMA, PART_SCHEMAS, Message, ToolResult, message_to_json, messages_from_json
from chatstream.messages import user as asked
from chatstream.providers import ModelRequest, anthropic, openai, openai_chat
from chatstream.testing import Call, Turn
from chatstream.testing.streams import STREAMS as WRITTEN
from chatstream.wires.native import Encoder
from tests.clocks import cpu
from tests.corpus import FAKES, STREAMS, bytes_of, read
from tests.cuts import random_cut
from tests.validators import check_anthropic, check_chat, check_responses

_VALIDATOR = Draft202012Validator(MESSAGE_SCHEMA | {"$defs": PART_SCHEMAS})
_PATHS = {"anthropic-messages": "messages", "openai-chat": "chat/completions", "openai-responses": "responses"}
# Longer ones teach nothing more, and would take most of the time.
_LONGEST = 40_000
# How far from 16 `growth` may be on a busy machine; the square would be 16 times as far.
LEEWAY = 5


@cache
def good_streams() -> dict[str, tuple[str, bytes]]:
    """Return the streams that are broken, by name: the recorded ones where they are at hand, and some written ones."""
    turns = {
        "text": Turn(text="Hello \N{GRINNING FACE}, this is a text."),
        "reasoning": Turn(reasoning="Let me see, once more.", redacted="c2VjcmV0", text="Yes."),
        "calls": Turn(text="So:", tools=[Call("add", {"a": 1, "b": "é"}), Call("look", {}), Call("add", '{"a": ')]),
    }
    streams = {f"{name} {api}": (api, WRITTEN[_PATHS[api]](turn)) for name, turn in turns.items() for api in FAKES}
    for name, stream in STREAMS.items():
        if stream["bytes"] <= _LONGEST:
            streams[name] = stream["api"], bytes_of(stream)
    return streams


def check(api: str, data: bytes, seed: int = 0) -> str:
    """Raise where a stream is read in a way that it must not be read in; return what it came to."""
    reading = read(api, [data])
    assert read(api, random_cut(data, seed, random.Random(seed).choice([4000, 300]))).meaning == reading.meaning
    encoder = Encoder("req_1")
    for number, event in enumerate(reading.events):
        value = orjson.loads(orjson.dumps(event_to_json(event)))
        assert event_from_json(value) == event
        encoder.encode(number, event)
    _check_message(reading.message)
    return reading.error.code if reading.error else "whole"


def growth(api: str, frames: list[bytes], at: int) -> float:
    """Return how much more work a stream is that says event `at` 1600 times than one that says it 100 times.

    16 times where the work grows with the stream, 256 times where it grows with its square.
    """
    few, many = (min(_work(api, frames, at, count) for _ in range(2)) for count in (100, 1600))
    return many / max(few, 0.0005)  # of less than that the clock says nothing


def _work(api: str, frames: list[bytes], at: int, count: int) -> float:
    data = b"".join([*frames[:at], *[frames[at]] * count, *frames[at + 1 :]])
    return cpu(lambda: read(api, [data]))


def _check_message(message: Message) -> None:
    value: dict[str, Any] = orjson.loads(orjson.dumps(message_to_json(message)))
    assert not [error.message for error in _VALIDATOR.iter_errors(value)]
    assert [message_to_json(each) for each in messages_from_json([value])] == [value]
    results = Message("tool", tuple(ToolResult(call.id, call.name, "42") for call in message.calls))
    for history in ([asked("Hi"), message, results], [asked("Hi"), message, asked("And?")]):
        for model in ("m", "another"):
            request = ModelRequest(model, history)
            check_anthropic(anthropic.build_request(request, "anthropic")["messages"], signs=False)
            check_chat(openai_chat.build_request(request, "openai-chat", compatible=True)["messages"], compatible=True)
            check_responses(openai.build_request(request, "openai", compatible=False)["input"])
