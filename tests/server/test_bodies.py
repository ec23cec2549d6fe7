"""A body that cannot be served is told where it is wrong and what was expected there, and harms nothing (R45)."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Iterator
from typing import Any

import pytest

from chatstream.errors import MethodNotAllowed, RequestError
from chatstream.server.bodies import CHAT_REQUEST, explain

from .rig import CODES, JSON, problem, question, texts

MB = 1_000_000
HELLO = {"role": "user", "content": "Hello"}
# A tool that the caller runs.
OWN = {"name": "mine", "description": "Mine.", "parameters": {"type": "object"}}


def _message(**changed: Any) -> dict[str, Any]:
    return {"messages": [HELLO, HELLO | changed]}


def _call(depth: int) -> dict[str, Any]:
    """Return a body with a call whose input is nested so deep."""
    nested = json.loads('{"a":' * depth + "1" + "}" * depth)
    return _message(role="assistant", content=[{"type": "tool_call", "id": "c", "name": "n", "input": nested}])


# A body (a value, or the bytes of what is none), and what its message must hold.
BAD: dict[str, tuple[Any, list[str]]] = {
    "not JSON": (b"hello", ["not valid JSON", "line 1"]),
    "half a JSON": (b'{"messages": [', ["not valid JSON"]),
    "two JSONs": (b"{} {}", ["not valid JSON"]),
    "NaN": (b'{"messages": [], "temperature": NaN}', ["not valid JSON"]),
    "an empty body": (b"", ["not valid JSON", "empty"]),
    "a form": (b"messages=hello", ["not valid JSON"]),
    "invalid UTF-8": (b'{"messages": [{"role": "user", "content": "\xff"}]}', ["not valid JSON", "UTF-8"]),
    "a lone surrogate": (b'{"messages": [{"role": "user", "content": "\\ud83d"}]}', ["not valid JSON", "surrogate"]),
    "nested 5000 deep": (b"[" * 5000 + b"]" * 5000, ["not valid JSON"]),
    "content nested 5000 deep": (
        b'{"messages": [{"role": "user", "content": %b]}]' % (b"[" * 5000),
        ["not valid JSON"],
    ),
    "an input nested 300 deep": (_call(300), ["nested too deep"]),
    "an array": ([HELLO], ["body", "'object'"]),
    "a string": ("Hello", ["body", "'object'"]),
    "null": (None, ["body", "'object'"]),
    "nothing asked": ({}, ["body", "'messages'", "required"]),
    "no messages": ({"messages": []}, ["messages", "non-empty"]),
    "messages that are no list": ({"messages": "Hello"}, ["messages", "'array'"]),
    "one message, not a list": ({"messages": HELLO}, ["messages", "'array'"]),
    "a message that is a string": ({"messages": [HELLO, "Hello"]}, ["messages[1]", "'object'"]),
    "an unknown role": (_message(role="bot"), ["messages[1].role", "'bot'", "'user'", "'assistant'"]),
    "no role": ({"messages": [{"content": "x"}]}, ["messages[0]", "'role'", "required"]),
    "no content": ({"messages": [{"role": "user"}]}, ["messages[0]", "'content'", "required"]),
    "content that is a number": (_message(content=5), ["messages[1].content", "5"]),
    "content that is null": (_message(role="assistant", content=None), ["messages[1].content", "None"]),
    "an unknown part": (_message(content=[{"type": "video"}]), ["messages[1].content[0]", "'text'"]),
    "a part without a type": (_message(content=[{"text": "x"}]), ["messages[1].content[0]", "'type'"]),
    "a part of another role": (
        _message(content=[{"type": "tool_call", "id": "c", "name": "n"}]),
        ["messages[1].content[0]", "'text'"],
    ),
    "a text that is none": (
        _message(content=[{"type": "text", "text": 5}]),
        ["messages[1].content[0].text", "'string'"],
    ),
    "an unknown part of an assistant": (
        _message(role="assistant", content=[{"type": "video"}]),
        ["messages[1].content[0]", "'video'"],
    ),
    "a tool message with a string": (_message(role="tool", content="42"), ["messages[1].content", "'array'"]),
    "a result without its call": (
        _message(role="tool", content=[{"type": "tool_result", "result": "42"}]),
        ["messages[1].content[0]", "'toolCallId'"],
    ),
    "an unknown property": (question(stream=True), ["body", "'stream'"]),
    "an unknown property of a message": (_message(name="Ann"), ["messages[1]", "'name'"]),
    "only white space": (question(" \n\t "), ["messages", "nothing to answer"]),
    "only system": ({"messages": [{"role": "system", "content": "Be brief."}]}, ["messages", "nothing to answer"]),
    "no parts": (question([]), ["messages", "nothing to answer"]),
    "an unknown tool": (question(tools=["calculate", "calculator"]), ["tools", "'calculator'", "calculate"]),
    "tools that are no list": (question(tools="calculate"), ["tools", "'array'"]),
    "a tool that is no name": (question(tools=[5]), ["tools[0]", "'string'"]),
    "a tool that says too little": (question(tools=[{"name": "mine"}]), ["tools[0]", "'description'", "required"]),
    "a tool whose name no API takes": (question(tools=[OWN | {"name": "my tool"}]), ["tools", "'my tool'"]),
    "a tool whose parameters are no object": (
        question(tools=[OWN | {"parameters": {"type": "string"}}]),
        ["tools[0].parameters.type", "'object'"],
    ),
    "two tools of one name": (question(tools=["calculate", OWN | {"name": "calculate"}]), ["tools", "calculate"]),
    "the stored form without a turn": ({"conversationId": "c"}, ["body", "'turnId'", "required"]),
    "both forms": (question(conversationId="c", turnId="t"), ["body", "'messages'"]),
    "temperature 3": (question(temperature=3), ["temperature", "3", "maximum of 2"]),
    "temperature -1": (question(temperature=-1), ["temperature", "-1", "minimum of 0"]),
    "temperature true": (question(temperature=True), ["temperature", "'number'"]),
    "no tokens": (question(maxOutputTokens=0), ["maxOutputTokens", "minimum of 1"]),
    "half a token": (question(maxOutputTokens=1.5), ["maxOutputTokens", "'integer'"]),
    "an unknown effort": (question(effort="huge"), ["effort", "'huge'", "'low'", "'high'"]),
    "a model that is no name": (question(model=5), ["model", "'string'"]),
    "an empty model": (question(model=""), ["model", "non-empty"]),
    "a very long model": (question(model="x" * 100_000), ["model", "too long"]),
}


@pytest.fixture
async def running(start: Any, write_script: Any) -> Any:
    return await start(write_script({"text": "Hello"}))


def _bytes(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


@pytest.mark.parametrize(("body", "told"), BAD.values(), ids=BAD)
async def test_a_bad_body_is_told_where_and_what_was_expected(body: Any, told: list[str], running: Any) -> None:
    message = problem(await running.post(_bytes(body)), 400, "bad_request")

    assert [part for part in told if part not in message] == [], message
    assert len(message) < 1000
    await running.lives()


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("scripted:other", ["'scripted:other'", "scripted:demo"]),
        ("scripted:/etc/passwd", ["'scripted:/etc/passwd'", "scripted:demo"]),
        ("local:/etc/passwd", ["'local:/etc/passwd'", "scripted:demo"]),
        ("nonsense", ["'nonsense'", "scripted:demo"]),
        ("scripted:../../etc/passwd\0", ["unknown model"]),
    ],
)
async def test_an_unknown_model_is_told_which_there_are(model: str, told: list[str], running: Any) -> None:
    message = problem(await running.post(_bytes(question(model=model))), 404, "not_found")

    assert [part for part in told if part not in message] == [], message


GOOD: dict[str, Any] = {
    "a string": question("Hello"),
    "parts": question([{"type": "text", "text": "Hello"}]),
    "NUL characters": question("He\0llo \0"),
    "every other character": question("".join(map(chr, [*range(1, 0xD800), *range(0xE000, 0x11000), 0x1F600]))),
    "a pair of surrogates": b'{"messages": [{"role": "user", "content": "\\ud83d\\ude00"}]}',
    "an empty message among others": {"messages": [HELLO, {"role": "assistant", "content": ""}, HELLO]},
    "an assistant's word last": {"messages": [HELLO, {"role": "assistant", "content": "Hel"}]},
    "a result without a call": {
        "messages": [HELLO, {"role": "tool", "content": [{"type": "tool_result", "toolCallId": "c", "result": "x"}]}]
    },
    "an input nested 200 deep": _call(200),
    "each option": question(temperature=0, effort="low", maxOutputTokens=1, tools=["calculate", "calculate"]),
    "5 MB": question("word " * MB),
}


@pytest.mark.parametrize("body", GOOD.values(), ids=GOOD)
async def test_a_good_body_is_answered(body: Any, running: Any) -> None:
    answer = await running.post(_bytes(body))

    assert answer.status == 200, answer.body[:500]
    frames = [json.loads(line[6:]) for line in answer.body.splitlines() if line.startswith(b"data: ")]
    assert (texts(frames), frames[-1]["type"]) == ("Hello", "done")


# --- size -------------------------------------------------------------------------------------------------------------


def _chunked(count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield b"%x\r\n%b\r\n" % (MB, b" " * MB)
    yield b"0\r\n\r\n"


ZIPPED = gzip.compress(b" " * 50 * MB)
LARGE: dict[str, tuple[list[tuple[str, str]], Any]] = {
    "50 MB": ([("Content-Length", str(50 * MB))], lambda: (b" " * MB for _ in range(50))),
    "50 MB in chunks": ([("Transfer-Encoding", "chunked")], lambda: _chunked(50)),
    "50 MB in 50 kB": ([("Content-Encoding", "gzip"), ("Content-Length", str(len(ZIPPED)))], lambda: [ZIPPED]),
    "a length without a body": ([("Content-Length", str(10**15))], lambda: []),
}


@pytest.mark.parametrize(("headers", "body"), LARGE.values(), ids=LARGE)
async def test_a_body_that_is_too_large_is_refused_and_not_kept(headers: Any, body: Any, running: Any) -> None:
    message = problem(await running.send("POST", "/api/chat", [JSON, *headers], body()), 413, "too_large")

    assert str(running.server.config.max_body) in message
    await running.lives()


async def test_the_limit_is_a_setting(start: Any, write_script: Any) -> None:
    running = await start(write_script({"text": "Hello"}), max_body=100)
    body = _bytes(question())

    assert (await running.post(body + b" " * (100 - len(body)))).status == 200
    assert "100" in problem(await running.post(body + b" " * (101 - len(body))), 413, "too_large")


async def test_a_body_whose_sender_leaves_in_the_middle_is_nobodys(running: Any) -> None:
    for _ in range(5):
        _, writer = await asyncio.open_connection("127.0.0.1", running.port)
        head = f"POST /api/chat HTTP/1.1\r\nHost: {running.host}\r\nContent-Type: application/json\r\n"
        writer.write(f'{head}Content-Length: 1000\r\n\r\n{{"messages": ['.encode())
        await writer.drain()
        writer.close()
        assert "gone" in await running.over()
    await running.lives()


HUGE: dict[str, tuple[Any, str]] = {
    "tools": (question(tools=[number if number % 2 else str(number) for number in range(20_000)]), "tools[1]: "),
    "objects as tools": (question(tools=[{"a": number} for number in range(20_000)]), "tools[0]: "),
    "messages": ({"messages": [0] * 20_000}, "messages[0]: "),
    "properties": (question(**{f"p{number}": 1 for number in range(20_000)}), "body: "),
}


@pytest.mark.parametrize(("body", "first"), HUGE.values(), ids=HUGE)
async def test_a_large_body_of_nothing_but_errors_is_answered_by_its_first(body: Any, first: str, running: Any) -> None:
    """Looked at whole, the first of these took a minute: the square of its length."""
    message = problem(await running.post(_bytes(body)), 400, "bad_request")

    assert message.startswith(first)
    assert len(message) < 1000


async def test_the_server_answers_others_while_a_large_body_is_checked(running: Any) -> None:
    body = {"messages": [{"role": "assistant", "content": "a"}] * 10_000 + [0]}
    checking = asyncio.create_task(running.post(_bytes(body)))
    answered = 0
    while not checking.done():
        await running.lives()
        answered += 1

    assert "messages[10000]" in problem(await checking, 400, "bad_request")
    assert answered > 3


def test_an_explanation_names_the_path_and_is_empty_where_there_is_nothing_to_explain() -> None:
    assert explain(CHAT_REQUEST, question()) == ""
    assert explain(CHAT_REQUEST, question(temperature=3)) == "temperature: 3 is greater than the maximum of 2"


def test_every_error_has_a_code_of_the_closed_list() -> None:
    import chatstream.errors

    kinds = [kind for kind in vars(chatstream.errors).values() if isinstance(kind, type)]
    assert {kind.code for kind in kinds if issubclass(kind, chatstream.errors.ChatstreamError)} <= CODES
    assert issubclass(MethodNotAllowed, RequestError)
