"""The agent as an OpenAI model, by HTTP: who leaves ends its run, results go on where the run stood, and errors."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from chatstream import tool
from chatstream.server import answers
from chatstream.testing import Call, Recorded, Turn

from .rig import HANG, MODELS, Answer, Client, Gate, Running, told, until

PATH = "/v1/chat/completions"
PICK = {"name": "pick", "description": "Pick.", "parameters": {"type": "object"}}
PICKED = Call("pick", {"of": "sky"}, "p")
CHOICE = [Turn(text="Choose.", tools=[PICKED]), Turn(text="Blue it is.")]


def body(text: str = "Hello", **more: Any) -> dict[str, Any]:
    return {"model": "", "messages": [{"role": "user", "content": text}], **more}


def own(*functions: dict[str, Any]) -> dict[str, Any]:
    return {"tools": [{"type": "function", "function": each} for each in functions or (PICK,)]}


async def ask(client: Client, asked: dict[str, Any], *headers: tuple[str, str]) -> Any:
    """Return the message of a whole answer."""
    answer = await client.post(json.dumps(asked).encode(), *headers, path=PATH)
    assert answer.status == 200, answer
    return answer.json["choices"][0]["message"]


async def stream(client: Client, asked: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the chunks of a streamed answer, which must be whole."""
    async with client.session.post(PATH, json=asked | {"stream": True}) as response:
        assert (response.status, response.content_type) == (200, "text/event-stream"), await response.text()
        blocks = (await response.text()).removesuffix("\n\n").split("\n\n")
    assert blocks[-1] == "data: [DONE]"
    return [json.loads(block.removeprefix("data: ")) for block in blocks[:-1] if block != ":"]


def results(asked: dict[str, Any], message: dict[str, Any], *contents: str, **more: Any) -> dict[str, Any]:
    """Return the request in which a client hands in what its calls came to, as the SDKs make it."""
    given = [
        {"role": "tool", "tool_call_id": call["id"], "content": content}
        for call, content in zip(message["tool_calls"], contents, strict=True)
    ]
    return asked | {"messages": [*asked["messages"], message, *given]} | more


def problem(answer: Answer, status: int, kind: str, code: str | None, param: str | None = None) -> str:
    """Return the message of an error, which has the one form that OpenAI's clients read."""
    assert (answer.status, answer.headers["Content-Type"]) == (status, "application/json; charset=utf-8"), answer
    message = answer.json["error"]["message"]
    assert answer.json == {"error": {"message": message, "type": kind, "param": param, "code": code}}
    assert answer.headers["X-Request-Id"]
    return str(message)


INVALID = "invalid_request_error"


# --- what is said -----------------------------------------------------------------------------------------------------

SITUATIONS: dict[str, list[Turn]] = {
    "a text": [Turn(text="A line,\nand \N{GRINNING FACE}.")],
    "thoughts": [Turn(reasoning="Hm.", text="Yes.")],
    "a tool": [Turn(text="I look.", tools=[Call("look", {}, "l")]), Turn(text="There.")],
    "a call of the client's": [Turn(text="Choose.", tools=[Call("look", {}, "l"), PICKED])],
    "a call alone": [Turn(tools=[PICKED, Call("pick", {}, "q")])],
    "nothing": [Turn()],
    "a cut": [Turn(text="Once upon", finish="length")],
}


@tool
def look() -> str:
    """Look."""
    return "seen"


def normal(value: Any) -> Any:
    return json.loads(re.sub(r"(run_|chatcmpl-)[0-9a-f]{32}", r"\1", re.sub(r'"created": \d+', "", json.dumps(value))))


