"""Recorded runs: the file holds what happened and no key, plays it without the provider, and shows what changed."""

from __future__ import annotations

import asyncio
import logging
import math
import re
import stat
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import orjson
import pytest

from chatstream import Message, Toolbox, run, tool, user
from chatstream import __main__ as program
from chatstream.agent import Loop
from chatstream.calls import Answer
from chatstream.cassettes import read_cassette
from chatstream.config import Config, read_replay
from chatstream.errors import ConfigError
from chatstream.eventlog import Entry
from chatstream.events import Event, Outcome, RunFinished, TextDelta, ToolStarted
from chatstream.messages import ToolCall, ToolResult
from chatstream.providers.scripted import Scripted
from chatstream.replay import Replayed, ReplayedTools, verify
from chatstream.server import Server
from chatstream.testing import Call, FakeProvider, Turn
from tests.cassettes import KEY, TOOLS, Act, record, stop_at
from tests.runs import SDKS, of


def never(loop: Loop, event: Event) -> None:
    """Do nothing."""


ODD = Turn(
    reasoning="Let me see.",
    text="Zwölf Boxkämpfer \N{GRINNING FACE}",
    tools=[Call("add", {"a": 1, "b": 2}, "x"), Call("climb", {}, "y"), Call("add", '{"a": 1', "z")],
    write=7,
)
# What the provider does, what is done to the run, and how it ends.
RUNS: dict[str, tuple[list[Turn], Act, str]] = {
    "text": ([Turn(text="Hello")], never, "completed"),
    "tools, in pieces that cut characters": ([ODD, Turn(text="Well.", write=1)], never, "completed"),
    "an overload that is tried again": ([Turn(status=529, retry_after=2), Turn(text="Here.")], never, "completed"),
    "a key that is refused": ([Turn(status=401)], never, "failed"),
    "a connection that breaks": ([Turn(text="Hello " * 99, drop=900)], never, "failed"),
    "an answer that ends too early": ([Turn(text="Hello " * 99, end=900)], never, "failed"),
    "an error inside": (
        [Turn(raw=b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}\n\n')] * 4,
        never,
        "failed",
    ),
    "a stop while the model speaks": ([Turn(text="Hello " * 99, stall=2000)], stop_at(TextDelta), "stopped"),
    "an end of the process": (
        [Turn(text="Hello " * 99, stall=2000)],
        stop_at(TextDelta, Outcome.INTERRUPTED),
        "interrupted",
    ),
    "a stop while a tool runs": ([Turn(tools=[Call("wait", {})])], stop_at(ToolStarted), "stopped"),
    "a call that wants an approval": ([Turn(tools=[Call("delete", {"file": "a"})])], never, "paused"),
}


def outcome_of(said: Sequence[Event]) -> str:
    last = said[-1]
    return str(last.outcome) if isinstance(last, RunFinished) else "failed"


@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize(("turns", "act", "outcome"), RUNS.values(), ids=RUNS)
async def test_a_recorded_run_comes_again_from_its_file(
    sdk: str, turns: list[Turn], act: Act, outcome: str, tmp_path: Path
) -> None:
    async with FakeProvider(turns) as fake:
        path, said = await record(tmp_path / "made" / "here", getattr(fake, sdk)(), act)
    assert outcome_of(said) == outcome
    cassette = read_cassette(path)
    assert cassette.events == said and [number for _, number, _ in cassette.entries] == list(range(1, len(said) + 1))
    assert [attempt.body for attempt in cassette.attempts] == [request.body for request in fake.requests]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    async with asyncio.timeout(20):
        await verify(path)


async def test_a_run_without_bytes_comes_again_from_its_events(tmp_path: Path) -> None:
    calls = [{"name": "add", "arguments": {"a": 1, "b": 2}}, {"name": "climb"}]
    calling = {"delay": 0, "reasoning": "Hm.", "text": "I add.", "tools": calls}
    done = {"delay": 0, "text": "Three."}
    scripts = {
        "completed": [calling, done],
        "overloaded once": [calling, {**done, "text": "", "error": "overloaded", "times": 1}],
        "failed": [calling, {**done, "error": "overloaded"}],
    }
    for name, script in scripts.items():
        path, said = await record(tmp_path / name, Scripted(script))
        assert outcome_of(said) == name.replace("overloaded once", "completed")
        await verify(path)


async def test_a_run_that_goes_on_behind_a_decision_is_recorded_with_it(tmp_path: Path) -> None:
    calls = [
        ToolCall("x", "delete", {"file": "a"}, '{"file":"a"}'),
        ToolCall("y", "delete", {"file": "b"}, '{"file":"b"}'),
    ]
    messages = [user("Delete a and b."), Message("assistant", tuple(calls))]
    answers = [Answer(calls[0]), Answer(calls[1], ToolResult("y", "delete", "The user denied this call.", True))]
    async with FakeProvider([Turn(text="One is gone.")]) as fake:
        path, said = await record(tmp_path, fake.anthropic(), messages=messages, answers=answers)
    cassette = read_cassette(path)
    assert (cassette.messages, cassette.answers) == (messages, answers)
    assert outcome_of(said) == "completed"
    await verify(path)


@pytest.mark.parametrize("chunk", [99, 3], ids=["whole", "in pieces"])
@pytest.mark.parametrize("sdk", SDKS)
async def test_no_key_is_in_the_file_even_where_the_model_says_it(sdk: str, chunk: int, tmp_path: Path) -> None:
    text = f"Your key is {KEY}, and none is short."
    turns = [Turn(text=text, chunk=chunk, tools=[Call("fail", {"why": KEY})], write=9), Turn(status=401)]
    async with FakeProvider(turns) as fake:
        path, _ = await record(tmp_path, getattr(fake, sdk)(), messages=[user(f"Is {KEY} right?")])
    data = path.read_bytes()
    assert KEY.encode() not in data and b"test-key" not in data
    cassette = read_cassette(path)
    said = "".join(event.text for event in cassette.events if isinstance(event, TextDelta))
    assert said == text.replace(KEY, "*" * len(KEY))
    assert not cassette.attempts[0].reads and cassette.attempts[0].body is not None
    await verify(path)


# --- what is no cassette ----------------------------------------------------------------------------------------------


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    async with FakeProvider([Turn(tools=[Call("add", {"a": 1, "b": 2})]), Turn(text="It is 3.")]) as fake:
        return (await record(tmp_path / "r", fake.openai_chat()))[0]


BAD: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "nothing": (lambda data: b"", "is no cassette"),
    "something else": (lambda data: b'{"a": 1}\n', "is no cassette"),
    "bytes": (lambda data: b"\xff\x00", "is no cassette"),
    "another version": (lambda data: data.replace(b'"version":1', b'"version":2', 1), "of version 2; .* reads 1"),
    "no end": (lambda data: data[: data.rindex(b'{"at"')], "broke off"),
    "half a line": (lambda data: data[:-9], "broke off|damaged in line"),
    "another kind of event": (lambda data: data.replace(b'"turn_started"', b'"turn_begun"', 1), "damaged in line 3"),
    "no beginning": (lambda data: data.replace(data.split(b"\n")[1] + b"\n", b"", 1), "damaged in line 2"),
    "no time": (lambda data: data.replace(b'"at":0.', b'"at":"x",".":0.', 1), "damaged in line 2"),
    "a model that is no name": (lambda data: data.replace(b'"model":"', b'"model":5,"x":"', 1), "damaged in line 1"),
    "an unknown API": (lambda data: data.replace(b'"chat/completions"', b'"pigeons"', 1), "damaged in line 1"),
    "no question": (
        lambda data: re.sub(rb'"messages":.*?,"answers"', b'"messages":[],"answers"', data, count=1),
        "line 1",
    ),
    "half a tool": (lambda data: data.replace(b'"readOnly"', b'"x"', 1), "damaged in line 1: KeyError\\('readOnly'"),
    "a missing member": (lambda data: data.replace(b'"settings"', b'"x"', 1), "damaged in line 1"),
}


