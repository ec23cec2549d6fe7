"""The Messages API in full: what comes in as blocks goes out again as the same blocks, and is shown meanwhile."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, get_args, get_type_hints

import pytest

from chatstream import errors, events
from chatstream.agent import Loop, Settings
from chatstream.config import PROVIDER_TOOLS, Config
from chatstream.deltas import FinishReason, Usage
from chatstream.messages import Citation, Image, Message, Opaque, Text, ToolCall, ToolResult, user
from chatstream.providers import PROVIDERS, ModelRequest, Models
from chatstream.providers.anthropic import build_request
from chatstream.providers.anthropic_blocks import cited, result
from chatstream.runs import Runs
from chatstream.testing import FakeProvider, Turn
from chatstream.tools import Toolbox, tool
from chatstream.turn import CUT_OFF
from chatstream.wires.native import Encoder
from tests import corpus
from tests.corpus import Reading
from tests.cuts import random_cut

API = "anthropic-messages"
LATER, LONG_AGO = "2999-01-01T00:00:00.123456Z", "2025-10-14T10:02:00Z"

Event = dict[str, Any]


def block(index: int, start: Event, *deltas: Event, stop: bool = True) -> list[Event]:
    told = [{"type": "content_block_start", "index": index, "content_block": start}]
    told += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
    return told + ([{"type": "content_block_stop", "index": index}] if stop else [])


def begun(**members: Any) -> Event:
    message: Event = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": None,
    }
    return {"type": "message_start", "message": message | {"usage": {"input_tokens": 1, "output_tokens": 1}} | members}


def ended(stop: str | None = "end_turn", usage: Event | None = None, **members: Any) -> list[Event]:
    delta = {"stop_reason": stop, "stop_sequence": None} | members
    told = {"type": "message_delta", "delta": delta, "usage": usage or {"output_tokens": 1}}
    return [told, {"type": "message_stop"}]


def stream(*told: Event) -> bytes:
    return b"".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n".encode() for each in told)


def answer(*blocks: list[Event], stop: str = "end_turn", **members: Any) -> bytes:
    return stream(begun(), *(each for told in blocks for each in told), *ended(stop, **members))


def read(data: bytes) -> Reading:
    return corpus.read(API, [data])


def request(*messages: Message, model: str = "m", **options: Any) -> dict[str, Any]:
    return build_request(ModelRequest(model, messages, **options), "anthropic")


def sent(*messages: Message) -> list[Event]:
    """Return the blocks of the assistant's messages in a request with this history."""
    turns = request(user("Hi"), *messages)["messages"]
    return [each for turn in turns if turn["role"] == "assistant" for each in turn["content"]]


def text_of(text: str) -> Event:
    return {"type": "text_delta", "text": text}


def json_of(text: str) -> Event:
    return {"type": "input_json_delta", "partial_json": text}


# --- as it came -------------------------------------------------------------------------------------------------------

PAGE = {"type": "web_search_result_location", "url": "https://a.example", "title": "A", "cited_text": "It is so."}
SEARCH = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
FOUND = {
    "type": "web_search_tool_result",
    "tool_use_id": "srvtoolu_1",
    "content": [{"type": "web_search_result", "title": "A", "url": "https://a.example", "encrypted_content": "x" * 99}],
}
CODE = {"type": "server_tool_use", "id": "srvtoolu_2", "name": "code_execution", "input": {"code": "1 + 1"}}
RAN = {
    "type": "code_execution_tool_result",
    "tool_use_id": "srvtoolu_2",
    "content": {"type": "code_execution_result", "stdout": "2\n", "stderr": "", "return_code": 0, "content": []},
}
CALLER = {"type": "code_execution_20260120", "tool_id": "srvtoolu_2"}
MCP = {"type": "mcp_tool_use", "id": "mcptoolu_1", "name": "echo", "server_name": "s", "input": {}}
TOOL = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {}}

