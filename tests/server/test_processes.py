"""Servers that share a folder: what one writes the other shows, and what one leaves behind the other settles."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from pathlib import Path
from typing import Any

from chatstream.database import FILE
from chatstream.testing import Call, FakeProvider, Turn

from .conftest import provider_environment
from .rig import HANG, Gate, data_lines, problem, read_until, texts, turn

STALLED = Turn(text="half of it " * 50, stall=1500)
OWN = {"name": "mine", "description": "Mine.", "parameters": {"type": "object"}}


async def test_a_run_of_one_is_followed_through_the_other(
    start: Any, write_script: Any, gate: Gate, tmp_path: Path
) -> None:
    model = write_script({"text": "Look. ", "tools": [{"name": "wait"}]}, {"text": "It is over."})
    writer, reader = [await start(model, tools=gate.tools, data=tmp_path) for _ in range(2)]
    body = turn(await writer.conversation())
    async with await writer.open(body) as response:
        lines = data_lines(response)
        seen = await read_until(lines, "tool_call")
        async with reader.session.get(f"/api/runs/{seen[0]['runId']}/events?after=0") as followed:
            others = data_lines(followed)
            assert await read_until(others, "tool_call") == seen
            await reader.server.runs.sweep()
            assert (await reader.tree(body["conversationId"]))["isRunning"], "its process lives"
            again = asyncio.create_task(reader.ask(body))
            gate.opened.put_nowait("done")
            rest = await read_until(lines, "done")
            assert await read_until(others, "done") == rest

    assert (texts(rest), rest[-1]["outcome"]) == ("It is over.", "completed")
    assert await again == [*seen, *rest], "the same turn is the same run"


async def test_only_who_writes_an_answer_can_stop_it_and_the_other_says_so(
    start: Any, fake: Any, tmp_path: Path
) -> None:
    await fake(STALLED)
    writer, other = [await start("anthropic:fake", data=tmp_path) for _ in range(2)]
    async with await writer.open(turn(await writer.conversation())) as response:
        lines = data_lines(response)
        run = (await read_until(lines, "text"))[0]["runId"]
        message = problem(await other.request("POST", f"/api/runs/{run}/stop"), 409, "conflict")
        assert "another process" in message
        assert (await writer.request("POST", f"/api/runs/{run}/stop")).json["stopped"]
        assert (await read_until(lines, "done"))[-1]["outcome"] == "stopped"

    assert (await other.request("POST", f"/api/runs/{run}/stop")).json["outcome"] == "stopped"


async def test_clicks_on_both_run_the_call_once(start: Any, fake: Any, tmp_path: Path) -> None:
    provider = await fake(Turn(tools=[Call("mine", {}, "c1")]), Turn(text="Well."))
    servers = [await start("anthropic:fake", data=tmp_path) for _ in range(2)]
    run = (await servers[0].ask(turn(await servers[0].conversation(), tools=[OWN])))[0]["runId"]
    result = {"decisions": [{"toolCallId": "c1", "result": "42"}]}
    path = f"/api/runs/{run}/approvals"
    answers = await asyncio.gather(*(server.request("POST", path, result) for server in servers * 5))

    (following,) = {answer.json["runId"] for answer in answers}
    for server in servers:
        assert texts(frame for _, frame in await server.follow(following) if frame) == "Well."
    assert len(provider.requests) == 2


async def test_what_a_process_that_was_killed_had_begun_is_settled_by_a_living_one(
    start: Any, program: Any, tmp_path: Path
) -> None:
    async with FakeProvider([STALLED] * 3) as provider:
        environment = provider_environment(provider.url)
        doomed = await program("--model", "anthropic:fake", "--data", str(tmp_path / "data"), **environment)
        living = await start("scripted:demo", data=tmp_path / "data")
        made = [await doomed.conversation() for _ in range(3)]
        responses = [await doomed.open(turn(conversation)) for conversation in made]
        seen = [await read_until(data_lines(response), "text") for response in responses]
        waiting = asyncio.create_task(living.follow(seen[0][0]["runId"]))
        await doomed.end(signal.SIGKILL)
        for response in responses:
            response.close()

        path = f"/api/runs/{seen[1][0]['runId']}/stop"
        answers = await asyncio.gather(*(living.request("POST", path) for _ in range(5)))
        assert [(answer.json["stopped"], answer.json["outcome"]) for answer in answers] == [(False, "interrupted")] * 5
        await living.server.runs.sweep()
        for conversation, frames in zip(made, seen, strict=True):
            tree = await living.tree(conversation)
            assert (tree["runs"][0]["outcome"], tree["isRunning"]) == ("interrupted", False)
            assert tree["messages"][1]["content"][0]["text"].startswith(texts(frames))
        async with asyncio.timeout(HANG):
            blocks = await waiting
        assert [number for number, _ in blocks] == list(range(1, len(blocks) + 1))
        assert [frame for _, frame in blocks if frame][: len(seen[0])] == seen[0]
        assert blocks[-1][1]["outcome"] == "interrupted"


async def test_a_log_that_cannot_be_read_keeps_no_server_from_starting(
    program: Any, fake: Any, tmp_path: Path, start: Any
) -> None:
    provider = await fake(STALLED)
    options = ("--model", "openai-chat:fake", "--data", str(tmp_path / "data"))
    first = await program(*options, **provider_environment(provider.url))
    body = turn(await first.conversation())
    async with await first.open(body) as response:
        lines = data_lines(response)
        seen = await read_until(lines, "text")
        first.process.send_signal(signal.SIGKILL)
        await first.process.wait()
    with sqlite3.connect(tmp_path / "data" / FILE) as database:
        database.execute(
            "UPDATE events SET data = '[[\"event_of_tomorrow\", 1]]' WHERE id = (SELECT max(id) FROM events)"
        )
    database.close()

    second = await program(*options, **provider_environment(provider.url))
    (run,) = (await second.tree(body["conversationId"]))["runs"]
    assert (run["id"], run["outcome"]) == (seen[0]["runId"], "interrupted")


async def test_a_turn_that_is_known_needs_no_model_any_more(start: Any, write_script: Any, tmp_path: Path) -> None:
    first = await start(write_script({"text": "Hello."}), data=tmp_path)
    body = turn(await first.conversation(), model="scripted")
    seen = await first.ask(body)
    first.server.models._providers["scripted"] = first.server.models._providers["anthropic"]  # has no key
    assert await first.ask(body) == seen
    await first.server.runs.drain(0)
    assert await first.ask(body) == seen
