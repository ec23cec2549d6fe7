"""At most so many runs go at once: others wait their turn in a bounded queue, and beyond it the server says when."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from chatstream import places
from chatstream.testing import Call, Recorded, Turn

from .rig import (
    Answer,
    Eraser,
    Frame,
    Gate,
    Running,
    comments,
    data_lines,
    problem,
    question,
    read_until,
    texts,
    turn,
    until,
)
from .test_openapi import Document, describe

HOLDS = ({"tools": [{"name": "wait"}]}, {"text": "Done."})
ASKED = {
    "/api/chat": question(),
    "/ag-ui": {"threadId": "t", "runId": "r", "messages": [{"id": "1", "role": "user", "content": "Hello"}]},
    "/ai-sdk/chat": {
        "id": "chat",
        "trigger": "submit-message",
        "messages": [{"id": "u", "role": "user", "parts": [{"type": "text", "text": "Hello"}]}],
    },
    "/v1/chat/completions": {"model": "", "messages": [{"role": "user", "content": "Hello"}]},
}


class Busy:
    """A server with one place, which is taken until `free`, and room for so many that wait."""

    def __init__(self, running: Running, gate: Gate, holding: AsyncIterator[Frame]) -> None:
        self.running = running
        self.gate = gate
        self._holding = holding

    def free(self) -> None:
        self.gate.opened.put_nowait("go on")

    async def held_to_its_end(self) -> list[Frame]:
        return [frame async for frame in self._holding]


@pytest.fixture
async def busy(start: Any, write_script: Any, gate: Gate, stack: AsyncExitStack) -> Any:
    async def busy(max_queue: int = 1, **settings: Any) -> Busy:
        running = await start(write_script(*HOLDS), tools=gate.tools, max_runs=1, max_queue=max_queue, **settings)
        lines = data_lines(await stack.enter_async_context(await running.open()))
        await read_until(lines, "tool_call")
        await gate.entered.wait()
        return Busy(running, gate, lines)

    return busy


async def queue(running: Running, stack: AsyncExitStack, body: dict[str, Any] | None = None) -> AsyncIterator[Frame]:
    """Ask, and return the frames of the answer behind the one that says that it waits."""
    lines = data_lines(await stack.enter_async_context(await running.open(body)))
    seen = await read_until(lines, "notice")
    assert [each["type"] for each in seen] == ["start", "notice"]
    assert seen[1] | {"message": ""} == {"type": "notice", "code": "overloaded", "message": ""}
    return lines


async def ask(running: Running, path: str, body: Any, *headers: tuple[str, str]) -> Answer:
    return await running.post(json.dumps(body).encode(), *headers, path=path)


# --- waiting ----------------------------------------------------------------------------------------------------------


async def test_who_waits_has_a_stream_and_a_heartbeat_and_then_an_answer(busy: Any, stack: AsyncExitStack) -> None:
    one = await busy(heartbeat=0.02)
    async with await one.running.open() as response:
        lines = data_lines(response)
        await read_until(lines, "notice")
        await response.content.readline()
        await comments(response, 3)
        one.free()
        assert texts(await one.held_to_its_end()) == "Done."
        one.free()
        assert texts([frame async for frame in lines]) == "Done."


async def test_they_have_their_turn_in_the_order_in_which_they_came(busy: Any, stack: AsyncExitStack) -> None:
    one = await busy(3)
    waiting = [await queue(one.running, stack) for _ in range(3)]
    calls = []

    async def note(number: int, lines: AsyncIterator[Frame]) -> None:
        await read_until(lines, "tool_call")
        calls.append(number)
        one.free()
        assert texts([frame async for frame in lines]) == "Done."

    one.free()
    await asyncio.gather(*(note(number, lines) for number, lines in enumerate(waiting)))
    assert calls == [0, 1, 2]


async def test_no_more_than_so_many_ask_the_provider_at_once(start: Any, fake: Any) -> None:
    most = 0

    def count(asked: Recorded) -> Turn:
        nonlocal most
        most = max(most, sum(not each.ended.is_set() for each in provider.requests))
        return Turn(text="word " * 20, write=1000, delay=0.001)

    provider = await fake(count)
    running = await start("openai-chat:fake", max_runs=3, max_queue=20)
    answers = await asyncio.gather(*(running.ask() for _ in range(15)))

    assert {answer[-1]["outcome"] for answer in answers} == {"completed"}
    assert (len(provider.requests), most) == (15, 3)


async def test_what_a_stored_conversation_is_asked_is_kept_while_it_waits(busy: Any, stack: AsyncExitStack) -> None:
    one = await busy()
    body = turn(await one.running.conversation(), "Remember this.")
    answer = await ask(one.running, "/api/chat", body, ("Prefer", "respond-async"))

    assert answer.status == 202
    tree = await one.running.tree(body["conversationId"])
    assert [message["content"][0]["text"] for message in tree["messages"]] == ["Remember this."]
    assert [run["state"] for run in tree["runs"]] == ["running"]


async def test_who_waits_is_stopped_at_once_and_nothing_was_asked(fake: Any, start: Any, stack: AsyncExitStack) -> None:
    provider = await fake(Turn(text="word " * 100, stall=600))
    running = await start("openai-chat:fake", max_runs=1, max_queue=1)
    first = data_lines(await stack.enter_async_context(await running.open()))
    await read_until(first, "text")
    for _ in range(2):  # it leaves its place in the queue to the next
        response = await stack.enter_async_context(await running.open())
        lines = data_lines(response)
        await read_until(lines, "notice")
        receipt = (await running.request("POST", f"/api/runs/{response.headers['X-Run-Id']}/stop")).json
        assert receipt["stopped"] and receipt["usage"]["inputTokens"] == 0
        assert (await read_until(lines, "done"))[-1]["outcome"] == "stopped"

    assert len(provider.requests) == 1


async def test_a_viewer_that_leaves_the_queue_leaves_its_place(busy: Any, stack: AsyncExitStack) -> None:
    one = await busy()
    for _ in range(3):
        async with AsyncExitStack() as leaving:
            await queue(one.running, leaving)
        await until(lambda: len(one.running.server.runs._live) == 1)
    last = await queue(one.running, stack)
    one.free()
    one.free()
    assert texts([frame async for frame in last]) == "Done."


async def test_who_waits_for_too_long_is_told_to_ask_again(
    busy: Any, stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "PATIENCE", 0.05)
    one = await busy()
    body = turn(await one.running.conversation(), "Remember this.")
    *_, error = [frame async for frame in await queue(one.running, stack, body)]

    assert (error["type"], error["code"], error["retryable"]) == ("error", "overloaded", True)
    assert error["usage"]["inputTokens"] == 0
    one.free()
    await one.held_to_its_end()
    one.free()
    again = turn(body["conversationId"], None, parentId=(await one.running.tree(body["conversationId"]))["leafId"])
    assert texts(await one.running.ask(again)) == "Done."


async def test_a_run_that_fails_leaves_its_place(start: Any, fake: Any) -> None:
    await fake(lambda asked: Turn(status=401))
    running = await start("openai-chat:fake", max_runs=1, max_queue=0)
    for _ in range(3):
        assert (await running.ask())[-1]["code"] == "auth"


# --- beyond the queue -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ASKED)
async def test_beyond_the_queue_every_wire_says_when_to_ask_again(path: str, busy: Any) -> None:
    one = await busy(0)
    answer = await ask(one.running, path, ASKED[path])

    assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
    assert b"ask again" in answer.body
    if path == "/v1/chat/completions":
        assert answer.json["error"]["code"] == "server_is_overloaded" and "x-should-retry" not in answer.headers
    elif path != "/ai-sdk/chat":  # whose errors are a text
        problem(answer, 503, "overloaded")
    document = Document(describe(one.running.server.routes, "", has_token=False))
    document.check("post", path, answer)
    assert "503" in document.operation("post", path)["responses"]


async def test_a_turn_that_is_refused_is_not_kept_and_may_be_asked_again(busy: Any) -> None:
    one = await busy(0)
    body = turn(await one.running.conversation())
    for wish in ((), (("Prefer", "respond-async"),)):
        problem(await ask(one.running, "/api/chat", body, *wish), 503, "overloaded")
    assert (await one.running.tree(body["conversationId"]))["messages"] == []

    one.free()
    await one.held_to_its_end()
    one.free()
    assert texts(await one.running.ask(body)) == "Done."


async def test_who_asks_what_was_asked_before_is_let_in(busy: Any, stack: AsyncExitStack) -> None:
    one = await busy()
    body = turn(await one.running.conversation())
    waiting = [await queue(one.running, stack, body) for _ in range(2)]
    problem(await ask(one.running, "/api/chat", question()), 503, "overloaded")
    one.free()
    one.free()
    assert [texts([frame async for frame in lines]) for lines in waiting] == ["Done.", "Done."]


async def test_a_decision_that_finds_no_room_changes_nothing(start: Any, fake: Any, gate: Gate) -> None:
    def say(asked: Recorded) -> Turn:
        last = asked.body["messages"][-1]
        if last["role"] == "tool":
            return Turn(text="Done.")
        return Turn(tools=[Call("erase", {"name": "a"}, id="c1") if "Erase" in str(last) else Call("wait", {})])

    await fake(say)
    eraser = Eraser()
    running = await start("openai-chat:fake", tools=[*eraser.tools, *gate.tools], max_runs=1, max_queue=0)
    paused = await running.ask(turn(await running.conversation(), "Erase it."))
    path = f"/api/runs/{paused[0]['runId']}/approvals"
    decision = {"decisions": [{"toolCallId": "c1", "decision": "approve"}]}
    async with await running.open() as other:
        await gate.entered.wait()
        problem(await running.request("POST", path, decision), 503, "overloaded")
        gate.opened.put_nowait("go on")
        await other.read()

    assert eraser.erased == []
    answer = await running.request("POST", path, decision)
    assert answer.status == 200
    await running.follow(answer.json["runId"])
    assert eraser.erased == ["a"]