# How each block comes (its start and its deltas), and what goes back.
BLOCKS: dict[str, list[tuple[Event, list[Event], Event]]] = {
    "text": [({"type": "text", "text": "A"}, [text_of("b"), text_of("c")], {"type": "text", "text": "Abc"})],
    "text of a place in a document": [
        (
            {"type": "text", "text": "", "citations": []},
            [{"type": "citations_delta", "citation": {"type": "char_location", "cited_text": "b"}}, text_of("b")],
            {"type": "text", "text": "b", "citations": [{"type": "char_location", "cited_text": "b"}]},
        )
    ],
    "text with two citations": [
        (
            {"type": "text", "text": "", "citations": []},
            [
                {"type": "citations_delta", "citation": PAGE},
                text_of("b"),
                {"type": "citations_delta", "citation": PAGE},
            ],
            {"type": "text", "text": "b", "citations": [PAGE, PAGE]},
        )
    ],
    "text that comes whole": [
        ({"type": "text", "text": "b", "citations": [PAGE]}, [], {"type": "text", "text": "b", "citations": [PAGE]})
    ],
    "signed thinking": [
        (
            {"type": "thinking", "thinking": "", "signature": ""},
            [{"type": "thinking_delta", "thinking": "Hm."}, {"type": "signature_delta", "signature": "sig+/=="}],
            {"type": "thinking", "thinking": "Hm.", "signature": "sig+/=="},
        )
    ],
    "empty and signed thinking": [
        (
            {"type": "thinking", "thinking": "", "signature": ""},
            [{"type": "signature_delta", "signature": "sig"}],
            {"type": "thinking", "thinking": "", "signature": "sig"},
        )
    ],
    "another server's thinking": [
        (
            {"type": "thinking", "thinking": ""},
            [{"type": "thinking_delta", "thinking": "Hm."}],
            {"type": "thinking", "thinking": "Hm."},
        )
    ],
    "another server's thinking, its signature empty": [
        (
            {"type": "thinking", "thinking": "", "signature": ""},
            [{"type": "thinking_delta", "thinking": "Hm."}],
            {"type": "thinking", "thinking": "Hm.", "signature": ""},
        )
    ],
    "redacted thinking": [
        ({"type": "redacted_thinking", "data": "x+/="}, [], {"type": "redacted_thinking", "data": "x+/="})
    ],
    "a search": [
        (SEARCH, [json_of(""), json_of('{"query": '), json_of('"?"}')], SEARCH | {"input": {"query": "?"}}),
        (FOUND, [], FOUND),
    ],
    "code that calls a search and a tool of ours": [
        (CODE, [], CODE),
        (SEARCH | {"caller": CALLER}, [], SEARCH | {"caller": CALLER}),
        (FOUND | {"caller": CALLER}, [], FOUND | {"caller": CALLER}),
        (
            TOOL | {"input": {"a": 1}, "caller": CALLER},
            [json_of("")],
            TOOL | {"input": {"a": 1}, "caller": CALLER},
        ),
        (RAN, [], RAN),
    ],
    "a tool of an MCP server": [
        (MCP, [json_of('{"a":1}')], MCP | {"input": {"a": 1}}),
        *[
            (done, [], done)
            for done in [{"type": "mcp_tool_result", "tool_use_id": "mcptoolu_1", "is_error": False, "content": []}]
        ],
    ],
    "a call of a member of a toolset": [
        (TOOL | {"toolset_name": "x"}, [json_of('{"a":2}')], TOOL | {"input": {"a": 2}, "toolset_name": "x"})
    ],
    "compaction": [
        (
            {"type": "compaction", "content": None},
            [{"type": "compaction_delta", "content": "All.", "encrypted_content": None}],
            {"type": "compaction", "content": "All.", "encrypted_content": None},
        )
    ],
    "fallback": [
        (
            {"type": "fallback", "from": {"model": "a"}, "to": {"model": "b"}},
            [],
            {"type": "fallback", "from": {"model": "a"}, "to": {"model": "b"}},
        )
    ],
}
# What no SDK knows yet.
UNKNOWN: dict[str, list[tuple[Event, list[Event], Event]]] = {
    "an unknown block with deltas of every kind": [
        (
            {"type": "map", "text": "a", "tiles": [1], "zoom": 1, "meta": None},
            [
                text_of("b"),
                {"type": "tiles_delta", "tiles": [2, 3], "zoom": 2},
                {"type": "citations_delta", "citation": PAGE},
                {"type": "meta_delta", "meta": {"a": 1}, "new": "n", "tiles": None},
                {"type": "meta_delta", "new": "ew"},
            ],
            {
                "type": "map",
                "text": "ab",
                "tiles": [1, 2, 3],
                "zoom": 2,
                "meta": {"a": 1},
                "citations": [PAGE],
                "new": "new",
            },
        )
    ],
    "an unknown tool of theirs": [
        (
            {"type": "dream_tool_use", "id": "d", "input": {}},
            [json_of('{"of":"sheep"}')],
            {"type": "dream_tool_use", "id": "d", "input": {"of": "sheep"}},
        ),
        *[
            (done, [], done)
            for done in [{"type": "dream_tool_result", "tool_use_id": "d", "content": {"text": "Baa."}}]
        ],
    ],
    "an unknown delta of a known block": [
        ({"type": "text", "text": ""}, [text_of("a"), {"type": "x_delta", "x": 1}], {"type": "text", "text": "a"})
    ],
    "an unknown member of each known block": [
        ({"type": "text", "text": "", "tone": "kind"}, [text_of("a")], {"type": "text", "text": "a", "tone": "kind"}),
        *[
            (each, [], each)
            for each in [
                {"type": "thinking", "thinking": "Hm.", "signature": "sig", "depth": 1},
                {"type": "redacted_thinking", "data": "x", "depth": 2},
                TOOL | {"input": {"a": 1}, "mood": "good"},
            ]
        ],
    ],
}
DONE = {"type": "text", "text": "Done."}


