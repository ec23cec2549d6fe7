"""Servers that share a folder: what one writes the other shows, and what one leaves behind the other settles."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from chatstream import runs, store
from chatstream.database import FILE
from chatstream.testing import Call, FakeProvider, Turn

from .conftest import provider_environment
from .rig import HANG, Gate, data_lines, files, problem, read_until, texts, turn, until

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


async def test_an_answer_is_stopped_through_the_process_that_does_not_write_it(
    start: Any, fake: Any, tmp_path: Path
) -> None:
    provider = await fake(STALLED)
    writer, other = [await start("anthropic:fake", data=tmp_path) for _ in range(2)]
    async with await writer.open(turn(await writer.conversation())) as response:
        lines = data_lines(response)
        run = (await read_until(lines, "text"))[0]["runId"]
        path = f"/api/runs/{run}/stop"
        receipts = await asyncio.gather(*(other.request("POST", path) for _ in range(3)))
        assert {receipt.json["outcome"] for receipt in receipts} == {"stopped"}
        assert receipts[0].json["stopped"] and receipts[0].json["usage"]["outputTokens"]
        assert (await read_until(lines, "done"))[-1]["outcome"] == "stopped"
    assert provider.requests[0].left


async def test_a_conversation_is_deleted_and_brought_back_through_any_process(
    start: Any, fake: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = await fake(STALLED)
    writer, other = [await start("anthropic:fake", data=tmp_path) for _ in range(2)]
    where = f"/api/conversations/{await writer.conversation()}"
    async with await writer.open(turn(where.rpartition("/")[2])) as response:
        lines = data_lines(response)
        run = (await read_until(lines, "text"))[0]["runId"]
        assert (await other.request("DELETE", where)).status == 204
        assert (await read_until(lines, "done"))[-1]["outcome"] == "stopped"
    assert provider.requests[0].left
    for path in (where, f"/api/runs/{run}", f"/api/runs/{run}/events"):
        problem(await writer.request("GET", path), 404, "not_found")
    assert (await writer.request("PATCH", where, {"deleted": False})).status == 200
    tree = await other.get(where)
    assert (len(tree["messages"]), tree["runs"][0]["outcome"]) == (2, "stopped")
    assert (await writer.request("DELETE", where)).status == 204
    monkeypatch.setattr(store, "UNDO", 0.0)
    await asyncio.gather(*(server.server.runs.sweep() for server in (writer, other)))
    problem(await other.request("PATCH", where, {"deleted": False}), 404, "not_found")
    assert [name for name, held in files(tmp_path).items() if b"half of it" in held] == []


async def test_who_watches_through_the_other_keeps_an_answer_going(
    start: Any, write_script: Any, gate: Gate, tmp_path: Path
) -> None:
    model = write_script({"text": "Look. ", "tools": [{"name": "wait"}]}, {"text": "It is over."})
    writer, reader = [await start(model, tools=gate.tools, data=tmp_path, orphan_after=0.2) for _ in range(2)]
    response = await writer.open(turn(await writer.conversation()))
    run = (await read_until(data_lines(response), "tool_call"))[0]["runId"]
    async with reader.session.get(f"/api/runs/{run}/events") as followed:
        live = writer.server.runs._live[run]
        await until(lambda: live._watched_until)
        response.close()
        await until(lambda: live._viewers == 0)
        await asyncio.sleep(0.6)
        gate.opened.put_nowait("done")
        assert texts(await read_until(data_lines(followed), "done")) == "Look. It is over."
    assert (await reader.get(f"/api/runs/{run}"))["outcome"] == "completed"


async def test_an_answer_that_nobody_watches_anywhere_any_more_is_stopped(
    start: Any, write_script: Any, gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "_TELL", 0.1)
    model = write_script({"text": "Look. ", "tools": [{"name": "wait"}]})
    writer, reader = [await start(model, tools=gate.tools, data=tmp_path, orphan_after=0.2) for _ in range(2)]
    response = await writer.open(turn(await writer.conversation()))
    run = (await read_until(data_lines(response), "tool_call"))[0]["runId"]
    async with reader.session.get(f"/api/runs/{run}/events") as followed:
        await until(lambda: writer.server.runs._live[run]._watched_until)
        response.close()
        await read_until(data_lines(followed), "tool_call")
    async with asyncio.timeout(HANG):
        await gate.cancelled.wait()
    await until(lambda: run not in writer.server.runs._live)
    assert (await reader.get(f"/api/runs/{run}"))["outcome"] == "stopped"


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
