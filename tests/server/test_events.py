"""Several runs over one stream, each as by itself; and questions that do not wait for the stream of their answer."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chatstream import live
from chatstream.server.stream import EventStream
from chatstream.testing import Turn

from .rig import HANG, Answer, Frame, Gate, Running, data_lines, kinds, numbered, problem, question, turn, until

LOOP = (
    {"reasoning": "Hm.", "text": "Two sums. ", "tools": [{"name": "calculate", "arguments": {"expression": "6 * 7"}}]},
    {"text": "It is 42. " * 20, "chunk": 8},
)
WAITS = ({"text": "Look. ", "tools": [{"name": "wait"}]}, {"text": "It is over."})
STALLED = Turn(text="half of it " * 50, stall=1500)
PREFER = ("Prefer", "respond-async")


async def begin(running: Running, body: dict[str, Any] | None = None, *headers: tuple[str, str]) -> Answer:
    """Ask without waiting for the answer."""
    body = body or turn(await running.conversation())
    return await running.post(json.dumps(body).encode(), *(headers or (PREFER,)))


async def begun(running: Running, count: int) -> list[str]:
    """Begin so many runs, each in a conversation of its own, and return their ids."""
    return [str((await begin(running)).json["runId"]) for _ in range(count)]


def query(*runs: str | tuple[str, object]) -> str:
    pairs = [(each, None) if isinstance(each, str) else each for each in runs]
    return "/api/events?" + "&".join(f"run={run}" + ("" if at is None else f"&after={at}") for run, at in pairs)


def apart(body: bytes) -> dict[str, bytes]:
    """Return what a stream says of each run, without the names of its events."""
    found: dict[str, bytes] = {}
    for block in body.removesuffix(b"\n\n").split(b"\n\n"):
        if block != b":":
            named = re.match(rb"event: (\S+)\n", block)
            assert named, block
            found[named[1].decode()] = found.get(named[1].decode(), b"") + block[named.end() :] + b"\n\n"
    return found


async def follow(running: Running, *runs: str | tuple[str, object]) -> dict[str, bytes]:
    async with asyncio.timeout(HANG):
        answer = await running.send("GET", query(*runs))
    assert answer.status == 200, answer
    return apart(answer.body)


async def alone(running: Running, run: str, after: object = 0) -> bytes:
    """Return what the stream of one run says."""
    answer = await running.send("GET", f"/api/runs/{run}/events?after={after}")
    return answer.body.replace(b":\n\n", b"")


async def gone(running: Running, path: str = "/api/events") -> None:
    """Wait until a viewer of this path has left."""
    while not re.search(f"{path} gone", line := await running.over()):
        assert line


# --- asking without waiting -------------------------------------------------------------------------------------------


async def test_a_turn_is_begun_and_its_ids_are_told_where_its_stream_is_not_wanted(
    start: Any, write_script: Any
) -> None:
    running = await start(write_script(*LOOP))
    body = turn(await running.conversation())
    answers = [await begin(running, body, ("Prefer", wish)) for wish in ("respond-async", "wait=5, Respond-Async;x=1")]

    assert [answer.status for answer in answers] == [202, 202]
    assert answers[0].json == answers[1].json, "the same turn is the same run"
    told, headers = answers[0].json, answers[0].headers
    assert headers["Preference-Applied"] == "respond-async"
    assert (headers["Location"], headers["X-Run-Id"]) == (f"runs/{told['runId']}", told["runId"])
    (run,) = (await running.tree(body["conversationId"]))["runs"]
    assert {"runId": run["id"], **{name: run[name] for name in told if name != "runId"}} == told
    whole = await running.follow(told["runId"])
    assert whole[0][1] == {"type": "start", **told, "model": run["model"]}
    assert whole[-1][1] and whole[-1][1]["outcome"] == "completed"
    assert (await begin(running, body)).json == told, "when it is over, too"


@pytest.mark.parametrize("wish", ["wait=10", "handling=lenient; respond-async", "no-respond-async", "return=minimal"])
async def test_another_preference_is_none_for_that(wish: str, start: Any, write_script: Any) -> None:
    running = await start(write_script(*LOOP))
    answer = await begin(running, None, ("Prefer", wish))

    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/event-stream")
    assert "Preference-Applied" not in answer.headers


async def test_whose_caller_keeps_the_conversation_is_streamed_all_the_same(start: Any, write_script: Any) -> None:
    running = await start(write_script(*LOOP))
    answer = await begin(running, question())

    assert answer.status == 200 and numbered(answer.body)[-1][1]


async def test_what_is_wrong_with_a_question_is_said_as_ever(start: Any, write_script: Any) -> None:
    running = await start(write_script(*LOOP))
    made = await running.conversation()
    problem(await begin(running, turn(made, "")), 400, "bad_request")
    problem(await begin(running, turn("conv_none")), 404, "not_found")
    body = turn(made)
    await begin(running, body)
    problem(await begin(running, body | {"message": "Another"}), 409, "conflict")


# --- several runs over one stream -------------------------------------------------------------------------------------


async def test_from_every_cursor_each_run_is_to_the_byte_what_it_is_by_itself(start: Any, write_script: Any) -> None:
    running = await start(write_script(*LOOP))
    runs = await begun(running, 3)
    last = len(await running.follow(runs[0]))
    for number in (*range(last), "x", "-1", last + 5, "2.1"):
        asked = [(runs[0], number), (runs[1], 0), (runs[2], 7)]
        expected = {run: await alone(running, run, at) for run, at in asked}
        assert await follow(running, *asked) == expected
    # Behind its last event nothing more is told.
    assert set(await follow(running, (runs[0], last), runs[1])) == {runs[1]}
    assert await follow(running, runs[2], (runs[0], 4), runs[1]) == await follow(running, (runs[0], 4), *runs[1:])


async def test_live_runs_come_interleaved_and_the_stream_ends_with_the_last_of_them(
    start: Any, write_script: Any, gate: Gate
) -> None:
    running = await start(write_script(*WAITS), tools=gate.tools, heartbeat=0.05)
    runs = await begun(running, 3)
    async with running.session.get(query(*runs)) as response:
        assert response.headers["Chatstream-Heartbeat"] == "0.05"
        assert response.headers["X-Request-Id"].startswith("req_")
        seen = b""
        while seen.count(b'"tool_call"') < 3 or not seen.endswith(b"\n\n:\n\n"):
            seen += await response.content.readany()
        assert all(b'"done"' not in said for said in apart(seen).values())
        for count in (1, 2, 3):
            gate.opened.put_nowait("go on")
            while seen.count(b'"type":"done"') < count:
                seen += await response.content.readany()
        seen += await response.read()

    assert apart(seen) == {run: await alone(running, run) for run in runs}


class Noted(EventStream):
    """A stream of nobody's; a viewer that `is_behind` has caught up when it was `through`."""

    def __init__(self, is_behind: bool = False) -> None:
        self.writes: list[bytes] = []
        self.through = asyncio.Event()
        self._gathered, self._queue = [], []
        self._protocol = SimpleNamespace(writing_paused=is_behind)

    def _send(self, data: bytes) -> None:
        self.writes.append(data)

    async def _wait(self, drain: Any) -> None:
        await self.through.wait()
        self._protocol.writing_paused = False

    _drain = None