@pytest.mark.parametrize("turns", SITUATIONS.values(), ids=SITUATIONS)
async def test_a_streamed_answer_and_a_whole_one_say_the_same(turns: list[Turn], start: Any, fake: Any) -> None:
    await fake(*turns, *turns)
    running = await start("openai-chat:fake", tools=[look])
    answer = (await running.request("POST", PATH, body(**own()))).json
    Draft202012Validator(answers.SCHEMAS[answers.COMPLETION]).validate(answer)
    (choice,) = answer.pop("choices")
    said: dict[str, Any] = {"content": None, "refusal": None}
    reason = None
    for chunk in await stream(running, body(**own(), stream_options={"include_usage": True})):
        assert {name: chunk[name] for name in ("model", "object")} == {
            "model": answer["model"],
            "object": "chat.completion.chunk",
        }
        for each in chunk["choices"]:
            reason = each["finish_reason"] or reason
            for name, piece in each["delta"].items():
                if name == "tool_calls":
                    calls = said.setdefault(name, [])
                    (call,) = piece
                    index, function = call.pop("index"), call.pop("function")
                    calls += [call | {"function": {"name": function["name"], "arguments": ""}}] if call else []
                    calls[index]["function"]["arguments"] += function["arguments"]
                else:
                    said[name] = (said.get(name) or "") + piece
    assert normal(said) == normal(choice["message"])
    assert reason == choice["finish_reason"]
    assert chunk["usage"] == answer["usage"]


async def test_the_answer_says_which_model_was_asked_and_when(start: Any, write_script: Any) -> None:
    running = await start(write_script({"text": "Hi."}))
    answer = await running.request("POST", PATH, body())
    assert answer.json["model"] == running.server.models.default[0].name + ":" + running.server.models.default[1]
    named = await running.request("POST", PATH, body(model="scripted:demo"))
    assert named.json["model"] == "scripted:demo"
    assert answer.json["id"] == answer.headers["X-Run-Id"].replace("run_", "chatcmpl-")
    assert isinstance(answer.json["created"], int)


# --- leaving ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_streamed", [True, False])
@pytest.mark.parametrize("model", MODELS)
async def test_a_client_that_leaves_ends_its_run_and_the_providers_request(
    model: str, is_streamed: bool, start: Any, fake: Any
) -> None:
    provider = await fake(Turn(text="half of it " * 50, stall=1500))
    running = await start(model, linger=HANG)
    request = asyncio.create_task(running.session.post(PATH, json=body(stream=is_streamed)))
    await until(lambda: provider.requests and provider.requests[0].sent)
    if is_streamed:
        (await request).close()
    request.cancel()
    async with asyncio.timeout(HANG):
        await provider.requests[0].ended.wait()
    assert provider.requests[0].left
    await until(lambda: not running.server.runs._live)


async def test_an_answer_that_somebody_stops_ends_as_far_as_it_came(start: Any, fake: Any) -> None:
    await fake(Turn(text="half of it " * 50, stall=1500))
    running = await start("openai-chat:fake")
    async with running.session.post(PATH, json=body(stream=True)) as response:
        run = response.headers["X-Run-Id"]
        while b"half" not in await response.content.readline():
            pass
        assert (await running.request("POST", f"/api/runs/{run}/stop")).json["outcome"] == "stopped"
        rest = await response.text()
    assert '"finish_reason":"stop"' in rest and rest.endswith("data: [DONE]\n\n")


# --- tools ------------------------------------------------------------------------------------------------------------


async def test_the_servers_tools_are_offered_but_those_that_somebody_has_to_approve(start: Any, fake: Any) -> None:
    @tool(approval="always")
    def delete() -> str:
        "Delete."
        return "deleted"

    @tool(approval=lambda input: False)
    def send() -> str:
        "Send."
        return "sent"

    provider = await fake(*[Turn(text="Hi.")] * 3)
    running = await start("openai-chat:fake", tools=[look, delete, send])
    await ask(running, body(**own()))
    await ask(running, body(**own(), tool_choice="none"))
    await ask(running, body(**own(PICK | {"name": "look", "description": "Mine."})))
    assert [each.tools for each in provider.requests] == [["look", "pick"], [], ["look"]]
    assert provider.requests[2].body["tools"][0]["function"]["description"] == "Mine."


