"""A run outlives its viewers: it is followed from any number on, stopped by its id, and ends for good reasons only."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from chatstream import live, runs
from chatstream.eventlog import MemoryLog
from chatstream.testing import Call, Turn

from .rig import (
    HANG,
    Gate,
    data_lines,
    files,
    kinds,
    numbered,
    problem,
    question,
    read_until,
    texts,
    turn,
    until,
)

LOOP = (
    {"reasoning": "Hm.", "text": "Two sums. ", "tools": [{"name": "calculate", "arguments": {"expression": "6 * 7"}}]},
    {"text": "It is 42."},
)
STALLED = Turn(text="half of it " * 50, stall=1500)


async def _asked(running: Any, is_stored: bool = True) -> dict[str, Any]:
    return turn(await running.conversation()) if is_stored else question()


async def _outcome(running: Any, run: str) -> str | None:
    outcome: str | None = (await running.get(f"/api/runs/{run}"))["outcome"]
    return outcome


async def _leave(running: Any, body: Any, kind: str = "text") -> str:
    """Ask, read to the first frame of this type, leave, and return the id of the run."""
    async with await running.open(body) as response:
        await read_until(data_lines(response), kind)
    assert "gone" in await _last_line(running)
    return str(response.headers["X-Run-Id"])


async def _last_line(running: Any) -> str:
    """Wait for the next line of the access log that is about a stream."""
    while "gone" not in (line := await running.over()):
        pass
    return str(line)


# --- resume -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_stored", [True, False])
@pytest.mark.parametrize("place", ["file", "memory"])
async def test_a_run_can_be_followed_from_every_number_on(
    place: str, is_stored: bool, start: Any, write_script: Any, tmp_path: Path
) -> None:
    running = await start(write_script(*LOOP), data=tmp_path if place == "file" else None)
    async with await running.open(await _asked(running, is_stored)) as response:
        whole = numbered(await response.read())
    run = response.headers["X-Run-Id"]

    assert await running.follow(run) == await running.follow(run, "0") == whole
    for number in range(1, len(whole) + 1):
        assert await running.follow(run, str(number)) == whole[number:]
        # A place within an event that made several frames: this wire has none, so all behind it is new.
        assert await running.follow(run, f"{number}.1") == whole[number:]
        header = ("Last-Event-ID", str(number))
        answer = await running.send("GET", f"/api/runs/{run}/events?after=1", [header])
        assert (numbered(answer.body) if number < len(whole) else []) == whole[number:], "the header says it better"
    empty = await running.send("GET", f"/api/runs/{run}/events", [("Last-Event-ID", "")])
    assert numbered(empty.body) == whole


async def test_a_run_is_followed_while_it_lasts_by_those_who_come_late_and_leave_early(
    start: Any, write_script: Any, gate: Gate
) -> None:
    model = write_script({"text": "Look. ", "tools": [{"name": "wait"}]}, {"text": "It is over."})
    running = await start(model, tools=gate.tools)
    async with await running.open(await _asked(running)) as response:
        lines = data_lines(response)
        first = await read_until(lines, "tool_call")
        run = first[0]["runId"]
        late = asyncio.create_task(running.follow(run))
        later = asyncio.create_task(running.follow(run, "3"))
        await until(lambda: len(running.server.runs._live[run]._ready) == 3)
        gate.opened.put_nowait("done")
        rest = await read_until(lines, "done")

    blocks = await late
    assert [frame for _, frame in blocks if frame] == [*first, *rest]
    assert await later == blocks[3:]


@pytest.mark.parametrize("is_stored", [True, False])
@pytest.mark.parametrize(
    "cursor",
    ["junk", "-1", "99999", "1.x", "0x1", "1e3", "\u00b2", "9" * 15, "9" * 400, " ", "1,2", "null", "1.", ".1"],
)
async def test_a_cursor_that_leads_nowhere_begins_anew_and_says_so(
    cursor: str, is_stored: bool, start: Any, write_script: Any
) -> None:
    running = await start(write_script(*LOOP))
    frames = await running.ask(await _asked(running, is_stored))
    run = frames[0]["runId"]
    async with running.session.get(f"/api/runs/{run}/events", params={"after": cursor}) as response:
        blocks = numbered(await response.read())

    if cursor == "1.":
        assert blocks == (await running.follow(run))[1:]
        return
    assert blocks[0] == (0, {"type": "resync", "messages": []})
    assert blocks[1:] == await running.follow(run)


async def test_a_cursor_beyond_what_a_run_has_said_begins_anew_and_goes_on(
    start: Any, write_script: Any, gate: Gate
) -> None:
    running = await start(write_script({"text": "Look. ", "tools": [{"name": "wait"}]}, *LOOP), tools=gate.tools)
    async with await running.open(await _asked(running)) as response:
        run = (await read_until(data_lines(response), "tool_call"))[0]["runId"]
        follows = asyncio.create_task(running.follow(run, "5000"))
        await until(lambda: len(running.server.runs._live[run]._ready) == 2)
        gate.opened.put_nowait("done")
        blocks = await follows

    assert blocks[0] == (0, {"type": "resync", "messages": []})
    assert [number for number, _ in blocks] == list(range(len(blocks)))
    assert blocks[-1][1]["type"] == "done"


@pytest.mark.parametrize("cursor", ["", "3", "99999", "junk"])
async def test_a_run_whose_log_expired_is_told_by_what_is_stored_of_it(
    cursor: str, start: Any, write_script: Any, tmp_path: Path
) -> None:
    running = await start(write_script(*LOOP), keep_runs=0, data=tmp_path)
    frames = await running.ask(await _asked(running))
    run, done = frames[0]["runId"], frames[-1]
    await running.server.runs.sweep()
    blocks = await running.follow(run, cursor)

    assert [frame["type"] for _, frame in blocks] == ["resync", "done"]
    assert blocks[0][1]["messages"] == done["messages"] == blocks[1][1]["messages"]
    assert blocks[1][1] == done
    assert len(done["messages"]) == 3


async def test_a_run_that_failed_says_so_when_its_log_expired_too(start: Any, fake: Any) -> None:
    await fake(Turn(text="A long text that will be cut. " * 20, drop=700))
    running = await start("anthropic:fake", keep_runs=0)
    frames = await running.ask(await _asked(running))
    await running.server.runs.sweep()

    blocks = await running.follow(frames[0]["runId"])
    assert [frame["type"] for _, frame in blocks] == ["resync", "error"]
    assert blocks[1][1] == frames[-1]


async def test_of_a_stateless_run_nothing_is_left_when_it_expired(start: Any, write_script: Any) -> None:
    running = await start(write_script(*LOOP), keep_runs=0)
    run = (await running.ask())[0]["runId"]
    assert (await running.get(f"/api/runs/{run}"))["outcome"] == "completed"
    await running.server.runs.sweep()

    problem(await running.request("GET", f"/api/runs/{run}"), 404, "not_found")
    problem(await running.request("GET", f"/api/runs/{run}/events"), 404, "not_found")


async def test_a_run_that_still_lasts_does_not_expire(start: Any, write_script: Any, gate: Gate) -> None:
    running = await start(write_script({"tools": [{"name": "wait"}]}, *LOOP), tools=gate.tools, keep_runs=0)
    async with await running.open(await _asked(running)) as response:
        lines = data_lines(response)
        run = (await read_until(lines, "tool_call"))[0]["runId"]
        await running.server.runs.sweep()
        gate.opened.put_nowait("done")
        await read_until(lines, "done")

    assert [number for number, _ in await running.follow(run)][:3] == [1, 2, 3]


# --- who leaves, and what that ends -----------------------------------------------------------------------------------


async def test_three_viewers_that_leave_do_not_end_a_run_and_one_stop_does(start: Any, fake: Any) -> None:
    provider = await fake(STALLED)
    running = await start("anthropic:fake")
    run = await _leave(running, await _asked(running))
    for _ in range(2):
        async with running.session.get(f"/api/runs/{run}/events") as response:
            assert texts(await read_until(data_lines(response), "text")) != ""
        await _last_line(running)

    assert await _outcome(running, run) is None
    assert not provider.requests[0].left
    assert (await running.request("POST", f"/api/runs/{run}/stop")).json["stopped"]
    assert await _outcome(running, run) == "stopped"


CLOSING = {
    "stateless": (False, {"linger": 0.05, "orphan_after": 1000}),
    "stored": (True, {"linger": 1000, "orphan_after": 0.05}),
}


@pytest.mark.parametrize(("is_stored", "settings"), CLOSING.values(), ids=CLOSING)
async def test_a_run_that_nobody_watches_is_stopped_after_a_while(
    is_stored: bool, settings: Any, start: Any, fake: Any
) -> None:
    provider = await fake(STALLED)
    running = await start("anthropic:fake", **settings)
    run = await _leave(running, await _asked(running, is_stored))
    async with asyncio.timeout(HANG):
        await provider.requests[0].ended.wait()
    while await _outcome(running, run) is None:
        pass

    assert provider.requests[0].left
    assert await _outcome(running, run) == "stopped"
    assert texts(frame for _, frame in await running.follow(run) if frame).startswith("half of it ")


@pytest.mark.parametrize(("is_stored", "settings"), CLOSING.values(), ids=CLOSING)
async def test_a_viewer_that_comes_back_in_time_saves_the_run(
    is_stored: bool, settings: Any, start: Any, write_script: Any, gate: Gate
) -> None:
    running = await start(
        write_script({"text": "Look. ", "tools": [{"name": "wait"}]}, {"text": "It is over."}),
        **{"tools": gate.tools} | {name: seconds and 0.5 for name, seconds in settings.items()},
    )
    run = await _leave(running, await _asked(running, is_stored), "tool_call")
    async with running.session.get(f"/api/runs/{run}/events") as response:
        lines = data_lines(response)
        await read_until(lines, "tool_call")
        await asyncio.sleep(0.7)  # longer than it would have had
        gate.opened.put_nowait("done")
        assert (await read_until(lines, "done"))[-1]["outcome"] == "completed"


async def test_a_run_goes_on_to_its_end_with_nobody_there(start: Any, write_script: Any, gate: Gate) -> None:
    running = await start(write_script({"tools": [{"name": "wait"}]}, {"text": "It is over."}), tools=gate.tools)
    run = await _leave(running, await _asked(running), "tool_call")
    gate.opened.put_nowait("done")
    while await _outcome(running, run) is None:
        pass

    assert await _outcome(running, run) == "completed"
    assert texts(frame for _, frame in await running.follow(run) if frame) == "It is over."


async def test_a_linger_of_nothing_still_lets_the_first_viewer_come(start: Any, write_script: Any) -> None:
    running = await start(write_script({"text": "Hello"}), linger=0, orphan_after=0)
    for body in (question(), await _asked(running)):
        assert (await running.ask(body))[-1]["outcome"] == "completed"


async def test_what_is_asked_in_a_thread_at_once_does_not_take_the_other_for_left(
    start: Any, write_script: Any
) -> None:
    running = await start(write_script(*[{"text": "Hello"}] * 20))
    asked = {"threadId": "t", "messages": [{"id": "m", "role": "user", "content": "Hello"}]}
    async with asyncio.timeout(HANG):
        answers = await asyncio.gather(
            *(running.request("POST", "/ag-ui", asked | {"runId": str(number)}) for number in range(20))
        )

    told = [await running.get(f"/api/runs/{answer.headers['X-Run-Id']}") for answer in answers]
    assert [run["outcome"] for run in told] == ["completed"] * 20


async def test_a_viewer_that_does_not_read_holds_back_neither_the_run_nor_the_others(
    start: Any, write_script: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "word " * 2_400_000  # more than sockets hold
    monkeypatch.setattr(live, "TAIL", 4)
    running = await start(write_script({"text": text, "chunk": 40_000, "delay": 0.0001}))
    async with await running.open() as response:
        run = response.headers["X-Run-Id"]
        blocks = await running.follow(run)  # to its end, while the first one has read nothing
        assert texts(frame for _, frame in blocks if frame) == text
        assert numbered(await response.read()) == blocks


# --- failures ---------------------------------------------------------------------------------------------------------


async def test_a_run_that_fails_keeps_what_it_had_said(start: Any, fake: Any) -> None:
    await fake(
        Turn(text="I will see. ", tools=[Call("calculate", {"expression": "6 * 7"})]),
        Turn(text="A long text that will be cut. " * 20, drop=700),
    )
    running = await start("anthropic:fake")
    body = await _asked(running)
    frames = await running.ask(body)
    tree = await running.tree(body["conversationId"])

    assert kinds(frames)[-2:] == ["turn", "error"]
    (run,) = tree["runs"]
    error = frames[-1]
    assert run["outcome"] == "failed"
    assert run["error"] == {name: error[name] for name in ("code", "message", "retryable")}
    assert run["usage"] == error["usage"] and error["usage"]["estimated"]
    assert [node["role"] for node in tree["messages"]] == ["user", "assistant", "tool", "assistant"]
    assert tree["messages"][-1]["content"] == [{"type": "text", "text": texts(frames).removeprefix("I will see. ")}]
    assert [{"role": node["role"], "content": node["content"]} for node in tree["messages"][1:]] == error["messages"]
    assert tree["leafId"] == tree["messages"][-1]["id"]


FULL = "CREATE TRIGGER full BEFORE {what} BEGIN SELECT RAISE(ABORT, 'disk full'); END"


@pytest.mark.parametrize("what", ["INSERT ON events", "UPDATE ON runs", "INSERT ON messages"])
async def test_an_answer_that_cannot_be_kept_ends_with_a_clear_error_and_is_settled_when_it_can(
    what: str, start: Any, fake: Any, gate: Gate, tmp_path: Path, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fake(Turn(text="Look. ", tools=[Call("wait", {})]), Turn(text="It is over."))
    running = await start("anthropic:fake", tools=gate.tools, data=tmp_path)
    database = running.server.runs._database
    body = await _asked(running)
    async with await running.open(body) as response:
        lines = data_lines(response)
        seen = await read_until(lines, "tool_call")
        await gate.entered.wait()
        await database.write(lambda db: db.execute(FULL.format(what=what)).fetchall())
        gate.opened.put_nowait("done")
        error = (await read_until(lines, "error"))[-1]
    caplog.clear()

    assert (error["code"], error["retryable"]) == ("internal", False)
    assert "could not be kept" in error["message"] and "disk full" in error["message"]
    await running.lives()
    assert running.server.runs._live == {}
    await database.write(lambda db: db.execute("DROP TRIGGER full").fetchall())
    monkeypatch.setattr(runs, "SWEEP", -1.0)
    await running.server.runs.sweep()
    tree = await running.tree(body["conversationId"])
    assert tree["runs"][0]["outcome"] == ("interrupted" if "events" in what else "completed")
    assert tree["messages"][1]["content"][0] == {"type": "text", "text": texts(seen)}
    blocks = await running.follow(seen[0]["runId"])
    assert [frame for _, frame in blocks if frame][: len(seen)] == seen
    assert blocks[-1][1]["type"] == "done"
    caplog.clear()


async def test_a_question_that_cannot_be_kept_is_refused_before_a_provider_is_asked(
    start: Any, fake: Any, tmp_path: Path
) -> None:
    provider = await fake(Turn(text="Hello"))
    running = await start("anthropic:fake", data=tmp_path)
    body = await _asked(running)
    database = running.server.runs._database
    await database.write(lambda db: db.execute(FULL.format(what="INSERT ON runs")).fetchall())
    for each in (body, question()):
        assert "disk full" in problem(await running.request("POST", "/api/chat", each), 503, "internal")

    assert provider.requests == []
    await database.write(lambda db: db.execute("DROP TRIGGER full").fetchall())
    assert texts(await running.ask(body)) == "Hello"


async def test_data_that_were_closed_are_an_error_on_every_route(start: Any, write_script: Any, tmp_path: Path) -> None:
    running = await start(write_script({"text": "Hello"}), data=tmp_path)
    body = await _asked(running)
    run = (await running.ask(body))[0]["runId"]
    await running.server.runs._database.close()

    for method, path, value in (
        *(("POST", "/api/chat", question()), ("POST", "/api/chat", body), ("POST", "/api/conversations", {})),
        *(("GET", "/api/conversations", None), ("GET", f"/api/conversations/{body['conversationId']}", None)),
        *(("GET", f"/api/runs/{run}/events", None), ("POST", f"/api/runs/{run}/stop", None)),
    ):
        problem(await running.request(method, path, value), 503, "internal")
    await running.lives()


async def test_a_server_without_data_keeps_its_runs_in_memory_alone(
    start: Any, write_script: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    running = await start(write_script({"text": "Hello"}))
    await running.ask(await _asked(running))

    assert isinstance(running.server.runs.log, MemoryLog)
    assert list(files(tmp_path)) == ["script.json"]


async def test_viewers_that_come_and_go_leave_nothing_behind(start: Any, fake: Any) -> None:
    await fake(STALLED)
    running = await start("anthropic:fake", heartbeat=0.001)
    run = await _leave(running, await _asked(running))
    before = len(asyncio.all_tasks())
    viewed = running.server.runs._live[run]
    for number in range(40):
        response = await running.session.get(f"/api/runs/{run}/events", params={"after": str(number % 4)})
        with suppress(aiohttp.ClientError):
            await response.content.readline() if number % 2 else await read_until(data_lines(response), "text")
        response.close()
    await until(lambda: viewed._viewers == 0)

    await until(lambda: len(asyncio.all_tasks()) <= before)
    assert viewed._ready == {}
    assert await _outcome(running, run) is None
