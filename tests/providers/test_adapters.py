"""Both adapters over the real SDKs, against real HTTP servers: how they read streams, and what failures become."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from chatstream import errors
from chatstream.deltas import (
    Delta,
    Finish,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
    UsageDelta,
)
from chatstream.messages import Message, ToolCall, user
from chatstream.providers import ModelRequest, base
from chatstream.providers.anthropic import Anthropic, MessagesTranslator
from chatstream.providers.base import SdkProvider, Told, retry_after
from chatstream.providers.openai_chat import ChatTranslator, OpenAIChat
from chatstream.testing import Call, FakeProvider, Turn, chat_stream, messages_stream
from chatstream.turn import Turn as TurnOfEvents
from tests.cuts import random_cut

APIS = {"anthropic": (MessagesTranslator, messages_stream), "openai_chat": (ChatTranslator, chat_stream)}
TOLD = Told("Fake", "claude-x", "KEY")
WHOLE = Turn(
    reasoning="Let me think. \N{GRINNING FACE}",
    text="First, I look it up.\n\n| a | b |",
    tools=[Call("add", {"a": 1, "b": "é \N{GRINNING FACE}"}), Call("look", {})],
)


def translate(api: str, stream: bytes, chunks: Sequence[bytes] = ()) -> list[Delta]:
    async def pieces() -> AsyncIterator[bytes]:
        for chunk in chunks or [stream]:
            yield chunk

    async def collect() -> list[Delta]:
        return [delta async for batch in base.translate(pieces(), APIS[api][0](TOLD)) for delta in batch]

    try:
        collect().send(None)  # it waits for nothing, so it needs no loop
    except StopIteration as done:
        deltas: list[Delta] = done.value
        return deltas
    raise AssertionError("it waited")


def message_of(deltas: Sequence[Delta]) -> Message:
    turn = TurnOfEvents(0, "p:m")
    turn.feed(deltas)
    turn.close()
    return turn.message


async def ask(provider: SdkProvider, **options: Any) -> list[Delta]:
    request = ModelRequest("claude-x", [user("Hi")], **options)
    async with aclosing(provider.stream(request)) as batches:
        return [delta async for batch in batches for delta in batch]


def provider_of(api: str, fake: FakeProvider) -> SdkProvider:
    return fake.anthropic() if api == "anthropic" else fake.openai_chat()


@pytest.mark.parametrize("api", APIS)
def test_a_stream_means_the_same_however_it_is_cut(api: str) -> None:
    stream = APIS[api][1](WHOLE)
    expected = message_of(translate(api, stream))
    assert expected.text == WHOLE.text
    assert [call.input for call in expected.calls] == [WHOLE.tools[0].arguments, {}]
    for seed in range(30):
        assert message_of(translate(api, stream, random_cut(stream, seed))) == expected
    assert message_of(translate(api, stream, [stream[at : at + 1] for at in range(len(stream))])) == expected


@pytest.mark.parametrize("api", APIS)
def test_a_stream_that_ends_before_its_end_is_an_error_at_every_byte(api: str) -> None:
    stream = APIS[api][1](Turn(text="Hello there", tools=[Call("add", {"a": 1})]))
    ends = stream.find(b"message_stop" if api == "anthropic" else b"finish_reason")
    for at in range(0, ends):
        with pytest.raises(errors.ProviderError):
            translate(api, stream[:at])


@pytest.mark.parametrize("api", APIS)
async def test_an_answer_comes_over_the_real_sdk(api: str) -> None:
    async with FakeProvider([Turn(reasoning="Hm.", text="Hello.", tools=[Call("add", {"a": 1}, "id1")])]) as fake:
        provider = provider_of(api, fake)
        deltas = await ask(provider)
        await provider.aclose()
    message = message_of(deltas)
    assert message.text == "Hello."
    assert message.calls == [ToolCall("id1", "add", {"a": 1}, '{"a": 1}')]
    assert next(delta for delta in deltas if isinstance(delta, Finish)).reason is FinishReason.TOOL_CALLS
    assert [delta for delta in deltas if isinstance(delta, UsageDelta)][-1].usage == Usage(25, 12, 5, 0)


# What the provider answers, as a turn of the fake one: the error that it becomes, and whether asking again may help.
FAILURES: dict[str, tuple[Turn, type[errors.ProviderError], bool]] = {
    "a request that is not accepted": (Turn(status=400), errors.ProviderRefused, False),
    "a wrong key": (Turn(status=401), errors.ProviderAuth, False),
    "a key without the right": (Turn(status=403), errors.ProviderForbidden, False),
    "an unknown model": (Turn(status=404), errors.ModelNotFound, False),
    "a request that is too large": (Turn(status=413), errors.ProviderTooLarge, False),
    "too many requests": (Turn(status=429, retry_after=7), errors.RateLimited, True),
    "a failure inside": (Turn(status=500), errors.ProviderBroken, True),
    "a gateway without a server": (Turn(status=502), errors.ProviderBroken, True),
    "a server that is away": (Turn(status=503), errors.Overloaded, True),
    "Anthropic's overload": (Turn(status=529), errors.Overloaded, True),
    "a teapot": (Turn(status=418), errors.ProviderRefused, False),
    "a connection that is lost": (Turn(text="x" * 400, drop=600), errors.ProviderUnreachable, True),
    "a body that ends too early": (Turn(text="x" * 400, end=600), errors.ProviderUnreachable, True),
    "no body at all": (Turn(raw=b""), errors.ProviderUnreachable, True),
    "no JSON": (Turn(raw=b"data: <html>\n\n"), errors.ProviderBroken, True),
}


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(("turn", "kind", "retryable"), FAILURES.values(), ids=FAILURES)
async def test_every_failure_has_its_error(
    api: str, turn: Turn, kind: type[errors.ProviderError], retryable: bool
) -> None:
    async with FakeProvider([turn]) as fake:
        provider = provider_of(api, fake)
        with pytest.raises(kind) as raised:
            await ask(provider)
        await provider.aclose()
    error = raised.value
    assert error.retryable is retryable
    assert error.retry_after == turn.retry_after
    assert len(fake.requests) == 1, "the SDK must not retry behind our back"
    assert "a fault that was asked for" not in error.message, "what the provider said is for the log"


IN_STREAM: dict[str, tuple[str, bytes, type[errors.ProviderError]]] = {
    "overloaded inside a 200": (
        "anthropic",
        b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n',
        errors.Overloaded,
    ),
    "an overflow inside a 200": (
        "anthropic",
        b'data: {"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 9 > 8"}}\n\n',
        errors.ContextOverflow,
    ),
    "a number as code": ("openai_chat", b'data: {"error":{"code":429,"message":"slow down"}}\n\n', errors.RateLimited),
    "a text as error": ("openai_chat", b'data: {"error":"boom"}\n\n', errors.ProviderBroken),
    "no credit": (
        "openai_chat",
        b'data: {"error":{"type":"rate_limit_exceeded","code":"insufficient_quota"}}\n\n',
        errors.ProviderForbidden,
    ),
    "an event without its members": ("anthropic", b'data: {"type":"content_block_delta"}\n\n', errors.ProviderBroken),
    "choices that are no list": ("openai_chat", b'data: {"choices":{"a":1}}\n\n', errors.ProviderBroken),
}


@pytest.mark.parametrize(("api", "stream", "kind"), IN_STREAM.values(), ids=IN_STREAM)
async def test_an_error_inside_the_stream_is_an_error(
    api: str, stream: bytes, kind: type[errors.ProviderError]
) -> None:
    async with FakeProvider([Turn(raw=stream)]) as fake:
        provider = provider_of(api, fake)
        with pytest.raises(kind):
            await ask(provider)
        await provider.aclose()


@pytest.mark.parametrize("api", APIS)
async def test_nobody_there_is_an_error_that_says_so(api: str) -> None:
    async with FakeProvider([]) as fake:
        provider = provider_of(api, fake)
    with pytest.raises(errors.ProviderUnreachable):
        await ask(provider)
    await provider.aclose()


@pytest.mark.parametrize("api", APIS)
async def test_silence_is_an_error_after_the_read_limit(api: str) -> None:
    async with FakeProvider([Turn(text="Hello", stall=300)]) as fake:
        provider = provider_of(api, fake)
        provider.read_timeout = 0.3
        with pytest.raises(errors.ProviderTimeout):
            await ask(provider)
        await provider.aclose()


@pytest.mark.parametrize("api", APIS)
async def test_leaving_the_stream_closes_the_socket(api: str) -> None:
    async with FakeProvider([Turn(text="Hello", stall=300)]) as fake:
        provider = provider_of(api, fake)
        async with aclosing(provider.stream(ModelRequest("claude-x", [user("Hi")]))) as batches:
            await anext(batches)
        async with asyncio.timeout(20):
            await fake.requests[0].ended.wait()
        assert fake.requests[0].left
        await provider.aclose()


async def test_an_answer_that_a_proxy_compressed_is_read_too() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        response.enable_compression(web.ContentCoding.gzip)
        await response.prepare(request)
        await response.write(messages_stream(Turn(text="Hello")))
        return response

    app = web.Application()
    app.router.add_post("/v1/messages", answer)
    async with TestServer(app) as server, Anthropic(api_key="k", base_url=str(server.make_url("/"))) as provider:
        assert message_of(await ask(provider)).text == "Hello"


@pytest.mark.parametrize("api", APIS)
async def test_many_streams_at_once_do_not_wait_for_each_other(api: str) -> None:
    count = 150  # above aiohttp's default limit of 100 connections
    async with FakeProvider([Turn(text="Hello", stall=300)] * count) as fake:
        provider = provider_of(api, fake)
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            streams = [provider.stream(ModelRequest("claude-x", [user("Hi")])) for _ in range(count)]
            first = [group.create_task(anext(stream)) for stream in streams]
        assert all(task.result() for task in first)
        for stream in streams:
            await stream.aclose()
        await provider.aclose()


async def test_a_missing_key_names_its_variable() -> None:
    with pytest.raises(errors.ProviderAuth, match="ANTHROPIC_API_KEY"):
        await ask(Anthropic())
    with pytest.raises(errors.ProviderAuth, match="OPENAI_API_KEY"):
        await ask(OpenAIChat())


def chunk(delta: str, rest: str = "") -> bytes:
    return b'data: {"choices":[{"index":0,"delta":%b%b}]}\n\n' % (delta.encode(), rest.encode())


END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}\n\ndata: [DONE]\n\n'
TWO = [ToolCall("a", "add", {"x": 1}, '{"x":1}'), ToolCall("b", "add", {"x": 2}, '{"x":2}')]
CALLS: dict[str, tuple[bytes, list[ToolCall]]] = {
    "interleaved": (
        chunk('{"tool_calls":[{"index":0,"id":"a","function":{"name":"add","arguments":""}}]}')
        + chunk('{"tool_calls":[{"index":1,"id":"b","function":{"name":"add","arguments":""}}]}')
        + chunk('{"tool_calls":[{"index":0,"function":{"arguments":"{\\"x\\":"}}]}')
        + chunk('{"tool_calls":[{"index":1,"function":{"arguments":"{\\"x\\":2}"}}]}')
        + chunk('{"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]}'),
        TWO,
    ),
    "both under index 0": (
        chunk('{"tool_calls":[{"index":0,"id":"a","function":{"name":"add","arguments":"{\\"x\\":1}"}}]}')
        + chunk('{"tool_calls":[{"index":0,"id":"b","function":{"name":"add","arguments":"{\\"x\\":2}"}}]}'),
        TWO,
    ),
    "no index": (
        chunk('{"tool_calls":[{"id":"a","function":{"name":"add","arguments":"{\\"x\\":1"}}]}')
        + chunk('{"tool_calls":[{"function":{"arguments":"}"}}]}')
        + chunk('{"tool_calls":[{"id":"b","function":{"name":"add","arguments":"{\\"x\\":2}"}}]}'),
        TWO,
    ),
    "both in one delta, the id in every piece": (
        chunk(
            '{"tool_calls":[{"index":0,"id":"a","function":{"name":"add","arguments":"{\\"x\\":"}},'
            '{"index":1,"id":"b","function":{"name":"add","arguments":"{\\"x\\":"}}]}'
        )
        + chunk(
            '{"tool_calls":[{"index":0,"id":"a","function":{"arguments":"1}"}},'
            '{"index":1,"id":"b","function":{"arguments":"2}"}}]}'
        ),
        TWO,
    ),
    "no ids": (
        chunk('{"tool_calls":[{"index":0,"function":{"name":"add","arguments":"{\\"x\\":1}"}}]}')
        + chunk('{"tool_calls":[{"index":1,"id":"","function":{"name":"add","arguments":"{\\"x\\":2}"}}]}'),
        [ToolCall("call_0", "add", {"x": 1}, '{"x":1}'), ToolCall("call_1", "add", {"x": 2}, '{"x":2}')],
    ),
    "the same id for both": (
        chunk('{"tool_calls":[{"index":0,"id":"a","function":{"name":"add","arguments":"{\\"x\\":1}"}}]}')
        + chunk('{"tool_calls":[{"index":1,"id":"a","function":{"name":"add","arguments":"{\\"x\\":2}"}}]}'),
        [TWO[0], ToolCall("a_2", "add", {"x": 2}, '{"x":2}')],
    ),
    "interleaved without an index": (
        chunk('{"tool_calls":[{"id":"a","function":{"name":"add","arguments":"{\\"x\\":"}}]}')
        + chunk('{"tool_calls":[{"id":"b","function":{"name":"add","arguments":"{\\"x\\":"}}]}')
        + chunk('{"tool_calls":[{"id":"a","function":{"arguments":"1}"}}]}')
        + chunk('{"tool_calls":[{"id":"b","function":{"arguments":"2}"}}]}'),
        TWO,
    ),
    "interleaved under index 0": (
        chunk('{"tool_calls":[{"index":0,"id":"a","function":{"name":"add","arguments":"{\\"x\\":"}}]}')
        + chunk('{"tool_calls":[{"index":0,"id":"b","function":{"name":"add","arguments":"{\\"x\\":"}}]}')
        + chunk('{"tool_calls":[{"index":0,"id":"a","function":{"arguments":"1}"}}]}')
        + chunk('{"tool_calls":[{"index":0,"id":"b","function":{"arguments":"2}"}}]}'),
        TWO,
    ),
    "an id that comes after the name": (
        chunk('{"tool_calls":[{"index":0,"function":{"name":"add","arguments":""}}]}')
        + chunk('{"tool_calls":[{"index":0,"id":"a","function":{"arguments":"{\\"x\\":1}"}}]}'),
        [ToolCall("call_0", "add", {"x": 1}, '{"x":1}')],
    ),
    "arguments that are an object, or null": (
        chunk('{"tool_calls":[{"index":0,"id":"a","function":{"name":"add","arguments":{"x":1}}}]}')
        + chunk('{"tool_calls":[{"index":1,"id":"b","function":{"name":"now","arguments":null}}]}'),
        [TWO[0], ToolCall("b", "now", {}, "")],
    ),
}


@pytest.mark.parametrize(("stream", "calls"), CALLS.values(), ids=CALLS)
def test_calls_stay_apart_however_a_server_tells_them_apart(stream: bytes, calls: list[ToolCall]) -> None:
    assert message_of(translate("openai_chat", stream + END)).calls == calls


def test_reasoning_that_a_server_says_twice_counts_once() -> None:
    stream = chunk('{"reasoning":"Hm","reasoning_content":"Hm"}') + chunk('{"content":"Yes"}') + END
    message = message_of(translate("openai_chat", stream))
    assert [getattr(part, "text", None) for part in message.parts] == ["Hm", "Yes"]


def test_halves_of_a_character_do_not_break_the_stream() -> None:
    deltas = translate("openai_chat", chunk(r'{"content":"a\ud83d"}') + END)
    assert TextDelta("text", "a?") in deltas or TextDelta("text", "a\ufffd") in deltas


def test_a_block_that_is_not_known_is_carried_whole() -> None:
    block = {"type": "server_tool_use", "id": "s", "input": {}}
    events = [
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": '{"q":'}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "1}"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_stop"},
    ]
    stream = b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in events)
    (part,) = message_of(translate("anthropic", stream)).parts
    assert part.data == {"type": "server_tool_use", "id": "s", "input": {"q": 1}}  # type: ignore[union-attr]


def test_arguments_and_content_that_come_whole_are_read() -> None:
    block = {"type": "tool_use", "id": "x", "name": "roll", "input": {"player": "1"}}
    events = [
        {"type": "message_start", "message": {"id": "m", "content": [{"type": "text", "text": "So: "}]}},
        {"type": "content_block_start", "index": 1, "content_block": block},
        {"type": "content_block_stop", "index": 1},
        {"type": "message_stop"},
    ]
    message = message_of(translate("anthropic", b"".join(b"data: %b\n\n" % json.dumps(e).encode() for e in events)))
    assert message.text == "So: "
    assert message.calls == [ToolCall("x", "roll", {"player": "1"}, '{"player": "1"}')]


def test_another_message_in_the_same_stream_is_a_stream_that_was_lost() -> None:
    start = b'data: {"type":"message_start","message":{"id":"%b"}}\n\n'
    with pytest.raises(errors.ProviderUnreachable):
        translate("anthropic", start % b"a" + start % b"b" + b'data: {"type":"message_stop"}\n\n')


def test_content_that_is_a_list_is_read_part_by_part() -> None:
    thinking = '{"type":"thinking","thinking":[{"type":"text","text":"Hm"}]}'
    stream = chunk(f'{{"content":[{thinking}]}}') + chunk('{"content":[{"type":"text","text":"Yes"}]}')
    message = message_of(translate("openai_chat", stream + chunk('{"content":"."}') + END))
    assert [getattr(part, "text", None) for part in message.parts] == ["Hm", "Yes."]


def test_thinking_comes_with_its_signature_and_redacted_thinking_with_its_data() -> None:
    deltas = translate("anthropic", messages_stream(Turn(reasoning="Hm.", signature="sig", redacted="secret")))
    assert ReasoningDelta(0, signature="sig") in deltas
    assert ReasoningDelta(1, redacted="secret") in deltas


def test_a_tool_call_of_anthropic_is_complete_before_the_turn_is() -> None:
    kinds = [type(delta).__name__ for delta in translate("anthropic", messages_stream(Turn(tools=[Call("add", {})])))]
    assert kinds.index("PartEnd") < kinds.index("Finish")
    assert isinstance(ToolCallDelta(0), ToolCallDelta)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "12"}, 12.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds
