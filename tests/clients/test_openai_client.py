"""OpenAI's own SDKs, for Python and JavaScript, against the server; and what Open WebUI and LiteLLM do by hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import openai
import pytest
from openai import AsyncOpenAI

from chatstream.testing import Call, Turn
from tests.server.rig import told, until

from .rig import COLOUR, MODEL, SITUATIONS, Stage, stage

_ADD, _SKY = Call("add", {"a": 1, "b": 2}, "call_add"), Call("pick_colour", {"of": "sky"}, "call_sky")
SITUATIONS |= {
    "twice": [
        Turn(text="First.", tools=[_SKY]),
        Turn(text="Then.", tools=[Call("pick_colour", {"of": "sea"}, "call_sea")]),
        Turn(text="Both are blue."),
    ],
    "both": [Turn(reasoning="Hm.", text="All at once.", tools=[_ADD, _SKY]), Turn(text="All done.")],
    "refused": [Turn(status=400)],
}
KINDS = ("whole", "streamed", "helped")
TOOLS: Any = [{"type": "function", "function": COLOUR}]
PLAIN = 'A line,\n"quoted" and \N{GRINNING FACE}.'
# What each comes to: the text, the thoughts, the tokens that were written.
ANSWERS = {
    "plain": (PLAIN, None, 5),
    "reasoning": ("Yes.", "Let me see.", 4),
    "tools": ("I add.\n\nThree.", None, 13),
    "silent": ("Three.", None, 11),
    "parallel": ("Both.\n\nThree, and no.", None, 24),
    "rounds": ("First.\n\nSecond.\n\nTen.", None, 23),
}
TALKS = {
    "client": [("You choose.", ["sky"]), ("Blue it is.", [])],
    "twice": [("First.", ["sky"]), ("Then.", ["sea"]), ("Both are blue.", [])],
    "both": [("All at once.", ["sky"]), ("All done.", [])],
}
LOST = "The connection to 127.0.0.1"


# --- JavaScript -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def driven() -> Stage:
    async def drive() -> Stage:
        async with stage() as each, stage(model="scripted:demo", token="a-token") as locked:
            await each.drive("openai", CHATSTREAM_LOCKED=locked.url)
            return each

    return asyncio.run(drive())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("situation", ANSWERS)
def test_javascript_gets_the_answer_of_a_whole_run(kind: str, situation: str, driven: Stage) -> None:
    text, thoughts, written = ANSWERS[situation]
    answer = driven.results[f"{kind} {situation}"]
    message = answer["message"]
    assert (message["role"], message["content"], message.get("tool_calls")) == ("assistant", text, None)
    if kind == "helped":
        assert answer["text"] == text  # it keeps the last piece alone of thoughts, which it does not know
    else:
        assert message.get("reasoning_content") == thoughts
    assert (answer["reason"], answer["usage"]["completion_tokens"]) == ("stop", written)
    assert answer["id"].startswith("chatcmpl-")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("situation", TALKS)
def test_javascript_answers_calls_of_its_own_tools(kind: str, situation: str, driven: Stage) -> None:
    answers = driven.results[f"{kind} {situation}"]["answers"]
    assert [
        (
            answer["message"]["content"],
            [json.loads(call["function"]["arguments"])["of"] for call in answer["message"].get("tool_calls") or ()],
        )
        for answer in answers
    ] == TALKS[situation]
    assert [answer["reason"] for answer in answers] == ["tool_calls"] * (len(answers) - 1) + ["stop"]


def test_the_provider_of_javascript_is_told_both_kinds_of_results(driven: Stage) -> None:
    last = driven.bodies("both")[1::2]
    assert len(last) == len(KINDS)
    for body in last:
        assert told(body) == [
            *("user: both: go", "assistant: All at once."),
            *('call_add add {"a": 1, "b": 2}', 'call_sky pick_colour {"of": "sky"}'),
            *("call_add: 3", "call_sky: sky is blue"),
        ]


@pytest.mark.parametrize("kind", KINDS)
def test_javascript_raises_what_its_status_stands_for_and_in_a_stream_an_api_error(kind: str, driven: Stage) -> None:
    refused, breaks = (driven.results[f"{kind} {situation}"] for situation in ("refused", "breaks"))
    is_whole = kind == "whole"
    assert (refused["error"], refused["status"]) == (("BadRequestError", 400) if is_whole else ("APIError", None))
    assert refused["isApi"] and refused["type"] == "invalid_request_error"
    assert (breaks["error"], breaks["status"]) == (("InternalServerError", 502) if is_whole else ("APIError", None))
    assert LOST in breaks["message"] and breaks["type"] == "server_error"
    assert not driven.fake.misuse
    # Nobody asked again by himself.
    asked = [text for body in driven.bodies("breaks") for text in told(body) if text == f"user: breaks: {kind}"]
    assert len(asked) == 1
    unknown = driven.results[f"{kind} unknown"]
    assert (unknown["error"], unknown["status"], unknown["code"]) == ("NotFoundError", 404, "model_not_found")


@pytest.mark.parametrize("kind", KINDS)
def test_javascript_sends_a_history_back_that_the_provider_gets_right(kind: str, driven: Stage) -> None:
    said = [message["content"] for message in driven.results[f"{kind} turns"]["messages"]]
    assert said == ["tools: one", "I add.\n\nThree.", "plain: two", PLAIN, "reasoning: three", "Yes."]
    third = [told(body) for body in driven.bodies("reasoning") if len(body["messages"]) > 1][KINDS.index(kind)]
    assert third == [
        *("user: tools: one", "assistant: I add.\n\nThree.", "user: plain: two", f"assistant: {PLAIN}"),
        "user: reasoning: three",
    ]


@pytest.mark.parametrize("how", ["break", "abort"])
def test_leaving_a_stream_in_javascript_stops_the_run(how: str, driven: Stage) -> None:
    assert driven.results[how]["outcome"] == "stopped"
    assert driven.results[how]["text"].startswith("Once")


@pytest.mark.parametrize("is_streamed", ["false", "true"])
def test_the_tool_runner_of_javascript_runs_its_tools(is_streamed: str, driven: Stage) -> None:
    ran = driven.results[f"runTools {is_streamed}"]
    assert (ran["seen"], ran["content"]) == (["sky", "sea"], "Both are blue.")
    assert ran["roles"] == ["user", "assistant", "tool", "assistant", "tool", "assistant"]


def test_javascript_lists_the_models_and_finds_one(driven: Stage) -> None:
    found = driven.results["models"]
    assert found["models"][0] == found["one"] == found["one"] | {"id": MODEL, "object": "model"}
    assert found["none"]["error"] == "NotFoundError"


def test_javascript_needs_the_token_of_a_server_that_has_one(driven: Stage) -> None:
    key = driven.results["key"]
    assert (key["wrong"]["error"], key["wrong"]["code"]) == ("AuthenticationError", "invalid_api_key")
    assert key["right"] > 0


# --- Python -----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def staged() -> AsyncIterator[Stage]:
    async with stage() as each:
        yield each


@pytest.fixture
async def client(staged: Stage) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{staged.url}/v1", api_key="anything") as client:
        yield client


def question(situation: str) -> Any:
    return [{"role": "user", "content": f"{situation}: go"}]


Ask = Callable[..., Any]


async def _whole(client: AsyncOpenAI, **body: Any) -> Any:
    answer = await client.chat.completions.create(model=MODEL, **body)
    return answer.choices[0], answer.usage


async def _streamed(client: AsyncOpenAI, **body: Any) -> Any:
    """Ask with the SDK's helper, which adds the chunks up, and look at the events that it makes of them."""
    async with client.chat.completions.stream(model=MODEL, **body, stream_options={"include_usage": True}) as stream:
        pieces = [event.delta async for event in stream if event.type == "content.delta"]
        answer = await stream.get_final_completion()
    assert "".join(pieces) == (answer.choices[0].message.content or "")
    return answer.choices[0], answer.usage