def stream_of(blocks: Sequence[tuple[Event, list[Event], Event]]) -> bytes:
    told = [block(index, start, *deltas) for index, (start, deltas, _) in enumerate(blocks)]
    return answer(*told, block(len(blocks), DONE))


@pytest.mark.parametrize("blocks", [*BLOCKS.values(), *UNKNOWN.values()], ids=[*BLOCKS, *UNKNOWN])
def test_what_comes_in_as_blocks_goes_out_again_as_the_same_blocks(
    blocks: list[tuple[Event, list[Event], Event]],
) -> None:
    data = stream_of(blocks)
    whole = read(data)
    assert sent(whole.message) == [*(back for _, _, back in blocks), DONE]
    for seed in range(5):
        assert corpus.read(API, random_cut(data, seed)).meaning == whole.meaning


async def gathered(data: bytes) -> list[Event]:
    """Return the content that the official SDK makes of a stream."""
    sdk = importlib.import_module("anthropic")
    async with FakeProvider([Turn(raw=data)]) as fake, sdk.AsyncAnthropic(api_key="k", base_url=fake.url) as client:
        asked = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}]}
        async with client.beta.messages.stream(**asked) as answers:
            message = await answers.get_final_message()
    return [each.to_dict() for each in message.content]


def given(blocks: list[Event]) -> list[Event]:
    """Return blocks without what is empty: no citation, no caller, and no blank text, which the API refuses."""
    told = [each for each in blocks if each["type"] != "text" or each["text"].strip()]
    return [{name: value for name, value in each.items() if value not in (None, [])} for each in told]


@pytest.mark.parametrize("blocks", BLOCKS.values(), ids=BLOCKS)
async def test_what_goes_back_is_what_the_official_sdk_gathers(
    blocks: list[tuple[Event, list[Event], Event]],
) -> None:
    assert given(await gathered(stream_of(blocks))) == given([*(back for _, _, back in blocks), DONE])


# Of these recorded streams something does not go back, or not alone.
NOT_ALONE = {
    "anthropic-pause-turn-web-search-streaming-vcr-t2": "begins with the result of a call in the answer before it",
    "anthropic-programmatic-tool-calling-1-t2": "its caller is code in the answer before it",
    "anthropic-sdk-incomplete-partial-json-response": "the arguments of its call are cut off: they are not guessed at",
}
WHOLE = [name for name in corpus.by_api(API) if corpus.STREAMS[name]["expected"]["complete"]]


@pytest.mark.parametrize("name", [name for name in WHOLE if name not in NOT_ALONE])
async def test_what_was_recorded_goes_back_as_the_official_sdk_gathers_it(name: str) -> None:
    data = corpus.bytes_of(corpus.STREAMS[name])
    assert given(sent(read(data).message)) == given(await gathered(data))