@pytest.mark.parametrize(("damage", "told"), BAD.values(), ids=BAD)
def test_a_file_that_cannot_be_played_says_why(damage: Callable[[bytes], bytes], told: str, path: Path) -> None:
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ConfigError, match=told):
        read_cassette(path)


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_cassette(tmp_path / "none.jsonl")


def replace_in(path: Path, then: bytes, now: bytes) -> None:
    data = path.read_bytes()
    assert then in data
    path.write_bytes(data.replace(then, now, 1))


# --- a regression test ------------------------------------------------------------------------------------------------

CHANGES = {
    "what the provider said": (b"It is 3", b"It is 4", "event 1.* is another one now"),
    "an event": (b'["text_delta",1,"It is 3."]', b'["text_delta",1,"It is 5."]', "It is 5.*\n.*It is 3"),
    "a tool's result": (b'"add","3",false', b'"add","4",false', "is another one now"),
    "a call": (b'\\"b\\": ', b'\\"c\\": ', "is another one now"),
}


@pytest.mark.parametrize(("then", "now", "told"), CHANGES.values(), ids=CHANGES)
async def test_a_run_that_is_another_one_now_shows_the_first_difference(
    then: bytes, now: bytes, told: str, path: Path
) -> None:
    await verify(path)
    replace_in(path, then, now)
    with pytest.raises(AssertionError, match=told):
        await verify(path)


