"""A run that is stopped, or whose process dies, at every place where it can be: what is left is whole."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any

import pytest

from chatstream import Message, Outcome, Retry, Settings, Tool, Toolbox, tool, user
from chatstream.agent import Loop
from chatstream.calls import Answer
from chatstream.events import ApprovalRequested, Event, Grammar, Notice, RunFinished, RunStarted, TextDelta, ToolStarted
from chatstream.messages import INTERRUPTED, Text, ToolCall, ToolResult
from chatstream.providers import ModelRequest, anthropic, openai, openai_chat
from chatstream.providers.scripted import Scripted
from chatstream.testing import Call, FakeProvider, Turn
from chatstream.tools import caller_tool
from chatstream.turn import Remains

from .runs import SDKS, SETTINGS, add, of
from .validators import check_anthropic, check_chat, check_responses

QUESTION = [user("Hi")]
SETTINGS_THAT_WAIT = Settings(retry=Retry(first=60.0, longest=60.0))
SCRIPT: list[dict[str, Any]] = [
    {
        "reasoning": "Let me see.",
        "text": "I look. Then I say.",
        "tools": [{"name": "look", "arguments": {"at": "x"}}, {"name": "add", "arguments": {"a": 1, "b": 2}}],
    },
    {"text": "Again.", "tools": [{"name": "look", "arguments": {"at": "y"}}, {"name": "nothing", "arguments": {}}]},
    {"text": "Done.", "tools": [{"name": "sign", "arguments": {}}, {"name": "add", "arguments": {"a": 3, "b": 4}}]},
]


class Rig:
    """Tools that note when they begin, and a taker of events that stops the run at batch `stop_at`."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.batches: list[Sequence[Event]] = []
        self.begun: list[str] = []
        self._stop_at = stop_at

    @property
    def tools(self) -> list[Tool]:
        @tool(read_only=True)
        async def look(at: str) -> str:
            """Look."""
            self.begun.append(at)
            await asyncio.sleep(0)
            return f"seen {at}"

        @tool(approval="always")
        def sign() -> str:
            """Sign."""
            self.begun.append("sign")
            return "signed"

        return [look, add, sign]

    def emit(self, batch: Sequence[Event]) -> Awaitable[None]:
        self.batches.append(batch)
        if len(self.batches) == self._stop_at:
            self.loop.stop(Outcome.STOPPED)
            self.begun.append("STOP")
        return asyncio.sleep(0)

    async def run(self, messages: Sequence[Message] = QUESTION, answers: Sequence[Answer] = ()) -> list[Event]:
        provider = Scripted([{"delay": 0, "chunk": 4} | turn for turn in SCRIPT])
        async with asyncio.timeout(30):
            self.loop = Loop(
                provider, provider.default_model, messages, Toolbox(self.tools), SETTINGS, self.emit, answers=answers
            )
            await self.loop.run()
        said = [event for batch in self.batches for event in batch]
        check(said)
        return said


def check(said: Sequence[Event], history: Sequence[Message] = QUESTION) -> None:
    """Hold a run against the grammar, and what it leaves against the rules of every API."""
    grammar = Grammar()
    for event in said:
        grammar.check(event)
    assert grammar.state == "after"
    left = [*history, *said[-1].messages]  # type: ignore[union-attr]
    check_anthropic(anthropic.build_request(ModelRequest("claude-x", left), "anthropic")["messages"])
    check_chat(openai_chat.build_request(ModelRequest("gpt-x", left), "openai-chat", compatible=False)["messages"])
    check_responses(openai.build_request(ModelRequest("gpt-x", left), "openai", compatible=False)["input"])


def text_of(said: Sequence[Event]) -> str:
    return "".join(event.text for event in of(said, TextDelta))


def kept_text(messages: Sequence[Message]) -> str:
    return "".join(part.text for message in messages for part in message.parts if isinstance(part, Text))


async def test_a_stop_at_any_moment_ends_the_run_whole_and_starts_nothing_more() -> None:
    whole = Rig()
    assert (await whole.run())[-1].outcome == Outcome.PAUSED  # type: ignore[union-attr]
    for at in range(1, len(whole.batches)):
        rig = Rig(stop_at=at)
        said = await rig.run()
        ended = said[-1]
        assert isinstance(ended, RunFinished) and ended.outcome == Outcome.STOPPED, at
        assert rig.begun[-1] == "STOP", f"{at}: {rig.begun}"
        assert kept_text(ended.messages) == text_of(said), "what was seen is kept"
        calls = [call.id for message in ended.messages for call in message.calls]
        results = [part.tool_call_id for m in ended.messages for part in m.parts if isinstance(part, ToolResult)]
        assert sorted(results) == sorted(calls), f"{at}: every call has its result"
        assert ended.usage.estimated or at == 1


async def test_a_death_at_any_moment_leaves_a_run_that_can_be_ended_whole() -> None:
    whole = Rig()
    await whole.run()
    for at in range(1, len(whole.batches)):
        remains = Remains()
        said = [event for batch in whole.batches[:at] for event in batch]
        for event in said:
            remains.add(event)
        said += remains.close()
        check(said)
        ended = said[-1]
        assert isinstance(ended, RunFinished) and ended.outcome == Outcome.INTERRUPTED
        assert kept_text(ended.messages) == text_of(said)
        started = {event.call_id for event in of(said[: at - 1], ToolStarted)}
        results = [part for m in ended.messages for part in m.parts if isinstance(part, ToolResult)]
        assert started <= {result.tool_call_id for result in results}
        cut_short = [result for result in results if result.is_error and "no tool" not in result.content]
        assert all(result.content == INTERRUPTED for result in cut_short)


