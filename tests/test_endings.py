"""How runs end otherwise than well: what fails is tried again or told, and whoever leaves ends all of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any

import pytest

from chatstream import Retry, Settings, Toolbox, agent, errors, events, run, tool, user
from chatstream.events import Event, Outcome
from chatstream.providers.scripted import Scripted
from chatstream.testing import Call, FakeProvider, Turn, messages_stream
from tests.runs import SDKS, SETTINGS, add, follow, of, play

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
        sent = str(bodies[1])
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
        await agent.Loop(provider, provider.default_model, [user("Hi")], Toolbox([]), SETTINGS, emit).run()