@corpus.needs_streams
@pytest.mark.parametrize(
    "name", ["anthropic-pause-turn-web-search-streaming-vcr", "anthropic-programmatic-tool-calling-1"]
)
async def test_two_answers_that_belong_together_go_back_together(name: str) -> None:
    history: list[Message] = []
    expected: list[Event] = []
    for number in (1, 2):
        data = corpus.bytes_of(corpus.STREAMS[f"{name}-t{number}"])
        message = read(data).message
        results = [ToolResult(call.id, call.name, "4") for call in message.calls]
        history += [message, *([Message("tool", tuple(results))] if results else [])]
        expected += await gathered(data)
    assert given(sent(*history)) == given(expected)


# --- as it is shown ---------------------------------------------------------------------------------------------------


def test_a_tool_of_theirs_is_shown_at_once_and_its_result_under_its_name() -> None:
    told = [begun(), *block(0, SEARCH, json_of('{"query":"?"}')), *block(1, FOUND), *ended()]
    assert [events.PartStarted(0, "opaque", "srvtoolu_1", "web_search")] == read(stream(*told[:2])).events[:1]
    frames = [Encoder().encode(number, event) for number, event in enumerate(read(stream(*told)).events)]
    shown = [json.loads(frame.partition(b"data: ")[2]) for frame in frames if b"data: " in frame]
    about = {"toolCallId": "srvtoolu_1", "toolName": "web_search", "providerExecuted": True}
    assert shown[:-1] == [
        {"type": "tool_start"} | about,
        {"type": "tool_call"} | about | {"input": {"query": "?"}},
        {"type": "tool_result"} | about | {"result": "A\nhttps://a.example", "isError": False},
    ]


def test_a_result_is_named_by_its_call_or_by_its_type_where_that_was_in_an_earlier_answer() -> None:
    echoed = {"type": "mcp_tool_result", "tool_use_id": "mcptoolu_1", "is_error": False, "content": "Hi"}
    (_, part) = read(answer(block(0, MCP), block(1, echoed))).message.parts
    assert isinstance(part, Opaque) and (part.name, part.call_id) == ("echo", "mcptoolu_1")
    (part,) = read(answer(block(0, FOUND))).message.parts
    assert isinstance(part, Opaque) and (part.name, part.call_id) == ("web_search", "srvtoolu_1")


RESULTS: dict[str, tuple[Event, str, bool]] = {
    "pages": (FOUND, "A\nhttps://a.example", False),
    "a failed search": (
        {"content": {"type": "web_search_tool_result_error", "error_code": "max_uses_exceeded"}},
        "max_uses_exceeded",
        True,
    ),
    "a page": (
        {
            "content": {
                "type": "web_fetch_result",
                "url": "https://a.example",
                "content": {"type": "document", "title": "A", "source": {"type": "text", "data": "long"}},
            }
        },
        "https://a.example\nA",
        False,
    ),
    "output": (RAN, "2", False),
    "code that failed": (
        {"content": {"stdout": "1", "stderr": "No.\n", "return_code": 2, "content": []}},
        "1\nNo.\nreturn code 2",
        False,
    ),
    "output that is kept secret": ({"content": {"encrypted_stdout": "x", "stderr": "", "return_code": 0}}, "", False),
    "a new file": (
        {"content": {"type": "text_editor_code_execution_create_result", "is_file_update": False}},
        "file created",
        False,
    ),
    "a file": ({"content": {"content": "a\nb", "file_type": "text"}}, "a\nb", False),
    "an error with words": (
        {"content": {"error_code": "file_not_found", "error_message": "No such file"}},
        "file_not_found\nNo such file",
        True,
    ),
    "tools": ({"content": {"tool_references": [{"type": "tool_reference", "tool_name": "add"}]}}, "add", False),
    "advice": (
        {"content": {"type": "advisor_result", "text": "Ship it.", "stop_reason": "end_turn"}},
        "Ship it.",
        False,
    ),
    "text of an MCP server": ({"is_error": True, "content": [{"type": "text", "text": "No."}]}, "No.", True),
    "a text": ({"content": "Yes."}, "Yes.", False),
    "nothing": ({}, "", False),
    "very much": ({"content": "x" * 9000}, "x" * 4000 + "...", False),
}