ASKED = {"whole": _whole, "streamed": _streamed}


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
async def test_python_gets_the_answer_of_a_whole_run(ask: Ask, client: AsyncOpenAI) -> None:
    for situation, (text, thoughts, written) in ANSWERS.items():
        choice, usage = await ask(client, messages=question(situation))
        assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", text, "stop")
        assert getattr(choice.message, "reasoning_content", None) == thoughts
        assert usage.completion_tokens == written and usage.prompt_tokens_details.cached_tokens > 0


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
@pytest.mark.parametrize("situation", TALKS)
async def test_python_answers_calls_of_its_own_tools(
    situation: str, ask: Ask, client: AsyncOpenAI, staged: Stage
) -> None:
    messages, said = question(situation), []
    for _ in TALKS[situation]:
        choice, _ = await ask(client, messages=messages, tools=TOOLS)
        calls = choice.message.tool_calls or []
        wanted = [json.loads(call.function.arguments)["of"] for call in calls]
        said.append((choice.message.content, wanted))
        messages = [*messages, choice.message.model_dump(exclude_none=True)]
        messages += [{"role": "tool", "tool_call_id": each.id, "content": "blue"} for each in calls]
        assert choice.finish_reason == ("tool_calls" if calls else "stop")
    assert said == TALKS[situation]
    lines = told(staged.bodies(situation)[-1])
    assert lines[-1] == {"client": "call_colour: blue", "twice": "call_sea: blue", "both": "call_sky: blue"}[situation]


