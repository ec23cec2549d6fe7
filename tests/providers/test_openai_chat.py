"""The ways of OpenAI-compatible servers, a small stream for each, and what they are sent."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import pytest

from chatstream import errors
from chatstream.deltas import Delta, Finish, FinishReason, Usage
from chatstream.messages import (
    Citation,
    Image,
    Message,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    message_to_json,
    messages_from_json,
    user,
)
from chatstream.providers import ModelRequest
from chatstream.providers.base import Told, translate
from chatstream.providers.openai import OpenAI
from chatstream.providers.openai_chat import OpenAIChat, build_request
from chatstream.providers.openai_chunks import ChatTranslator
from chatstream.testing import FakeProvider, Recorded
from chatstream.testing import Turn as FakeTurn
from chatstream.turn import Turn

DONE = b"data: [DONE]\n\n"
ORIGIN = "openai-chat:m"


def event(value: object) -> bytes:
    return b"data: %b\n\n" % json.dumps(value).encode()


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **members: Any) -> bytes:
    """Return a chunk of one choice; `members` are of the choice."""
    return event({"choices": [{"index": 0, "delta": delta, "finish_reason": finish} | members]})


def calls(*pieces: dict[str, Any]) -> bytes:
    return chunk({"tool_calls": list(pieces)})


def call(arguments: Any = None, name: str | None = None, **members: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return members | {"function": {key: value for key, value in function.items() if value is not None}}


STOP = chunk({}, "stop") + DONE
CALLED = chunk({}, "tool_calls") + DONE


@dataclass(frozen=True)
class Said:
    message: Message
    finish: Finish | None
    usage: Usage | None
    error: tuple[str, bool] | None

    @property
    def thought(self) -> str:
        return "".join(part.text for part in self.message.parts if isinstance(part, Reasoning))

    @property
    def extras(self) -> list[dict[str, Any]]:
        return [part.extra for part in self.message.parts if isinstance(part, Reasoning | ToolCall) and part.extra]


async def fold(batches: AsyncIterator[list[Delta]]) -> Said:
    turn, finish, error = Turn(0, ORIGIN), None, None
    try:
        async for batch in batches:
            turn.feed(batch)
            finish = next((delta for delta in reversed(batch) if isinstance(delta, Finish)), finish)
    except errors.ProviderError as failure:
        error = failure.code, failure.retryable
    usage = turn.usage
    turn.close()
    return Said(turn.message, finish, usage, error)


def read_pieces(pieces: Iterable[bytes]) -> Said:
    async def each() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    try:
        fold(translate(each(), ChatTranslator(Told("Server", "m")))).send(None)
    except StopIteration as done:
        said: Said = done.value
        return said
    raise AssertionError("it waited")


def read(stream: bytes) -> Said:
    """Read a stream whole and by the byte, which has to mean the same."""
    said = read_pieces([stream])
    assert read_pieces(stream[at : at + 1] for at in range(len(stream))) == said
    return said


# --- text, thoughts, and where they stand -----------------------------------------------------------------------------

SHOWN: dict[str, tuple[bytes, str, str]] = {
    "no delta in a choice": (chunk({"content": "Yes"}) + event({"choices": [{"finish_reason": "stop"}]}), "Yes", ""),
    "a delta that is null": (chunk({"content": "Yes"}) + chunk(None, "stop"), "Yes", ""),
    "a first chunk without choices": (event({"id": "x", "choices": []}) + chunk({"content": "Yes"}, "stop"), "Yes", ""),
    "a chunk with neither choices nor usage": (event({"id": "x"}) + chunk({"content": "Yes"}) + STOP, "Yes", ""),
    "the finish in the only chunk": (chunk({"role": "assistant", "content": "Yes"}, "stop"), "Yes", ""),
    "a message beside the deltas, of all so far": (
        chunk({"content": "Y"}, message={"content": "Y"})
        + chunk({"content": "es"}, "stop", message={"content": "Yes"}),
        "Yes",
        "",
    ),
    "a message after the deltas, of all of them": (
        chunk({"content": "Yes"}) + chunk(None, "stop", message={"role": "assistant", "content": "Yes"}),
        "Yes",
        "",
    ),
    "one message instead of deltas": (chunk(None, "stop", message={"content": "Yes"}), "Yes", ""),
    "messages instead of deltas, each the whole": (
        chunk(None, message={"reasoning": "Hm"})
        + chunk(None, message={"content": "Y"})
        + chunk({}, "stop", message={"content": "Yes"}),
        "Yes",
        "Hm",
    ),
    "messages instead of deltas, each a piece": (
        chunk(None, message={"content": "Y"}) + chunk(None, "stop", message={"content": "es"}),
        "Yes",
        "",
    ),
    "parts of text and of thinking": (
        chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}]})
        + chunk({"content": [{"type": "text", "text": "Ye"}, "s"]})
        + chunk({"content": "."})
        + STOP,
        "Yes.",
        "Hm",
    ),
    "reasoning in a list of summaries": (
        chunk({"content": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm"}]}]})
        + chunk({"content": [{"type": "text", "text": "Yes"}]})
        + STOP,
        "Yes",
        "Hm",
    ),
    "thoughts in both fields": (chunk({"reasoning": "Hm", "reasoning_content": "Hm"}) + STOP, "", "Hm"),
    "thoughts in a field and in details": (
        chunk({"reasoning": "Hm", "reasoning_details": [{"type": "reasoning.text", "text": "Hm"}]}) + STOP,
        "",
        "Hm",
    ),
    "thoughts in details only": (
        chunk({"content": "", "reasoning_details": [{"type": "reasoning.text", "text": "H", "index": 0}]})
        + chunk({"content": "", "reasoning_details": [{"type": "reasoning.summary", "summary": "m", "index": 1}]})
        + chunk({"content": "Yes"})
        + STOP,
        "Yes",
        "Hm",
    ),
    "think tags, which the server left in the text": (
        chunk({"content": "<think>Hm</think>Yes"}) + STOP,
        "<think>Hm</think>Yes",
        "",
    ),
    "several choices": (
        event({"choices": [{"index": 0, "delta": {"content": "Yes"}}, {"index": 1, "delta": {"content": "No"}}]})
        + STOP,
        "Yes",
        "",
    ),
    "a filter's results beside the text": (
        event({"choices": [], "prompt_filter_results": [{"prompt_index": 0}]})
        + chunk({"content": "Yes"}, content_filter_results={"hate": {"filtered": False}})
        + chunk(None, "stop", content_filter_offsets={"start_offset": 1})
        + STOP,
        "Yes",
        "",
    ),
    "comments, CRLF and a byte order mark": (
        b"\xef\xbb\xbf: PROCESSING\r\n\r\n" + (chunk({"content": "Yes"}) + STOP).replace(b"\n", b"\r\n"),
        "Yes",
        "",
    ),
    "CR, and no blank line at the end": ((chunk({"content": "Yes"}) + STOP).replace(b"\n", b"\r")[:-2], "Yes", ""),
}


@pytest.mark.parametrize(("stream", "text", "thought"), SHOWN.values(), ids=SHOWN)
def test_what_a_server_says_is_read_once_wherever_it_stands(stream: bytes, text: str, thought: str) -> None:
    said = read(stream)
    assert (said.message.text, said.thought, said.error) == (text, thought, None)


def test_halves_of_a_character_do_not_break_the_stream() -> None:
    assert read(b'data: {"choices":[{"delta":{"content":"a\\ud83d"}}]}\n\n' + STOP).message.text in ("a?", "a\ufffd")


# --- calls ------------------------------------------------------------------------------------------------------------

ONE, OTHER = '{"x":1}', '{"x":2}'
TWO = [ToolCall("a", "add", {"x": 1}, ONE), ToolCall("b", "add", {"x": 2}, OTHER)]
NAMELESS = [ToolCall("call_0", "add", {"x": 1}, ONE), ToolCall("call_1", "add", {"x": 2}, OTHER)]
CALLS: dict[str, tuple[bytes, list[ToolCall]]] = {
    "interleaved": (
        calls(call("", "add", index=0, id="a"))
        + calls(call("", "add", index=1, id="b"))
        + calls(call('{"x":', index=0))
        + calls(call(OTHER, index=1))
        + calls(call("1}", index=0)),
        TWO,
    ),
    "an index that begins at 1": (
        calls(call("", "add", index=1, id="a"))
        + calls(call(ONE, index=1))
        + calls(call(OTHER, "add", index=2, id="b")),
        TWO,
    ),
    "both under index 0": (calls(call(ONE, "add", index=0, id="a")) + calls(call(OTHER, "add", index=0, id="b")), TWO),
    "no index": (
        calls(call('{"x":1', "add", id="a")) + calls(call("}")) + calls(call(OTHER, "add", id="b")),
        TWO,
    ),
    "an index in the first piece only": (calls(call("", "add", index=0, id="a")) + calls(call(ONE)), TWO[:1]),
    "both in one delta, the id in every piece": (
        calls(call('{"x":', "add", index=0, id="a"), call('{"x":', "add", index=1, id="b"))
        + calls(call("1}", index=0, id="a"), call("2}", index=1, id="b")),
        TWO,
    ),
    "both in one delta without an index": (calls(call(ONE, "add", id="a"), call(OTHER, "add", id="b")), TWO),
    "no ids": (calls(call(ONE, "add", index=0)) + calls(call(OTHER, "add", index=1, id="")), NAMELESS),
    "neither index nor ids": (calls(call(ONE, "add", id="")) + calls(call(OTHER, "add", id="")), NAMELESS),
    "neither index nor ids nor arguments": (
        calls(call("", "now"), call("", "now")),
        [ToolCall("call_0", "now", {}), ToolCall("call_1", "now", {})],
    ),
    "another id without an index, its name later": (
        calls(call(ONE, "add", id="a")) + calls(call(OTHER, id="b")) + calls(call("", "add", id="b")),
        TWO,
    ),
    "no ids, both under index 0, in pieces": (
        calls(call("", "add", index=0)) + calls(call(ONE, index=0)) + calls(call(OTHER, "add", index=0)),
        NAMELESS,
    ),
    "no ids, both under index 0": (calls(call(ONE, "add", index=0)) + calls(call(OTHER, "add", index=0)), NAMELESS),
    "the same id for both": (
        calls(call(ONE, "add", index=0, id="a")) + calls(call(OTHER, "add", index=1, id="a")),
        [TWO[0], ToolCall("a_2", "add", {"x": 2}, OTHER)],
    ),
    "the same id and index for both": (
        calls(call(ONE, "add", index=0, id="a")) + calls(call(OTHER, "add", index=0, id="a")),
        [TWO[0], ToolCall("a_2", "add", {"x": 2}, OTHER)],
    ),
    "interleaved without an index": (
        calls(call('{"x":', "add", id="a"))
        + calls(call('{"x":', "add", id="b"))
        + calls(call("1}", id="a"))
        + calls(call("2}", id="b")),
        TWO,
    ),
    "interleaved under index 0": (
        calls(call('{"x":', "add", index=0, id="a"))
        + calls(call('{"x":', "add", index=0, id="b"))
        + calls(call("1}", index=0, id="a"))
        + calls(call("2}", index=0, id="b")),
        TWO,
    ),
    "id and name in every piece": (
        calls(call("", "add", index=0, id="a"))
        + calls(call('{"x":', "add", index=0, id="a"))
        + calls(call("1}", "add", index=0, id="a")),
        TWO[:1],
    ),
    "empty or null id and name later": (
        calls(call("", "add", index=0, id="a", type="function"))
        + calls({"index": 0, "id": "", "type": None, "function": {"name": "", "arguments": '{"x":'}})
        + calls({"index": 0, "id": None, "function": {"name": None, "arguments": "1}"}}),
        TWO[:1],
    ),
    "another id in every piece": (
        calls(call("", "add", index=0, id="a"))
        + calls(call('{"x":', index=0, id="q"))
        + calls(call("1}", index=0, id="r")),
        TWO[:1],
    ),
    "an id that comes after the name": (
        calls(call("", "add", index=0)) + calls(call(ONE, index=0, id="a")),
        NAMELESS[:1],
    ),
    "a name that comes after the arguments": (
        calls(call('{"x":', index=0, id="a")) + calls(call("1}", index=0)) + calls(call("", "add", index=0)),
        TWO[:1],
    ),
    "the whole call said again at the end": (
        calls(call('{"x":', "add", index=0, id="a"))
        + calls(call("1}", index=0))
        + chunk({"tool_calls": [call(ONE, "add", index=0, id="a")]}, "tool_calls"),
        TWO[:1],
    ),
    "arguments that are an object, or null": (
        calls(
            call({"x": 1}, "add", index=0, id="a"),
            {"index": 1, "id": "b", "function": {"name": "now", "arguments": None}},
        ),
        [TWO[0], ToolCall("b", "now", {}, "")],
    ),
    "empty arguments before the real ones": (
        calls(call("{}", "add", index=0, id="a")) + calls(call('{"x":', index=0)) + calls(call("1}", index=0)),
        TWO[:1],
    ),
    "empty arguments and no others": (calls(call("{}", "now", index=0, id="a")), [ToolCall("a", "now", {}, "{}")]),
    "no function around name and arguments": (calls({"id": "a", "name": "add", "arguments": ONE}), TWO[:1]),
    "one call that is no list": (chunk({"tool_calls": call(ONE, "add", id="a")}), TWO[:1]),
    "calls in a message": (chunk(None, "stop", message={"tool_calls": [call(ONE, "add", id="a")]}), TWO[:1]),
    "calls in a message beside the delta": (
        chunk({"tool_calls": [call(ONE, "add", index=0, id="a")]}, message={"tool_calls": [call(ONE, "add", id="a")]}),
        TWO[:1],
    ),
    "the form before there were tools": (
        chunk({"function_call": {"name": "add", "arguments": ""}})
        + chunk({"function_call": {"arguments": ONE}}, "function_call"),
        NAMELESS[:1],
    ),
}


@pytest.mark.parametrize(("stream", "expected"), CALLS.values(), ids=CALLS)
def test_calls_stay_apart_however_a_server_tells_them_apart(stream: bytes, expected: list[ToolCall]) -> None:
    said = read(stream + CALLED)
    assert said.message.calls == expected
    assert said.finish is not None and said.finish.reason is FinishReason.TOOL_CALLS


# --- endings, errors and tokens ---------------------------------------------------------------------------------------

YES = chunk({"content": "Yes"})
ENDINGS: dict[str, tuple[bytes, FinishReason, str]] = {
    "no [DONE]": (YES + chunk({}, "stop"), FinishReason.STOP, "stop"),
    "only [DONE]": (YES + DONE, FinishReason.STOP, ""),
    "only [DONE], after calls": (calls(call(ONE, "add", id="a")) + DONE, FinishReason.TOOL_CALLS, ""),
    "stop, after calls": (calls(call(ONE, "add", id="a")) + STOP, FinishReason.TOOL_CALLS, "stop"),
    "said twice": (YES + chunk({}, "length") + chunk({}, "length") + DONE, FinishReason.LENGTH, "length"),
    "cut within a call": (calls(call('{"x":', "add", id="a")) + chunk({}, "length"), FinishReason.LENGTH, "length"),
    "a filter": (YES + chunk({}, "content_filter") + DONE, FinishReason.CONTENT_FILTER, "content_filter"),
    "a refusal": (
        chunk({"refusal": ""}) + chunk({"refusal": "I can"}) + chunk({"refusal": "not."}) + STOP,
        FinishReason.REFUSAL,
        "stop",
    ),
    "no room left": (
        YES + chunk({}, "model_context_window_exceeded"),
        FinishReason.CONTEXT_OVERFLOW,
        "model_context_window_exceeded",
    ),
    "a word of its own": (YES + chunk({}, "whim"), FinishReason.OTHER, "whim"),
}


@pytest.mark.parametrize(("stream", "reason", "raw"), ENDINGS.values(), ids=ENDINGS)
def test_why_a_model_stopped(stream: bytes, reason: FinishReason, raw: str) -> None:
    said = read(stream)
    assert (said.finish, said.error) == (Finish(reason, raw), None)
    assert said.message.text in ("", "Yes", "I cannot.")


ERRORS: dict[str, tuple[bytes, str, bool]] = {
    "an error instead of choices": (event({"error": {"code": 429, "message": "slow down"}}), "rate_limit", True),
    "an error beside choices, after the finish": (
        chunk({}, "length") + event({"error": {"code": 503}, "choices": [{"delta": {"content": ""}}]}) + DONE,
        "overloaded",
        True,
    ),
    "an error in a choice": (chunk({}, "error", error={"code": 429, "message": "slow"}), "rate_limit", True),
    "a finish that is an error": (chunk({}, "error") + DONE, "internal", True),
    "an event that is an error": (b'event: error\ndata: {"message": "boom", "code": 503}\n\n', "overloaded", True),
    "an object that is an error": (event({"object": "error", "message": "boom", "code": 400}), "bad_request", False),
    "a call that the server could not read": (
        b"event: error\n" + event({"error": {"type": "invalid_request_error", "code": "tool_use_failed"}}),
        "internal",
        True,
    ),
    "a lost connection": (b"", "network", True),
    "usage, but no end": (event({"choices": [], "usage": {"prompt_tokens": 1}}), "network", True),
    "a content that is a number": (chunk({"content": 5}), "internal", False),
    "a content that is a number, before an error": (
        chunk({"content": 5}) + event({"error": {"code": 429}}),
        "internal",
        False,
    ),
    "a name that is a list": (calls({"index": 0, "function": {"name": ["add"]}}), "internal", False),
}


@pytest.mark.parametrize(("stream", "code", "retryable"), ERRORS.values(), ids=ERRORS)
def test_what_goes_wrong_is_an_error_after_what_was_said(stream: bytes, code: str, retryable: bool) -> None:
    said = read(chunk({"role": "assistant", "content": "Yes"}) + stream)
    assert said.message.text == "Yes"
    assert said.error == (code, retryable)


def test_nothing_but_done_is_no_answer() -> None:
    assert read(DONE).error == ("network", True)


def usage_of(usage: dict[str, Any]) -> bytes:
    return event({"choices": [], "usage": usage})


TOKENS: dict[str, tuple[bytes, Usage | None]] = {
    "none": (b"", None),
    "null, then in the last chunk": (
        event({"choices": [], "usage": None}) + usage_of({"prompt_tokens": 3, "completion_tokens": 2}),
        Usage(3, 2),
    ),
    "in every chunk": (
        usage_of({"prompt_tokens": 3, "completion_tokens": None})
        + usage_of({"prompt_tokens": 3, "completion_tokens": 2}),
        Usage(3, 2),
    ),
    "with the choices": (
        event({"choices": [{"delta": {"content": "."}}], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}),
        Usage(3, 2),
    ),
    "Groq's place": (
        event({"choices": [], "x_groq": {"usage": {"prompt_tokens": 3, "completion_tokens": 2}}}),
        Usage(3, 2),
    ),
    "Moonshot's place": (chunk({}, "stop", usage={"prompt_tokens": 3, "completion_tokens": 2}), Usage(3, 2)),
    "cached and reasoned": (
        usage_of(
            {
                "prompt_tokens": 30,
                "completion_tokens": 20,
                "total_tokens": 50,
                "prompt_tokens_details": {"cached_tokens": 10},
                "completion_tokens_details": {"reasoning_tokens": 7},
            }
        ),
        Usage(30, 20, 10, 7),
    ),
    "DeepSeek's cache": (usage_of({"prompt_tokens": 30, "prompt_cache_hit_tokens": 10}), Usage(30, 0, 10)),
    "Moonshot's cache": (usage_of({"prompt_tokens": 30, "cached_tokens": 10}), Usage(30, 0, 10)),
    "a gateway's cache": (
        usage_of({"prompt_tokens": 30, "prompt_tokens_details": None, "cache_read_input_tokens": 10}),
        Usage(30, 0, 10),
    ),
    "reasoned beside what was completed": (
        usage_of(
            {
                "prompt_tokens": 12,
                "completion_tokens": 1,
                "total_tokens": 303,
                "completion_tokens_details": {"reasoning_tokens": 290},
            }
        ),
        Usage(12, 291, 0, 290),
    ),
    "searches": (
        usage_of({"prompt_tokens": 3, "server_tool_use_details": {"tool_calls_executed": 2}}),
        Usage(3, provider_tool_calls=2),
    ),
    "not numbers": (usage_of({"prompt_tokens": "many", "completion_tokens": -1, "prompt_tokens_details": []}), Usage()),
}


@pytest.mark.parametrize(("stream", "usage"), TOKENS.values(), ids=TOKENS)
def test_tokens_are_found_where_a_server_puts_them(stream: bytes, usage: Usage | None) -> None:
    said = read(YES + stream + STOP)
    assert said.error is None
    assert said.usage == usage


def test_tokens_that_came_with_an_error_count() -> None:
    said = read(YES + event({"error": {"code": 500}, "usage": {"prompt_tokens": 3, "completion_tokens": 2}}))
    assert said.usage == Usage(3, 2)


def annotation(url: str) -> dict[str, Any]:
    return {"type": "url_citation", "url_citation": {"url": url, "title": "T", "content": "C", "start_index": 0}}


SOURCES: dict[str, tuple[bytes, tuple[Citation, ...]]] = {
    "annotations": (
        chunk({"content": "", "annotations": [annotation("u"), annotation("v")]}) + YES + STOP,
        (Citation("u", "T", "C"), Citation("v", "T", "C")),
    ),
    "annotations after the text": (YES + chunk({"annotations": [annotation("u")]}) + STOP, (Citation("u", "T", "C"),)),
    "search results in every chunk": (
        event({"citations": ["u", "v"], "search_results": [{"url": "u", "title": "T", "snippet": "C"}], "choices": []})
        * 2
        + YES
        + STOP,
        (Citation("u", "T", "C"), Citation("v")),
    ),
    "sources after the finish": (YES + STOP[:-14] + event({"choices": [], "citations": ["u"]}), (Citation("u"),)),
    "what is no source": (YES + chunk({"annotations": [5, {}, {"type": "file"}]}) + STOP, ()),
}


@pytest.mark.parametrize(("stream", "citations"), SOURCES.values(), ids=SOURCES)
def test_sources_belong_to_the_text(stream: bytes, citations: tuple[Citation, ...]) -> None:
    assert read(stream).message.parts == (Text("Yes", citations),)


def test_googles_words_for_an_end_have_a_reason_behind_them() -> None:
    stopped = chunk({}, "content_filter: RECITATION")
    finish = read(YES + stopped + DONE).finish
    assert finish is not None and finish.reason is FinishReason.CONTENT_FILTER
    error = read(chunk({}, "function_call_filter: MALFORMED_FUNCTION_CALL") + DONE).error
    assert error == ("internal", True), "an empty answer would look like one"


# --- what goes back ---------------------------------------------------------------------------------------------------


def sent(*messages: Message, model: str = "m", compatible: bool = True) -> list[dict[str, Any]]:
    messages_ = messages_from_json(json.loads(json.dumps([message_to_json(message) for message in messages])))
    body: list[dict[str, Any]] = build_request(ModelRequest(model, messages_), "openai-chat", compatible=compatible)[
        "messages"
    ]
    return body


@pytest.mark.parametrize("model", ["gpt-5", "openai/gpt-5.6-luna", "o4-mini", "openai.gpt-6"])
def test_a_model_that_reasons_is_told_its_limit_by_the_name_it_takes_wherever_it_runs(model: str) -> None:
    body = build_request(ModelRequest(model, [user("Hi")]), "openai-chat", compatible=True)
    assert "max_tokens" not in body and body["max_completion_tokens"] == 4096
    assert "max_tokens" in build_request(ModelRequest("gpt-oss:20b", [user("Hi")]), "openai-chat", compatible=True)


@pytest.mark.parametrize(
    ("address", "compatible"),
    [
        *(("", False), ("https://api.openai.com/v1", False), ("https://eu.api.openai.com/v1/", False)),
        *(("http://127.0.0.1:1/v1", True), ("https://notapi.openai.com.example/v1", True)),
    ],
)
@pytest.mark.parametrize("kind", [OpenAIChat, OpenAI])
def test_openais_own_address_is_no_other_server(
    kind: type[OpenAIChat], address: str, compatible: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", address)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    provider = kind()
    assert provider.is_compatible is compatible
    assert provider.is_default_known is not compatible
    assert bool(provider.reason) is not compatible, "a key is wanted where it is OpenAI"


@pytest.mark.parametrize("model", ["mistral-large-latest", "mistralai/Devstral-Small-2507", "mixtral:8x7b"])
def test_mistral_gets_the_history_of_another_provider_as_it_takes_it(model: str) -> None:
    asked = Message("assistant", (ToolCall("toolu_01", "add", {}), ToolCall("aB3dE6gH9", "add", {})))
    results = Message("tool", (ToolResult("toolu_01", "add", "1"), ToolResult("aB3dE6gH9", "add", "2")))
    body = sent(user("Hi"), asked, results, user("And?"), model=model)
    ids = [call["id"] for call in body[1]["tool_calls"]]
    assert [each["tool_call_id"] for each in body[2:4]] == ids
    assert len(set(ids)) == 2 and all(len(id) == 9 and id.isalnum() for id in ids)
    assert ids[1] == "aB3dE6gH9", "its own stay"
    assert [each["role"] for each in body] == ["user", "assistant", "tool", "tool", "assistant", "user"]
    assert [each["role"] for each in sent(user("Hi"), asked, results, model=model)][-1] == "tool"


def detail(kind: str, index: int = 0, **members: Any) -> dict[str, Any]:
    return {"type": f"reasoning.{kind}", "index": index, "format": "f"} | members


DETAILS: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {
    "pieces of a text, and its signature without one": (
        [detail("text", text="Let"), detail("text", text=" me"), detail("text", signature="s", text=None)],
        [detail("text", text="Let me", signature="s")],
    ),
    "pieces of a summary": (
        [detail("summary", summary="Let"), detail("summary", summary=" me")],
        [detail("summary", summary="Let me")],
    ),
    "blocks with an index each": (
        [detail("text", 0, text="A"), detail("text", 1, text="B")],
        [detail("text", 0, text="A"), detail("text", 1, text="B")],
    ),
    "blocks with index 0 all": (
        [detail("text", text="A", signature="s"), detail("text", text="B"), detail("encrypted", data="e")],
        [detail("text", text="A", signature="s"), detail("text", text="B"), detail("encrypted", data="e")],
    ),
    "blocks with an id each": (
        [detail("text", text="A", id="a"), detail("text", text="B", id="b")],
        [detail("text", text="A", id="a"), detail("text", text="B", id="b")],
    ),
    "encrypted ones": (
        [detail("encrypted", data="d", id="a"), detail("encrypted", data="e", id="b")],
        [detail("encrypted", data="d", id="a"), detail("encrypted", data="e", id="b")],
    ),
}


@pytest.mark.parametrize(("pieces", "whole"), DETAILS.values(), ids=DETAILS)
@pytest.mark.parametrize("field", ["", "reasoning"])
def test_reasoning_details_go_back_whole_and_once(
    pieces: list[dict[str, Any]], whole: list[dict[str, Any]], field: str
) -> None:
    stream = b"".join(
        chunk({"reasoning_details": [piece]} | ({field: piece.get("text") or ""} if field else {})) for piece in pieces
    )
    said = read(stream + calls(call(ONE, "add", index=0, id="a")) + CALLED)
    assert said.extras == [{"reasoning_details": whole}]
    asked, result = user("Hi"), Message("tool", (ToolResult("a", "add", "3"),))
    assert sent(asked, said.message, result)[1] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "a", "type": "function", "function": {"name": "add", "arguments": ONE}}],
        "reasoning_details": whole,
    }
    assert sent(asked, said.message, result, user("And?"))[1]["reasoning_details"] == whole, "of earlier questions too"
    assert "reasoning_details" not in sent(asked, said.message, result, model="other")[1]


def test_details_that_come_after_all_else_go_back_too() -> None:
    late = chunk({"reasoning_details": [detail("encrypted", data="e")]})
    for stream in (YES + late + STOP, calls(call(ONE, "add", id="a")) + late + CALLED, YES + STOP[:-14] + late + DONE):
        message = read(stream).message
        assert sent(user("Hi"), message)[1]["reasoning_details"] == [detail("encrypted", data="e")]


def test_pieces_of_details_around_a_text_are_one_when_they_go_back() -> None:
    stream = chunk({"reasoning_details": [detail("text", text="Hm")]}) + YES
    stream += chunk({"reasoning_details": [detail("text", signature="s")]}) + STOP
    assert sent(user("Hi"), read(stream).message)[1]["reasoning_details"] == [detail("text", text="Hm", signature="s")]


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_thoughts_go_back_in_their_field_until_the_next_question(field: str) -> None:
    said = read(chunk({field: "H"}) + chunk({field: "m"}) + calls(call(ONE, "add", id="a")) + CALLED).message
    result = Message("tool", (ToolResult("a", "add", "3"),))
    assert sent(user("Hi"), said, result)[1][field] == "Hm"
    assert field not in sent(user("Hi"), said, result, user("And?"))[1]
    assert field not in sent(user("Hi"), said, result, model="other")[1]


SIGNED: dict[str, dict[str, Any]] = {
    "beside the function": call(ONE, "add", index=0, id="a", type="function", thought_signature="s"),
    "within another member": call(ONE, "add", id="a", extra_content={"google": {"thought_signature": "s"}}),
    "within the function": {"id": "a", "function": {"name": "add", "arguments": ONE, "thought_signature": "s"}},
}


@pytest.mark.parametrize("piece", SIGNED.values(), ids=SIGNED)
def test_a_signature_goes_back_where_it_stood_and_to_its_server_only(piece: dict[str, Any]) -> None:
    message = read(calls(piece) + calls(call(OTHER, "add", index=1, id="b")) + CALLED).message
    (signed, plain) = sent(user("Hi"), message)[1]["tool_calls"]
    assert signed == {name: value for name, value in piece.items() if name != "index"} | {"type": "function"}
    assert plain == {"id": "b", "type": "function", "function": {"name": "add", "arguments": OTHER}}
    assert "signature" not in json.dumps(sent(user("Hi"), message, model="other"))


def test_arguments_that_were_no_object_go_back_as_an_empty_one() -> None:
    message = read(calls(call('{"x":', "add", id="a")) + chunk({}, "length")).message
    assert sent(user("Hi"), message)[1]["tool_calls"][0]["function"]["arguments"] == "{}"


def test_a_content_is_a_list_only_where_it_holds_an_image() -> None:
    picture = Message("user", (Text("What is this?"), Image("image/png", "aGk=")))
    first, second = sent(picture, Message("assistant", (Text("A dot."),)), user("Sure?"))[::2]
    url = "data:image/png;base64,aGk="
    assert first["content"] == [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": url}},
    ]
    assert second["content"] == "Sure?"


def test_extras_that_a_client_made_up_break_nothing() -> None:
    made_up = Message(
        "assistant",
        (
            Reasoning("Hm", origin=ORIGIN, extra={"reasoning_details": [1, {"type": [], "text": 5}]}),
            Reasoning("Hm", origin=ORIGIN, field="reasoning", extra={"reasoning_details": "x"}),
            ToolCall("a", "add", {}, extra={"id": "other", "function": 5}, origin=ORIGIN),
        ),
    )
    message = sent(user("Hi"), made_up)[1]
    assert message["tool_calls"] == [{"id": "a", "type": "function", "function": {"name": "add", "arguments": "{}"}}]
    assert message["reasoning_details"] == [{"type": [], "text": 5}]


@pytest.mark.parametrize(
    ("model", "images"),
    [
        ("gpt-6.1-terra", True),
        ("gpt-4o", True),
        ("gpt-4", False),
        ("gpt-3.5-turbo", False),
        ("o3", True),
        ("o3-mini", False),
    ],
)
def test_which_models_take_images(model: str, images: bool) -> None:
    assert OpenAIChat(api_key="k").info(model).images is images
    assert OpenAIChat(base_url="http://127.0.0.1/v1").info(model).images is True, "what another server has is not known"


# --- over the real SDK ------------------------------------------------------------------------------------------------


async def test_all_of_them_mean_the_same_over_the_real_sdk() -> None:
    tables: list[dict[str, Any]] = [SHOWN, CALLS, ENDINGS, TOKENS, SOURCES]
    streams = {f"{at} {name}": row[0] for at, table in enumerate(tables) for name, row in table.items()}
    streams |= {f"error {name}": stream for name, (stream, *_) in ERRORS.items() if stream}

    def play(recorded: Recorded) -> FakeTurn:
        return FakeTurn(raw=streams[recorded.body["model"]], write=50)

    async with FakeProvider(play) as fake:
        provider = fake.openai_chat()
        for name, stream in streams.items():
            async with aclosing(provider.stream(ModelRequest(name, [user("Hi")]))) as batches:
                assert await fold(batches) == read_pieces([stream]), name