@pytest.mark.parametrize(("done", "text", "is_error"), RESULTS.values(), ids=RESULTS)
def test_a_result_is_a_short_text_for_people(done: Event, text: str, is_error: bool) -> None:
    assert result(done) == (text, is_error)


@pytest.mark.parametrize(
    ("raw", "citation"),
    [
        (PAGE, Citation("https://a.example", "A", "It is so.")),
        ({"document_title": "facts.txt", "cited_text": "b", "start_char_index": 0}, Citation("", "facts.txt", "b")),
        ({"document_title": None, "cited_text": "b"}, Citation("", "", "b")),
        ({"source": "https://b.example", "title": "B"}, Citation("https://b.example", "B")),
        ({"source": "note 7", "title": None}, Citation("", "note 7")),
    ],
)
def test_a_citation_of_any_kind_has_what_can_be_shown(raw: Event, citation: Citation) -> None:
    assert cited(raw) == citation


def test_a_call_of_theirs_whose_input_broke_off_is_shown_so_and_not_sent_back() -> None:
    said = read(answer(block(0, DONE), block(1, SEARCH, json_of('{"quer')), stop="max_tokens"))
    assert said.message.parts[1] == Opaque("anthropic:m", {}, "srvtoolu_1", "web_search", None, CUT_OFF, True)
    assert sent(said.message) == [DONE]


DEEP: Any = "deep"
for _ in range(400):
    DEEP = [DEEP]
WRONG: dict[str, list[Event]] = {
    "a signature that is a number": block(
        0, {"type": "thinking", "thinking": "Hm."}, {"type": "signature_delta", "signature": 1}
    ),
    "redacted thinking that is a list": block(0, {"type": "redacted_thinking", "data": ["x"]}),
    "a call whose name is an object": block(0, TOOL | {"name": {}}),
    "a call of theirs whose id is a number": block(0, SEARCH | {"id": 7}),
    "a result of a list": block(0, FOUND | {"tool_use_id": ["srvtoolu_1"]}),
    "a citation of a number": block(0, DONE, {"type": "citations_delta", "citation": {"url": 3}}),
    "a result too deep to be kept": block(0, FOUND | {"content": DEEP}),
    "a citation too deep to be kept": block(0, DONE, {"type": "citations_delta", "citation": {"x": DEEP}}),
    "arguments too deep to be kept": block(0, TOOL | {"input": {"x": DEEP}}),
    "a container that is none": ended(container="c"),
    "a reason that is none": ended({"x": 1}),  # type: ignore[arg-type]
    "an explanation that is none": ended("refusal", stop_details={"explanation": ["No."]}),
}


@pytest.mark.parametrize("told", WRONG.values(), ids=WRONG)
def test_what_is_of_another_type_than_the_api_says_is_an_error_of_the_provider(told: list[Event]) -> None:
    said = read(stream(begun(), *told, {"type": "message_stop"}))
    assert isinstance(said.error, errors.ProviderMisread)


# --- how it ends ------------------------------------------------------------------------------------------------------

STOPS = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "tool_use": FinishReason.TOOL_CALLS,
    "max_tokens": FinishReason.LENGTH,
    "pause_turn": FinishReason.PAUSE,
    "refusal": FinishReason.REFUSAL,
    "model_context_window_exceeded": FinishReason.CONTEXT_OVERFLOW,
    "siesta": FinishReason.OTHER,
}


@pytest.mark.parametrize(("raw", "reason"), STOPS.items())
def test_every_stop_reason_has_its_meaning(raw: str, reason: FinishReason) -> None:
    said = read(answer(block(0, DONE), stop=raw))
    assert said.finish is not None and (said.finish.reason, said.finish.raw) == (reason, raw)


def test_what_is_said_of_a_refusal_is_a_notice_to_the_reader() -> None:
    details = {"type": "refusal", "category": "cyber", "explanation": "This is not allowed."}
    said = read(answer(block(0, {"type": "text", "text": ""}), stop="refusal", stop_details=details))
    assert events.Notice("refusal", "This is not allowed.", is_lasting=True) in said.events
    assert not said.message.parts
    assert not [event for event in read(answer(stop="refusal", stop_details=None)).events if event.type == "notice"]


