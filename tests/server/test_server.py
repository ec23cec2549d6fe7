"""The server as its clients meet it: the native wire from end to end, through the official SDKs."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from chatstream.config import Config
from chatstream.errors import ConfigError
from chatstream.server import Server, add_routes, make_app
from chatstream.testing import Call, Turn

from .conftest import KEYS
from .rig import CODES, MODELS, Client, Gate, data_lines, kinds, numbered, problem, question, read_until, texts

SUM, BAD = {"expression": "6 * 7"}, {"expression": "1 / 0"}
LOOP = (
    {
        "reasoning": "I will calculate.",
        "text": "Two sums. ",
        "tools": [{"name": "calculate", "arguments": SUM}, {"name": "calculate", "arguments": BAD}],
    },
    {"text": "One is 42, one cannot be."},
)


async def test_a_reader_of_four_types_and_of_nothing_but_data_lines_follows_a_tool_loop(
    start: Any, write_script: Any
) -> None:
    running = await start(write_script(*LOOP))
    frames = await running.ask()

    assert texts(frames) == "Two sums. One is 42, one cannot be."
    called = {frame["toolCallId"]: frame["toolName"] for frame in frames if frame["type"] == "tool_start"}
    results = {frame["toolCallId"]: frame for frame in frames if frame["type"] == "tool_result"}
    assert list(called.values()) == ["calculate", "calculate"]
    assert results.keys() == called.keys()
    good, bad = (results[call] for call in called)
    assert (good["result"], good["isError"], bad["isError"]) == ("42", False, True)
    assert [frame["type"] for frame in frames].index("done") == len(frames) - 1


async def test_the_other_frames_tell_what_a_page_shows(start: Any, write_script: Any) -> None:
    running = await start(write_script(*LOOP))
    frames = await running.ask()

    first, last = frames[0], frames[-1]
    assert kinds(frame for frame in frames if not frame["type"].startswith("tool_")) == [
        *("start", "reasoning", "text", "turn", "text", "turn", "done")
    ]
    assert first["model"] == "scripted:script", "the name of the file, and not where it lies"
    assert first["runId"].startswith("run_")
    assert first.keys() == {"type", "runId", "messageId", "model"}, "the conversation is the caller's own"
    assert [frame["input"] for frame in frames if frame["type"] == "tool_call"] == [SUM, BAD]
    assert [frame["finishReason"] for frame in frames if frame["type"] == "turn"] == ["tool_calls", "stop"]
    assert (last["outcome"], last["finishReason"]) == ("completed", "stop")
    assert [message["role"] for message in last["messages"]] == ["assistant", "tool", "assistant"]


async def test_every_event_has_its_number_on_the_wire_and_at_most_one_line_of_json(
    start: Any, write_script: Any
) -> None:
    running = await start(write_script(*LOOP))
    async with await running.open() as response:
        body = await response.read()

    blocks = numbered(body)
    assert [number for number, _ in blocks] == list(range(1, len(blocks) + 1))
    assert None in [frame for _, frame in blocks], "an event of which a viewer needs nothing is a number alone"
    lines = [line for line in body.splitlines() if line.startswith(b"data: ")]
    assert all(line.startswith(b'data: {"type":"') for line in lines)
    assert len(lines) == sum(frame is not None for _, frame in blocks)


@pytest.mark.parametrize("model", MODELS)
async def test_the_messages_of_done_go_back_as_they_are(model: str, start: Any, fake: Any) -> None:
    provider = await fake(
        Turn(reasoning="Six sevens.", text="Let me see.", tools=[Call("calculate", SUM, "c1"), Call("none", {}, "c2")]),
        Turn(text="It is 42."),
        Turn(text="You are welcome."),
    )
    running = await start(model)
    asked = {"role": "user", "content": "6 * 7?"}
    first = await running.ask({"messages": [asked]})
    thanks = {"role": "user", "content": "Thanks"}
    second = await running.ask({"messages": [asked, *first[-1]["messages"], thanks]})

    assert texts(second) == "You are welcome."
    assert _shape(provider.requests[2].body) == SHAPES[model]


def _shape(body: dict[str, Any]) -> list[Any]:
    """Return the messages of a provider's request; arguments as what they stand for, a long error by its beginning."""

    def shorten(value: dict[str, Any]) -> dict[str, Any]:
        if "arguments" in value:
            value["arguments"] = json.loads(value["arguments"])
        if str(value.get("content")).startswith("there is no tool"):
            value["content"] = "there is no tool"
        return value

    messages: list[Any] = json.loads(json.dumps(body["messages"]), object_hook=shorten)
    return messages


