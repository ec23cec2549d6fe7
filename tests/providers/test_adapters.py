"""The adapters over the real SDKs, against real HTTP servers: how they read streams, and what failures become."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from chatstream import errors
from chatstream.deltas import (
    Delta,
    Finish,
    FinishReason,
    Usage,
    UsageDelta,
)
from chatstream.messages import Message, ToolCall, user
from chatstream.providers import ModelRequest, base
from chatstream.providers.anthropic import Anthropic, MessagesTranslator
from chatstream.providers.base import SdkProvider, Told
from chatstream.providers.failures import retry_after
from chatstream.providers.limits import Limits, Watch
from chatstream.providers.openai import ResponsesTranslator
from chatstream.providers.openai_chat import OpenAIChat
from chatstream.providers.openai_chunks import ChatTranslator
from chatstream.providers.reading import Reading
from chatstream.sse import Frame
from chatstream.testing import Call, FakeProvider, Turn, chat_stream, messages_stream, responses_stream
from chatstream.turn import Turn as TurnOfEvents
from tests.cuts import random_cut

APIS = {
    "anthropic": (MessagesTranslator, messages_stream),
    "openai": (ResponsesTranslator, responses_stream),
    "openai_chat": (ChatTranslator, chat_stream),
}
# What an answer is not whole without.
ENDS = {"anthropic": b"message_stop", "openai": b"response.completed", "openai_chat": b"finish_reason"}
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
    provider: SdkProvider = getattr(fake, api)()
    return provider


@pytest.mark.parametrize("api", APIS)
def test_a_stream_means_the_same_however_it_is_cut(api: str) -> None:
    stream = APIS[api][1](WHOLE)
    expected = message_of(translate(api, stream))
    assert expected.text == WHOLE.text
    assert [call.input for call in expected.calls] == [WHOLE.tools[0].arguments, {}]
    for seed in range(30):
        assert message_of(translate(api, stream, random_cut(stream, seed))) == expected
    assert message_of(translate(api, stream, [stream[at : at + 1] for at in range(len(stream))])) == expected


# What may stand in place of a text in the JSON of its event: another text, what is none, and what says more than that.
IN_PLACE = [
    *(b'"b"', b'"b" ', b'""', b'"\\u00e9\\n"', b'"\\ud83d"', b'"\\ud83d\\ude00"', b'"\xc3\xa9"', b'"\xc3"', b'"\\x"'),
    *(b'\n"b"', b'"b"\n\n', b'"b"\r', b'"b"\r\n', b'""\n"b"'),
    *(b"null", b"7", b'["b"]', b"{}", b'"b', b'b"', b""),
    *(b'"b", "role": "assistant"', b'"b", "reasoning": "c"', b'"b", "content": "c"', b'"b", "type": "x"'),
    *(b'"b"}, "finish_reason": "length", "x": {"y": "z"', b'"b"}, "index": 1, "x": {"y": "z"', b'"b"}, {"y": "z"'),
]


@pytest.mark.parametrize("api", ["anthropic", "openai_chat"])
@pytest.mark.parametrize("raw", IN_PLACE)
def test_what_is_read_by_its_surroundings_alone_means_the_same(
    api: str, raw: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = APIS[api][1](Turn(text="one two six", chunk=4))
    assert stream.count(b'"two "') == 1
    stream = stream.replace(b'"two "', raw)

    def read(pieces: Sequence[bytes] = ()) -> object:
        """Return the message, or the error."""
        try:
            return message_of(translate(api, stream, pieces))
        except errors.ProviderError as error:
            return error.code, error.message

    # An event at a time, which may be cut again: what is left of one must not be taken for nothing.
    events = [event + b"\n\n" for event in stream.split(b"\n\n")[:-1]]
    cut = [
        events,
        *([piece for event in events for piece in (event[:at], event[at:]) if piece] for at in (1, 9, -2, -1)),
    ]
    shortly = read()
    assert [read(pieces) for pieces in cut] == [shortly] * len(cut)
    monkeypatch.setattr(base.Surroundings, "learn", lambda *_: None)
    assert shortly == read()


def event(value: object) -> bytes:
    return b"data: %b\n\n" % orjson.dumps(value)


def block(index: int, kind: str) -> bytes:
    return event({"type": "content_block_start", "index": index, "content_block": {"type": kind, "text": ""}})


def word(text: str) -> bytes:
    return event({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}})


def chunk(*deltas: dict[str, Any], **members: Any) -> bytes:
    return event({"choices": [{"index": 0, "delta": delta} for delta in deltas]} | members)


ONE, TWO = {"prompt_tokens": 1}, {"prompt_tokens": 2}
# Events that look like what was learned and come where they mean something else.
ELSEWHERE = {
    "another kind of block": ("anthropic", [block(0, "text"), word("a"), word("b"), block(0, "new"), word("c")]),
    "an end between": (
        "anthropic",
        [block(0, "text"), word("a"), event({"type": "content_block_stop", "index": 0}), word("b"), word("c")],
    ),
    "thoughts between": (
        "openai_chat",
        [chunk({name: text}) for text, name in [*zip("abc", ["content"] * 3, strict=True), ("d", "reasoning")]]
        + [chunk({"content": "e"}), chunk({"reasoning": "f"}), chunk({"content": "g"})],
    ),
    "two choices": ("openai_chat", [chunk({"content": "a"}), *[chunk({"content": "b"}, {"content": "c"})] * 3]),
    "tokens": ("openai_chat", [*[said := chunk({"content": "a"}, usage=ONE)] * 2, chunk(usage=TWO), said]),
    "tokens in another place": (
        "openai_chat",
        [*[said := chunk({"content": "a"}, x_groq={"usage": ONE})] * 2, chunk(usage=TWO), said],
    ),
}


@pytest.mark.parametrize(("api", "stream"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_what_looks_like_a_text_that_was_learned_is_read_for_what_it_is(
    api: str, stream: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read() -> object:
        batches: list[list[Delta]] = []
        reading = Reading(APIS[api][0](TOLD), batches.append)
        for each in stream:
            reading.feed(each)
        turn = TurnOfEvents(0, "p:m")
        turn.feed(delta for batch in batches for delta in batch)
        return turn.usage, turn.close()

    shortly = read()
    monkeypatch.setattr(base.Surroundings, "learn", lambda *_: None)
    assert shortly == read()


def test_an_event_behind_half_of_another_is_none_by_itself() -> None:
    reading = Reading(MessagesTranslator(TOLD), lambda batch: None)
    for each in (block(0, "text"), word("a"), word("b"), b"data: {}\n"):
        reading.feed(each)
    with pytest.raises(errors.ProviderBroken):
        reading.feed(word("c"))


def test_an_event_of_any_depth_is_read_before_and_after_it_could_be_learned_from() -> None:
    deep = b',"x":' + b"[" * 1000 + b"]" * 1000 + b"}\n\n"
    stream = messages_stream(Turn(text="one two six", chunk=4)).replace(
        b"}\n\nevent: content_block_delta", deep + b"event: content_block_delta"
    )
    assert message_of(translate("anthropic", stream)).text == "one two six"


async def test_an_answer_has_begun_with_its_first_word_however_that_is_read() -> None:
    stream = messages_stream(Turn(text="one two six", chunk=4)).replace(b'"one "', b'""')
    watch = Watch(Limits(), "Fake")
    reading = Reading(MessagesTranslator(TOLD), lambda batch: None, watch)
    told, word, _ = stream.partition(b'"two "')
    for event in (told + word + b"}}\n\n").split(b"\n\n")[:-1]:
        reading.feed(event + b"\n\n")
    assert watch.has_said


def test_surroundings_are_learned_where_the_text_is_and_nowhere_else() -> None:
    around = base.Surroundings()

    def learn(data: bytes) -> None:
        event = orjson.loads(data)
        around.learn(Frame(data, b"delta"), event, event["delta"], "text", 0)

    learn(b'{"delta":{"text":"a"},"id":"a"}')
    assert around.text(b'{"delta":{"text":"a"},"id":"b"}') == ""
    assert around.text(b'{"delta":{"text":"b"},"id":"a"}') == ""
    learn(b'{"delta":{"text":"a"},"id":"c"}')
    assert around.text(b'{"delta":{"text":"b"},"id":"c"}') == "b"
    assert around.text(b'{"delta":{"text":"b"},"id":"d"}') == ""
    whole = b'event: delta\ndata: {"delta":{"text":"b"},"id":"c"}\n\n'
    assert around.text_of_event(whole) == "b"
    for other in (whole[:-1], whole[:-1] + b"\r\n", b"id: 1\n" + whole, whole.replace(b"event: delta", b"event: d")):
        assert around.text_of_event(other) == ""
    around.forget()
    assert around.text(b'{"delta":{"text":"b"},"id":"c"}') == around.text_of_event(whole) == ""


@pytest.mark.parametrize("api", APIS)
def test_a_stream_that_ends_before_its_end_is_an_error_at_every_byte(api: str) -> None:
    stream = APIS[api][1](Turn(text="Hello there", tools=[Call("add", {"a": 1})]))
    for at in range(stream.find(ENDS[api])):
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


# What official SDKs and other clients pass over, and what is behind it counts.
SAYS_NOTHING = {
    "a blank event": b"data:\n\n",
    "a blank ping": b"event: ping\ndata: \n\n",
    "a ping in words": b"event: ping\ndata: ping\n\n",
}


@pytest.mark.parametrize("nothing", SAYS_NOTHING.values(), ids=SAYS_NOTHING)
@pytest.mark.parametrize("api", APIS)
def test_an_event_that_says_nothing_breaks_no_answer(api: str, nothing: bytes) -> None:
    stream = APIS[api][1](WHOLE)
    first, _, rest = stream.partition(b"\n\n")
    whole = message_of(translate(api, stream))
    assert message_of(translate(api, nothing + first + b"\n\n" + nothing + rest + nothing)) == whole


@pytest.mark.parametrize("api", APIS)
def test_a_last_word_of_another_api_breaks_no_answer(api: str) -> None:
    stream = APIS[api][1](WHOLE).replace(b"data: [DONE]\n\n", b"")
    assert message_of(translate(api, stream + b"data: [DONE]\n\n")) == message_of(translate(api, stream))


def test_an_answer_with_a_stop_reason_may_end_in_a_word_of_another_api() -> None:
    stream = messages_stream(WHOLE)
    at = stream.index(b"event: message_stop")
    assert message_of(translate("anthropic", stream[:at] + b"data: [DONE]\n\n")).text == WHOLE.text
    with pytest.raises(errors.ProviderUnreachable):
        translate("anthropic", stream[: stream.index(b"event: message_delta")] + b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    "error",
    [
        b'event: error\ndata: {"error":{"type":"invalid_request_error","message":"prompt is too long: 9 > 8"}}\n\n',
        b'data: {"error":{"type":"invalid_request_error","message":"prompt is too long: 9 > 8"}}\n\n',
        b'event: error\ndata: {"message":"prompt is too long: 9 > 8"}\n\n',
        b'event: error\ndata: {"type":"error","message":"prompt is too long: 9 > 8"}\n\n',
    ],
)
@pytest.mark.parametrize("api", APIS)
def test_an_error_is_read_without_the_members_around_it(api: str, error: bytes) -> None:
    with pytest.raises(errors.ContextOverflow):
        translate(api, error)


NO_STREAMS = {
    "a web page": ("text/html; charset=utf-8", b"<!doctype html><title>Chat</title>", "web page.* /v1"),
    "a whole answer": ("application/json", b'{"choices":[{"message":{"content":"Hi"}}]}', "did not stream"),
}


@pytest.mark.parametrize(("kind", "body", "words"), NO_STREAMS.values(), ids=NO_STREAMS)
async def test_what_is_no_stream_says_so_and_is_not_asked_for_again(kind: str, body: bytes, words: str) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=body, headers={"Content-Type": kind})

    app = web.Application()
    app.router.add_post("/chat/completions", answer)
    async with TestServer(app) as server:
        provider = OpenAIChat(api_key="k", base_url=str(server.make_url("")))
        with pytest.raises(errors.ProviderMisread, match=words) as raised:
            await ask(provider)
        await provider.aclose()
    assert not raised.value.retryable


@pytest.mark.parametrize("api", APIS)
async def test_nobody_there_is_an_error_that_says_so(api: str) -> None:
    async with FakeProvider([]) as fake:
        provider = provider_of(api, fake)
    with pytest.raises(errors.ProviderUnreachable):
        await ask(provider)
    await provider.aclose()


@pytest.mark.parametrize("api", APIS)
async def test_leaving_the_stream_closes_the_socket(api: str) -> None:
    async with FakeProvider([Turn(text="Hello" * 99, stall=900)]) as fake:
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
    async with FakeProvider([Turn(text="Hello" * 99, stall=900)] * count) as fake:
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
