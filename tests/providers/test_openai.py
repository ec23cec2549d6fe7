"""The Responses API: what a request is, how each kind of output item is read, and what of it goes back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given

from chatstream import errors
from chatstream.deltas import FinishReason, OpaqueDelta, TextDelta, Usage
from chatstream.events import PartStarted
from chatstream.messages import Citation, Image, Message, Opaque, Reasoning, Text, ToolCall, ToolResult, user
from chatstream.providers import ModelRequest
from chatstream.providers.base import Told
from chatstream.providers.openai import ResponsesTranslator, build_request
from chatstream.sse import Decoder
from chatstream.testing import Call, FakeProvider, Turn
from tests.corpus import Reading, read
from tests.cuts import random_cut
from tests.runs import add, play
from tests.test_messages import histories
from tests.validators import check_responses

ORIGIN = "openai:m"
Item = dict[str, Any]


def sse(*events: Item) -> bytes:
    return b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in events)


def ended(*output: Item, status: str = "completed", **members: Any) -> Item:
    return {"type": f"response.{status}", "response": {"status": status, "output": list(output)} | members}


def done(index: int, item: Item) -> Item:
    return {"type": "response.output_item.done", "output_index": index, "item": item}


def text_delta(text: str, index: int = 0) -> Item:
    return {"type": "response.output_text.delta", "output_index": index, "content_index": 0, "delta": text}


def message(text: str, **members: Any) -> Item:
    return {"type": "message", "content": [{"type": "output_text", "text": text} | members]}


def reading_of(*events: Item) -> Reading:
    """Return what a stream comes to, which must be the same however it is cut."""
    stream = sse(*events)
    reading = read("openai-responses", [stream])
    for seed in range(3):
        assert read("openai-responses", random_cut(stream, seed)).meaning == reading.meaning
    return reading


def request_of(history: Sequence[Message], model: str = "m", *, compatible: bool = False, **options: Any) -> Item:
    return build_request(ModelRequest(model, history, **options), "openai", compatible=compatible)


def sent_after(*parts: Any, **options: Any) -> list[Item]:
    """Return what is sent between two questions."""
    items: list[Item] = request_of([user("Hi"), Message("assistant", parts), user("And?")], **options)["input"]
    assert items[0]["role"] == items[-1]["role"] == "user"
    check_responses(items)
    return items[1:-1]


# --- requests ---------------------------------------------------------------------------------------------------------


def test_a_request_asks_for_nothing_to_be_stored_and_for_reasoning_that_can_come_back() -> None:
    options = {"system": "Be brief.", "effort": "high", "temperature": 0.5, "max_output_tokens": 4, "tools": [add]}
    asked = request_of([user("Hi")], "gpt-5.2", **options)
    assert asked == {
        "model": "gpt-5.2",
        "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}],
        "instructions": "Be brief.",
        "stream": True,
        "store": False,
        "max_output_tokens": 16,
        "include": ["reasoning.encrypted_content"],
        "reasoning": {"effort": "high", "summary": "auto"},
        "tools": [
            {
                "type": "function",
                "name": "add",
                "description": "Add two numbers.",
                "parameters": add.parameters,
                "strict": False,
            }
        ],
    }


@pytest.mark.parametrize(
    ("model", "compatible", "reasoning", "temperature"),
    [
        ("gpt-4.1", False, None, 0.5),
        ("gpt-5.3-chat-latest", False, None, 0.5),
        ("o3", False, {"summary": "auto", "effort": "low"}, None),
        ("openai/gpt-5", True, {"summary": "auto", "effort": "low"}, None),
        ("openai.gpt-5.6-luna", True, {"summary": "auto", "effort": "low"}, None),
        ("gpt-oss-20b", True, {"effort": "low"}, 0.5),
    ],
)
def test_only_models_that_reason_are_asked_for_it_and_only_the_others_get_a_temperature(
    model: str, compatible: bool, reasoning: object, temperature: object
) -> None:
    asked = request_of([user("Hi")], model, compatible=compatible, effort="low", temperature=0.5)
    assert (asked.get("reasoning"), asked.get("temperature")) == (reasoning, temperature)


def test_its_own_tools_are_asked_for_with_what_they_found_and_an_unknown_one_names_the_known() -> None:
    asked = request_of([user("Hi")], provider_tools=["web_search", "code_execution", "web_search"])
    assert asked["tools"] == [
        {"type": "web_search"},
        {"type": "code_interpreter", "container": {"type": "auto"}},
    ]
    assert asked["include"] == ["web_search_call.action.sources", "code_interpreter_call.outputs"]
    with pytest.raises(errors.ProviderRefused, match=r"'telepathy'.*web_search, code_execution"):
        request_of([user("Hi")], provider_tools=["telepathy"])


def test_an_image_goes_as_a_data_url() -> None:
    (asked,) = request_of([Message("user", (Image("image/png", "iVBORw0KGgo="),))])["input"]
    image = {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo=", "detail": "auto"}
    assert asked["content"] == [image]


@given(histories)
def test_from_any_history_the_next_request_is_valid(history: list[Message]) -> None:
    if items := request_of(history)["input"]:
        check_responses(items)


async def test_a_tool_loop_over_the_real_sdk_sends_back_what_was_thought_and_called_with_the_results() -> None:
    first = Turn(reasoning="Two sums.", signature="c2ln", text="I add.", tools=[Call("add", {"a": 1, "b": 2}, "x")])
    _, (_, second) = await play("openai", [first, Turn(text="3")], tools=[add])
    assert second["input"][1:] == [
        {
            "type": "reasoning",
            "id": "rs_0",
            "summary": [{"type": "summary_text", "text": "Two sums."}],
            "encrypted_content": "c2ln",
        },
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "I add.", "annotations": []}],
        },
        {"type": "function_call", "call_id": "x", "name": "add", "arguments": '{"a": 1, "b": 2}'},
        {"type": "function_call_output", "call_id": "x", "output": "3"},
    ]


async def test_the_models_of_another_server_are_asked_there() -> None:
    async with FakeProvider([Turn(text="Hello")]) as fake, fake.openai() as provider:
        assert "".join([text async for text in provider.text("Hi", model="local-model")]) == "Hello"
    assert fake.requests[0].path == "/v1/responses"
    assert fake.requests[0].body["model"] == "local-model"


# --- reasoning --------------------------------------------------------------------------------------------------------

THOUGHT: Item = {
    "type": "reasoning",
    "id": "rs_2",
    "summary": [{"type": "summary_text", "text": text} for text in ("First.", "", "Then.")],
    "encrypted_content": "gAAA==",
}


def summary_delta(number: int, text: str) -> Item:
    place = {"output_index": 0, "summary_index": number, "item_id": f"rotates-{number}"}
    return {"type": "response.reasoning_summary_text.delta", "delta": text} | place


@pytest.mark.parametrize(
    "deltas", [[], [summary_delta(0, "Fir"), summary_delta(0, "st."), summary_delta(2, "Then.")]], ids=["whole", "told"]
)
@pytest.mark.parametrize("thought", [THOUGHT, THOUGHT | {"summary": []}], ids=["summary", "no summary"])
def test_reasoning_goes_back_as_it_came(deltas: list[Item], thought: Item) -> None:
    told = deltas if thought["summary"] else []
    parts = reading_of(*told, done(0, thought), done(1, message("So.")), ended()).message.parts
    assert "".join(part.text for part in parts if isinstance(part, Reasoning)) == (
        "First.Then." if thought["summary"] else ""
    )
    assert sent_after(*parts)[0] == thought


def test_two_items_of_reasoning_stay_two() -> None:
    other = THOUGHT | {"id": "rs_3", "encrypted_content": "gBBB=="}
    parts = reading_of(done(0, THOUGHT), done(1, other), done(2, message("So.")), ended()).message.parts
    assert sent_after(*parts)[:2] == [THOUGHT, other]


def test_reasoning_that_nobody_can_read_again_is_shown_and_not_sent() -> None:
    parts = reading_of(done(0, THOUGHT | {"encrypted_content": None}), done(1, message("So.")), ended()).message.parts
    assert isinstance(parts[0], Reasoning) and parts[0].text == "First."
    assert [item["type"] for item in sent_after(*parts)] == ["message"]


RAW: Item = {"type": "reasoning", "id": "rs_4", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]}


@pytest.mark.parametrize("deltas", [[], [{"type": "response.reasoning_text.delta", "output_index": 0, "delta": "Hm."}]])
def test_raw_reasoning_is_shown_where_there_is_no_summary_and_sent_to_servers_that_made_it(deltas: list[Item]) -> None:
    parts = reading_of(*deltas, done(0, RAW), done(1, message("So.")), ended()).message.parts
    assert isinstance(parts[0], Reasoning) and parts[0].text == "Hm."
    assert sent_after(*parts, compatible=True)[0] == RAW
    assert [item["type"] for item in sent_after(*parts)] == ["message"], "OpenAI takes none"


def test_a_summary_takes_the_place_of_raw_reasoning() -> None:
    raw = {"type": "response.reasoning_text.delta", "output_index": 0, "delta": "secret"}
    told = [summary_delta(0, "First."), raw, done(0, THOUGHT | {"content": RAW["content"]}), ended()]
    parts = reading_of(*told).message.parts
    assert "".join(part.text for part in parts if isinstance(part, Reasoning)) == "First.Then."


def test_reasoning_is_not_sent_without_what_it_led_to() -> None:
    shell = {"type": "local_shell_call", "id": "l", "call_id": "c", "action": {"command": ["ls"]}}
    parts = reading_of(done(0, message("Hm.")), done(1, THOUGHT), done(2, shell), ended()).message.parts
    assert [item["type"] for item in sent_after(*parts)] == ["message"]
    assert [item["type"] for item in sent_after(*parts, Text("Well."))] == ["message", "message"]
    assert request_of([user("Hi"), Message("assistant", parts)])["input"][-1]["role"] == "user"


# --- messages and calls -----------------------------------------------------------------------------------------------


def test_a_text_keeps_its_phase_and_its_annotations() -> None:
    cited = {"type": "url_citation", "url": "https://a.example", "title": "A", "start_index": 0, "end_index": 3}
    noted = {"type": "file_citation", "file_id": "file-1", "filename": "b.txt", "index": 3}
    item = message("So.", annotations=[cited, noted]) | {"phase": "commentary"}
    (part,) = reading_of(text_delta("So."), done(0, item), ended()).message.parts
    assert isinstance(part, Text) and part.citations == (Citation("https://a.example", "A"), Citation("", "b.txt"))
    assert sent_after(part) == [item | {"role": "assistant"}]
    assert sent_after(part, model="another") == [message("So.", annotations=[]) | {"role": "assistant"}]


def test_annotations_that_only_an_event_told_are_kept() -> None:
    cited = {"type": "url_citation", "url": "https://a.example", "title": "A"}
    added = {"type": "response.output_text.annotation.added", "output_index": 0, "content_index": 0}
    (part,) = reading_of(
        text_delta("So."), added | {"annotation": cited}, done(0, message("So.")), ended()
    ).message.parts
    assert isinstance(part, Text) and part.citations == (Citation("https://a.example", "A"),)


def test_a_refusal_is_shown_said_to_be_one_and_goes_back_as_one() -> None:
    delta = {"type": "response.refusal.delta", "output_index": 0, "content_index": 0, "delta": "No."}
    item = {"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}
    for told in ([delta, done(0, item)], [done(0, item)]):
        reading = reading_of(*told, ended())
        assert reading.message.text == "No."
        assert reading.finish and reading.finish.reason is FinishReason.REFUSAL
        assert sent_after(*reading.message.parts) == [item | {"role": "assistant"}]


CALL: Item = {"type": "function_call", "id": "fc", "call_id": "c", "name": "add", "arguments": '{"a": 1}'}


def argued(text: str, kind: str = "delta", **place: Any) -> Item:
    name = "arguments" if kind == "done" else "delta"
    return {"type": f"response.function_call_arguments.{kind}", name: text} | (place or {"output_index": 0})


STREAMS_OF_A_CALL: dict[str, list[Item]] = {
    "in deltas": [argued('{"a"'), argued(": 1}"), argued('{"a": 1}', "done"), done(0, CALL), ended(CALL)],
    "after an empty delta": [argued(""), done(0, CALL), ended(CALL)],
    "whole in its item": [argued('{"a": 1}', "done"), done(0, CALL), ended()],
    "in the last event only": [ended(CALL)],
    "twice": [done(0, CALL), done(0, CALL), ended(CALL)],
    "as an object": [done(0, CALL | {"arguments": {"a": 1}}), ended()],
    "by item ids, with no index": [
        {"type": "response.output_item.added", "item": CALL | {"arguments": ""}},
        argued('{"a": 1}', item_id="fc"),
        {"type": "response.output_item.done", "item": CALL},
        ended(CALL),
    ],
}


@pytest.mark.parametrize("events", STREAMS_OF_A_CALL.values(), ids=STREAMS_OF_A_CALL)
def test_a_call_is_read_wherever_its_arguments_are(events: list[Item]) -> None:
    reading = reading_of(*events)
    assert [(call.id, call.name, call.input) for call in reading.message.calls] == [("c", "add", {"a": 1})]
    assert reading.finish and reading.finish.reason is FinishReason.TOOL_CALLS


STREAMS_OF_A_TEXT: dict[str, list[Item]] = {
    "in deltas": [text_delta("Hel"), text_delta("lo"), done(0, message("Hello")), ended(message("Hello"))],
    "after an empty delta": [text_delta(""), text_delta("Hello"), done(0, message("Hello")), ended()],
    "whole in its item": [done(0, message("Hello")), ended()],
    "in the last event only": [ended(message("Hello"))],
    "never done": [text_delta("Hello"), ended(message("Hello"))],
}


@pytest.mark.parametrize("events", STREAMS_OF_A_TEXT.values(), ids=STREAMS_OF_A_TEXT)
def test_a_text_is_said_once_wherever_it_is(events: list[Item]) -> None:
    assert reading_of(*events).message.parts == (Text("Hello"),)


def test_texts_of_one_message_are_told_apart() -> None:
    told = [text_delta("One."), text_delta("Two.") | {"content_index": 1}]
    content = [{"type": "output_text", "text": text} for text in ("One.", "Two.")]
    reading = reading_of(*told, done(0, {"type": "message", "content": content}), ended())
    assert reading.message.parts == (Text("One."), Text("Two."))


# --- its own tools ----------------------------------------------------------------------------------------------------

# What an item is shown as: the tool's name, what it was called with, and what it answered.
SHOWN: dict[str, tuple[Item, tuple[str, Item | None, str | None]]] = {
    "a search": (
        {
            "type": "web_search_call",
            "status": "completed",
            "action": {"type": "search", "query": "q", "sources": [{"type": "url", "url": "https://a.example"}]},
        },
        ("web_search", {"type": "search", "query": "q"}, "https://a.example"),
    ),
    "a search in files": (
        {"type": "file_search_call", "queries": ["q"], "results": [{"filename": "a.txt", "text": "A"}]},
        ("file_search", {"queries": ["q"]}, "a.txt"),
    ),
    "code": (
        {"type": "code_interpreter_call", "code": "1", "container_id": "c", "outputs": [{"type": "logs", "logs": "1"}]},
        ("code_interpreter", {"code": "1"}, "1"),
    ),
    "code whose output nobody asked for": (
        {"type": "code_interpreter_call", "code": "1", "outputs": None},
        ("code_interpreter", {"code": "1"}, ""),
    ),
    "an image": (
        {"type": "image_generation_call", "result": "iVBORw0KGgo=", "revised_prompt": "A cat."},
        ("image_generation", {"revised_prompt": "A cat."}, "An image."),
    ),
    "a call of an MCP server": (
        {"type": "mcp_call", "name": "shorten", "arguments": '{"url": "u"}', "output": "ok", "error": None},
        ("shorten", {"url": "u"}, "ok"),
    ),
    "a failed call of an MCP server": (
        {"type": "mcp_call", "name": "shorten", "arguments": "{}", "output": None, "error": "broken"},
        ("shorten", {}, "broken"),
    ),
    "the tools of an MCP server": (
        {"type": "mcp_list_tools", "server_label": "zip", "tools": [{"name": "a"}, {"name": "b"}]},
        ("mcp_list_tools", {"server_label": "zip"}, "a\nb"),
    ),
    "what a shell printed": (
        {"type": "shell_call_output", "call_id": "s", "output": [{"stdout": "out", "stderr": "err"}]},
        ("shell", None, "outerr"),
    ),
    "a patch that our side should apply": (
        {"type": "apply_patch_call", "call_id": "p", "operation": {"type": "delete_file", "path": "a"}},
        ("apply_patch", {"type": "delete_file", "path": "a"}, None),
    ),
    "a question to our side": (
        {"type": "mcp_approval_request", "name": "shorten", "arguments": "{}", "server_label": "zip"},
        ("shorten", {"server_label": "zip"}, None),
    ),
    "a tool that comes some day": (
        {"type": "dream_call", "call_id": "d", "about": "sheep"},
        ("dream", {"about": "sheep"}, None),
    ),
    "no tool at all": ({"type": "compaction", "encrypted_content": "gAAA=="}, ("", None, None)),
}


@pytest.mark.parametrize(("item", "shown"), SHOWN.values(), ids=SHOWN)
def test_its_own_tools_are_carried_whole_and_shown_as_they_come(
    item: Item, shown: tuple[str, Item | None, str | None]
) -> None:
    item = {"id": "i"} | item
    added = {"type": "response.output_item.added", "output_index": 0, "item": item | {"status": "in_progress"}}
    reading = reading_of(added, done(0, item), done(1, message("So.")), ended())
    part = reading.message.parts[0]
    name, given, result = shown
    assert part == Opaque(ORIGIN, item, item.get("call_id", "i") if name else "", *shown, bool(item.get("error")))
    assert next(event.name for event in reading.events if isinstance(event, PartStarted)) == name
    goes_back = (result is not None and given is not None) or not name
    assert (item in sent_after(*reading.message.parts)) is goes_back, "no call without its result, nor the other way"
    assert not [item for item in sent_after(part, model="another") if item["type"] != "message"]


def test_a_shell_that_the_provider_runs_goes_back_with_its_output() -> None:
    call = {"type": "shell_call", "id": "1", "call_id": "s", "action": {"commands": ["ls"]}}
    output = {"type": "shell_call_output", "id": "2", "call_id": "s", "output": [{"stdout": "a"}]}
    parts = reading_of(done(0, call), done(1, output), done(2, message("So.")), ended()).message.parts
    assert sent_after(*parts)[:2] == [call, output]


def test_a_search_for_tools_is_tied_to_what_it_found_though_neither_has_a_call_id() -> None:
    call = {"type": "tool_search_call", "id": "1", "call_id": None, "arguments": {"paths": ["add"]}}
    output = {"type": "tool_search_output", "id": "2", "call_id": None, "tools": [{"name": "add"}]}
    found = CALL | {"namespace": "sums"}
    reading = reading_of(done(0, call), done(1, output), done(2, found), ended())
    assert [part.call_id for part in reading.message.parts if isinstance(part, Opaque)] == ["1", "1"]
    assert sent_after(*reading.message.parts)[:2] == [call, output]
    assert reading.message.calls[0].extra == {"namespace": "sums"}


PROGRAM: Item = {"type": "program", "id": "1", "call_id": "p", "code": "add()", "fingerprint": "gAAA=="}
CALLER = {"type": "program", "caller_id": "p"}


def test_a_program_that_calls_our_tools_is_sent_while_it_waits_and_its_results_name_it() -> None:
    parts = reading_of(done(0, PROGRAM), done(1, CALL | {"caller": CALLER}), ended()).message.parts
    history = [user("Hi"), Message("assistant", parts), Message("tool", (ToolResult("c", "add", "2"),))]
    program, call, output = request_of(history)["input"][1:]
    assert (program, call["caller"], output["caller"]) == (PROGRAM, CALLER, CALLER)
    given_up = request_of([*history, user("Never mind.")])["input"]
    assert "program" not in str(given_up), "and not when it never came to its end"


def test_a_caller_that_is_no_name_is_left_out() -> None:
    caller = {"type": "program", "caller_id": ["p"]}
    parts = reading_of(done(0, PROGRAM), done(1, CALL | {"caller": caller}), ended()).message.parts
    history = [user("Hi"), Message("assistant", parts), Message("tool", (ToolResult("c", "add", "2"),))]
    assert "caller" not in str(request_of(history)["input"])


def test_calls_are_sent_last_so_that_their_results_follow_them() -> None:
    call = ToolCall("c", "add", {"a": 1}, '{"a": 1}')
    kinds = [item["type"] for item in sent_after(call, Text("Meanwhile."))]
    assert kinds == ["message", "function_call", "function_call_output"]


def test_a_call_id_that_the_api_finds_too_long_is_cut_and_a_server_of_ones_own_gets_it_whole() -> None:
    call = ToolCall("x" * 80, "add", {}, "{}")
    assert {item["call_id"] for item in sent_after(call)} == {"x" * 56}
    items = request_of([user("Hi"), Message("assistant", (call,)), user("And?")], compatible=True)["input"]
    assert items[1]["call_id"] == items[2]["call_id"] == "x" * 80


def test_what_it_ran_itself_is_counted() -> None:
    usage = {"input_tokens": 9, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 3}}
    usage["output_tokens_details"] = {"reasoning_tokens": 2}
    search = {"type": "web_search_call", "id": "w", "action": {"type": "search"}}
    reading = reading_of(done(0, search), done(1, search | {"id": "v"}), ended(usage=usage))
    assert reading.usage == Usage(9, 5, 3, 2, provider_tool_calls=2)


# --- endings ----------------------------------------------------------------------------------------------------------

QUOTA = {"type": "insufficient_quota", "code": "insufficient_quota", "message": "no money"}
FAILED: dict[str, tuple[list[Item], type[errors.ProviderError]]] = {
    "an error in a member": ([{"type": "error", "error": QUOTA}], errors.ProviderForbidden),
    "an error as documented": ([{"type": "error", "code": "rate_limit_exceeded", "message": "x"}], errors.RateLimited),
    "an error without a type": ([{"error": {"code": 429, "message": "slow"}}], errors.RateLimited),
    "a failed response": ([ended(status="failed", error=QUOTA)], errors.ProviderForbidden),
    "a failure inside": ([ended(status="failed", error={"code": "server_error"})], errors.ProviderBroken),
    "a failure without a word": ([ended(status="failed", error=None)], errors.ProviderBroken),
    "no end": ([text_delta("Hello")], errors.ProviderUnreachable),
    "a delta that is no text": ([text_delta("Hello"), text_delta(5)], errors.ProviderMisread),  # type: ignore[arg-type]
    "an item that is none": ([done(0, [])], errors.ProviderMisread),  # type: ignore[arg-type]
}


@pytest.mark.parametrize(("events", "kind"), FAILED.values(), ids=FAILED)
def test_what_is_no_answer_is_an_error(events: list[Item], kind: type[errors.ProviderError]) -> None:
    reading = reading_of(*events)
    assert type(reading.error) is kind and reading.finish is None


def test_a_sentinel_without_an_end_is_a_lost_connection_and_after_it_is_nothing() -> None:
    sentinel = b"data: [DONE]\n\n"
    assert read("openai-responses", [sse(text_delta("Hello")) + sentinel]).error is not None
    reading = read("openai-responses", [sse(text_delta("Hello"), ended()) + sentinel])
    assert reading.error is None and reading.finish is not None


def test_text_of_one_read_is_one_delta() -> None:
    translator = ResponsesTranslator(Told("OpenAI", "m"))
    begun = {"type": "response.output_item.added", "output_index": 1, "item": {"type": "dream_call", "id": "d"}}
    frames = Decoder().feed(sse(text_delta("a"), text_delta("b"), text_delta("c"), begun))
    assert translator.feed(frames) == [TextDelta("0.0", "abc"), OpaqueDelta("1", None, "d", "dream")]
