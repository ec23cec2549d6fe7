"""Histories of every kind, and what becomes of them on their way to a provider."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from chatstream.messages import (
    MESSAGE_SCHEMA,
    NOT_RUN,
    PART_SCHEMAS,
    Citation,
    Image,
    Message,
    Opaque,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    is_answerable,
    length,
    message_to_json,
    messages_from_json,
    read_arguments,
    sendable,
    trimmed,
    user,
    without_tools,
)
from chatstream.providers import ModelRequest, anthropic, openai, openai_chat
from tests.clocks import cpu
from tests.validators import check_anthropic, check_chat, check_responses

HERE, ELSEWHERE = "anthropic:claude-x", "openai-chat:gpt-x"

texts = st.sampled_from(["", " ", "\n", "Hello", "\N{GRINNING FACE}"])
ids = st.sampled_from(["", "a", "b", "functions.add:0", "é/" * 50])
calls = st.builds(
    lambda call_id, name, arguments: ToolCall(call_id, name, read_arguments(arguments)[0], arguments),
    ids,
    st.sampled_from(["add", "look up!", "", "x" * 70]),
    st.sampled_from(["", "{}", '{"a": 1}', '{"a": ', "[1]"]),
)
results = st.builds(ToolResult, ids, st.just("add"), texts, st.booleans())
reasonings = st.builds(
    Reasoning, texts, ids, st.sampled_from(["", "data"]), st.sampled_from([HERE, ELSEWHERE, ""]), st.just("reasoning")
)
origins = st.sampled_from([HERE, ELSEWHERE])
opaques = st.builds(Opaque, origins, st.just({"type": "server_tool_use", "id": "s"}))
searches = st.one_of(
    st.builds(Opaque, origins, st.just({"type": "server_tool_use", "id": "s"}), st.just("s"), input=st.just({})),
    st.builds(Opaque, origins, st.just({"type": "web_search_tool_result"}), st.just("s"), result=st.just("")),
)
cited = st.builds(Text, texts, st.just((Citation("u", "t"),)), st.just({"citations": []}), origins)
images = st.builds(Image, st.just("image/png"), st.just("iVBORw0KGgo="))
histories = st.lists(
    st.one_of(
        st.builds(
            Message, st.sampled_from(["system", "user"]), st.lists(st.builds(Text, texts), max_size=2).map(tuple)
        ),
        st.builds(Message, st.just("user"), st.lists(st.one_of(st.builds(Text, texts), images), max_size=2).map(tuple)),
        st.builds(
            Message,
            st.just("assistant"),
            st.lists(st.one_of(st.builds(Text, texts), reasonings, calls, opaques, searches, cited), max_size=4).map(
                tuple
            ),
        ),
        st.builds(Message, st.just("tool"), st.lists(results, max_size=3).map(tuple)),
    ),
    max_size=8,
)


@given(histories)
def test_from_any_history_the_next_request_is_valid_for_all_three_apis(history: list[Message]) -> None:
    if not is_answerable(history):
        return  # nothing to send: the server refuses it before it asks
    request = ModelRequest("claude-x", history)
    check_anthropic(anthropic.build_request(request, "anthropic")["messages"])
    request = ModelRequest("gpt-x", history)
    check_chat(openai_chat.build_request(request, "openai-chat", compatible=False)["messages"])
    check_responses(openai.build_request(request, "openai", compatible=False)["input"])


@given(histories)
def test_a_history_that_was_made_fit_stays_as_it_is(history: list[Message]) -> None:
    fit = sendable(history, HERE)
    assert sendable(fit, HERE) == fit


@given(histories)
def test_reasoning_of_another_model_is_never_sent(history: list[Message]) -> None:
    sent = [part for message in sendable(history, HERE) for part in message.parts]
    assert all(part.origin == HERE for part in sent if isinstance(part, Reasoning | Opaque))


@given(histories)
def test_the_json_of_a_history_fits_its_schema_and_is_read_back_the_same(history: list[Message]) -> None:
    values = orjson.loads(orjson.dumps([message_to_json(message) for message in history]))
    validator = Draft202012Validator(MESSAGE_SCHEMA | {"$defs": PART_SCHEMAS})
    assert [list(validator.iter_errors(value)) for value in values] == [[] for _ in values]
    assert [message_to_json(message) for message in messages_from_json(values)] == values


@given(histories)
def test_a_model_without_tools_is_sent_none(history: list[Message]) -> None:
    told = without_tools(history)
    assert not [part for message in told for part in message.parts if isinstance(part, ToolCall | ToolResult)]
    assert all(message.role != "tool" for message in told)


@given(histories, st.integers(-10, 3000))
def test_a_trimmed_history_is_the_end_of_it_and_its_pairs_stay_whole(history: list[Message], most: int) -> None:
    fit = sendable(history, HERE)
    rest = trimmed(fit, most)
    assert rest == fit[len(fit) - len(rest) :]
    assert sendable(rest, HERE) == rest, "nothing has to be mended: no result lost its call, and a question is first"
    questions = [message.role for message in rest].count("user")
    assert questions == 1 or length(rest) <= most or rest == fit == []
    if length(fit) <= most or [message.role for message in fit].count("user") == 1:
        assert rest == fit, "no more is left out than it takes, and never the last question"


@given(histories, st.integers(-10, 3000))
def test_of_any_history_that_is_trimmed_system_messages_and_the_last_question_stay(
    history: list[Message], most: int
) -> None:
    rest = trimmed(history, most)
    assert [each for each in rest if each.role == "system"] == [each for each in history if each.role == "system"]
    assert [each for each in rest if each.role == "user"][-1:] == [each for each in history if each.role == "user"][-1:]
    assert all(message in history for message in rest)


def test_a_compatible_server_gets_its_own_ids_back() -> None:
    history = [user("Hi"), Message("assistant", (ToolCall("functions.add:0", "add", {}, "{}"),))]
    request = ModelRequest("kimi", history)
    sent = openai_chat.build_request(request, "openai-chat", compatible=True)["messages"]
    assert sent[1]["tool_calls"][0]["id"] == sent[2]["tool_call_id"] == "functions.add:0"


def test_the_work_grows_with_the_history_and_not_with_its_square() -> None:
    def spend(count: int) -> float:
        calls = Message("assistant", (ToolCall("", "a", {}, "{}"),) * count)
        many = [user("Hi"), Message("assistant", (Text("Ho"),))] * count
        return cpu(lambda: sendable([user("Hi"), calls, *many, *[user("x")] * count], HERE))

    few, many = (min(spend(count) for _ in range(5)) for count in (1000, 16000))
    assert many < 16 * few * 6, "16 times the work, and 256 times were it the square"


CALL = ToolCall("a", "add", {"a": 1}, '{"a": 1}')
SEARCH = Opaque(HERE, {"type": "server_tool_use"}, "s", "web_search", {"query": "?"})
FOUND = Opaque(HERE, {"type": "web_search_tool_result"}, "s", "web_search", result="Found.")
CASES: dict[str, tuple[list[Message], list[Message]]] = {
    "a call without a result gets one that says so": (
        [user("Hi"), Message("assistant", (CALL,)), user("And?")],
        [
            user("Hi"),
            Message("assistant", (CALL,)),
            Message("tool", (ToolResult("a", "add", NOT_RUN, is_error=True),)),
            user("And?"),
        ],
    ),
    "a result without a call is left out": (
        [user("Hi"), Message("tool", (ToolResult("z", "add", "3"),)), user("And?")],
        [Message("user", (Text("Hi"), Text("And?")))],
    ),
    "an id that is used again is made another, with its result": (
        [user("Hi"), *(Message("assistant", (CALL,)), Message("tool", (ToolResult("a", "add", "1"),))) * 2],
        [
            user("Hi"),
            Message("assistant", (CALL,)),
            Message("tool", (ToolResult("a", "add", "1"),)),
            Message("assistant", (ToolCall("a_2", "add", {"a": 1}, '{"a": 1}'),)),
            Message("tool", (ToolResult("a_2", "add", "1"),)),
        ],
    ),
    "an answer that came to nothing is left out": (
        [user("Hi"), Message("assistant", (Text(" "), Reasoning("hm", "s", origin=HERE))), user("Hi?")],
        [Message("user", (Text("Hi"), Text("Hi?")))],
    ),
    "an answer at the end is to be continued": (
        [user("Hi"), Message("assistant", (Text("Well,"),))],
        [user("Hi"), Message("assistant", (Text("Well,"),)), user("Continue.")],
    ),
    "a provider's own tool at the end goes back as it is": (
        [user("Hi"), Message("assistant", (SEARCH,))],
        [user("Hi"), Message("assistant", (SEARCH,))],
    ),
    "a provider's own tool that never answered is left out": (
        [user("Hi"), Message("assistant", (Text("Well,"), SEARCH)), user("And?")],
        [user("Hi"), Message("assistant", (Text("Well,"),)), user("And?")],
    ),
    "a provider's own tool does not wait behind what was said after it": (
        [user("Hi"), Message("assistant", (Text("Well,"), SEARCH)), Message("assistant", (Text("so"),))],
        [user("Hi"), Message("assistant", (Text("Well,"), Text("so"))), user("Continue.")],
    ),
    "a provider's own tool may answer after ours": (
        [
            user("Hi"),
            Message("assistant", (SEARCH, CALL)),
            Message("tool", (ToolResult("a", "add", "2"),)),
            Message("assistant", (FOUND,)),
        ],
        [
            user("Hi"),
            Message("assistant", (SEARCH, CALL)),
            Message("tool", (ToolResult("a", "add", "2"),)),
            Message("assistant", (FOUND,)),
        ],
    ),
    "a provider's own tool that waits for ours": (
        [user("Hi"), Message("assistant", (SEARCH, CALL)), Message("tool", (ToolResult("a", "add", "2"),))],
        [user("Hi"), Message("assistant", (SEARCH, CALL)), Message("tool", (ToolResult("a", "add", "2"),))],
    ),
    "an answer to nothing, and what belongs to another model": (
        [user("Hi"), Message("assistant", (FOUND, Text("Hm", extra={"citations": []}, origin=ELSEWHERE))), user("So?")],
        [user("Hi"), Message("assistant", (Text("Hm"),)), user("So?")],
    ),
    "reasoning that led to nothing": (
        [user("Hi"), Message("assistant", (Text("Hm"), Reasoning("So", "s", origin=HERE))), user("?")],
        [user("Hi"), Message("assistant", (Text("Hm"),)), user("?")],
    ),
}


@pytest.mark.parametrize(("history", "expected"), CASES.values(), ids=CASES)
def test_what_is_sent(history: list[Message], expected: list[Message]) -> None:
    assert sendable(history, HERE) == expected


@pytest.mark.parametrize(
    ("arguments", "expected", "problem"),
    [
        ("", {}, ""),
        (" ", {}, ""),
        ('{"a": 1}', {"a": 1}, ""),
        ('{"a": ', None, "not valid JSON"),
        ("[1]", None, "must be a JSON object"),
        ("null", None, "must be a JSON object"),
    ],
)
def test_arguments_are_an_object_or_a_reason(arguments: str, expected: dict[str, Any] | None, problem: str) -> None:
    value, why = read_arguments(arguments)
    assert value == expected
    assert problem in why and bool(why) == bool(problem)
