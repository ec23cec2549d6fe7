"""Recorded tool loops, run again by our agent: what it feeds back means the same as what was fed back then.

The recordings are of other clients. Each API's requests become plain entries, such as `("call", id, name, input)`, and
those are compared; where they differ, `EXCEPTIONS` says in which kinds of entry, and why that is right.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chatstream import Message, Retry, Settings, Tool, run, user
from chatstream.events import RunFailed, RunFinished
from chatstream.testing import FakeProvider, Recorded, Turn
from tests.corpus import FAKES, SCENARIOS, STREAMS, bytes_of, needs_streams

pytestmark = needs_streams

Entry = tuple[object, ...]

# By scenario and the number of its request: the kinds of entry that differ, and why.
EXCEPTIONS: dict[tuple[str, int], tuple[set[str], str]] = {
    ("openai-gpt-5-responses-thinking-loop", 1): (
        {"thinking"},
        "that client gave no reasoning back, though it had asked for it encrypted: OpenAI wants it within a tool loop",
    ),
    ("groq-tool-use-failed-error-streaming-with-text-loop", 1): (
        {"text"},
        "that client wrote what the model had thought into its text: ours is the text alone",
    ),
    **{
        ("bedrock-mantle-reused-tool-call-ids-stream-loop", number): (
            {"call", "result"},
            "the provider's ids are unique in one response only: that client put the response's id before each, ours "
            "changes those that occur again",
        )
        for number in (1, 2)
    },
    ("ollama-cloud-gpt-oss-120b-tools-no-params-loop", 2): (
        {"thinking"},
        "what was thought for an earlier question is left out, as DeepSeek's and Qwen's documents ask",
    ),
}

# --- requests as plain entries ----------------------------------------------------------------------------------------


def entries(api: str, body: dict[str, Any]) -> list[Entry]:
    """Return what a request feeds back, in its order; texts without the blanks around them, none that are empty."""
    found: list[Entry] = []
    for entry in READERS[api](body):
        if entry[0] not in ("user", "text"):
            found.append(entry)
        elif text := str(entry[1]).strip():
            found.append((entry[0], text))
    return found


def anthropic_entries(body: dict[str, Any]) -> Iterator[Entry]:
    for message in body["messages"]:
        for block in _list(message["content"]):
            match block["type"]:
                case "text":
                    yield "user" if message["role"] == "user" else "text", block["text"]
                case "thinking":
                    yield "thinking", block["thinking"], block["signature"]
                case "tool_use":
                    yield "call", block["id"], block["name"], block["input"]
                case "tool_result":
                    yield "result", block["tool_use_id"], _text(block["content"])
                case _:
                    told = {name: value for name, value in block.items() if value is not None}
                    # The recorder made these characters plain.
                    told = json.loads(json.dumps(told, ensure_ascii=False).translate({0x2013: "-", 0x2019: "'"}))
                    if told.get("caller") == {"type": "direct"}:
                        del told["caller"]  # as if it were not there
                    yield "server", told


def chat_entries(body: dict[str, Any]) -> Iterator[Entry]:
    for message in body["messages"]:
        match message["role"]:
            case "user":
                yield "user", _text(message["content"])
            case "tool":
                yield "result", message["tool_call_id"], _text(message["content"])
            case "assistant":
                for thought in {message[field] for field in ("reasoning", "reasoning_content") if message.get(field)}:
                    yield "thinking", thought
                yield from (("details", detail) for detail in message.get("reasoning_details") or ())
                yield "text", _text(message.get("content") or "")
                for call in message.get("tool_calls") or ():
                    yield "call", call["id"], call["function"]["name"], json.loads(call["function"]["arguments"])


def responses_entries(body: dict[str, Any]) -> Iterator[Entry]:
    for item in body["input"]:
        match item.get("type", "message"):
            case "message" if item["role"] == "user":
                yield "user", _text(item["content"])
            case "message" if item["role"] == "assistant":
                yield "text", _text(item["content"])
            case "message":
                pass  # the system's
            case "function_call":
                yield "call", item["call_id"], item["name"], json.loads(item["arguments"])
            case "function_call_output":
                yield "result", item["call_id"], _text(item["output"])
            case "reasoning":
                yield "thinking", _text(item["summary"]), item.get("encrypted_content")
            case _:
                yield "server", item


READERS: dict[str, Callable[[dict[str, Any]], Iterator[Entry]]] = {
    "anthropic-messages": anthropic_entries,
    "openai-chat": chat_entries,
    "openai-responses": responses_entries,
}


def _list(content: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _text(content: str | list[dict[str, Any]]) -> str:
    return "".join(part.get("text", "") for part in _list(content))


# --- the loops again --------------------------------------------------------------------------------------------------


def tools_of(api: str, requests: list[dict[str, Any]]) -> list[Tool]:
    """Return the tools that were offered; each answers what it answered then to the same input."""
    fed_back = [entry for request in requests for entry in entries(api, request)]
    named = {(each[1], each[2], json.dumps(each[3], sort_keys=True)) for each in fed_back if each[0] == "call"}
    answers = {(name, given): answer for call_id, name, given in named for answer in _answers(fed_back, call_id)}

    def answering(name: str) -> Callable[..., str]:
        async def answer(**given: Any) -> str:
            return answers[name, json.dumps(given, sort_keys=True)]

        return answer

    offered = {tool["name"]: tool for request in requests for tool in map(_definition, request.get("tools") or ())}
    return [
        Tool(name, tool.get("description") or name, tool.get("parameters") or tool["input_schema"], answering(name))
        for name, tool in offered.items()
        if "parameters" in tool or "input_schema" in tool
    ]


def _answers(fed_back: list[Entry], call_id: object) -> list[str]:
    return [str(entry[2]) for entry in fed_back if entry[0] == "result" and entry[1] == call_id]


def _definition(tool: dict[str, Any]) -> dict[str, Any]:
    definition: dict[str, Any] = tool.get("function", tool)
    return definition


async def play(name: str) -> list[dict[str, Any]]:
    """Play the recorded turns to our agent, the recorded user between its runs; return what was asked."""
    scenario = SCENARIOS[name]
    api, turns = scenario["api"], scenario["turns"]
    asked = [turn["recorded_request"] for turn in turns]

    def answer(recorded: Recorded) -> Turn:
        number = len(fake.requests) - 1
        return Turn(raw=bytes_of(STREAMS[turns[number]["stream"]])) if number < len(turns) else Turn(status=400)

    async with FakeProvider(answer) as fake:
        provider = getattr(fake, FAKES[api])()
        provider.default_model = "m"
        tools = tools_of(api, asked)
        history: list[Message] = []
        while (number := len(fake.requests)) < len(turns):
            users = [str(entry[1]) for entry in entries(api, asked[number]) if entry[0] == "user"]
            before = sum(entry[0] == "user" for entry in entries(api, asked[number - 1])) if number else 0
            if len(users) <= before:
                history, before = [], 0  # another conversation
            history += [user(text) for text in users[before:]]
            async for event in run(provider, history, tools, SETTINGS):
                if isinstance(event, RunFinished | RunFailed):
                    history += event.messages
            assert len(fake.requests) > number, event
    return [request.body for request in fake.requests]


SETTINGS = Settings(retry=Retry(tries=0))


@pytest.mark.parametrize("name", SCENARIOS)
async def test_what_is_fed_back_means_what_was_fed_back(name: str) -> None:
    scenario = SCENARIOS[name]
    sent = await play(name)
    for number, turn in enumerate(scenario["turns"]):
        body = sent[number]
        ours, theirs = entries(scenario["api"], body), entries(scenario["api"], turn["recorded_request"])
        excepted, _ = EXCEPTIONS.get((name, number), (set(), ""))
        differing = {kind for kind in {entry[0] for entry in ours + theirs} if _of(ours, kind) != _of(theirs, kind)}
        assert differing == excepted, {str(kind): (_of(ours, kind), _of(theirs, kind)) for kind in differing ^ excepted}
        assert [each for each in ours if each[0] not in excepted] == [
            each for each in theirs if each[0] not in excepted
        ]


def _of(found: list[Entry], kind: object) -> list[Entry]:
    return [entry for entry in found if entry[0] == kind]


def test_every_exception_is_of_a_request_that_there_is() -> None:
    assert not [key for key in EXCEPTIONS if key[0] not in SCENARIOS or key[1] >= len(SCENARIOS[key[0]]["turns"])]
