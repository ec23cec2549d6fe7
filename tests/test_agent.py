"""The agent loop over both real SDKs and over scripts, every run followed by the grammar."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace

import pytest

from chatstream import Message, Tool, Toolbox, agent, deltas, events, tool, user
from chatstream.deltas import Delta, FinishReason, Usage
from chatstream.events import Event, Grammar, Outcome
from chatstream.messages import NOT_RUN, Reasoning, Text, ToolCall, ToolResult
from chatstream.providers import ModelRequest
from chatstream.providers.scripted import Scripted
from chatstream.testing import Call, FakeProvider, Turn, messages_stream
from tests.runs import SDKS, SETTINGS, add, fail, follow, of, play

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
    body = fake.requests[0].body
    said_by = [message.get("role", message.get("type")) for message in body.get("messages") or body["input"]]
    assert (
        said_by
        == {
            "anthropic": ["user", "assistant", "user", "assistant", "user"],
            "openai": ["user", "reasoning", *["function_call"] * 2, *["function_call_output"] * 2, "assistant", "user"],
            "openai_chat": ["user", "assistant", "tool", "tool", "assistant", "user"],
        }[sdk]
    )


@pytest.mark.parametrize("sdk", SDKS)
async def test_reasoning_of_one_model_is_not_sent_to_another(sdk: str) -> None:
    thought = Message("assistant", (Reasoning("Hm", "sig", origin="anthropic:other"), Text("Yes")))
    async with FakeProvider([Turn(text="Ok")]) as fake:
        await follow(getattr(fake, sdk)(), [user("Hi"), thought, user("And?")])
    assert "sig" not in str(fake.requests[0].body)


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
        await agent.Loop(provider, "claude-x", [user("Hi")], Toolbox([hang]), SETTINGS, emit).run()
    grammar = Grammar()
    for event in said:
        grammar.check(event)
    assert grammar.state == "after" and len(of(said, events.ToolStarted)) == len(of(said, events.ToolFinished)) == 1


async def test_a_turn_that_was_cut_runs_no_tools() -> None:
    started = asyncio.Event()
    for sdk, finish in [
        ("anthropic", "max_tokens"),
        ("openai", "incomplete:max_output_tokens"),
        ("openai_chat", "length"),
        ("openai_chat", "content_filter"),
    ]:
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
    ("openai", "completed", FinishReason.STOP),
    ("openai", "incomplete:max_output_tokens", FinishReason.LENGTH),
    ("openai", "incomplete:content_filter", FinishReason.CONTENT_FILTER),
    ("openai", "incomplete:something_new", FinishReason.OTHER),
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


async def test_a_run_tells_how_long_the_model_was_silent_and_how_long_it_spoke() -> None:
    now = 100.0

    def later(seconds: float) -> None:
        nonlocal now
        now += seconds

    class Slow(Scripted):
        """Says a call, then a word, each after a while and with a pause in the middle."""

        async def stream(self, request: ModelRequest) -> AsyncGenerator[list[Delta]]:
            is_second = len(request.messages) > 1
            later(1.0)
            yield [deltas.UsageDelta(Usage(10, 4))]  # nothing that is heard
            later(1.5)
            yield [deltas.TextDelta("a", "Hi")] if is_second else [deltas.ToolCallDelta("a", "x", "wait", "{}")]
            later(0.25)
            yield [deltas.Finish(FinishReason.STOP if is_second else FinishReason.TOOL_CALLS)]

    @tool
    async def wait() -> str:
        "Wait."
        later(10.0)
        return ""

    said: list[Event] = []

    async def emit(batch: Sequence[Event]) -> None:
        said.extend(batch)

    loop = agent.Loop(Slow([]), "m", [user("Hi")], Toolbox([wait]), agent.Settings(), emit, clock=lambda: now)
    await loop.run()

    of_turn = events.Timing(first_token_ms=2500, duration_ms=2750, generation_ms=250)
    assert [turn.timing for turn in of(said, events.TurnFinished)] == [of_turn, of_turn]
    assert of(said, events.RunFinished)[0].timing == events.Timing(2500, 2 * 2750 + 10_000, 2 * 250)


async def test_a_model_that_never_spoke_was_never_heard() -> None:
    said, _ = await play("anthropic", [Turn(status=401)])
    (failed,) = of(said, events.RunFailed)
    assert failed.timing is not None and (failed.timing.first_token_ms, failed.timing.generation_ms) == (None, 0)
    assert [turn.timing and turn.timing.first_token_ms for turn in of(said, events.TurnFinished)] == [None]


@pytest.mark.parametrize("sdk", SDKS)
async def test_the_limit_of_turns_is_an_outcome(sdk: str) -> None:
    turns = [Turn(tools=[Call("add", {"a": 1, "b": 2})])] * 5
    said, bodies = await play(sdk, turns, tools=[add], settings=replace(SETTINGS, max_turns=3))
    assert len(bodies) == 3 and said[-1].outcome is Outcome.LIMIT  # type: ignore[union-attr]
    assert len(of(said, events.ToolFinished)) == 3


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