SHAPES: dict[str, list[Any]] = {
    "anthropic:fake": [
        {"role": "user", "content": [{"type": "text", "text": "6 * 7?"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Six sevens.", "signature": "c2lnbmF0dXJl"},
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "c1", "name": "calculate", "input": SUM},
                {"type": "tool_use", "id": "c2", "name": "none", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": "42"},
                {"type": "tool_result", "tool_use_id": "c2", "content": "there is no tool", "is_error": True},
            ],
        },
        {"role": "assistant", "content": [{"type": "text", "text": "It is 42."}]},
        {"role": "user", "content": [{"type": "text", "text": "Thanks"}]},
    ],
    "openai-chat:fake": [
        {"role": "user", "content": "6 * 7?"},
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "calculate", "arguments": SUM}},
                {"id": "c2", "type": "function", "function": {"name": "none", "arguments": {}}},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
        {"role": "tool", "tool_call_id": "c2", "content": "there is no tool"},
        {"role": "assistant", "content": "It is 42."},
        {"role": "user", "content": "Thanks"},
    ],
}


@pytest.mark.parametrize("model", MODELS)
async def test_what_a_request_chooses_reaches_the_provider(model: str, start: Any, fake: Any) -> None:
    provider = await fake(*[Turn(text="x")] * 3)
    running = await start("scripted:demo", max_output_tokens=100, system="Be brief.")
    for chosen in ({"tools": ["calculate"], "maxOutputTokens": 8.0}, {"tools": [], "maxOutputTokens": 10**9}, {}):
        await running.ask(question("Hi", model=model, **chosen))

    bodies = [request.body for request in provider.requests]
    names = [[each.get("name") or each["function"]["name"] for each in body.get("tools", ())] for body in bodies]
    assert names == [["calculate"], [], ["get_weather", "search_docs", "calculate", "current_time"]]
    # The operator's limit is a limit; and 8.0, which a schema takes for an integer, is none to a provider.
    assert json.dumps([body["max_tokens"] for body in bodies]) == "[8, 100, 100]"
    assert all("Be brief." in json.dumps(body) for body in bodies)


@pytest.mark.parametrize("model", MODELS)
async def test_a_notice_says_that_the_server_will_ask_again(model: str, start: Any, fake: Any) -> None:
    provider = await fake(Turn(status=529), Turn(text="Now I can."))
    running = await start(model)
    frames = await running.ask()

    assert kinds(frames) == ["start", "notice", "text", "turn", "done"]
    assert frames[1]["code"] == "overloaded"
    assert "again in" in frames[1]["message"]
    assert texts(frames) == "Now I can."
    assert len(provider.requests) == 2


async def test_a_notice_is_there_while_the_retry_waits(start: Any, fake: Any) -> None:
    provider = await fake(Turn(status=429, retry_after=30), Turn(text="never"))
    running = await start("anthropic:fake")
    async with await running.open() as response:
        seen = await read_until(data_lines(response), "notice")

    assert seen[-1]["code"] == "rate_limit"
    assert len(provider.requests) == 1


def _said(*values: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(value).encode() + b"\n\n" for value in values)


def _fault(begun: list[dict[str, Any]], fault: bytes) -> Turn:
    """Return a turn whose fault comes in a write of its own, when what is said before it has been read."""
    said = _said(*begun)
    return Turn(raw=said + fault, write=len(said), delay=0.05)