USAGES: dict[str, tuple[Event, Event, Usage]] = {
    "the end corrects the start": (
        {"input_tokens": 10, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 2, "output_tokens": 1},
        {"input_tokens": 20, "cache_read_input_tokens": 0, "output_tokens": 7},
        Usage(22, 7),
    ),
    "what the end leaves out or has as null stays": (
        {"input_tokens": 10, "cache_read_input_tokens": 5, "output_tokens": 1},
        {"input_tokens": None, "output_tokens": 7, "output_tokens_details": None, "server_tool_use": None},
        Usage(15, 7, 5),
    ),
    "thinking and the tools of theirs are counted": (
        {"input_tokens": 1, "output_tokens": 1, "server_tool_use": {"web_search_requests": 1}},
        {
            "output_tokens": 9,
            "output_tokens_details": {"thinking_tokens": 4},
            "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 1, "note": None},
        },
        Usage(1, 9, 0, 4, provider_tool_calls=3),
    ),
}


@pytest.mark.parametrize(("first", "last", "usage"), USAGES.values(), ids=USAGES)
def test_usage_is_the_last_that_is_known(first: Event, last: Event, usage: Usage) -> None:
    assert read(stream(begun(usage=first), *block(0, DONE), *ended(usage=last))).usage == usage


def test_a_message_may_be_there_from_the_start_with_its_end() -> None:
    called = TOOL | {"input": {"a": 1}, "caller": {"type": "direct"}}
    start = begun(content=[DONE, called], stop_reason="tool_use", container={"id": "c1"})
    said = read(stream(start, {"type": "message_stop"}))
    assert said.finish is not None and said.finish.reason is FinishReason.TOOL_CALLS
    assert sent(said.message) == [DONE, called]
    assert request(user("Hi"), said.message)["container"] == "c1"


def test_an_end_without_a_reason_is_an_end() -> None:
    said = read(stream(begun(), *block(0, DONE), {"type": "message_stop"}))
    assert said.finish is not None and said.finish.reason is FinishReason.OTHER and said.error is None


def test_a_start_that_is_told_twice_counts_once() -> None:
    start = begun(content=[DONE])
    assert read(stream(start, start, *ended())).message.text == "Done."
    nameless = begun(content=[DONE], id=None)
    assert read(stream(nameless, nameless, *ended())).message.text == "Done."


BROKEN: dict[str, tuple[bytes, type[errors.ProviderError]]] = {
    "another message in the same stream": (
        stream(begun(), *block(0, DONE), begun(id="msg_2"), *ended()),
        errors.ProviderUnreachable,
    ),
    "no message_stop": (stream(begun(), *block(0, DONE), ended()[0]), errors.ProviderUnreachable),
    "an error in the middle": (
        stream(begun(), *block(0, DONE), {"type": "error", "error": {"type": "overloaded_error", "message": "no"}}),
        errors.Overloaded,
    ),
}


@pytest.mark.parametrize(("data", "kind"), BROKEN.values(), ids=BROKEN)
def test_a_broken_stream_is_an_error_and_keeps_what_was_said(data: bytes, kind: type[errors.ProviderError]) -> None:
    said = read(data)
    assert isinstance(said.error, kind) and said.message.text == "Done."


FORMS: dict[str, bytes] = {
    "blocks that overlap": stream(
        begun(),
        *block(0, {"type": "text", "text": ""}, text_of("Do"), stop=False),
        *block(1, TOOL, json_of('{"a":'), stop=False),
        {"type": "content_block_delta", "index": 0, "delta": text_of("ne.")},
        {"type": "content_block_delta", "index": 1, "delta": json_of("1}")},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_stop", "index": 1},
        *ended("tool_use"),
    ),
    "an index that is used again": stream(
        begun(), *block(0, DONE, stop=False), *block(0, TOOL, json_of('{"a":1}')), *ended("tool_use")
    ),
    "blocks that never stop": stream(
        begun(), *block(0, DONE, stop=False), *block(1, TOOL, json_of('{"a":1}'), stop=False), *ended("tool_use")
    ),
    "pings and unknown events": stream(
        begun(), {"type": "ping"}, *block(0, DONE), {"type": "weather"}, *block(1, TOOL, json_of('{"a":1}')), *ended()
    ),
    "no blank line at the end": stream(begun(), *block(0, DONE), *block(1, TOOL, json_of('{"a":1}')), *ended())[:-2],
}