@pytest.mark.parametrize("model", MODELS)
async def test_a_result_goes_on_where_the_run_stood_with_what_the_client_never_saw(
    model: str, start: Any, fake: Any
) -> None:
    first = Turn(text="I look.", tools=[Call("look", {}, "l")])
    second = Turn(reasoning="Hm.", text="Choose.", tools=[Call("look", {}, "m"), PICKED])
    provider = await fake(first, second, Turn(text="Blue it is."))
    running = await start(model, tools=[look])
    message = await ask(running, asked := body(**own()))
    assert message["content"] == "I look.\n\nChoose."
    assert [call["function"]["name"] for call in message["tool_calls"]] == ["pick"]
    assert (await ask(running, results(asked, message, "blue")))["content"] == "Blue it is."
    assert provider.requests[2].results == ["seen", "seen", "blue"]
    assert [line.partition(" {")[0] for line in told(provider.requests[2].body)] == [
        *("user: Hello", "assistant: I look.", "l look", "l: seen"),
        *("assistant: Choose.", "m look", "p pick", "m: seen", "p: blue"),
    ]
    if model.startswith("anthropic"):
        assert '"signature": "c2lnbmF0dXJl"' in json.dumps(provider.requests[2].body)


def counting(gate: Gate) -> Callable[[Recorded], Turn]:
    """Return a model that asks the client first, then takes a note."""

    def play(recorded: Recorded) -> Turn:
        said = len(recorded.results)
        return [Turn(text="Choose.", tools=[PICKED]), Turn(tools=[Call("note", {}, "n")]), Turn(text="Noted.")][said]

    return play


async def test_a_result_that_is_sent_twice_runs_nothing_twice(start: Any, fake: Any, gate: Gate) -> None:
    provider = await fake(counting(gate))
    running = await start("openai-chat:fake", tools=gate.tools)
    message = await ask(running, asked := body(**own()))
    again = results(asked, message, "blue")
    said = await asyncio.gather(*(ask(running, again) for _ in range(3)))
    assert [answer["content"] for answer in [*said, await ask(running, again)]] == ["Noted."] * 4
    assert gate.notes == 1 and len(provider.requests) == 3


async def test_another_request_with_the_same_result_is_another_answer(start: Any, fake: Any, gate: Gate) -> None:
    await fake(counting(gate))
    running = await start("openai-chat:fake", tools=gate.tools)
    message = await ask(running, asked := body(**own()))
    for number, more in enumerate(({}, {"temperature": 0.5}), 1):
        assert (await ask(running, results(asked, message, "blue", **more)))["content"] == "Noted."
        assert gate.notes == number


async def test_a_result_whose_run_nobody_knows_any_more_answers_the_history_as_it_was_sent(
    start: Any, fake: Any
) -> None:
    provider = await fake(*CHOICE)
    message = await ask(await start("openai-chat:fake", tools=[]), asked := body(**own()))
    answer = await ask(await start("openai-chat:fake", tools=[]), results(asked, message, "blue"))
    assert answer["content"] == "Blue it is."
    assert told(provider.requests[1].body) == [
        *("user: Hello", "assistant: Choose.", 'p pick {"of": "sky"}', "p: blue"),
    ]


async def test_a_result_goes_on_after_a_restart_too(start: Any, fake: Any, tmp_path: Path) -> None:
    provider = await fake(Turn(text="I look.", tools=[Call("look", {}, "l")]), *CHOICE)
    first = await start("openai-chat:fake", tools=[look], data=tmp_path)
    message = await ask(first, asked := body(**own()))
    await first.server.close()
    second = await start("openai-chat:fake", tools=[look], data=tmp_path)
    assert (await ask(second, results(asked, message, "blue")))["content"] == "Blue it is."
    assert provider.requests[2].results == ["seen", "blue"]


async def test_a_result_with_another_history_answers_that_one(start: Any, fake: Any) -> None:
    provider = await fake(Turn(text="I look.", tools=[Call("look", {}, "l")]), *CHOICE)
    running = await start("openai-chat:fake", tools=[look])
    message = await ask(running, body("What was it like?", **own()))
    renewed = body("What is it like?", **own())
    assert (await ask(running, results(renewed, message, "blue")))["content"] == "Blue it is."
    assert told(provider.requests[2].body) == [
        *("user: What is it like?", "assistant: I look.\n\nChoose.", 'p pick {"of": "sky"}', "p: blue"),
    ]


async def test_a_result_may_go_to_another_model(start: Any, fake: Any) -> None:
    provider = await fake(*CHOICE)
    running = await start("openai-chat:fake", tools=[])
    message = await ask(running, asked := body(**own()))
    answer = await ask(running, results(asked, message, "blue", model="anthropic:other"))
    assert answer["content"] == "Blue it is."
    assert provider.requests[1].path == "/v1/messages" and provider.requests[1].results == ["blue"]


