"""What a run changes in what it sends when a provider refuses it: signatures (R23), and more than it can read (R25)."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from chatstream import Message, Settings, Toolbox, events, tool, user
from chatstream.agent import Loop
from chatstream.events import Outcome
from chatstream.messages import Reasoning, Text, ToolCall, ToolResult
from chatstream.providers import ModelRequest, Provider, anthropic
from chatstream.testing import Call, FakeProvider, Turn
from chatstream.testing.provider import Recorded
from chatstream.wires.native import Encoder
from tests.runs import SDKS, SETTINGS, add, follow, of

SIGNATURE = "c2lnbmVk"
REFUSALS = {
    "anthropic": "messages.1.content.0: Invalid `signature` in `thinking` block",
    "openai": "The encrypted content for item rs_1 could not be verified.",
}
OVERFLOW = "prompt is too long: {used} tokens > {limit} maximum"
TRIM = replace(SETTINGS, trim=True, max_output_tokens=100)


def provider_of(sdk: str, fake: FakeProvider) -> Provider:
    provider: Provider = getattr(fake, sdk)()
    return provider


def ending(said: list[events.Event]) -> Any:
    return said[-1]


# --- options ----------------------------------------------------------------------------------------------------------

SUMMARY = "Your organization must be verified to generate reasoning summaries."
# Who is asked and how, the refusal, what is then left out, and whether the reader misses it.
OPTIONS: dict[str, tuple[str, str, Settings, str, str, bool]] = {
    "summaries of reasoning": ("openai", "gpt-5", SETTINGS, SUMMARY, '"summary": "auto"', False),
    "adaptive thinking": (
        "anthropic",
        "claude-x",
        SETTINGS,
        "thinking: adaptive thinking is not supported on this model",
        '"thinking"',
        False,
    ),
    "a mark for the cache": (
        "anthropic",
        "deepseek-x",
        SETTINGS,
        "cache_control: Extra inputs are not permitted",
        '"cache_control"',
        False,
    ),
    "a wish for the usage": (
        "openai_chat",
        "x",
        SETTINGS,
        "Unknown parameter: 'stream_options'.",
        '"stream_options"',
        False,
    ),
    "a temperature": (
        "openai_chat",
        "gpt-4",
        replace(SETTINGS, temperature=0.5),
        "Unsupported value: 'temperature' does not support 0.5 with this model.",
        '"temperature"',
        True,
    ),
}


@pytest.mark.parametrize(("sdk", "model", "settings", "words", "part", "is_missed"), OPTIONS.values(), ids=OPTIONS)
async def test_an_option_that_a_model_refuses_is_left_out(
    sdk: str, model: str, settings: Settings, words: str, part: str, is_missed: bool
) -> None:
    def turn(request: Recorded) -> Turn:
        if part in json.dumps(request.body):
            return Turn(status=400, error=words)
        return Turn(tools=[Call("add", {"a": 1, "b": 2})]) if len(fake.requests) == 2 else Turn(text="Three.")

    async with FakeProvider(turn) as fake:
        provider = provider_of(sdk, fake)
        provider.default_model = model
        said = await follow(provider, [user("1 + 2?")], [add], settings)
    assert ending(said).outcome is Outcome.COMPLETED
    assert len(fake.requests) == 3, "once for all turns of the run"
    assert [bool(notice.message) for notice in of(said, events.Notice)] == [True] * is_missed


# --- signatures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sdk", REFUSALS)
async def test_signatures_that_are_refused_are_left_out_and_the_turn_is_tried_again(sdk: str) -> None:
    def turn(request: Recorded) -> Turn:
        if len(fake.requests) == 1:
            return Turn(reasoning="Let me see.", signature="b2xk", text="Yes")
        if "b2xk" in json.dumps(request.body):
            return Turn(status=400, error=REFUSALS[sdk])
        if len(fake.requests) == 3:
            return Turn(reasoning="Hm.", signature=SIGNATURE, tools=[Call("add", {"a": 1, "b": 2}, "x")])
        return Turn(text="Three.")

    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async with FakeProvider(turn) as fake:
        first = await follow(provider_of(sdk, fake), [user("Hi")])
        history = [user("Hi"), *ending(first).messages, user("1 + 2?")]
        settings = replace(SETTINGS, retry=replace(SETTINGS.retry, sleep=sleep))
        said = await follow(provider_of(sdk, fake), history, [add], settings)
    assert ending(said).outcome is Outcome.COMPLETED
    (notice,) = of(said, events.Notice)
    assert "reasoning" in notice.message
    assert not any(slept), "it is no retry, and waits for nothing"
    _, *bodies = [json.dumps(request.body) for request in fake.requests]
    assert ["b2xk" in body for body in bodies] == [True, False, False]
    assert SIGNATURE not in bodies[2], "what the run adds goes without, too"
    assert "Yes" in bodies[1] and fake.requests[3].results == ["3"], "all the rest is sent"
    reasonings = [part for message in ending(said).messages for part in message.parts if isinstance(part, Reasoning)]
    assert [part.signature for part in reasonings] == [SIGNATURE], "the history keeps what was left out"


@pytest.mark.parametrize("sdk", REFUSALS)
async def test_a_refusal_that_leaving_out_does_not_mend_ends_the_run(sdk: str) -> None:
    async with FakeProvider([Turn(status=400, error=REFUSALS[sdk])] * 3) as fake:
        said = await follow(provider_of(sdk, fake), [user("Hi")])
    assert len(fake.requests) == 2, "it is left out once"
    assert (ending(said).type, ending(said).code, ending(said).retryable) == ("run_failed", "bad_request", False)


@pytest.mark.parametrize("is_thought", [True, False])
def test_a_thinking_budget_is_not_asked_for_behind_calls_without_thinking(is_thought: bool) -> None:
    origin = "anthropic:claude-sonnet-4-5"
    thought = [Reasoning("Hm.", "signed", origin=origin)] if is_thought else []
    answer = Message("assistant", (*thought, ToolCall("x", "add", {}, "{}")))
    history = [user("Hi"), answer, Message("tool", (ToolResult("x", "add", "3"),))]
    request = ModelRequest("claude-sonnet-4-5", history, effort="high")
    assert ("thinking" in anthropic.build_request(request, "anthropic")) is is_thought


# --- too long ---------------------------------------------------------------------------------------------------------


def conversation(turns: int, length: int = 100) -> list[Message]:
    """Return a conversation with a tool call in every turn, and a last question."""
    history: list[Message] = []
    for number in range(turns):
        call = ToolCall(f"call_{number}", "add", {"a": 1}, '{"a": 1}')
        result = ToolResult(call.id, "add", "2")
        history += [user(f"Question {number}? {'x' * length}"), Message("assistant", (call,))]
        history += [Message("tool", (result,)), Message("assistant", (Text(f"Answer {number}"),))]
    return [*history, user("The last question?")]


class Window:
    """A model that reads so many tokens of four characters, and says so as Anthropic does, or says nothing of sizes."""

    def __init__(self, limit: int, words: str = OVERFLOW) -> None:
        self.limit = limit
        self.words = words

    def __call__(self, request: Recorded) -> Turn:
        used = len(json.dumps(request.body.get("messages", request.body.get("input")))) // 4
        if used > self.limit:
            return Turn(status=400, error=self.words.format(used=used, limit=self.limit))
        return Turn(text="Here.")


async def ask(sdk: str, history: list[Message], window: Window, settings: Settings = TRIM) -> Any:
    async with FakeProvider(window) as fake:
        said = await follow(provider_of(sdk, fake), history, settings=settings)
    return said, fake.requests


@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize("words", [OVERFLOW, "Your input exceeds the context window of this model."])
async def test_the_oldest_turns_are_left_out_until_the_rest_fits(sdk: str, words: str) -> None:
    history = conversation(40)
    said, requests = await ask(sdk, history, Window(1000, words))
    assert ending(said).outcome is Outcome.COMPLETED
    notices = of(said, events.Notice)
    assert len(notices) == len(requests) - 1 <= 5
    assert {notice.code for notice in notices} == {"context_overflow"}
    assert "messages are left out" in notices[-1].message
    sent = json.dumps(requests[-1].body)
    assert "The last question?" in sent and "Question 39?" in sent and "Question 0?" not in sent
    assert sent.count("Question") == sent.count("Answer") == len(requests[-1].results)
    if words is OVERFLOW:
        assert len(requests) == 2, "with the sizes known it is done at once"
        used = len(json.dumps(requests[-1].body.get("messages", requests[-1].body.get("input")))) // 4
        assert 400 < used <= 900, "there is room for the answer, and no more is left out than it takes"
    assert [message.text for message in ending(said).messages] == ["Here."]


async def test_what_was_left_out_stays_out_in_the_turns_that_follow() -> None:
    @tool
    def look() -> str:
        """Look."""
        return "seen"

    window = Window(1000)

    def turn(request: Recorded) -> Turn:
        answer = window(request)
        return Turn(tools=[Call("look", {}, "x")]) if answer.status == 200 and len(fake.requests) == 2 else answer

    async with FakeProvider(turn) as fake:
        said = await follow(fake.anthropic(), conversation(40), [look], TRIM)
    assert ending(said).outcome is Outcome.COMPLETED
    assert len(fake.requests) == 3 and len(of(said, events.Notice)) == 1
    assert fake.requests[2].results[-1] == "seen"


async def test_the_history_keeps_what_the_model_is_not_sent() -> None:
    history = conversation(40)

    async def nowhere(batch: object) -> None:
        pass

    async with FakeProvider(Window(1000)) as fake:
        loop = Loop(fake.anthropic(), "m", history, Toolbox(), TRIM, nowhere)
        await loop.run()
    assert loop.history == [*history, *loop.added] and [message.text for message in loop.added] == ["Here."]


async def test_without_trim_the_error_has_the_sizes_and_says_what_to_do() -> None:
    said, requests = await ask("anthropic", conversation(40), Window(1000), SETTINGS)
    failed = ending(said)
    assert (failed.code, failed.retryable, len(requests)) == ("context_overflow", False, 1)
    assert failed.details["limit"] == 1000 < failed.details["used"]
    assert "--trim" in failed.message and "1000" in failed.message
    assert b'"details":{"used":' in Encoder().encode(1, failed), "the wire carries the sizes"
    assert events.event_from_json(json.loads(json.dumps(events.event_to_json(failed)))) == failed, "and so does the log"


async def test_a_question_that_is_too_long_alone_is_never_left_out() -> None:
    said, requests = await ask("openai_chat", [*conversation(2), user("y" * 9000)], Window(1000))
    failed = ending(said)
    assert failed.code == "context_overflow" and "shorten the question" in failed.message
    assert failed.details["limit"] == 1000
    assert "y" * 9000 in json.dumps(requests[-1].body) and len(requests) == 2


async def test_an_answer_that_has_no_room_is_no_reason_to_leave_out_the_question() -> None:
    settings = replace(TRIM, max_output_tokens=10**6)
    said, requests = await ask(
        "anthropic", conversation(40), Window(10, OVERFLOW.format(used=400, limit=1000)), settings
    )
    assert (ending(said).code, len(requests)) == ("context_overflow", 1)
