"""Conversations made of what all the recorded streams said, each continued on each API (R22, R23)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache
from typing import Any

import orjson
import pytest

from chatstream.messages import Image, Message, Opaque, Reasoning, Text, ToolCall, ToolResult, sendable, user
from chatstream.providers import ModelRequest, anthropic, openai, openai_chat
from tests.corpus import ORIGINS, STREAMS, bytes_of, needs_streams, read, readings
from tests.validators import check_anthropic, check_chat, check_own_tools, check_responses

pytestmark = needs_streams

COUNT = 150
PIXEL = Image(
    "image/png", "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def body_of(api: str, model: str, history: list[Message]) -> dict[str, Any]:
    """Return the request that goes on with the history at this API."""
    request = ModelRequest(model, history)
    match api:
        case "anthropic-messages":
            body = anthropic.build_request(request, "anthropic")
        case "openai-chat":
            body = openai_chat.build_request(request, "openai-chat", compatible=True)
        case _:
            body = openai.build_request(request, "openai", compatible=False)
    told: dict[str, Any] = orjson.loads(orjson.dumps(body))
    return told


def check(api: str, body: dict[str, Any]) -> None:
    match api:
        case "anthropic-messages":
            check_anthropic(body["messages"], signs=False)  # not every server of the corpus does
            check_own_tools(body["messages"])
        case "openai-chat":
            check_chat(body["messages"], compatible=True)
        case _:
            check_responses(body["input"])


@cache
def cut(name: str, at: int) -> Message:
    """Return what was said until the stream broke off, at so many thousandths of it."""
    data = bytes_of(STREAMS[name])
    return read(STREAMS[name]["api"], [data[: len(data) * at // 1000]]).message


def conversation(seed: int) -> list[Message]:
    """Join what some streams said, whole or cut, with results for some of their calls and questions between some."""
    chance = random.Random(seed)
    history = [Message("system", (Text("Be brief."),)), Message("user", (Text("Hi"), PIXEL))]
    for name in chance.sample(list(STREAMS), chance.randint(1, 8)):
        said = cut(name, chance.randint(0, 1000)) if chance.random() < 0.4 else readings()[name].message
        history.append(said)
        results = [ToolResult(call.id, call.name, chance.choice(["", "42"])) for call in said.calls]
        answered = [result for result in results if chance.random() < 0.7]
        if answered:
            history.append(Message("tool", tuple(answered)))
        if not answered or chance.random() < 0.5:
            parts = (Text(f"And {name}?"), PIXEL) if chance.random() < 0.3 else (Text("And then?"),)
            history.append(Message("user", parts))
    return history[: chance.randint(2, len(history))]


def leaves(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from leaves(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from leaves(each)


def shown_of(message: Message) -> str:
    """Return what any model may read of a message."""
    return "\0".join([message.text, *(f"{call.id}\0{call.name}\0{call.arguments}" for call in message.calls)])


def secrets(message: Message) -> set[str]:
    """Return the texts that only the provider which wrote them may see again, short words aside."""
    found: set[str] = set()
    for part in message.parts:
        match part:
            case Reasoning():
                found |= {part.signature, part.redacted, *leaves(part.extra)}
            case Text() | ToolCall():
                found |= set(leaves(part.extra))
            case Opaque():
                found |= set(leaves(part.data))
    return {text for text in found if len(text) >= 12}


@pytest.mark.parametrize("api", ORIGINS)
def test_any_conversation_goes_on_with_any_api(api: str) -> None:
    """R22: no call without a result, no result without a call, nothing empty."""
    for seed in range(COUNT):
        history = conversation(seed)
        for model in ("m", "another"):
            check(api, body_of(api, model, history))


@pytest.mark.parametrize("api", ORIGINS)
def test_another_model_is_sent_nothing_that_is_not_its_own(api: str) -> None:
    """R23: no signature, no encrypted content, no opaque block and no extra, whoever wrote it."""
    for seed in range(COUNT):
        history = conversation(seed)
        shown = "\0".join(shown_of(each) for each in history)
        for model in ("m", "another"):
            told = "\0".join(leaves(body_of(api, model, history)))
            foreign = [each for each in history if model != "m" or not is_of(each, ORIGINS[api])]
            assert not [text for each in foreign for text in secrets(each) if text in told and text not in shown]


def is_of(message: Message, origin: str) -> bool:
    return any(getattr(part, "origin", "") == origin for part in message.parts)


# Calls that whoever asked has to answer, and we never do: the API takes none without its answer.
NEVER_ANSWERED = {"apply_patch_call", "custom_tool_call", "local_shell_call", "mcp_approval_request"}


@pytest.mark.parametrize("name", STREAMS)
def test_the_model_that_said_it_gets_it_back_byte_for_byte(name: str) -> None:
    """R23: signatures, opaque blocks and extras, in a tool loop and in a conversation that goes on."""
    api = STREAMS[name]["api"]
    loop = [user("Hi"), *(part for said in before(name) for part in (said, results_of(said)))]
    for history in (loop, [*loop, user("And then?")]):
        body = body_of(api, "m", history)
        blocks, texts = list(objects(body)), set(leaves(body))
        message = readings()[name].message
        in_loop = message.parts if history is loop and message.calls else ()
        for part in (part for each in sendable(history, ORIGINS[api]) for part in each.parts):
            match part:
                case Opaque(data={"type": "container"}):
                    pass  # a member of the request, as long as it lives
                case Opaque() if part.data["type"] not in NEVER_ANSWERED:
                    assert part.data in blocks
                case Reasoning() if part.signature or part.redacted:
                    assert {part.signature, part.redacted, part.text, *leaves(part.extra)} - {""} <= texts
                case Reasoning() if part.field and part in in_loop:
                    # Of messages that were joined so is what was thought for them.
                    assert all(text in "\0".join(texts) for text in (part.text, *leaves(part.extra)))
                case Text() | ToolCall() if api != "openai-chat" or part in in_loop:
                    # Code that waited for the call is left out with its call's next question, and so is the link to it.
                    extra = {name: value for name, value in part.extra.items() if name != "caller" or in_loop}
                    assert set(leaves(extra)) <= texts


def before(name: str) -> list[Message]:
    """Return what was said up to the end of this stream, where it is a later turn of a recorded loop."""
    stem, _, number = name.rpartition("-t")
    names = [f"{stem}-t{each}" for each in range(1, int(number))] if number.isdigit() else []
    return [readings()[each].message for each in [*names, name] if each in STREAMS]


def results_of(message: Message) -> Message:
    return Message("tool", tuple(ToolResult(call.id, call.name, "42") for call in message.calls))


def objects(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from objects(each)