async def test_what_a_request_with_a_result_asks_for_counts(start: Any, fake: Any) -> None:
    provider = await fake(Turn(tools=[Call("look", {}, "l")]), *CHOICE)
    running = await start("openai-chat:fake", tools=[look])
    message = await ask(running, asked := body(temperature=1.5, **own()))
    await ask(running, results(asked, message, "blue", tool_choice="none", temperature=0, max_tokens=9))
    last = provider.requests[2]
    assert (last.tools, last.body["temperature"], last.body["max_tokens"]) == ([], 0, 9)
    assert last.results == ["seen", "blue"]


async def test_a_result_is_taken_for_no_call_of_another_kind_of_run(start: Any, fake: Any) -> None:
    provider = await fake(*CHOICE, Turn(text="No."))
    running = await start("openai-chat:fake", tools=[])
    frames = await running.ask({"messages": [{"role": "user", "content": "Hi"}], "tools": [PICK]})
    called = {"id": f"{frames[0]['runId']}.p", "type": "function", "function": {"name": "pick", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [called]}
    await ask(running, results(body("Other"), message, "blue"))
    assert told(provider.requests[1].body)[0] == "user: Other"
    assert (await running.get(f"/api/runs/{frames[0]['runId']}"))["approvals"][0]["decision"] is None


async def test_calls_that_a_client_took_only_some_of_are_answered_by_its_history(start: Any, fake: Any) -> None:
    provider = await fake(Turn(tools=[PICKED, Call("pick", {}, "q")]), Turn(text="One will do."))
    running = await start("openai-chat:fake", tools=[])
    message = await ask(running, asked := body(**own()))
    for _ in range(2):
        one = message | {"tool_calls": message["tool_calls"][:1]}
        provider.turns = [*provider.turns, Turn(text="One will do.")]
        assert (await ask(running, results(asked, one, "blue")))["content"] == "One will do."
    assert provider.requests[2].results == ["blue"]


async def test_a_result_that_comes_too_late_is_still_one(start: Any, fake: Any) -> None:
    provider = await fake(*CHOICE)
    running = await start("openai-chat:fake", tools=[], approve_within=0.001)
    message = await ask(running, asked := body(**own()))
    await asyncio.sleep(0.01)
    assert (await ask(running, results(asked, message, "blue")))["content"] == "Blue it is."
    assert provider.requests[1].results == ["blue"]


async def test_the_answer_to_a_result_that_was_cut_short_is_asked_for_again(start: Any, fake: Any) -> None:
    provider = await fake(CHOICE[0], Turn(text="half of it " * 50, stall=1500), CHOICE[1])
    running = await start("openai-chat:fake", tools=[])
    message = await ask(running, asked := body(**own()))
    again = results(asked, message, "blue", stream=True)
    async with running.session.post(PATH, json=again) as response:
        await response.content.readline()
        await until(lambda: len(provider.requests) == 2 and provider.requests[1].sent)
        response.close()
    await until(lambda: not running.server.runs._live)
    said = [each["delta"].get("content", "") for chunk in await stream(running, again) for each in chunk["choices"]]
    assert "".join(said) == "Blue it is."


# --- asking again -----------------------------------------------------------------------------------------------------


async def test_a_request_with_a_key_is_one_answer_however_often_it_is_sent(start: Any, fake: Any, gate: Gate) -> None:
    provider = await fake(Turn(tools=[Call("note", {}, "n")]), Turn(text="Noted."), Turn(text="Another."))
    running = await start("openai-chat:fake", tools=gate.tools)
    key = ("Idempotency-Key", "one")
    said = await asyncio.gather(*(ask(running, body(), key) for _ in range(3)))
    assert [answer["content"] for answer in [*said, await ask(running, body(), key)]] == ["Noted."] * 4
    assert (gate.notes, len(provider.requests)) == (1, 2)
    other = await running.post(json.dumps(body("Other")).encode(), key, path=PATH)
    problem(other, 409, INVALID, None)
    assert other.headers["x-should-retry"] == "false"
    assert (await ask(running, body(), ("Idempotency-Key", "two")))["content"] == "Another."
    long = await running.post(json.dumps(body()).encode(), ("Idempotency-Key", "x" * 201), path=PATH)
    assert "201 characters" in problem(long, 400, INVALID, None)


@pytest.mark.parametrize(
    ("failing", "status", "kind", "code"),
    [
        (Turn(status=400), 400, INVALID, None),
        (Turn(status=400, error="prompt is too long: 9 tokens > 8 maximum"), 400, INVALID, "context_length_exceeded"),
        (Turn(status=401), 502, "server_error", None),
        (Turn(status=404, error="model_not_found"), 404, INVALID, "model_not_found"),
        (Turn(status=413), 413, INVALID, None),
        (Turn(status=429, retry_after=100), 429, "rate_limit_error", "rate_limit_exceeded"),
        (Turn(status=529, retry_after=100), 503, "server_error", "server_is_overloaded"),
    ],
)
async def test_a_failure_of_the_provider_has_its_status_where_the_answer_is_whole(
    failing: Turn, status: int, kind: str, code: str | None, start: Any, fake: Any
) -> None:
    await fake(failing, failing)
    running = await start("openai-chat:fake", tools=[])
    answer = await running.request("POST", PATH, body())
    message = problem(answer, status, kind, code)
    assert ("x-should-retry" in answer.headers) == (failing.retry_after is None)
    last = (await stream(running, body()))[-1]
    assert last == {"error": {"message": message, "type": kind, "param": None, "code": code}}


async def test_a_client_is_told_not_to_ask_again_once_a_tool_has_run(start: Any, fake: Any, gate: Gate) -> None:
    busy = Turn(status=529, retry_after=100)
    await fake(busy, Turn(tools=[Call("note", {}, "n")]), busy)
    running = await start("openai-chat:fake", tools=gate.tools)
    before, after = [await running.request("POST", PATH, body()) for _ in range(2)]
    assert before.status == after.status == 503
    assert [answer.headers.get("x-should-retry") for answer in (before, after)] == [None, "false"]
    assert gate.notes == 1


async def test_an_answer_that_the_end_of_the_server_cuts_short_is_no_answer(start: Any, fake: Any) -> None:
    provider = await fake(Turn(text="half of it " * 50, stall=1500))
    running = await start("openai-chat:fake")
    answer = asyncio.create_task(running.request("POST", PATH, body()))
    await until(lambda: provider.requests and provider.requests[0].sent)
    await running.server.runs.drain(0)
    problem(await answer, 503, "server_error", "server_is_overloaded")
    problem(await running.request("POST", PATH, body()), 503, "server_error", "server_is_overloaded")


# --- models -----------------------------------------------------------------------------------------------------------


async def test_the_models_are_those_that_can_be_used_the_default_first(start: Any, fake: Any) -> None:
    await fake(Turn())
    running = await start("openai-chat:meta/fake:8b")
    Draft202012Validator(answers.SCHEMAS[answers.OPENAI_MODELS]).validate(found := await running.get("/v1/models"))
    listed = found["data"]
    usable = [each["id"] for each in (await running.get("/api/models"))["models"] if each["available"]]
    assert {each["id"] for each in listed} == set(usable)
    assert listed[0] == {
        "id": "openai-chat:meta/fake:8b",
        "object": "model",
        "created": 0,
        "owned_by": "openai-chat",
        "name": listed[0]["name"],
    }


@pytest.mark.parametrize("name", ["openai-chat:meta/fake:8b", "openai-chat%3Ameta%2Ffake%3A8b", "meta/fake:8b"])
async def test_a_model_is_found_by_its_name_however_that_is_written(name: str, start: Any, fake: Any) -> None:
    await fake(Turn())
    running = await start("openai-chat:meta/fake:8b")
    found = await running.get(f"/v1/models/{name}")
    assert found["id"] == name.replace("%3A", ":").replace("%2F", "/")


@pytest.mark.parametrize("name", ["scripted:nothing", "antropic:x", "claude-unheard-of", "local:/etc/passwd"])
async def test_a_model_that_is_not_there_is_not_found(name: str, start: Any) -> None:
    running = await start()
    message = problem(await running.send("GET", f"/v1/models/{name}"), 404, INVALID, "model_not_found", "model")
    assert repr(name) in message or "antropic" in message


# --- errors -----------------------------------------------------------------------------------------------------------


async def post(client: Client, value: Any, *headers: tuple[str, str]) -> Answer:
    return await client.post(value if isinstance(value, bytes) else json.dumps(value).encode(), *headers, path=PATH)


BAD: dict[str, tuple[Any, str | None]] = {
    "no JSON": (b"{", None),
    "no object": (b"[]", None),
    "no messages": ({"model": "x"}, None),
    "a role that is none": ({"messages": [{"role": "robot", "content": "Hi"}]}, "messages[0].role"),
    "several answers": (body(n=2), "n"),
    "too much heat": (body(temperature=9), "temperature"),
    "a name that no tool can have": (body(**own(PICK | {"name": "a b"})), "tools"),
    "two tools of one name": (body(**own(PICK, PICK)), "tools"),
    "nothing to answer": ({"messages": [{"role": "user", "content": " "}]}, "messages"),
    "an image that is none": (
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}
            ]
        },
        "messages",
    ),
}