async def say(name: str, stream: EventStream, said: list[str]) -> None:
    for number in range(2):
        said.append(f"{name}{number}")
        if (wait := stream.send_together([f"{name}{number}".encode()])) is not None:
            await wait
        await asyncio.sleep(0)


async def test_what_several_say_at_once_is_one_write() -> None:
    stream, said = Noted(), list[str]()
    await stream.all(say(name, stream, said) for name in "abc")
    assert stream.writes == [b"a0b0c0", b"a1b1c1"]


async def test_nobody_is_asked_for_more_before_a_slow_viewer_has_caught_up_and_nothing_is_lost() -> None:
    stream, said = Noted(is_behind=True), list[str]()
    telling = asyncio.create_task(stream.all(say(name, stream, said) for name in "abc"))
    for _ in range(10):
        await asyncio.sleep(0)
    assert (stream.writes, said) == ([], ["a0", "b0", "c0"])
    stream.through.set()
    await telling
    assert stream.writes == [b"a0b0c0", b"a1b1c1"]


async def test_what_fails_in_one_source_ends_the_others_and_is_told_as_it_was() -> None:
    left = asyncio.Event()

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            left.set()

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await Noted().all([wait(), fail()])
    assert left.is_set()


async def test_a_run_that_is_not_there_says_so_and_ends_no_other(start: Any, write_script: Any) -> None:
    running = await start(write_script(*LOOP), keep_runs=0)
    conversation = await running.conversation()
    deleted = (await begin(running, turn(conversation))).json["runId"]
    expired, _ = runs = await begun(running, 2)
    for run in (deleted, *runs):
        await running.follow(run)
    await running.request("DELETE", f"/api/conversations/{conversation}")
    await running.server.runs.log.delete([expired])
    said = await follow(running, "run_none", deleted, *runs)

    for run in ("run_none", deleted):
        ((number, frame),) = numbered(said[run])
        by_itself = (await running.send("GET", f"/api/runs/{run}/events")).json["error"]
        assert frame is not None and number == 0
        assert (frame.pop("requestId"), by_itself.pop("requestId")) != ("", "")
        assert frame == {"type": "error", "retryable": False, "status": 404, **by_itself}
    assert [frame["type"] for _, frame in numbered(said[expired]) if frame] == ["resync", "done"]
    assert said[runs[1]] == await alone(running, runs[1])
    one = await running.send("GET", query("run_none"))
    assert one.status == 200 and list(apart(one.body)) == ["run_none"]