async def test_python_raises_what_its_status_stands_for_and_in_a_stream_an_api_error(
    client: AsyncOpenAI, staged: Stage
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await _whole(client, messages=question("refused"))
    assert (refused.value.status_code, refused.value.type) == (400, "invalid_request_error")
    assert refused.value.request_id
    with pytest.raises(openai.InternalServerError) as broken:
        await _whole(client, messages=question("breaks"))
    assert LOST in broken.value.message
    for situation in ("refused", "breaks"):
        with pytest.raises(openai.APIError) as raised:
            await _streamed(client, messages=question(situation))
        assert type(raised.value) is openai.APIError
    assert len(staged.bodies("breaks")) == 2, "a request was sent again"
    for unknown in (_whole, _streamed):
        with pytest.raises(openai.NotFoundError, match="unknown model") as missing:
            await unknown(
                client.with_options(max_retries=0), messages=question("plain"), extra_body={"model": "local:x"}
            )
        assert (missing.value.code, missing.value.param) == ("model_not_found", "model")


async def test_python_sends_a_history_back_that_the_provider_gets_right(client: AsyncOpenAI, staged: Stage) -> None:
    messages: list[Any] = [{"role": "system", "content": "Be brief."}]
    for situation in ("tools", "plain", "reasoning"):
        messages += question(situation)
        choice, _ = await _streamed(client, messages=messages)
        messages.append(choice.message)
    (last,) = staged.bodies("reasoning")
    assert last["messages"][0] == {"role": "system", "content": "Be brief."}
    assert told(last) == [
        *("user: tools: go", "assistant: I add.\n\nThree.", "user: plain: go", f"assistant: {PLAIN}"),
        "user: reasoning: go",
    ]


async def test_closing_a_stream_in_python_stops_the_run(client: AsyncOpenAI, staged: Stage) -> None:
    stream = await client.chat.completions.create(model=MODEL, messages=question("slow"), stream=True)
    async for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    await stream.close()
    await until(lambda: staged.fake.requests[0].left)
    await until(lambda: not staged.server.runs._live)


async def test_python_lists_the_models_and_finds_one(client: AsyncOpenAI) -> None:
    listed = [each async for each in client.models.list()]
    assert (listed[0].id, listed[0].object) == (MODEL, "model")
    assert (await client.models.retrieve(MODEL)).id == MODEL
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("none")


async def test_python_needs_the_token_of_a_server_that_has_one() -> None:
    async with (
        stage(model="scripted:demo", token="a-token") as locked,
        AsyncOpenAI(base_url=f"{locked.url}/v1", api_key="wrong") as client,
    ):
        with pytest.raises(openai.AuthenticationError) as raised:
            await client.models.list()
        assert raised.value.code == "invalid_api_key"
        assert (await client.with_options(api_key="a-token").models.list()).data


# --- others -----------------------------------------------------------------------------------------------------------


async def test_open_webui_finds_text_thoughts_calls_and_errors_where_it_looks(staged: Stage) -> None:
    """Read lines as backend/open_webui/utils/middleware.py does, and ask as routers/openai.py does."""

    async def ask(situation: str) -> dict[str, Any]:
        part = {"type": "text", "text": f"{situation}: go", "cache_control": {"type": "ephemeral"}}
        body: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": [part]}], "stream": True}
        body |= {"stream_options": {"include_usage": True}, "tools": TOOLS, "metadata": {"chat_id": "c"}, "user": "u"}
        body |= {"reasoning": {"effort": "low"}, "features": {}, "variables": {}}
        seen: dict[str, Any] = {"content": "", "reasoning": "", "calls": [], "error": None, "usage": {}}
        async with session.post(f"{staged.url}/v1/chat/completions", json=body) as response:
            async for line in response.content:
                if not line.startswith(b"data:") or line.strip() == b"data: [DONE]":
                    continue
                data = json.loads(line[5:])
                seen["usage"] = data.get("usage", {}) or seen["usage"]
                if not (choices := data.get("choices", [])):
                    seen["error"] = data.get("error", {}) or seen["error"]
                    continue
                delta = choices[0].get("delta", {})
                for call in delta.get("tool_calls") or ():
                    if call["index"] == len(seen["calls"]):
                        seen["calls"].append(call)
                        continue
                    function = seen["calls"][call["index"]]["function"]
                    function["name"] += call["function"].get("name", "")
                    function["arguments"] += call["function"].get("arguments", "")
                seen["content"] += delta.get("content") or ""
                seen["reasoning"] += delta.get("reasoning_content") or ""
        return seen

    async with aiohttp.ClientSession() as session:
        both = await ask("both")
        assert (both["content"], both["reasoning"]) == ("All at once.", "Hm.")
        (call,) = both["calls"]
        assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == ("pick_colour", {"of": "sky"})
        assert both["usage"]["total_tokens"] > 0
        broken = await ask("breaks")
        assert broken["content"].startswith("Once") and LOST in broken["error"]["message"]


async def test_what_langchain_and_litellm_send_is_taken(client: AsyncOpenAI) -> None:
    langchain = {"n": 1, "temperature": None, "stop": None, "logprobs": None, "top_p": 1, "presence_penalty": 0}
    litellm = {"user": "me", "metadata": {}, "parallel_tool_calls": True, "seed": None, "drop_params": True}
    for more in (langchain, litellm):
        choice, _ = await _whole(client, messages=question("plain"), extra_body=more)
        assert choice.message.content == PLAIN