@pytest.mark.parametrize(("asked", "param"), BAD.values(), ids=BAD)
async def test_a_bad_request_names_what_is_wrong(asked: Any, param: str | None, start: Any) -> None:
    running = await start()
    problem(await post(running, asked), 400, INVALID, None, param)


async def test_an_unknown_model_is_not_found(start: Any) -> None:
    running = await start()
    for is_streamed in (True, False):
        answer = await post(running, body(model="scripted:none", stream=is_streamed))
        problem(answer, 404, INVALID, "model_not_found", "model")


async def test_a_model_whose_key_is_missing_is_the_servers_fault_and_not_asked_again(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    running = await start()
    answer = await post(running, body(model="anthropic:claude-sonnet-5-5"))
    assert "ANTHROPIC_API_KEY" in answer.json["error"]["message"]
    assert answer.status in (404, 502) and answer.headers["x-should-retry"] == "false"


async def test_whoever_may_not_ask_is_told_in_the_same_form(start: Any, write_script: Any) -> None:
    running: Running = await start(write_script({"text": "Hi."}), token="secret")
    assert "token" in problem(await post(running, body()), 401, INVALID, "invalid_api_key")
    problem(await post(running, body(), ("Authorization", "Bearer wrong")), 401, INVALID, "invalid_api_key")
    problem(await running.send("GET", "/v1/models"), 401, INVALID, "invalid_api_key")
    right = ("Authorization", "Bearer secret")
    assert (await post(running, body("Hi"), right)).status == 200
    problem(await post(running, body(), right, ("Origin", "https://evil.example")), 403, INVALID, None)
    problem(await running.send("GET", "/v1/models", [right, ("Host", "evil.example")]), 421, INVALID, None)
    problem(await running.send("GET", "/v1/nowhere"), 401, INVALID, "invalid_api_key")


async def test_without_a_token_any_key_will_do(start: Any, write_script: Any) -> None:
    running = await start(write_script({"text": "Hi."}))
    assert (await post(running, body(), ("Authorization", "Bearer sk-anything"))).status == 200


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", PATH, "POST"),
        ("PUT", PATH, "POST"),
        ("POST", "/v1/models", "GET"),
        ("DELETE", "/v1/models/scripted:demo", "GET"),
    ],
)
async def test_a_wrong_method_is_told_which_one_is_right(method: str, path: str, allowed: str, start: Any) -> None:
    answer = await (await start()).send(method, path)
    problem(answer, 405, INVALID, None)
    assert answer.headers["Allow"] == allowed


@pytest.mark.parametrize("path", ["/v1/", "/v1/responses", "/v1/embeddings", "/v1/chat/completions/x"])
async def test_what_there_is_not_says_what_there_is(path: str, start: Any) -> None:
    message = problem(await (await start()).send("POST", path), 404, INVALID, "unknown_url")
    assert "/v1/chat/completions" in message


async def test_a_body_of_another_kind_or_too_large_is_refused_in_the_same_form(start: Any) -> None:
    running = await start(max_body=1000)
    plain = await running.send("POST", PATH, [("Content-Type", "text/plain"), ("Content-Length", "2")], [b"{}"])
    problem(plain, 415, INVALID, None)
    problem(await post(running, body("x" * 2000)), 413, INVALID, None)