@pytest.mark.parametrize("data", FORMS.values(), ids=FORMS)
def test_every_form_of_a_stream_is_read(data: bytes) -> None:
    said = read(data)
    assert said.error is None
    assert said.message.parts == (Text("Done."), ToolCall("toolu_1", "add", {"a": 1}, '{"a":1}'))


def test_a_call_is_complete_at_its_stop_and_need_not_wait_for_the_turn() -> None:
    said = read(stream(begun(), *block(0, TOOL, json_of('{"a":1}'))))
    call = ToolCall("toolu_1", "add", {"a": 1}, '{"a":1}')
    assert said.error is not None and events.PartFinished(0, call, complete=True) in said.events


def test_two_calls_under_one_index_stay_two() -> None:
    second = TOOL | {"id": "toolu_2"}
    told = [begun(), *block(0, TOOL, json_of("{}"), stop=False), *block(0, second, json_of("{}"), stop=False), *ended()]
    assert [call.id for call in read(stream(*told)).message.calls] == ["toolu_1", "toolu_2"]


# --- what a request is made of ----------------------------------------------------------------------------------------


def container(name: str, expires: str = LATER) -> bytes:
    return answer(block(0, DONE), container={"id": name, "expires_at": expires})


def test_the_last_container_goes_along_until_it_expires() -> None:
    first, second, old = (read(container(*told)).message for told in [("c1",), ("c2",), ("c3", LONG_AGO)])
    assert request(user("Hi"), first, second, user("More"))["container"] == "c2"
    assert "container" not in request(user("Hi"), first, old, user("More"))
    assert "container" not in request(user("Hi"), first, user("More"), model="other")
    assert sent(first) == [DONE], "it is no block"
    early = read(stream(begun(container={"id": "c4"}), *block(0, DONE), *ended(container=None)))
    assert request(user("Hi"), early.message)["container"] == "c4", "the end does not take it back"


def test_a_paused_answer_goes_back_as_its_end_also_with_a_container() -> None:
    paused = read(
        answer(block(0, SEARCH, json_of("{}")), stop="pause_turn", container={"id": "c1", "expires_at": LATER})
    )
    told = request(user("Hi"), paused.message)
    assert told["messages"][1:] == [{"role": "assistant", "content": [SEARCH]}] and told["container"] == "c1"


def test_code_that_broke_off_is_left_out_and_what_it_called_stays() -> None:
    called = TOOL | {"input": {"a": 1}, "caller": CALLER}
    said = read(answer(block(0, CODE), block(1, SEARCH | {"caller": CALLER}), block(2, FOUND), block(3, called)))
    history = [said.message, Message("tool", (ToolResult("toolu_1", "add", "3"),))]
    assert sent(*history) == [CODE, SEARCH | {"caller": CALLER}, FOUND, called], "it waits for the result"
    assert sent(*history, user("Never mind")) == [SEARCH, FOUND, TOOL | {"input": {"a": 1}}]
    assert [part.data["id"] for part in said.message.parts[:2] if isinstance(part, Opaque)] == [
        "srvtoolu_2",
        "srvtoolu_1",
    ]


