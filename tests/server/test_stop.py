"""A stop ends a run at once and answers with a receipt, whoever sends it, how often, and whatever became of the run."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from chatstream.errors import StorageError
from chatstream.testing import Call, Turn

from .rig import HANG, MODELS, Gate, data_lines, question, read_until, texts, turn, until

STALLED = Turn(text="half of it " * 50, stall=1500)
LOOP = ({"text": "Two sums. ", "tools": [{"name": "calculate", "arguments": {"expression": "6 * 7"}}]}, {"text": "42."})


@pytest.mark.parametrize("model", MODELS)
async def test_a_stop_answers_when_the_run_has_ended_with_what_is_known_of_it(
    model: str, start: Any, fake: Any
) -> None:
    provider = await fake(STALLED)
    running = await start(model)
    async with await running.open(turn(await running.conversation())) as response:
        lines = data_lines(response)
        run = (await read_until(lines, "text"))[0]["runId"]
        receipt = (await running.request("POST", f"/api/runs/{run}/stop")).json
        done = (await read_until(lines, "done"))[-1]
        again = (await running.request("POST", f"/api/runs/{run}/stop")).json

    assert (receipt["stopped"], receipt["outcome"], receipt["estimated"]) == (True, "stopped", True)
    assert 0 <= receipt["upstreamClosedMs"] < HANG * 1000
    assert receipt["usage"] == done["usage"] and receipt["usage"]["outputTokens"] > 0
    assert again == receipt | {"stopped": False, "upstreamClosedMs": None}
    async with asyncio.timeout(HANG):
        await provider.requests[0].ended.wait()
    assert provider.requests[0].left
    assert (await running.get(f"/api/runs/{run}"))["usage"] == done["usage"]


async def test_a_run_that_had_ended_keeps_its_outcome_when_it_is_stopped(start: Any, write_script: Any) -> None:
    running = await start(write_script(*LOOP))
    for body in (turn(await running.conversation()), question()):
        frames = await running.ask(body)
        receipt = (await running.request("POST", f"/api/runs/{frames[0]['runId']}/stop")).json
        assert (receipt["stopped"], receipt["outcome"], receipt["upstreamClosedMs"]) == (False, "completed", None)
        assert receipt["usage"] == frames[-1]["usage"]
        assert (await running.get(f"/api/runs/{frames[0]['runId']}"))["outcome"] == "completed"


async def test_many_stops_at_once_are_one(start: Any, fake: Any) -> None:
    await fake(STALLED)
    running = await start("anthropic:fake")
    async with await running.open(turn(await running.conversation())) as response:
        lines = data_lines(response)
        run = (await read_until(lines, "text"))[0]["runId"]
        answers = await asyncio.gather(*(running.request("POST", f"/api/runs/{run}/stop") for _ in range(5)))
        ends = [frame async for frame in lines if frame["type"] == "done"]

    assert {answer.json["outcome"] for answer in answers} == {"stopped"}
    assert len(ends) == 1


async def test_a_stop_that_comes_as_the_answer_ends_is_no_conflict(
    start: Any, write_script: Any, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await start(write_script({"tools": [{"name": "wait"}]}, {"text": "It is over."}), tools=gate.tools)
    store = running.server.runs.store
    read = store.run

    async def slow(owner: str, run_id: str) -> Any:
        monkeypatch.setattr(store, "run", read)
        found = await read(owner, run_id)
        gate.opened.put_nowait("done")
        await until(lambda: not running.server.runs._live)
        return found  # as it was

    async with await running.open(turn(await running.conversation())) as response:
        lines = data_lines(response)
        run = (await read_until(lines, "tool_call"))[0]["runId"]
        monkeypatch.setattr(store, "run", slow)
        answer = await running.request("POST", f"/api/runs/{run}/stop")

    assert (answer.status, answer.json["stopped"], answer.json["outcome"]) == (200, False, "completed")


@pytest.mark.parametrize("place", ["file", "memory"])
async def test_what_could_not_be_kept_is_settled_by_a_stop_and_the_conversation_goes_on(
    place: str, start: Any, fake: Any, gate: Gate, tmp_path: Path, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fake(Turn(text="Look. ", tools=[Call("wait", {})]), Turn(text="Once more."))
    running = await start("anthropic:fake", tools=gate.tools, data=tmp_path if place == "file" else None)
    conversation = await running.conversation()

    def refuse(*_: Any) -> None:
        raise StorageError("the disk is full")

    async with await running.open(turn(conversation)) as response:
        lines = data_lines(response)
        seen = await read_until(lines, "tool_call")
        with monkeypatch.context() as patched:
            patched.setattr(running.server.runs.log, "keep", refuse)
            gate.opened.put_nowait("done")
            assert "the disk is full" in (await read_until(lines, "error"))[-1]["message"]
    caplog.clear()

    path = f"/api/runs/{seen[0]['runId']}/stop"
    answers = await asyncio.gather(*(running.request("POST", path) for _ in range(5)))
    assert {(answer.status, answer.json["outcome"]) for answer in answers} == {(200, "interrupted")}
    blocks = await running.follow(seen[0]["runId"])
    assert [number for number, _ in blocks] == list(range(1, len(blocks) + 1))
    assert [frame["type"] for _, frame in blocks if frame].count("done") == 1
    assert texts(await running.ask(turn(conversation, "And now?"))) == "Once more."