def test_the_command_checks_a_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "_log_to_stderr", lambda config: None)

    def check(file: Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["chatstream", "replay", str(file), "--check"])
        status = program.main()
        return status, "".join(capsys.readouterr())

    assert check(path) == (0, "run_1.jsonl: every event is as it was recorded\n")
    replace_in(path, b"It is 3", b"It is 4")
    status, told = check(path)
    assert status == 1 and "recorded: " in told and "now: " in told
    status, told = check(path.parent)
    assert status == 2 and "cannot read" in told


@pytest.mark.parametrize(("text", "speed"), [("2", 2.0), ("0.5", 0.5), ("0", math.inf), ("max", math.inf)])
def test_the_speed_is_a_number_or_max(text: str, speed: float) -> None:
    replay = read_replay(["f.jsonl", "--speed", text, "--port", "9"], {})
    assert (replay.file, replay.speed, replay.check, replay.server.port) == (Path("f.jsonl"), speed, False, 9)
    for wrong in ("-1", "fast", "nan"):
        with pytest.raises(ConfigError, match="--speed"):
            read_replay(["f.jsonl", f"--speed={wrong}"], {})


# --- a demo -----------------------------------------------------------------------------------------------------------


async def test_it_plays_at_its_pace_or_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeProvider([Turn(text="Hello", write=100, delay=0.01)]) as fake:
        path, _ = await record(tmp_path, fake.anthropic())
    cassette = read_cassette(path)
    span = cassette.attempts[0].reads[-1][0] - cassette.attempts[0].at
    for speed in (1.0, 0.5):
        began = time.monotonic()
        assert "".join([text async for text in Replayed(cassette, speed).text("Hi")]) == "Hello"
        assert time.monotonic() - began >= span / speed > 0.05

    async def no_sleep(seconds: float) -> None:
        raise AssertionError("at once is without any wait")

    monkeypatch.setattr(asyncio, "sleep", no_sleep)
    assert "".join([text async for text in Replayed(cassette, math.inf).text("Hi")]) == "Hello"


async def test_tools_answer_as_they_did_wherever_the_run_is_played_again(path: Path) -> None:
    cassette = read_cassette(path)
    (started,) = of(cassette.events, ToolStarted)
    tools = ReplayedTools(cassette, math.inf)
    for call_id in (started.call_id, f"{started.call_id}_2", "another"):
        call = ToolCall(call_id, "add", {"a": 1, "b": 2}, "{}")
        assert (await tools.execute(call, print)).content == "3"
    unknown = await tools.execute(ToolCall("another", "add", {"a": 7, "b": 2}, "{}"), print)
    assert unknown.is_error and "no such call" in unknown.content
    assert [(each.name, each.approval) for each in tools] == [(each.name, each.approval) for each in TOOLS]


