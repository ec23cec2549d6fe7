"""All recorded streams, fed in every way that bytes may arrive: what they come to is what the manifest expects."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest

from chatstream.deltas import FinishReason
from chatstream.events import ArgumentsDelta, PartFinished, ReasoningDelta, TextDelta
from chatstream.messages import Opaque, Reasoning, Text, ToolCall, user
from chatstream.providers import ModelRequest
from chatstream.testing import FakeProvider, Recorded, Turn
from tests.corpus import FAKES, ORIGINS, STREAMS, Reading, by_api, bytes_of, collect, needs_streams, read, readings
from tests.cuts import random_cut

pytestmark = needs_streams

# What is read in another way than the manifest expects it: by stream and aspect, with the reason.
_CUSTOM = "a custom tool takes free text: we offer none, so its call is no call of ours and is carried whole"
EXCEPTIONS: dict[tuple[str, str], str] = {
    ("openai-custom-tool-1", "calls"): _CUSTOM,
    ("openai-custom-tool-1", "reason"): _CUSTOM,
    (
        "openai-shell-container-1",
        "text",
    ): "its deltas were shortened and its last events were not: what was shown stays",
}


# --- how the bytes arrive ---------------------------------------------------------------------------------------------


def by_event(data: bytes) -> list[bytes]:
    return re.findall(rb"(?s).+?(?:\r\n\r\n|\n\n|\r\r|$)", data)


def by_byte(data: bytes) -> list[bytes]:
    """Return single bytes, of a long stream those at its ends and around some places in its midst."""
    if len(data) < 6000:
        return [data[at : at + 1] for at in range(len(data))]
    places = [0, *sorted(random.Random(len(data)).sample(range(1500, len(data) - 2000), 4)), len(data) - 1000]
    pieces: list[bytes] = []
    at = 0
    for place in places:
        pieces.append(data[at:place])
        at = max(at, place)
        pieces += [data[at + step : at + step + 1] for step in range(1000)]
        at += 1000
    return [piece for piece in [*pieces, data[at:]] if piece]


def with_lines(data: bytes, end: bytes) -> bytes:
    return re.sub(rb"\r\n|\n|\r", end, data)


WAYS: dict[str, Callable[[bytes], list[bytes]]] = {
    "by event": by_event,
    "by byte": by_byte,
    "in small pieces": lambda data: random_cut(data, 1, 100),
    "in pieces": lambda data: random_cut(data, 2, 3000),
    "with CRLF": lambda data: [with_lines(data, b"\r\n")],
    "with CRLF, cut": lambda data: random_cut(with_lines(data, b"\r\n"), 3, 500),
    "with CR, cut": lambda data: random_cut(with_lines(data, b"\r"), 4, 500),
    "with a BOM, cut": lambda data: [b"\xef", b"\xbb", b"\xbf" + data],
}


# --- what is compared -------------------------------------------------------------------------------------------------

REASONS = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "tool_use": FinishReason.TOOL_CALLS,
    "max_tokens": FinishReason.LENGTH,
    "pause_turn": FinishReason.PAUSE,
    "refusal": FinishReason.REFUSAL,
    "stop": FinishReason.STOP,
    "tool_calls": FinishReason.TOOL_CALLS,
    "length": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
    "completed": FinishReason.STOP,
    "incomplete:max_output_tokens": FinishReason.LENGTH,
}
# The error of a stream, by the code or else the type that the provider gave it, as the code that we give it.
ERRORS = {
    "overloaded_error": "overloaded",
    "stream_corrupt": "network",
    "tool_use_failed": "internal",  # asked again the model may do better: Groq's documents say so
    "400": "context_overflow",  # "Token limit reached"
    "insufficient_quota": "forbidden",
}


def expected_reason(expected: dict[str, Any]) -> FinishReason | None:
    """Return why the model stopped: some say `stop`, `completed` or nothing where they call tools or refuse."""
    raw = expected["stop_reason"]
    if raw in (None, "stop", "completed") and expected["complete"]:
        if expected["tool_calls"]:
            return FinishReason.TOOL_CALLS
        return FinishReason.REFUSAL if expected.get("refusal") else FinishReason.STOP
    return REASONS.get(raw)


def expected_usage(usage: dict[str, Any] | None) -> tuple[int, int, int, int] | None:
    """Return input tokens (cached ones too), output, cached and reasoning tokens, in the words of three APIs."""
    if not usage:
        return None

    def first(*paths: str) -> int:
        for path in paths:
            value: Any = usage
            for name in path.split("."):
                value = (value or {}).get(name)
            if value is not None:
                return int(value)
        return 0

    cached = first(
        "cache_read_input_tokens",
        "input_tokens_details.cached_tokens",
        "prompt_tokens_details.cached_tokens",
        "cached_tokens",
        "prompt_cache_hit_tokens",
    )
    total = first("input_tokens", "prompt_tokens")
    if "prompt_tokens" not in usage and "input_tokens_details" not in usage:  # Anthropic counts what is cached apart
        total += cached + first("cache_creation_input_tokens")
    reasoning = first(
        "output_tokens_details.reasoning_tokens",
        "output_tokens_details.thinking_tokens",
        "completion_tokens_details.reasoning_tokens",
    )
    output = first("output_tokens", "completion_tokens")
    if usage.get("total_tokens") == total + output + reasoning:  # xAI counts what was thought apart
        output += reasoning
    return total, output, cached, reasoning


def calls_of(reading: Reading, expected: dict[str, Any]) -> list[tuple[str | None, str, object]]:
    """Return the calls as the manifest writes them; where the provider gave no id, ours need only be there."""
    assert all(call.id for call in reading.message.calls)
    unnamed = {at for at, each in enumerate(expected["tool_calls"]) if each["id"] is None}
    return [
        (None if at in unnamed else call.id, call.name, call.arguments if call.input is None else call.input)
        for at, call in enumerate(reading.message.calls)
    ]


def kinds_of(reading: Reading, expected: dict[str, Any]) -> list[str] | None:
    """Return what the parts are, an opaque one by its own type; texts and reasoning that hold nothing are none."""
    if not {"block_types", "item_types"} & expected.keys():
        return None
    found = [str(part.data.get("type")) if isinstance(part, Opaque) else part.type for part in reading.message.parts]
    found = [kind for kind in found if kind != "container"]  # the message's, and none of its blocks
    for at, kind in enumerate(expected_kinds(expected) or ()):
        if kind in ("text", "reasoning") and found[at : at + 1] != [kind]:
            found.insert(at, kind)
    return found


def expected_kinds(expected: dict[str, Any]) -> list[str] | None:
    blocks = expected.get("block_types", expected.get("item_types"))
    names = {"thinking": "reasoning", "redacted_thinking": "reasoning", "tool_use": "tool_call"}
    names |= {"function_call": "tool_call", "message": "text"}
    return blocks and [names.get(block, block) for block in blocks]


def server_calls_of(reading: Reading) -> list[tuple[str, str, object]]:
    parts = [part for part in reading.message.parts if isinstance(part, Opaque)]
    return [(part.call_id, part.name, part.input) for part in parts if part.input is not None]


ASPECTS: dict[str, tuple[Callable[[Reading, dict[str, Any]], object], Callable[[dict[str, Any]], object]]] = {
    "text": (
        lambda reading, expected: reading.message.text,
        lambda expected: expected["text"] + expected.get("refusal", ""),
    ),
    "reasoning": (
        lambda reading, expected: "".join(p.text for p in reading.message.parts if isinstance(p, Reasoning)),
        lambda expected: expected["thinking_text"] or expected.get("reasoning_text", ""),
    ),
    "signatures": (
        lambda reading, expected: (
            "block_types" in expected
            and [p.signature for p in reading.message.parts if isinstance(p, Reasoning) and p.signature]
        ),
        lambda expected: "block_types" in expected and expected.get("thinking_signatures", []),
    ),
    "calls": (
        calls_of,
        lambda expected: [
            (each["id"], each["name"], each.get("input", each.get("input_raw"))) for each in expected["tool_calls"]
        ],
    ),
    "reason": (
        lambda reading, expected: reading.finish and reading.finish.reason,
        expected_reason,
    ),
    "stop_reason": (
        lambda reading, expected: (reading.finish and reading.finish.raw) or None,
        lambda expected: None if expected["stop_reason"] == "failed" else expected["stop_reason"],
    ),
    "usage": (
        lambda reading, expected: (
            reading.usage
            and (
                reading.usage.input_tokens,
                reading.usage.output_tokens,
                reading.usage.cached_tokens,
                reading.usage.reasoning_tokens,
            )
        ),
        lambda expected: expected_usage(expected["usage"]),
    ),
    "error": (
        lambda reading, expected: reading.error and reading.error.code,
        lambda expected: (
            expected.get("error") and ERRORS[str(expected["error"].get("code") or expected["error"]["type"])]
        ),
    ),
    "complete": (
        lambda reading, expected: reading.error is None,
        lambda expected: expected["complete"] and "error" not in expected,
    ),
    "server_calls": (
        lambda reading, expected: server_calls_of(reading) if "server_tool_calls" in expected else None,
        lambda expected: (
            [(each["id"], each["name"], each["input"]) for each in expected["server_tool_calls"]]
            if "server_tool_calls" in expected
            else None
        ),
    ),
    "kinds": (kinds_of, expected_kinds),
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_means_what_it_is_expected_to_mean(name: str) -> None:
    reading, expected = readings()[name], STREAMS[name]["expected"]
    found = {aspect: (of(reading, expected), wanted(expected)) for aspect, (of, wanted) in ASPECTS.items()}
    different = {aspect for aspect, (is_, should_be) in found.items() if is_ != should_be}
    excepted = {aspect for stream, aspect in EXCEPTIONS if stream == name}
    assert different == excepted, {aspect: found[aspect] for aspect in different ^ excepted}


def test_every_exception_is_of_a_stream_that_there_is() -> None:
    assert not [name for name, aspect in EXCEPTIONS if name not in STREAMS or aspect not in ASPECTS]


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_means_the_same_however_its_bytes_arrive(name: str) -> None:
    stream, data = STREAMS[name], bytes_of(STREAMS[name])
    for way, pieces in WAYS.items():
        assert read(stream["api"], pieces(data)).meaning == readings()[name].meaning, way


@pytest.mark.parametrize("name", STREAMS)
def test_what_a_part_says_while_it_comes_is_what_it_is_at_its_end(name: str) -> None:
    """A viewer reads the deltas, the history keeps the parts."""
    told: dict[int, str] = {}
    for event in readings()[name].events:
        if isinstance(event, TextDelta | ReasoningDelta | ArgumentsDelta):
            told[event.part] = told.get(event.part, "") + event.text
        elif isinstance(event, PartFinished) and not isinstance(event.value, Opaque):
            value = event.value
            assert isinstance(value, Text | Reasoning | ToolCall)
            assert told.get(event.part, "") == (value.arguments if isinstance(value, ToolCall) else value.text)


@pytest.mark.parametrize("api", FAKES)
async def test_the_streams_mean_the_same_through_the_real_sdk(api: str) -> None:
    def play(recorded: Recorded) -> Turn:
        return Turn(raw=bytes_of(STREAMS[recorded.body["model"]]), write=20_000)

    async with FakeProvider(play) as fake:
        provider = getattr(fake, FAKES[api])()
        for name in by_api(api):
            async with aclosing(provider.stream(ModelRequest(name, [user("Hi")]))) as batches:
                assert (await collect(batches, ORIGINS[api])).meaning == readings()[name].meaning, name
