"""A stream is open before anything is known of its answer, is never silent for long, and ends its run when it ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from chatstream.testing import Call, Turn

from .rig import HANG, MODELS, Gate, Running, comments, data_lines, kinds, question, read_until, texts, until

BEAT = 0.05


@pytest.mark.parametrize("model", MODELS)
async def test_headers_and_a_comment_are_there_before_the_provider_says_anything(
    model: str, start: Any, fake: Any
) -> None:
    provider = await fake(Turn(text="never", stall=0))
    running = await start(model)
    async with await running.open() as response:
        assert await response.content.readline() == b":\n"
        assert [request.sent for request in provider.requests] in ([], [0])

    assert response.status == 200


async def test_the_headers_let_no_proxy_hold_a_stream_back(start: Any, write_script: Any) -> None:
    running = await start(write_script({"text": "x"}))
    for accepted in ("gzip, deflate, br, zstd", "identity"):
        answer = await running.session.post("/api/chat", json=question(), headers={"Accept-Encoding": accepted})
        await answer.read()

        assert answer.headers["Content-Type"] == "text/event-stream"
        assert answer.headers["Cache-Control"] == "no-store, no-transform"
        assert answer.headers["X-Accel-Buffering"] == "no"
        # Two of these in which no byte came, and the reader connects again to this run.
        assert answer.headers["Chatstream-Heartbeat"] == "15"
        assert answer.headers["X-Run-Id"].startswith("run_")
        assert "Content-Encoding" not in answer.headers
        assert "Content-Length" not in answer.headers


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("stall", [0, 600], ids=["before the first byte", "in the middle"])
async def test_comments_keep_coming_while_the_provider_is_silent(stall: int, model: str, start: Any, fake: Any) -> None:
    await fake(Turn(text="some words " * 100, stall=stall))
    running = await start(model, heartbeat=BEAT)
    async with await running.open() as response:
        await read_until(data_lines(response), "text" if stall else "start")
        await _skip_frames(response)
        await comments(response, 5)


async def test_comments_keep_coming_while_a_tool_runs(start: Any, write_script: Any, gate: Gate) -> None:
    model = write_script({"tools": [{"name": "wait"}]}, {"text": "It is over."})
    running = await start(model, tools=gate.tools, heartbeat=BEAT)
    async with await running.open() as response:
        lines = data_lines(response)
        await read_until(lines, "tool_call")
        await _skip_frames(response)
        await comments(response, 5)
        gate.opened.put_nowait("done")
        rest = await read_until(lines, "done")

    assert texts(rest) == "It is over."


async def test_comments_keep_coming_while_a_retry_waits(start: Any, fake: Any) -> None:
    await fake(Turn(status=429, retry_after=30))
    running = await start("anthropic:fake", heartbeat=BEAT)
    async with await running.open() as response:
        await read_until(data_lines(response), "notice")
        await response.content.readline()
        await comments(response, 5)


async def _skip_frames(response: Any) -> None:
    """Read on to the first comment."""
    while await response.content.readline() != b":\n":
        pass


async def test_a_stream_that_is_busy_has_no_comments(start: Any, write_script: Any) -> None:
    running = await start(write_script({"text": "word " * 40, "chunk": 1, "delay": 0.001}), heartbeat=1000)
    async with await running.open() as response:
        body = await response.read()

    assert body.startswith(b":\n\nid: ")
    assert body.count(b"\n:\n") == 0


# --- a viewer that leaves ---------------------------------------------------------------------------------------------

TEXT = "a text of many words " * 40


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("turn", "seen"),
    [
        (Turn(text=TEXT, stall=0), "start"),
        (Turn(text=TEXT, stall=700), "text"),
        (Turn(text=TEXT, write=50, delay=0.001), "text"),
        (Turn(tools=[Call("note", {"a": "b" * 3000})], stall=1500), "tool_start"),
    ],
    ids=["before the first byte", "silent in the middle", "while it streams", "in the middle of a call"],
)
async def test_a_viewer_that_leaves_ends_the_request_to_the_provider(
    turn: Turn, seen: str, model: str, start: Any, fake: Any, gate: Gate
) -> None:
    provider = await fake(turn)
    running = await start(model, tools=gate.tools)
    async with await running.open() as response:
        await read_until(data_lines(response), seen)
        await until(lambda: provider.requests)

    assert "gone" in await running.over()
    async with asyncio.timeout(HANG):
        await provider.requests[0].ended.wait()
    assert provider.requests[0].left
    assert len(provider.requests) == 1
    assert gate.notes == 0
    await running.lives()


async def test_a_viewer_that_leaves_ends_the_tool_that_runs_and_no_other_starts(
    start: Any, fake: Any, gate: Gate
) -> None:
    provider = await fake(Turn(tools=[Call("wait", {})]), Turn(tools=[Call("note", {})]), Turn(text="never"))
    running = await start("anthropic:fake", tools=gate.tools)
    async with await running.open():
        await gate.entered.wait()

    assert "gone" in await running.over()
    async with asyncio.timeout(HANG):
        await gate.cancelled.wait()
    assert gate.notes == 0
    assert len(provider.requests) == 1


async def test_a_viewer_that_leaves_ends_a_tool_that_began_while_the_model_still_spoke(
    start: Any, fake: Any, gate: Gate
) -> None:
    await fake(Turn(tools=[Call("wait", {}), Call("note", {"a": "b" * 3000})], stall=2000))
    running = await start("anthropic:fake", tools=gate.tools)
    async with await running.open():
        await gate.entered.wait()

    assert "gone" in await running.over()
    async with asyncio.timeout(HANG):
        await gate.cancelled.wait()
    assert gate.notes == 0


async def test_a_viewer_that_leaves_ends_the_wait_for_a_retry(start: Any, fake: Any) -> None:
    # The retry would wait for longer than this test does.
    provider = await fake(Turn(status=529, retry_after=59), Turn(text="never"))
    running = await start("anthropic:fake")
    async with await running.open() as response:
        await read_until(data_lines(response), "notice")

    assert "gone" in await running.over()
    assert len(provider.requests) == 1


async def test_the_other_viewers_do_not_notice(start: Any, write_script: Any, gate: Gate) -> None:
    model = write_script({"text": "Look. ", "tools": [{"name": "wait"}]}, {"text": "Done."})
    running = await start(model, tools=gate.tools)
    async with await running.open() as stays:
        async with await running.open() as leaves:
            await read_until(data_lines(stays), "tool_call")
            await read_until(data_lines(leaves), "tool_call")
        assert "gone" in await running.over()
        gate.opened.put_nowait("done")
        rest = [frame async for frame in data_lines(stays)]

    assert kinds(rest) == ["tool_result", "turn", "text", "turn", "done"]


async def test_many_that_come_and_go_leave_nothing_behind(start: Any, write_script: Any) -> None:
    model = write_script({"text": "word " * 200, "chunk": 1, "delay": 0.001})
    # With a heartbeat this quick a comment is often due just when its viewer goes.
    running = await start(model, heartbeat=0.0005)
    await running.ask()
    await running.over()
    before = len(asyncio.all_tasks())
    for number in range(40):
        await _come_and_go(running, number)
    lines = [await running.over() for _ in range(40)]

    await running.lives()
    # One that had left before its stream was open is answered, though nobody reads it.
    assert [line for line in lines if not ("gone" in line or " 499 " in line)] == []
    await until(lambda: len(asyncio.all_tasks()) <= before)


async def _come_and_go(running: Running, number: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    body = b'{"messages":[{"role":"user","content":"x"}]}'
    head = f"POST /api/chat HTTP/1.1\r\nHost: {running.host}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    await reader.readuntil(b":\n\n")
    if number % 2:
        await reader.readuntil(b'"type":"text"')
    writer.transport.abort()