async def test_calls_that_are_alike_are_told_apart_by_their_ids(tmp_path: Path) -> None:
    numbers = iter("123")

    @tool
    async def count() -> str:
        """Count."""
        return next(numbers)

    calls = [{"name": "count", "id": name} for name in "xy"]
    path, _ = await record(tmp_path, Scripted([{"tools": calls}, {"text": "Done."}]), tools=[count])
    tools = ReplayedTools(read_cassette(path), math.inf)
    for call_id, result in {"y": "2", "y_2": "2", "x_3": "1"}.items():
        assert (await tools.execute(ToolCall(call_id, "count", {}, "{}"), print)).content == result


async def test_a_run_of_the_library_can_be_played_too(path: Path) -> None:
    cassette = read_cassette(path)
    said = [event async for event in run(Replayed(cassette, math.inf), "Hi", ReplayedTools(cassette, math.inf))]
    assert of(said, RunFinished)[0].messages == of(cassette.events, RunFinished)[0].messages


# --- recording in the server ------------------------------------------------------------------------------------------


async def ask(server: Server, run_id: str, seen: Callable[[Event], object] = lambda event: None) -> list[Event]:
    """Ask in a conversation that the caller keeps, and return the events as a viewer has them."""
    asked = await server.runs.ask_once("local", {}, [user("Hi")], run_id)
    said = []

    def show(entries: Sequence[Entry]) -> None:
        for _, event in entries:
            said.append(event)
            seen(event)

    await server.runs.tell(asked, 0, show)
    return said


async def test_a_server_records_each_run_as_one_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closing: list[asyncio.Task[None]] = []

    def close(event: Event) -> None:
        """Close as when the process is asked to stop."""
        if isinstance(event, TextDelta):
            closing.append(asyncio.create_task(server.close()))

    async with FakeProvider([Turn(text="Hello"), Turn(text="Hello " * 9, stall=900)]) as fake, asyncio.timeout(30):
        for name, value in fake.environment.items():
            monkeypatch.setenv(name, value)
        server = Server(Config(model="anthropic:m", record=tmp_path / "new"), tools=Toolbox(TOOLS))
        await server.open()
        assert outcome_of(await ask(server, "run_a")) == "completed"
        server.runs._recorder._submit(lambda: time.sleep(0.2))  # type: ignore[union-attr]  # a slow disk
        assert outcome_of(await ask(server, "run_b", close)) == "interrupted"
        await asyncio.gather(*closing)
    assert len(list((tmp_path / "new").iterdir())) == 2
    for name in ("run_a", "run_b"):
        await verify(tmp_path / "new" / f"{name}.jsonl")


async def test_a_disk_that_fails_costs_the_recording_and_not_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "script.json").write_text('[{"delay": 0, "text": "Hello"}]')
    server = Server(Config(model=f"scripted:{tmp_path}/script.json", record=tmp_path / "r"), tools=Toolbox(TOOLS))
    await server.open()
    (tmp_path / "r").rmdir()
    with caplog.at_level(logging.ERROR):
        assert outcome_of(await ask(server, "run_a")) == "completed"
        await server.close()
    assert [record.getMessage() for record in caplog.records] == [
        f"run_a.jsonl cannot be recorded: [Errno 2] No such file or directory: '{tmp_path}/r/run_a.jsonl'"
    ]


async def test_a_folder_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    server = Server(Config(model="scripted:demo", record=tmp_path / "file" / "r"), tools=Toolbox())
    with pytest.raises(ConfigError, match=r"--record: cannot write to .*/file/r"):
        await server.open()
    await server.close()


def test_each_line_is_json_that_says_when(path: Path) -> None:
    first, *lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    assert first["format"] == "chatstream cassette" and first["api"] == "chat/completions"
    assert [line["at"] for line in lines] == sorted(line["at"] for line in lines)
    assert {next(name for name in line if name != "at") for line in lines} == {
        *("attempt", "request", "read", "end", "event"),
    }
