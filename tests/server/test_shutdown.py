"""A server that stops says so at once, lets what runs finish within the grace period, and settles the rest (R17)."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest

from chatstream.testing import Call, FakeProvider, Turn

from .conftest import provider_environment
from .rig import HANG, Gate, data_lines, kinds, problem, question, read_until, texts, turn, until

STALLED = Turn(text="half of it " * 50, stall=1500)


@pytest.fixture
async def busy(start: Any, write_script: Any, gate: Gate) -> Any:
    model = write_script({"text": "Look. ", "tools": [{"name": "wait"}]}, {"text": "It is over."})
    return await start(model, tools=gate.tools, grace=HANG)


async def test_while_it_stops_readiness_says_so_and_what_runs_goes_on_to_its_end(busy: Any, gate: Gate) -> None:
    conversation = await busy.conversation()
    async with await busy.open(turn(conversation)) as response:
        lines = data_lines(response)
        run = (await read_until(lines, "tool_call"))[0]["runId"]
        stopping = asyncio.create_task(busy.server.drain())
        await until(lambda: busy.server.state == "stopping")
        ready = await busy.send("GET", "/readyz")
        assert (ready.status, ready.json) == (503, {"status": "stopping"})
        await busy.lives()
        assert (await busy.tree(conversation))["isRunning"], "what is there can be read"
        late = asyncio.create_task(busy.follow(run))
        assert not stopping.done()
        gate.opened.put_nowait("done")
        rest = await read_until(lines, "done")

    await stopping
    assert (texts(rest), rest[-1]["outcome"]) == ("It is over.", "completed")
    assert (await late)[-1][1] == rest[-1]


async def test_while_it_stops_nothing_new_begins(start: Any, fake: Any) -> None:
    provider = await fake(Turn(tools=[Call("mine", {}, "c1")]))
    running = await start("anthropic:fake")
    conversation = await running.conversation()
    own = {"name": "mine", "description": "Mine.", "parameters": {"type": "object"}}
    run = (await running.ask(turn(conversation, tools=[own])))[0]["runId"]
    await running.server.drain()

    result = {"decisions": [{"toolCallId": "c1", "result": "42"}]}
    for path, body in (
        *(("/api/chat", question()), ("/api/chat", turn(conversation))),
        (f"/api/runs/{run}/approvals", result),
    ):
        answer = await running.request("POST", path, body)
        assert "stopping" in problem(answer, 503, "overloaded")
        assert answer.headers["Retry-After"] == "1"
    assert len(provider.requests) == 1
    tree = await running.tree(conversation)
    assert (len(tree["runs"]), tree["runs"][0]["approvals"][0]["decision"]) == (1, None)


@pytest.mark.parametrize("grace", [0, 0.1])
async def test_what_does_not_finish_in_time_is_interrupted_and_kept(
    grace: float, start: Any, fake: Any, tmp_path: Path
) -> None:
    provider = await fake(STALLED, STALLED)
    running = await start("anthropic:fake", data=tmp_path, grace=grace)
    conversation = await running.conversation()
    async with await running.open(turn(conversation)) as stored, await running.open() as stateless:
        lines, others = data_lines(stored), data_lines(stateless)
        seen = await read_until(lines, "text")
        other = await read_until(others, "text")
        await running.server.drain()
        seen += [frame async for frame in lines]
        other += [frame async for frame in others]

    for frames in (seen, other):
        assert kinds(frames) == ["start", "text", "turn", "done"]
        assert (frames[-1]["outcome"], frames[-1]["usage"]["estimated"]) == ("interrupted", True)
    for request in provider.requests:
        async with asyncio.timeout(HANG):
            await request.ended.wait()
        assert request.left
    await running.server.close()

    running = await start("anthropic:fake", data=tmp_path)
    tree = await running.tree(conversation)
    (run,) = tree["runs"]
    assert (run["outcome"], run["usage"]) == ("interrupted", seen[-1]["usage"])
    assert tree["messages"][1]["content"] == [{"type": "text", "text": texts(seen)}]
    assert [frame for _, frame in await running.follow(run["id"]) if frame] == seen
    assert [frame for _, frame in await running.follow(other[0]["runId"]) if frame] == other


async def test_a_tool_that_does_not_let_itself_be_cancelled_does_not_hold_it_up(
    start: Any, write_script: Any, caplog: pytest.LogCaptureFixture
) -> None:
    from chatstream.tools import tool

    entered, let = asyncio.Event(), asyncio.Event()

    @tool
    async def stubborn() -> str:
        "Stay."
        while not let.is_set():
            try:
                entered.set()
                await let.wait()
            except asyncio.CancelledError:
                continue
        return "done"

    running = await start(write_script({"tools": [{"name": "stubborn"}]}), tools=[stubborn], grace=0)
    async with await running.open() as response:
        await entered.wait()
        async with asyncio.timeout(HANG):
            await running.server.drain()
        assert (await read_until(data_lines(response), "done"))[-1]["outcome"] == "interrupted"
    let.set()


# --- the program ------------------------------------------------------------------------------------------------------


WAIT = """
import asyncio, pathlib
from chatstream.tools import tool

@tool
async def wait() -> str:
    "Wait."
    while not pathlib.Path("go").exists():
        await asyncio.sleep(0.01)
    return "gone"
"""


async def test_a_signal_lets_the_program_finish_what_it_is_asked_and_take_nothing_new(
    program: Any, write_script: Any, tmp_path: Path
) -> None:
    (tmp_path / "wait.py").write_text(WAIT)
    model = write_script({"tools": [{"name": "wait"}]}, {"text": "It is over."})
    running = await program("--model", model, "--tools", "wait.py", "--grace", str(HANG))
    async with await running.open() as response:
        lines = data_lines(response)
        await read_until(lines, "tool_call")
        running.process.send_signal(signal.SIGTERM)
        while (await running.send("GET", "/readyz")).status == 200:
            pass
        problem(await running.request("POST", "/api/chat", question()), 503, "overloaded")
        (tmp_path / "go").touch()
        rest = await read_until(lines, "done")
        status, errors = await running.ended()

    assert (texts(rest), rest[-1]["outcome"]) == ("It is over.", "completed")
    assert (status, "Traceback" in errors, "ERROR" in errors) == (0, False, False), errors


async def test_what_a_signal_interrupts_is_there_at_the_next_start(program: Any) -> None:
    # By the SDK that loads fastest.
    async with FakeProvider([STALLED] * 20) as provider:
        options = ("--model", "openai-chat:fake", "--grace", "0.2")
        running = await program(*options, **provider_environment(provider.url))
        made = [await running.conversation() for _ in range(20)]
        responses = [await running.open(turn(conversation)) for conversation in made]
        seen = [await read_until(data_lines(response), "text") for response in responses]
        status, errors = await running.end(signal.SIGTERM)
        for response in responses:
            response.close()
        assert (status, "Traceback" in errors, "ERROR" in errors) == (0, False, False), errors

        running = await program(*options, **provider_environment(provider.url))
        for conversation, frames in zip(made, seen, strict=True):
            tree = await running.tree(conversation)
            assert tree["runs"][0]["outcome"] == "interrupted"
            assert tree["messages"][1]["content"][0]["text"].startswith(texts(frames))


async def test_a_signal_while_it_starts_ends_it_too(launch: Any) -> None:
    process = await launch("--port", "0", "--model", "scripted:demo")
    while not (await process.stderr.readline()).endswith(b"loading scripted:demo\n"):
        pass
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(HANG):
        _, errors = await process.communicate()

    assert (process.returncode, b"Traceback" in errors) == (0, False), errors
