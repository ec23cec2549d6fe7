"""The agent loop over both real SDKs and over scripts, every run followed by the grammar."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from chatstream import Message, Retry, Settings, Tool, Toolbox, agent, errors, events, run, tool, user
from chatstream.deltas import FinishReason
from chatstream.events import Event, Grammar, Outcome
from chatstream.messages import NOT_RUN, Reasoning, Text, ToolCall, ToolResult
from chatstream.providers import Provider
from chatstream.providers.scripted import Scripted
from chatstream.testing import Call, FakeProvider, Turn, messages_stream

SDKS = ["anthropic", "openai_chat"]


async def no_sleep(seconds: float) -> None:
    await asyncio.sleep(0)


SETTINGS = Settings(retry=Retry(sleep=no_sleep, jitter=lambda: 1.0))


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool
def fail(why: str) -> str:
    """Fail."""
    raise errors.ToolError(why)


async def follow(
    provider: Provider, messages: Sequence[Message], tools: Iterable[Tool] = (), settings: Settings = SETTINGS
) -> list[Event]:
    """Return the events of a run that obeys the grammar to its end."""
    grammar, said = Grammar(), []
    async with asyncio.timeout(60), provider:
        async for event in run(provider, messages, tools, settings):
            grammar.check(event)
            said.append(event)
    assert grammar.state == "after"
    return said


async def play(sdk: str, turns: Sequence[Turn], **options: Any) -> tuple[list[Event], list[dict[str, Any]]]:
    """Return the events of a run against these turns, and the bodies that were asked."""
    async with FakeProvider(turns) as fake:
        said = await follow(getattr(fake, sdk)(), [user("Hi")], **options)
    return said, [request.body for request in fake.requests]


def of(said: Iterable[Event], kind: type[Any]) -> list[Any]:
    return [event for event in said if isinstance(event, kind)]


LOOP = [
    Turn(
        reasoning="Two sums.",
        signature="sig==",
        tools=[Call("add", {"a": 1, "b": 2}, "x"), Call("fail", {"why": "no"}, "y")],
    ),
    Turn(text="Three, and no."),
]


async def test_what_anthropic_is_sent_back_is_what_its_api_documents() -> None:
    said, (first, second) = await play("anthropic", LOOP, tools=[add, fail])
    assert first["cache_control"] == {"type": "ephemeral"}
    assert [each["name"] for each in first["tools"]] == ["add", "fail"]
    assert second["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Two sums.", "signature": "sig=="},
                {"type": "tool_use", "id": "x", "name": "add", "input": {"a": 1, "b": 2}},
                {"type": "tool_use", "id": "y", "name": "fail", "input": {"why": "no"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "x", "content": "3"},
                {"type": "tool_result", "tool_use_id": "y", "content": "no", "is_error": True},
            ],
        },
    ]
    assert said[-1].outcome is Outcome.COMPLETED  # type: ignore[union-attr]


async def test_what_openai_is_sent_back_is_what_its_api_documents() -> None:
    _, (first, second) = await play("openai_chat", LOOP, tools=[add, fail])
    assert first["stream_options"] == {"include_usage": True}
    assert [each["function"]["name"] for each in first["tools"]] == ["add", "fail"]
    functions = [{"name": "add", "arguments": '{"a": 1, "b": 2}'}, {"name": "fail", "arguments": '{"why": "no"}'}]
    assert second["messages"] == [
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": call_id, "type": "function", "function": function}
                for call_id, function in zip("xy", functions, strict=True)
            ],
            "reasoning_content": "Two sums.",
        },
        {"role": "tool", "tool_call_id": "x", "content": "3"},
        {"role": "tool", "tool_call_id": "y", "content": "no"},
    ]


@pytest.mark.parametrize("sdk", SDKS)
async def test_the_messages_of_a_run_make_the_next_question_valid(sdk: str) -> None:
    said, _ = await play(sdk, LOOP, tools=[add, fail])
    added = said[-1].messages  # type: ignore[union-attr]
    assert [message.role for message in added] == ["assistant", "tool", "assistant"]
    async with FakeProvider([Turn(text="Bye")]) as fake:
        await follow(getattr(fake, sdk)(), [user("Hi"), *added, user("Bye")])
    roles = [message["role"] for message in fake.requests[0].body["messages"]]
    tool_role = "user" if sdk == "anthropic" else "tool"
    assert roles == ["user", "assistant", *[tool_role] * (1 if sdk == "anthropic" else 2), "assistant", "user"]


@pytest.mark.parametrize("sdk", SDKS)
async def test_reasoning_of_one_model_is_not_sent_to_another(sdk: str) -> None:
    thought = Message("assistant", (Reasoning("Hm", "sig", origin="anthropic:other"), Text("Yes")))
    async with FakeProvider([Turn(text="Ok")]) as fake:
        await follow(getattr(fake, sdk)(), [user("Hi"), thought, user("And?")])
    assert "sig" not in str(fake.requests[0].body["messages"])


@pytest.mark.parametrize("sdk", SDKS)
async def test_arguments_that_were_cut_end_in_a_result_that_the_model_can_act_on(sdk: str) -> None:
    whole = '{"a": 1, "b": 2}'
    for at in range(len(whole)):
        turns = [Turn(tools=[Call("add", whole[:at], "x")]), Turn(text="Sorry.")]
        said, bodies = await play(sdk, turns, tools=[add])
        (result,) = of(said, events.ToolFinished)
        assert result.is_error and "add" in result.content
        assert len(bodies) == 2 and said[-1].outcome is Outcome.COMPLETED  # type: ignore[union-attr]


@pytest.mark.parametrize("sdk", SDKS)
async def test_an_unknown_tool_is_an_error_that_lists_the_known(sdk: str) -> None:
    said, bodies = await play(sdk, [Turn(tools=[Call("ad", {})]), Turn(text="Sorry.")], tools=[add, fail])
    (result,) = of(said, events.ToolFinished)
    assert result.is_error and "add" in result.content and "fail" in result.content
    assert len(bodies) == 2


async def test_calls_of_one_turn_run_at_once_and_their_results_go_back_in_order() -> None:
    both = asyncio.Barrier(2)
    order: list[str] = []

    @tool
    async def wait(name: str) -> str:
        """Wait until both are here; the first comes back last."""
        await both.wait()
        for _ in range(20 if name == "first" else 0):
            await asyncio.sleep(0)
        order.append(name)
        return name

    turns = [Turn(tools=[Call("wait", {"name": "first"}, "x"), Call("wait", {"name": "second"}, "y")]), Turn(text="Ok")]
    async with asyncio.timeout(30):
        said, (_, second) = await play("openai_chat", turns, tools=[wait])
    assert order == ["second", "first"] == [event.content for event in of(said, events.ToolFinished)]
    assert [message["content"] for message in second["messages"][2:]] == ["first", "second"]


def waiting_tool(read_only: bool, started: asyncio.Event) -> Tool:
    @tool(read_only=read_only)
    async def look(at: str) -> str:
        """Look at something."""
        started.set()
        return at

    return look


async def test_a_tool_that_only_reads_starts_while_the_model_still_speaks() -> None:
    started, order = asyncio.Event(), []
    script = [{"tools": [{"name": "look", "arguments": {"at": "x"}}, {"name": "add", "arguments": {"a": 1, "b": 2}}]}]
    provider = Scripted([{**script[0], "delay": 0.001}, {"text": "Ok", "delay": 0}])
    for event in await follow(provider, [user("Hi")], [waiting_tool(True, started), add]):
        order.append(event.type)
    assert order.index("tool_started") < len(order) - 1 - order[::-1].index("arguments_delta")


async def test_a_call_that_needs_an_approval_is_not_asked_for_in_a_turn_that_was_cut() -> None:
    @tool(read_only=True, approval="always")
    def look(at: str) -> str:
        """Look."""
        return at

    turn = Turn(tools=[Call("look", {"at": "x"})], finish="max_tokens")
    said, _ = await play("anthropic", [turn], tools=[look])
    assert said[-1].outcome is Outcome.COMPLETED and not of(said, events.ApprovalRequested)  # type: ignore[union-attr]


async def test_a_tool_that_runs_when_the_answer_breaks_off_is_given_up() -> None:
    @tool(read_only=True)
    async def hang(at: str) -> str:
        """Hang."""
        await asyncio.Event().wait()
        return at

    whole = messages_stream(Turn(tools=[Call("hang", {"at": "x"}, "x")]))
    cut = whole[: whole.index(b"event: message_delta")]
    said, _ = await play("anthropic", [Turn(raw=cut)], tools=[hang])
    (given_up,) = of(said, events.ToolFinished)
    assert given_up.is_error and given_up.content == agent.GIVEN_UP
    failed = said[-1]
    assert failed.code == "network"  # type: ignore[union-attr]
    assert [message.role for message in failed.messages] == ["assistant", "tool"]  # type: ignore[union-attr]


async def test_a_tool_that_is_given_up_is_told_whole_to_a_slow_viewer() -> None:
    said: list[Event] = []

    async def emit(batch: Sequence[Event]) -> None:
        for _ in range(20 if of(batch, events.ToolStarted) else 1):
            await asyncio.sleep(0)
        said.extend(batch)

    @tool(read_only=True)
    async def hang(at: str) -> str:
        """Hang."""
        await asyncio.Event().wait()
        return at

    whole = messages_stream(Turn(tools=[Call("hang", {"at": "x"}, "x")]))
    async with FakeProvider([Turn(raw=whole[: whole.index(b"event: message_delta")])]) as fake:
        provider = fake.anthropic()
        await agent.execute(provider, "claude-x", [user("Hi")], Toolbox([hang]), SETTINGS, emit)
    grammar = Grammar()
    for event in said:
        grammar.check(event)
    assert grammar.state == "after" and len(of(said, events.ToolStarted)) == len(of(said, events.ToolFinished)) == 1


async def test_a_turn_that_was_cut_runs_no_tools() -> None:
    started = asyncio.Event()
    for sdk, finish in [("anthropic", "max_tokens"), ("openai_chat", "length"), ("openai_chat", "content_filter")]:
        turn = Turn(tools=[Call("look", {"at": "x"})], finish=finish)
        said, bodies = await play(sdk, [turn], tools=[waiting_tool(False, started)])
        assert len(bodies) == 1 and not of(said, events.ToolStarted)
        assert said[-1].outcome is Outcome.COMPLETED  # type: ignore[union-attr]
    assert not started.is_set()


FINISHES = [
    ("anthropic", "end_turn", FinishReason.STOP),
    ("anthropic", "stop_sequence", FinishReason.STOP),
    ("anthropic", "max_tokens", FinishReason.LENGTH),
    ("anthropic", "refusal", FinishReason.REFUSAL),
    ("anthropic", "model_context_window_exceeded", FinishReason.CONTEXT_OVERFLOW),
    ("anthropic", "something_new", FinishReason.OTHER),
    ("openai_chat", "stop", FinishReason.STOP),
    ("openai_chat", "length", FinishReason.LENGTH),
    ("openai_chat", "content_filter", FinishReason.CONTENT_FILTER),
    ("openai_chat", "something_new", FinishReason.OTHER),
]


@pytest.mark.parametrize(("sdk", "word", "reason"), FINISHES)
async def test_every_reason_to_stop_is_told(sdk: str, word: str, reason: FinishReason) -> None:
    said, _ = await play(sdk, [Turn(text="So", finish=word)])
    assert said[-1].finish_reason is reason  # type: ignore[union-attr]


async def test_a_pause_of_the_provider_is_continued_with_the_answer_as_it_was() -> None:
    stream = (
        b'data: {"type":"content_block_start","index":0,"content_block":{"type":"server_tool_use","id":"s","input":{}}}'
        b'\n\ndata: {"type":"content_block_stop","index":0}\n\n'
        b'data: {"type":"message_delta","delta":{"stop_reason":"pause_turn"}}\n\ndata: {"type":"message_stop"}\n\n'
    )
    said, (_, second) = await play("anthropic", [Turn(raw=stream), Turn(text="Found.")])
    block = {"type": "server_tool_use", "id": "s", "input": {}}
    assert second["messages"][1:] == [{"role": "assistant", "content": [block]}]
    assert said[-1].finish_reason is FinishReason.STOP  # type: ignore[union-attr]


@pytest.mark.parametrize("sdk", SDKS)
async def test_the_limit_of_turns_is_an_outcome(sdk: str) -> None:
    turns = [Turn(tools=[Call("add", {"a": 1, "b": 2})])] * 5
    said, bodies = await play(sdk, turns, tools=[add], settings=replace(SETTINGS, max_turns=3))
    assert len(bodies) == 3 and said[-1].outcome is Outcome.LIMIT  # type: ignore[union-attr]
    assert len(of(said, events.ToolFinished)) == 3


# --- failures ---------------------------------------------------------------------------------------------------------

BEFORE_ANYTHING = [
    Turn(status=429, retry_after=2),
    Turn(status=529),
    Turn(status=500),
    Turn(text="Hello", drop=0),
    Turn(raw=b'data: {"type":"error","error":{"type":"overloaded_error"}}\n\n'),
]


@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize("failure", BEFORE_ANYTHING, ids=range(len(BEFORE_ANYTHING)))
async def test_what_fails_before_anything_is_seen_is_asked_again_and_told(sdk: str, failure: Turn) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    settings = Settings(retry=Retry(sleep=sleep, jitter=lambda: 1.0))
    said, bodies = await play(sdk, [failure, failure, Turn(text="Hello")], settings=settings)
    assert bodies[0] == bodies[1] == bodies[2]
    assert waits == ([2.0, 2.0] if failure.retry_after else [0.5, 1.0])
    assert len(of(said, events.Notice)) == 2
    assert "".join(event.text for event in of(said, events.TextDelta)) == "Hello"
    assert of(said, events.TurnStarted) == [events.TurnStarted(0)]


@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize("at", [700, 900, 1500])
async def test_what_fails_after_text_was_seen_ends_the_run_and_is_not_asked_again(sdk: str, at: int) -> None:
    said, bodies = await play(sdk, [Turn(text="0123456789" * 20, drop=at), Turn(text="Again")])
    failed = said[-1]
    assert isinstance(failed, events.RunFailed) and failed.retryable and failed.code == "network"
    assert len(bodies) == 1
    shown = "".join(event.text for event in of(said, events.TextDelta))
    assert shown and ("0123456789" * 20).startswith(shown)
    assert failed.messages[0].text == shown


async def test_text_that_came_in_one_read_with_its_error_is_kept() -> None:
    whole = messages_stream(Turn(text="Once upon"))
    overloaded = b'data: {"type":"error","error":{"type":"overloaded_error"}}\n\n'
    stream = whole[: whole.index(b"event: content_block_stop")] + overloaded
    said, bodies = await play("anthropic", [Turn(raw=stream), Turn(text="Again")])
    assert "".join(event.text for event in of(said, events.TextDelta)) == "Once upon"
    assert said[-1].code == "overloaded" and len(bodies) == 1  # type: ignore[union-attr]


@pytest.mark.parametrize("sdk", SDKS)
async def test_a_run_that_goes_on_failing_fails_after_its_last_try(sdk: str) -> None:
    said, bodies = await play(sdk, [Turn(status=503)] * 9)
    assert len(bodies) == 4 and said[-1].code == "overloaded"  # type: ignore[union-attr]


@pytest.mark.parametrize("turn", [Turn(status=401), Turn(status=429, retry_after=3600)], ids=["a key", "an hour"])
async def test_what_no_wait_can_mend_is_not_asked_again(turn: Turn) -> None:
    said, bodies = await play("anthropic", [turn, Turn(text="Hello")])
    assert len(bodies) == 1 and isinstance(said[-1], events.RunFailed)


async def test_jitter_spreads_the_waits_and_none_is_longer_than_the_longest() -> None:
    error = errors.Overloaded("busy")
    for jitter in (0.0, 0.5, 1.0):
        retry = Retry(tries=9, jitter=lambda jitter=jitter: jitter)  # type: ignore[misc]
        waits = [retry.wait(attempt, error) for attempt in range(9)]
        assert waits == [min(0.5 * 2**n, 8.0) * (0.5 + jitter / 2) for n in range(9)]


async def test_a_bug_inside_fails_the_run_without_telling_how() -> None:
    class Broken(Scripted):
        async def stream(self, request: Any) -> Any:
            raise RuntimeError("secret detail")
            yield

    failed = (await follow(Broken(), [user("Hi")]))[-1]
    assert isinstance(failed, events.RunFailed) and failed.code == "internal"
    assert "secret" not in failed.message


@pytest.mark.parametrize("name", ["", "look up!"])
async def test_a_name_that_no_tool_can_have_is_answered_and_goes_back_as_one_that_it_can(name: str) -> None:
    for sdk in SDKS:
        said, bodies = await play(sdk, [Turn(tools=[Call(name, {})]), Turn(text="Sorry.")], tools=[add])
        assert len(bodies) == 2 and of(said, events.ToolFinished)[0].is_error
        sent = str(bodies[1]["messages"])
        assert ("unknown" if not name else "look_up_") in sent and "there is no tool" in sent


async def test_an_overload_after_a_block_that_began_and_said_nothing_is_tried_again() -> None:
    stream = (
        b'data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":""}}\n\n'
        b'data: {"type":"error","error":{"type":"overloaded_error"}}\n\n'
    )
    said, bodies = await play("anthropic", [Turn(raw=stream), Turn(text="Hello")])
    assert len(bodies) == 2 and said[-1].outcome is Outcome.COMPLETED  # type: ignore[union-attr]


async def test_a_question_may_be_a_text_and_nothing_else_that_is_no_message() -> None:
    async with FakeProvider([Turn(text="Hello")]) as fake:
        assert [event.type async for event in run(fake.anthropic(), "Hi")][-1] == "run_finished"
    with pytest.raises(TypeError, match="Message"):
        await anext(run(Scripted(), [{"role": "user", "content": "Hi"}]))  # type: ignore[list-item]


async def test_of_more_progress_than_a_slow_viewer_takes_the_latest_is_kept() -> None:
    @tool
    async def count(progress: Callable[[str], None]) -> str:
        """Count."""
        for number in range(5000):
            progress(str(number))
        return "done"

    provider = Scripted([{"tools": [{"name": "count"}], "delay": 0}, {"text": "Ok", "delay": 0}])
    reports = [event.content for event in of(await follow(provider, [user("Hi")], [count]), events.ToolProgress)]
    assert reports[-1] == "4999" and len(reports) <= 102


# --- ending it from outside -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sdk", SDKS)
async def test_leaving_a_run_closes_the_providers_socket(sdk: str) -> None:
    async with FakeProvider([Turn(text="Hello" * 99, stall=900)]) as fake:
        provider = getattr(fake, sdk)()
        async with asyncio.timeout(30), aclosing(run(provider, [user("Hi")])) as said:  # type: ignore[type-var]
            async for event in said:
                if isinstance(event, events.TextDelta):
                    break
        async with asyncio.timeout(30):
            await fake.requests[0].ended.wait()
        assert fake.requests[0].left
        await provider.aclose()


async def test_leaving_a_run_cancels_its_tools_and_starts_no_other() -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    @tool
    async def hang() -> str:
        """Hang."""
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return ""

    provider = Scripted([{"tools": [{"name": "hang"}], "delay": 0}])
    async with aclosing(run(provider, [user("Hi")], [hang])) as said:  # type: ignore[type-var]
        async for event in said:
            if isinstance(event, events.ToolStarted):
                break
        await began.wait()
    assert ended.is_set()


async def test_what_the_taker_of_events_raises_ends_the_run_and_is_raised() -> None:
    async def emit(batch: Sequence[Event]) -> None:
        if of(batch, events.TextDelta):
            raise ConnectionResetError("gone")

    provider = Scripted([{"text": "Hello", "delay": 0}])
    with pytest.raises(ConnectionResetError):
        await agent.execute(provider, provider.default_model, [user("Hi")], Toolbox([]), SETTINGS, emit)


# --- tools ------------------------------------------------------------------------------------------------------------


async def test_progress_comes_between_start_and_end_in_its_order() -> None:
    @tool
    def count(progress: Callable[[str], None]) -> str:
        """Count."""
        for number in range(5):
            progress(str(number))
        return "done"

    provider = Scripted([{"tools": [{"name": "count"}], "delay": 0}, {"text": "Ok", "delay": 0}])
    said = await follow(provider, [user("Hi")], [count])
    assert [event.content for event in of(said, events.ToolProgress)] == list("01234")


async def test_a_call_that_needs_an_approval_pauses_the_run_before_it_is_run() -> None:
    ran: list[int] = []

    @tool(approval="always")
    def delete(number: int) -> str:
        """Delete something."""
        ran.append(number)
        return "gone"

    calls = [{"name": "delete", "arguments": {"number": 1}}, {"name": "add", "arguments": {"a": 1, "b": 2}}]
    said = await follow(Scripted([{"tools": calls, "delay": 0}]), [user("Hi")], [delete, add])
    assert said[-1].outcome is Outcome.PAUSED  # type: ignore[union-attr]
    (asked,) = of(said, events.ApprovalRequested)
    assert (asked.name, asked.input) == ("delete", {"number": 1}) and ran == []
    assert [event.name for event in of(said, events.ToolFinished)] == ["add"]
    history = said[-1].messages  # type: ignore[union-attr]
    async with FakeProvider([Turn(text="Ok")]) as fake:
        await follow(fake.anthropic(), [user("Hi"), *history, user("Never mind")])
    results = fake.requests[0].body["messages"][2]["content"][:2]
    assert [result["content"] for result in results] == [NOT_RUN, "3"]


async def test_settings_reach_the_request() -> None:
    settings = replace(SETTINGS, system="Be brief.", max_output_tokens=4000, temperature=0.5, effort="high")
    _, (anthropic,) = await play("anthropic", [Turn(text="Ok")], settings=settings)
    assert (anthropic["system"], anthropic["max_tokens"]) == ("Be brief.", 4000)
    assert anthropic["output_config"] == {"effort": "high"} and "temperature" not in anthropic
    _, (openai,) = await play("openai_chat", [Turn(text="Ok")], settings=settings)
    assert openai["messages"][0] == {"role": "system", "content": "Be brief."}
    assert openai["reasoning_effort"] == "high" and "temperature" not in openai


async def test_a_result_for_a_call_that_the_caller_answered_goes_along() -> None:
    history = [
        user("Hi"),
        Message("assistant", (ToolCall("x", "ask", {}, "{}"),)),
        Message("tool", (ToolResult("x", "ask", "blue"),)),
    ]
    async with FakeProvider([Turn(text="Blue.")]) as fake:
        await follow(fake.openai_chat(), history)
    assert fake.requests[0].body["messages"][-1] == {"role": "tool", "tool_call_id": "x", "content": "blue"}
