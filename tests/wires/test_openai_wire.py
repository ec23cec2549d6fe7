"""The wire of OpenAI's Chat Completions: its chunks byte for byte, what they add up to, and what requests come to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from chatstream import events
from chatstream.deltas import FinishReason, Usage
from chatstream.errors import RequestError
from chatstream.events import Event, Outcome
from chatstream.messages import Citation, Image, Message, Opaque, Text, ToolCall, ToolResult
from chatstream.server.bodies import OPENAI_REQUEST, explain
from chatstream.sse import Decoder
from chatstream.wires.base import Said
from chatstream.wires.openai import Encoder
from chatstream.wires.openai_request import read
from chatstream.wires.openai_whole import whole
from tests.situations import CASES, encode, golden, play

GOLDEN = golden("openai")
OWN = ("pick", "ask")
PNG = "data:image/png;base64,iVBORw0KGgo="


def told(stream: bytes) -> list[Any]:
    """Return what the chunks of a stream say, the pieces of one text joined: how much a read brings is no promise."""
    said: list[Any] = []
    for frame in Decoder().feed(stream):
        value = frame.data.decode() if frame.data == b"[DONE]" else json.loads(frame.data)
        delta, before = _delta(value), _delta(said[-1]) if said else {}
        if delta.keys() == before.keys() <= {"content", "reasoning_content"} and delta:
            (name,) = delta
            before[name] += delta[name]
        else:
            said.append(value)
    return said


def _delta(value: Any) -> dict[str, Any]:
    return value["choices"][0]["delta"] if isinstance(value, dict) and value.get("choices") else {}


@pytest.mark.parametrize("name", GOLDEN)
async def test_a_situation_has_the_same_chunks_as_ever(name: str) -> None:
    assert told(encode(await play(*CASES[name]), "openai")) == told(GOLDEN[name].read_bytes())


@pytest.mark.parametrize("name", GOLDEN)
async def test_encoding_again_gives_the_same_bytes_without_any_ids(name: str) -> None:
    run = await play(*CASES[name])
    first, second = (
        b"".join(encoder.encode(number, event) for number, event in enumerate(run, 1))
        for encoder in (Encoder(1), Encoder(1))
    )
    assert first == second
    assert first.endswith(b"data: [DONE]\n\n") and first.count(b"[DONE]") == 1
    assert all(block.startswith(b"data: {") for block in first.split(b"\n\n")[:-2])


# --- what events come to ----------------------------------------------------------------------------------------------


def run(*middle: Event, end: Event | None = None, **options: Any) -> list[dict[str, Any]]:
    """Return the chunks of a run that has these events."""
    usage = Usage(30, 7, 20, 3)
    ended = end or events.RunFinished(Outcome.COMPLETED, FinishReason.STOP, usage)
    encoder = Encoder(1_700_000_000, "agent", OWN, **options)
    return [
        chunk for event in (events.RunStarted("run_1", "msg_1", "p:m"), *middle, ended) for chunk in encoder.tell(event)
    ]


def text(part: int, said: str, *citations: Citation) -> list[Event]:
    return [
        events.PartStarted(part, "text"),
        events.TextDelta(part, said),
        events.PartFinished(part, Text(said, citations)),
    ]


def call(part: int, name: str, *pieces: str, complete: bool = True) -> list[Event]:
    value = ToolCall(f"c{part}", name, {}, "".join(pieces))
    deltas = [events.ArgumentsDelta(part, f"c{part}", piece) for piece in pieces]
    return [
        events.PartStarted(part, "tool_call", f"c{part}", name),
        *deltas,
        events.PartFinished(part, value, complete),
    ]


def content(chunks: Sequence[dict[str, Any]], name: str = "content") -> str:
    return "".join(_delta(chunk).get(name, "") for chunk in chunks)


def test_every_chunk_says_which_answer_it_is_of() -> None:
    for chunk in run(*text(0, "Hi"), with_usage=True):
        assert chunk["id"] == "chatcmpl-1" and chunk["created"] == 1_700_000_000
        assert chunk["object"] == "chat.completion.chunk" and chunk["model"] == "agent"


def test_an_answer_names_the_model_that_wrote_it_where_none_was_asked_for() -> None:
    assert Encoder(1).tell(events.RunStarted("run_1", "msg_1", "p:m"))[0]["model"] == "p:m"


def test_texts_of_several_turns_stand_apart_and_those_of_one_do_not() -> None:
    first = [events.TurnStarted(0), *text(0, "One"), *text(1, " way."), *call(2, "add"), events.TurnStarted(1)]
    assert content(run(*first, events.TurnStarted(2), *text(3, "Two."))) == "One way.\n\nTwo."
    assert content(run(events.TurnStarted(0), *text(0, "One"), events.TurnStarted(1), *text(1, "Two"))) == "One\n\nTwo"
    assert content(run(events.TurnStarted(0), events.TurnStarted(1), *text(0, "Alone."))) == "Alone."


def test_what_is_said_before_and_behind_a_tool_of_the_provider_stands_apart() -> None:
    search: list[Event] = [
        events.PartStarted(1, "opaque", "s", "web_search"),
        events.PartFinished(1, Opaque("p:m", {"a": 1}, "s", "web_search", {}, "Found.")),
    ]
    chunks = run(*text(0, "I search."), *search, *text(2, "Found it."))
    assert content(chunks) == "I search.\n\nFound it."
    assert all(_delta(chunk).keys() <= {"role", "content"} for chunk in chunks)


def test_thoughts_are_told_beside_the_text_each_apart() -> None:
    def thought(part: int, *pieces: str) -> list[Event]:
        return [events.PartStarted(part, "reasoning"), *(events.ReasoningDelta(part, piece) for piece in pieces)]

    chunks = run(*thought(0, "Let ", "me."), *text(1, "Hm."), *thought(2, "So."), *text(3, " Yes."))
    assert content(chunks, "reasoning_content") == "Let me.\n\nSo."
    assert content(chunks) == "Hm. Yes."


def test_only_the_callers_own_tools_are_told_with_ids_that_name_the_run() -> None:
    waits = events.RunFinished(Outcome.PAUSED, FinishReason.TOOL_CALLS, Usage())
    chunks = run(*call(0, "add", '{"a":1}'), *call(1, "pick", '{"of":', '"sky"}'), *call(2, "ask"), end=waits)
    calls = whole(chunks)["choices"][0]["message"]["tool_calls"]
    assert calls == [
        {"id": "run_1.c1", "type": "function", "function": {"name": "pick", "arguments": '{"of":"sky"}'}},
        {"id": "run_1.c2", "type": "function", "function": {"name": "ask", "arguments": "{}"}},
    ]
    pieces = [piece for chunk in chunks for piece in _delta(chunk).get("tool_calls", ())]
    assert [piece["index"] for piece in pieces] == [0, 0, 0, 1, 1]
    assert [piece["function"].get("name") for piece in pieces] == ["pick", None, None, "ask", None]
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_a_call_that_was_cut_short_gets_no_arguments_that_nobody_wrote() -> None:
    chunks = run(*call(0, "pick", complete=False))
    assert [piece["function"]["arguments"] for piece in _delta(chunks[1])["tool_calls"]] == [""]
    assert len(chunks) == 3


@pytest.mark.parametrize(
    ("outcome", "reason", "said"),
    [
        (Outcome.COMPLETED, FinishReason.STOP, "stop"),
        (Outcome.COMPLETED, FinishReason.OTHER, "stop"),
        (Outcome.COMPLETED, FinishReason.LENGTH, "length"),
        (Outcome.COMPLETED, FinishReason.CONTEXT_OVERFLOW, "length"),
        (Outcome.COMPLETED, FinishReason.CONTENT_FILTER, "content_filter"),
        (Outcome.COMPLETED, FinishReason.REFUSAL, "content_filter"),
        (Outcome.LIMIT, FinishReason.TOOL_CALLS, "length"),
        (Outcome.STOPPED, FinishReason.OTHER, "stop"),
    ],
)
def test_an_end_has_its_word(outcome: Outcome, reason: FinishReason, said: str) -> None:
    assert run(end=events.RunFinished(outcome, reason, Usage()))[-1]["choices"][0]["finish_reason"] == said


def test_usage_comes_last_without_choices_where_it_was_asked_for() -> None:
    last = run(*text(0, "Hi"), with_usage=True)[-1]
    assert last["choices"] == []
    assert last["usage"] == {
        "prompt_tokens": 30,
        "completion_tokens": 7,
        "total_tokens": 37,
        "prompt_tokens_details": {"cached_tokens": 20},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    assert not any("usage" in chunk for chunk in run(*text(0, "Hi")))


def test_sources_come_in_one_delta_with_their_place_in_the_text() -> None:
    page, other = Citation("https://a.example", "A"), Citation("https://b.example")
    turn = [*text(0, "One. "), *text(1, "Two.", page, Citation("", "a file")), events.TurnStarted(1)]
    chunks = run(*turn, *text(2, "\N{GRINNING FACE}!", other))
    given = [_delta(chunk)["annotations"] for chunk in chunks if "annotations" in _delta(chunk)]
    assert len(given) == 1
    cited = [each["url_citation"] for each in given[0]]
    assert [each["type"] for each in given[0]] == ["url_citation", "url_citation"]
    assert [(each["url"], each["title"]) for each in cited] == [(page.url, "A"), (other.url, other.url)]
    places = [content(chunks)[each["start_index"] : each["end_index"]] for each in cited]
    assert places == ["Two.", "\N{GRINNING FACE}!"]


@pytest.mark.parametrize(
    ("code", "kind", "name"),
    [
        ("bad_request", "invalid_request_error", None),
        ("context_overflow", "invalid_request_error", "context_length_exceeded"),
        ("not_found", "invalid_request_error", "model_not_found"),
        ("rate_limit", "rate_limit_error", "rate_limit_exceeded"),
        ("overloaded", "server_error", "server_is_overloaded"),
        ("auth", "server_error", None),
        ("network", "server_error", None),
    ],
)
def test_a_failure_is_an_error_and_no_choice(code: str, kind: str, name: str | None) -> None:
    chunks = run(*text(0, "Once"), end=events.RunFailed(code, "It broke.", False, Usage()), with_usage=True)
    assert chunks[-1] == {"error": {"message": "It broke.", "type": kind, "param": None, "code": name}}
    assert len(chunks) == 3


def test_an_answer_that_the_end_of_the_server_cut_short_is_a_failure() -> None:
    last = run(end=events.RunFinished(Outcome.INTERRUPTED, FinishReason.OTHER, Usage()))[-1]
    assert last["error"]["code"] == "server_is_overloaded"


def test_a_whole_answer_is_what_its_chunks_add_up_to() -> None:
    thought: list[Event] = [events.PartStarted(0, "reasoning"), events.ReasoningDelta(0, "Hm.")]
    chunks = run(*thought, *text(1, "Yes", Citation("https://a.example", "A")), with_usage=True)
    answer = whole(chunks)
    assert answer | {"choices": None, "usage": None} == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "agent",
        "choices": None,
        "usage": None,
    }
    (choice,) = answer["choices"]
    assert (choice["index"], choice["finish_reason"], choice["logprobs"]) == (0, "stop", None)
    message = choice["message"]
    assert message.pop("annotations")[0]["url_citation"]["title"] == "A"
    assert message == {"role": "assistant", "content": "Yes", "refusal": None, "reasoning_content": "Hm."}
    assert answer["usage"]["total_tokens"] == 37
    assert whole(run())["choices"][0]["message"] == {"role": "assistant", "content": None, "refusal": None}


# --- what requests come to --------------------------------------------------------------------------------------------


def asked(*messages: dict[str, Any], **more: Any) -> Any:
    body = {"messages": list(messages) or [{"role": "user", "content": "Hi"}], **more}
    assert explain(OPENAI_REQUEST, body) == ""
    return read(body)


def test_messages_are_read_in_all_their_forms() -> None:
    calls = [
        {"id": "run_9.x", "type": "function", "function": {"name": "pick", "arguments": '{"of": "sky"}'}},
        {"id": "old", "function": {"name": "ask"}},
    ]
    history = asked(
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": [{"type": "text", "text": "And kind."}]},
        {
            "role": "user",
            "name": "Ada",
            "content": [
                {"type": "text", "text": "What is this?", "cache_control": {"type": "ephemeral"}},
                {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}},
            ],
        },
        {"role": "assistant", "content": None, "tool_calls": calls, "audio": None, "reasoning_content": "Hm."},
        {"role": "tool", "tool_call_id": "run_9.x", "content": "blue"},
        {"role": "tool", "tool_call_id": "old", "content": [{"type": "text", "text": "yes"}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}], "refusal": None},
        {"role": "user", "content": "Go on."},
    )
    assert history.messages == [
        Message("system", (Text("Be brief."),)),
        Message("system", (Text("And kind."),)),
        Message("user", (Text("What is this?"), Image("image/png", "iVBORw0KGgo="))),
        Message(
            "assistant",
            (ToolCall("x", "pick", {"of": "sky"}, '{"of": "sky"}'), ToolCall("old", "ask", {}, "")),
        ),
        Message("tool", (ToolResult("x", "pick", "blue"),)),
        Message("tool", (ToolResult("old", "ask", "yes"),)),
        Message("assistant", (Text("No."),)),
        Message("user", (Text("Go on."),)),
    ]
    assert history.said == ()


def test_an_image_is_a_jpeg_by_its_usual_wrong_name_too() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/jpg;base64,AAAA"}}
    assert asked({"role": "user", "content": [image]}).messages[0].parts == (Image("image/jpeg", "AAAA"),)


def test_results_at_the_end_are_said_of_the_calls_that_may_wait() -> None:
    calls = [{"id": id, "function": {"name": "pick"}} for id in ("run_9.x", "run_9.y")]
    given = asked(
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Choose.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "run_9.y", "content": "red"},
        {"role": "tool", "tool_call_id": "run_9.x", "content": ""},
    ).said
    assert given == (Said("y", "result", "red", run_id="run_9"), Said("x", "result", "", run_id="run_9"))


def test_options_are_read_and_null_is_nothing() -> None:
    options = "model stream stream_options max_tokens temperature reasoning_effort tools tool_choice"
    refused = "n stop logprobs response_format modalities functions audio"
    nothing = dict.fromkeys([*options.split(), *refused.split()])
    assert asked(**nothing).options == {"tools": []}
    assert asked(
        model="p:m", max_tokens=9, max_completion_tokens=8, temperature=0, reasoning_effort="xhigh"
    ).options == {
        "model": "p:m",
        "maxOutputTokens": 8,
        "temperature": 0,
        "effort": "high",
        "tools": [],
    }
    assert "effort" not in asked(reasoning_effort="none").options
    harmless = {"n": 1, "stop": [], "logprobs": False, "response_format": {"type": "text"}, "modalities": ["text"]}
    hints = {
        "seed": 1,
        "top_p": 0.5,
        "user": "me",
        "parallel_tool_calls": False,
        "metadata": {},
        "logit_bias": {"1": 2},
    }
    assert asked(**harmless, **hints, tool_choice="auto").options == {"tools": []}


def test_tools_are_read_with_what_clients_leave_out() -> None:
    function = {"name": "pick", "description": None, "parameters": {"properties": {"of": {}}}, "strict": True}
    bare = {"type": "function", "function": {"name": "ask"}}
    tools = [{"type": "function", "function": function}, bare]
    assert asked(tools=tools).options["tools"] == [
        {"name": "pick", "description": "", "parameters": {"type": "object", "properties": {"of": {}}}},
        {"name": "ask", "description": "", "parameters": {"type": "object"}},
    ]
    assert asked(tools=tools, tool_choice="none").options["tools"] is None


OLD_CALL = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}
CALLED = {"role": "assistant", "tool_calls": [{"id": id, "function": {"name": "f"}} for id in ("a", "b")]}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "several answers": ({"n": 2}, "n: "),
    "a text to stop at": ({"stop": "\n"}, "stop: "),
    "probabilities": ({"logprobs": True}, "logprobs: "),
    "more probabilities": ({"top_logprobs": 3}, "top_logprobs: "),
    "JSON": ({"response_format": {"type": "json_object"}}, "response_format: "),
    "a schema": ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format: "),
    "any tool": ({"tool_choice": "required"}, "tool_choice: "),
    "a certain tool": ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice: "),
    "sound": ({"modalities": ["text", "audio"]}, "modalities: "),
    "a voice": ({"audio": {"voice": "ash"}}, "audio: "),
    "functions": ({"functions": [{"name": "f"}]}, "functions: this older form is not taken; send them as 'tools'"),
    "a function": ({"function_call": "auto"}, "function_call: this older form"),
    "an old call": ({"messages": [OLD_CALL]}, "messages[0].function_call: this older form"),
    "a schema that is no object": (
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "string"}}}]},
        "tools[0]: the type of its parameters is 'string'",
    ),
    "sound that is heard": (
        {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
        "messages[0].content[0]: a part of the type 'input_audio' is not taken here; expected 'text' or 'image_url'",
    ),
    "a file": (
        {"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]},
        "messages[0].content[0]: a part of the type 'file'",
    ),
    "an image of the assistant's": (
        {"messages": [{"role": "assistant", "content": [{"type": "image_url", "image_url": {"url": PNG}}]}]},
        "messages[0].content[0]: a part of the type 'image_url' is not taken here; expected 'text'",
    ),
    "an address": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a.example"}}]}]},
        "messages[0].content[0].image_url.url: 'https://a.example' is an address",
    ),
    "a call without its result": (
        {"messages": [CALLED, {"role": "tool", "tool_call_id": "a", "content": "x"}]},
        "messages: there is no result of the call 'b'",
    ),
}


@pytest.mark.parametrize(("more", "why"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_done_is_refused_by_its_name(more: dict[str, Any], why: str) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], **more}
    assert explain(OPENAI_REQUEST, body) == ""
    with pytest.raises(RequestError) as raised:
        read(body)
    assert raised.value.message.startswith(why)


MISSHAPEN: dict[str, tuple[dict[str, Any], str]] = {
    "no messages": ({}, "body: 'messages' is a required property"),
    "an empty list": ({"messages": []}, "messages: "),
    "a role of old": ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, "messages[0].role: "),
    "a result of no call": ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0]: "),
    "a number": ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content: "),
    "a part without a type": ({"messages": [{"role": "user", "content": [{}]}]}, "messages[0].content[0]: "),
    "a tool of another kind": ({"tools": [{"type": "custom", "custom": {}}]}, "tools[0].type: 'function' was expected"),
    "no tokens": ({"max_tokens": 0}, "max_tokens: "),
    "much heat": ({"temperature": 3}, "temperature: "),
    "an effort that is none": ({"reasoning_effort": "much"}, "reasoning_effort: "),
}


@pytest.mark.parametrize(("more", "where"), MISSHAPEN.values(), ids=MISSHAPEN)
def test_what_has_another_shape_is_told_by_its_place(more: dict[str, Any], where: str) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}]} | more if more else {}
    assert explain(OPENAI_REQUEST, body).startswith(where)