async def test_a_stop_ends_one_run_for_its_viewers_and_no_other(start: Any, fake: Any) -> None:
    provider = await fake(*[STALLED] * 3)
    running = await start("anthropic:fake")
    runs = await begun(running, 2)
    async with running.session.get(query(*runs)) as response:
        lines = data_lines(response)
        ends: list[Frame] = []
        said = 0
        while said < 2:
            said += (await anext(lines))["type"] == "text"
        assert (await running.request("POST", f"/api/runs/{runs[1]}/stop")).json["stopped"]
        while not ends:
            ends += [frame for frame in [await anext(lines)] if frame["type"] == "done"]
        assert ends[0]["outcome"] == "stopped"
        assert [each.left for each in provider.requests].count(True) == 1
        assert (await running.get(f"/api/runs/{runs[0]}"))["outcome"] is None
        await running.request("POST", f"/api/runs/{runs[0]}/stop")
        assert kinds([frame async for frame in lines])[-1] == "done"


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/api/events",
            "/api/events?after=3",
            "/api/events?run=",
            "/api/events?run=a%0Adata:x",
            "/api/events?run=a b",
        ),
        query("run_1", "run_1"),
        query(*(f"run_{number}" for number in range(51))),
    ],
)
async def test_what_names_no_runs_is_refused(path: str, start: Any) -> None:
    running = await start()
    problem(await running.send("GET", path.replace(" ", "%20")), 400, "bad_request")


async def test_a_stream_is_asked_for_by_get_alone_and_with_the_token(start: Any) -> None:
    running = await start(token="a-token-of-the-test")
    asked = query("run_1")
    problem(await running.send("GET", asked), 401, "auth")
    shown = ("Authorization", "Bearer a-token-of-the-test")
    assert {(await running.send(method, asked, [shown])).status for method in ("HEAD", "POST")} == {405}


# --- who watches ------------------------------------------------------------------------------------------------------


async def test_runs_are_watched_while_they_are_followed_and_no_longer(start: Any, fake: Any) -> None:
    provider = await fake(*[STALLED] * 3)
    running = await start("anthropic:fake", orphan_after=0.2)
    runs = await begun(running, 3)
    live = [running.server.runs._live[run] for run in runs]
    response = await running.session.get(query(*runs))
    await until(lambda: [each._viewers for each in live] == [1, 1, 1])
    again = await running.session.get(query(*runs[:2]))
    await until(lambda: [each._viewers for each in live] == [2, 2, 1])
    before = len(asyncio.all_tasks())
    response.close()
    await gone(running)
    await until(lambda: [each._viewers for each in live] == [1, 1, 0])
    # Only what nobody follows any more is ended.
    await until(lambda: runs[2] not in running.server.runs._live)
    assert [(await running.get(f"/api/runs/{run}"))["outcome"] for run in runs] == [None, None, "stopped"]
    assert len(asyncio.all_tasks()) < before
    again.close()
    await gone(running)
    await until(lambda: not running.server.runs._live)
    assert all(each.left for each in provider.requests) and len(provider.requests) == 3
    assert all(each._ready == {} for each in live)


async def test_runs_of_another_process_come_over_the_same_stream(
    start: Any, write_script: Any, gate: Gate, tmp_path: Path
) -> None:
    writer, reader = [await start(write_script(*WAITS), tools=gate.tools, data=tmp_path) for _ in range(2)]
    runs = [*(await begun(writer, 1)), *(await begun(reader, 1))]
    async with reader.session.get(query(*runs)) as response:
        seen = b""
        while seen.count(b'"tool_call"') < 2:
            seen += await response.content.readany()
        for _ in runs:
            gate.opened.put_nowait("go on")
        seen += await response.read()

    assert apart(seen) == {run: await alone(reader, run) for run in runs}
    assert {frame["outcome"] for run in runs for _, frame in numbered(apart(seen)[run])[-1:] if frame} == {"completed"}


async def test_a_slow_viewer_of_several_runs_holds_up_none_and_is_told_all(
    start: Any, write_script: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "TAIL", 4)
    running = await start(write_script({"text": "word " * 1_200_000, "chunk": 40_000, "delay": 0.0001}))
    runs = await begun(running, 3)
    async with running.session.get(query(*runs)) as response:
        expected = {run: await alone(running, run) for run in runs}  # to their ends, while it has read nothing
        assert apart(await response.read()) == expected