async def test_code_that_calls_our_tools_goes_on_with_its_container() -> None:
    @tool
    def add(a: int) -> int:
        """Add."""
        return a + 1

    called = [TOOL | {"id": f"toolu_{number}", "input": {"a": number}, "caller": CALLER} for number in (1, 2)]
    box = {"id": "c1", "expires_at": LATER}
    turns = [
        answer(block(0, CODE), block(1, called[0]), stop="tool_use", container=box),
        stream(begun(content=[called[1]], stop_reason="tool_use", container=box), {"type": "message_stop"}),
        answer(block(0, RAN), block(1, DONE), container=box),
    ]
    async with FakeProvider([Turn(raw=data) for data in turns]) as fake:
        provider, emitted = fake.anthropic(), list[events.Event]()

        async def emit(batch: Sequence[events.Event]) -> None:
            emitted.extend(batch)

        loop = Loop(provider, "claude-x", [user("Hi")], Toolbox([add]), Settings(), emit)
        await loop.run()
    assert isinstance(emitted[-1], events.RunFinished) and emitted[-1].finish_reason is FinishReason.STOP
    assert [asked.body.get("container") for asked in fake.requests] == [None, "c1", "c1"]
    answered = [
        {"type": "tool_result", "tool_use_id": each["id"], "content": str(at + 2)} for at, each in enumerate(called)
    ]
    assert fake.requests[2].body["messages"][1:] == [
        {"role": "assistant", "content": [CODE, called[0]]},
        {"role": "user", "content": answered[:1]},
        {"role": "assistant", "content": called[1:]},
        {"role": "user", "content": answered[1:]},
    ]


def test_another_model_gets_none_of_what_only_this_one_understands() -> None:
    said = read(stream_of(BLOCKS["signed thinking"] + BLOCKS["text with two citations"])).message
    turns = request(user("Hi"), said, user("More"), model="other")["messages"]
    assert turns[1]["content"] == [{"type": "text", "text": "b"}, DONE]


def test_an_image_goes_in_the_form_of_the_api() -> None:
    turns = request(Message("user", (Text("What is it?"), Image("image/png", "iVBORw0KGgo="))))["messages"]
    source = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    assert turns[0]["content"] == [{"type": "text", "text": "What is it?"}, {"type": "image", "source": source}]


# --- tools of theirs --------------------------------------------------------------------------------------------------


def types_of(union: object) -> Iterator[str]:
    """Yield the types of the tools in a union of the SDK's."""
    for member in get_args(union):
        yield from (kind for kind in get_args(get_type_hints(member)["type"]) if isinstance(kind, str))


@pytest.mark.parametrize("model", ["claude-sonnet-5-5", "claude-opus-4-6", "claude-haiku-4-5", "anthropic/claude-x"])
def test_tools_of_theirs_are_of_types_that_the_sdk_knows_without_a_beta(model: str) -> None:
    known = set(types_of(importlib.import_module("anthropic.types.tool_union_param").ToolUnionParam))
    asked = request(user("Hi"), model=model, provider_tools=PROVIDER_TOOLS)["tools"]
    assert [each["name"] for each in asked] == list(PROVIDER_TOOLS)
    assert {each["type"] for each in asked} <= known
    newest = {name: max(kind for kind in known if kind.startswith(f"{name}_2")) for name in PROVIDER_TOOLS}
    is_new = model in ("claude-sonnet-5-5", "claude-opus-4-6")
    assert ({each["name"]: each["type"] for each in asked} == newest) is is_new


def test_a_tool_that_they_do_not_run_is_an_error_that_lists_those_that_they_do() -> None:
    with pytest.raises(errors.ProviderRefused, match=r"'telepathy'.*web_search, web_fetch, code_execution"):
        request(user("Hi"), provider_tools=["telepathy"])


def test_every_provider_is_asked_only_for_the_tools_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    assert all(set(provider.provider_tools) <= set(PROVIDER_TOOLS) for provider in PROVIDERS.values())
    runs = Runs(Config(provider_tools=PROVIDER_TOOLS), Models("scripted:demo"), Toolbox([]))
    assert runs.plan({}).settings.provider_tools == ()
    assert runs.plan({"model": "claude-sonnet-5-5"}).settings.provider_tools == PROVIDER_TOOLS


async def test_the_tools_that_are_asked_for_are_in_the_request() -> None:
    async with FakeProvider([Turn(text="Ok")]) as fake:

        async def emit(batch: Sequence[events.Event]) -> None:
            pass

        settings = replace(Settings(), provider_tools=("web_search",))
        await Loop(fake.anthropic(), "claude-haiku-4-5", [user("Hi")], Toolbox([]), settings, emit).run()
    assert fake.requests[0].body["tools"] == [{"type": "web_search_20250305", "name": "web_search"}]