async def test_a_run_that_answers_open_calls_begins_with_their_tools() -> None:
    rig = Rig()
    paused = (await rig.run())[-1]
    assert isinstance(paused, RunFinished)
    (asked,) = of([event for batch in rig.batches for event in batch], ApprovalRequested)
    call = next(call for message in paused.messages for call in message.calls if call.id == asked.call_id)
    for answer, told in (
        (Answer(call), "signed"),
        (Answer(call, ToolResult(call.id, call.name, "No.", is_error=True)), "No."),
    ):
        follower = Rig()
        history = [*QUESTION, *paused.messages]
        said = await follower.run(history, [answer])
        check(said, history)
        (result,) = (part for part in said[-1].messages[0].parts)  # type: ignore[union-attr]
        assert isinstance(result, ToolResult) and (result.tool_call_id, result.content) == (call.id, told)
        assert follower.begun.count("sign") == (answer.result is None)


async def test_a_stop_while_an_approved_call_runs_ends_it() -> None:
    entered = asyncio.Event()

    @tool
    async def hang() -> str:
        """Hang."""
        entered.set()
        await asyncio.Event().wait()
        return ""

    batches: list[Sequence[Event]] = []

    async def emit(batch: Sequence[Event]) -> None:
        batches.append(batch)

    call = ToolCall("c", "hang", {}, "{}")
    history = [*QUESTION, Message("assistant", (call,))]
    provider = Scripted([{"text": "never", "delay": 0}])
    loop = Loop(provider, provider.default_model, history, Toolbox([hang]), SETTINGS, emit, answers=[Answer(call)])
    task = asyncio.create_task(loop.run())
    await entered.wait()
    loop.stop(Outcome.STOPPED)
    await task
    said = [event for batch in batches for event in batch]
    check(said, history)
    assert text_of(said) == "" and loop.upstream_closed is None


async def test_a_tool_of_the_callers_own_waits_for_its_result_whatever_its_arguments() -> None:
    pick = caller_tool("pick", "Pick a colour.", {"type": "object", "properties": {"hue": {"pattern": "(a+)+$"}}})
    script = [{"delay": 0, "tools": [{"name": "pick", "arguments": {"hue": "a" * 40 + "!"}}]}]
    said: list[Event] = []

    async def emit(batch: Sequence[Event]) -> None:
        said.extend(batch)

    provider = Scripted(script)
    await Loop(provider, provider.default_model, QUESTION, Toolbox([pick]), SETTINGS, emit).run()
    (asked,) = of(said, ApprovalRequested)
    assert asked.by_caller and said[-1].outcome == Outcome.PAUSED  # type: ignore[union-attr]


@pytest.mark.parametrize("sdk", SDKS)
async def test_a_stop_before_the_next_try_asks_no_more(sdk: str) -> None:
    async with FakeProvider([Turn(status=529), Turn(text="never")]) as fake, getattr(fake, sdk)() as provider:
        waiting = asyncio.Event()

        async def emit(batch: Sequence[Event]) -> None:
            if of(batch, Notice):
                waiting.set()
            said.extend(batch)

        said: list[Event] = []
        loop = Loop(provider, "m", QUESTION, Toolbox([]), SETTINGS_THAT_WAIT, emit)
        task = asyncio.create_task(loop.run())
        await waiting.wait()
        loop.stop(Outcome.STOPPED)
        await task
        check(said)
        assert len(fake.requests) == 1 and loop.upstream_closed is None
        assert said[-1].outcome == Outcome.STOPPED and said[-1].usage.input_tokens == 0  # type: ignore[union-attr]


@pytest.mark.parametrize("sdk", SDKS)
async def test_a_stopped_answer_counts_what_was_asked_and_said(sdk: str) -> None:
    turn = Turn(text="word " * 100, tools=[Call("add", {"a": 1, "b": 2}, "x")], delay=0.01, write=40)
    async with FakeProvider([turn]) as fake, getattr(fake, sdk)() as provider:
        said: list[Event] = []

        async def emit(batch: Sequence[Event]) -> None:
            said.extend(batch)
            if len(text_of(said)) > 50:
                loop.stop(Outcome.STOPPED)

        loop = Loop(provider, "m", QUESTION, Toolbox([add]), SETTINGS, emit)
        await loop.run()
        check(said)
        usage = said[-1].usage  # type: ignore[union-attr]
        assert usage.estimated and usage.input_tokens >= 20
        assert usage.output_tokens == -(-len(text_of(said)) // 4)
        await fake.requests[0].ended.wait()
        assert fake.requests[0].left and loop.upstream_closed is not None


async def test_the_remains_of_nothing_are_an_interrupted_run() -> None:
    remains = Remains()
    remains.add(RunStarted("run_1", "msg_1", "scripted:demo"))
    assert remains.close()[-1] == RunFinished(Outcome.INTERRUPTED, "other", remains._usage, ())  # type: ignore[arg-type]