ANTHROPIC_HI = [
    {"type": "message_start", "message": {"id": "m", "usage": {}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
]
OPENAI_HI = [{"choices": [{"index": 0, "delta": {"content": "Hi"}}]}]
SECRET = f"invalid key {KEYS['ANTHROPIC_API_KEY']} {KEYS['OPENAI_API_KEY']} Traceback"
LONG = "A long text that will be cut. " * 20
FAILURES: dict[str, tuple[str, Turn, str, bool]] = {
    "connection lost": ("anthropic:fake", Turn(text=LONG, drop=700), "network", True),
    "connection lost, chat": ("openai-chat:fake", Turn(text=LONG, drop=700), "network", True),
    "ended too early": ("anthropic:fake", Turn(text=LONG, end=700), "network", True),
    "ended too early, chat": ("openai-chat:fake", Turn(text=LONG, end=700), "network", True),
    "overloaded": (
        "anthropic:fake",
        _fault(ANTHROPIC_HI, _said({"type": "error", "error": {"type": "overloaded_error", "message": SECRET}})),
        "overloaded",
        True,
    ),
    "overloaded, chat": (
        "openai-chat:fake",
        _fault(OPENAI_HI, _said({"error": {"code": 503, "message": SECRET}})),
        "overloaded",
        True,
    ),
    "not JSON": ("anthropic:fake", _fault(ANTHROPIC_HI, b"data: {" + SECRET.encode() + b"\n\n"), "internal", True),
    "not its API": ("openai-chat:fake", _fault(OPENAI_HI, _said({"choices": SECRET})), "internal", False),
}


@pytest.mark.parametrize(("model", "turn", "code", "retryable"), FAILURES.values(), ids=FAILURES)
async def test_a_provider_that_fails_in_mid_stream_ends_the_stream_with_an_error(
    model: str, turn: Turn, code: str, retryable: bool, start: Any, fake: Any
) -> None:
    provider = await fake(turn)
    running = await start(model)
    async with await running.open() as response:
        body = await response.read()  # raises where the stream was cut instead of ended

    frames = [json.loads(line[6:]) for line in body.splitlines() if line.startswith(b"data: ")]
    error = frames[-1]
    assert texts(frames) != ""
    assert kinds(frames) == ["start", "text", "turn", "error"]
    assert (error["code"], error["retryable"]) == (code, retryable)
    assert code in CODES
    assert error["requestId"] == response.headers["X-Request-Id"]
    assert error["message"].endswith(".")
    assert b"secret" not in body
    assert b"Traceback" not in body
    assert len(provider.requests) == 1
    await running.lives()


@pytest.mark.parametrize(("model", "variable"), [("anthropic:x", "ANTHROPIC_API_KEY"), ("openai:x", "OPENAI_API_KEY")])
async def test_a_missing_key_is_an_error_that_names_the_variable(model: str, variable: str, start: Any) -> None:
    running = await start()

    assert variable in problem(await running.post(json.dumps(question(model=model)).encode()), 502, "auth")
    with pytest.raises(ConfigError, match=variable):
        await start(model)


@pytest.mark.parametrize(
    ("model", "variable"), [("anthropic:x", "ANTHROPIC_API_KEY"), ("openai-chat:x", "OPENAI_API_KEY")]
)
async def test_a_wrong_key_is_an_error_that_does_not_repeat_it(
    model: str, variable: str, start: Any, stack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        said = {"type": "authentication_error", "message": f"Traceback: {heads[0].decode()}"}
        body = json.dumps({"type": "error", "error": said}).encode()
        head = f"HTTP/1.1 401 No\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    upstream = await stack.enter_async_context(await asyncio.start_server(refuse, "127.0.0.1", 0))
    url = f"http://127.0.0.1:{upstream.sockets[0].getsockname()[1]}"
    for name, value in (KEYS | {"ANTHROPIC_BASE_URL": url, "OPENAI_BASE_URL": url}).items():
        monkeypatch.setenv(name, value)
    running = await start(model)
    async with await running.open() as response:
        body = await response.read()

    assert KEYS[variable].encode() in heads[0]
    assert len(heads) == 1
    assert b'"code":"auth"' in body
    assert variable.encode() in body
    assert b"secret" not in body
    assert b"Traceback" not in body


async def test_an_exception_inside_a_handler_is_an_internal_error_without_its_text(
    start: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    running = await start()

    def fail(name: str) -> None:
        raise RuntimeError("the secret of the house")

    monkeypatch.setattr(running.server.models, "find", fail)
    answer = await running.post(json.dumps(question()).encode())

    message = problem(answer, 500, "internal")
    assert "log" in message
    assert b"secret" not in answer.body
    # The log has what the answer withholds, under the id that the answer names.
    assert "the secret of the house" in caplog.text
    assert answer.headers["X-Request-Id"] in caplog.text
    caplog.clear()
    await running.lives()


async def test_an_answer_that_breaks_off_does_not_look_like_one_that_ended(
    start: Any, write_script: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    running = await start(write_script({"text": "never"}))

    def fail(*_: Any) -> bytes:
        raise RuntimeError("a bug in the wire")

    async with await running.open() as response:
        await response.read()
    monkeypatch.setattr("chatstream.wires.native.Encoder.encode", fail)
    async with await running.open() as response:
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
    caplog.clear()
    await running.lives()


async def test_the_lists_say_what_there_is(start: Any, gate: Gate) -> None:
    running = await start("scripted:demo", tools=gate.tools)

    tools = (await running.send("GET", "/api/tools")).json["tools"]
    assert [tool["name"] for tool in tools] == ["wait", "note"]
    models = (await running.send("GET", "/api/models")).json
    assert models["default"] == "scripted:demo"
    by_id = {model["id"]: model for model in models["models"]}
    assert by_id["scripted:demo"]["available"]
    assert "ANTHROPIC_API_KEY" in by_id["anthropic:claude-sonnet-5-5"]["reason"]


async def test_readiness_follows_the_state_and_health_does_not(run_app: Any, stack: Any) -> None:
    server = Server(Config(model="scripted:demo"))
    client = Client(await run_app(make_app(server)))
    stack.push_async_callback(client.session.close)
    answers = []
    for state in ("starting", "ready", "stopping"):
        if state == "ready":
            await server.open()
        server.state = state
        answers.append((await client.send("GET", "/readyz")).status)
        await client.lives()

    assert answers == [503, 200, 503]


async def test_its_routes_can_be_put_into_another_application(run_app: Any, stack: Any, write_script: Any) -> None:
    async def own(request: web.Request) -> web.Response:
        return web.Response(text="mine")

    app = web.Application()
    app.router.add_get("/own", own)
    add_routes(app, Config(model=write_script({"text": "Hello"})))
    client = Client(await run_app(app))
    stack.push_async_callback(client.session.close)

    assert (await client.send("GET", "/own")).body == b"mine"
    assert texts(await client.ask()) == "Hello"
    assert (await client.send("GET", "/readyz")).json == {"status": "ready"}
    problem(await client.send("GET", "/healthz", [("Host", "evil.example")]), 421, "forbidden")
