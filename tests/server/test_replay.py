"""A recording in the server: its conversation is there, is asked at the first look, and can be asked again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from chatstream import Message, user
from chatstream.calls import Answer
from chatstream.cassettes import read_cassette
from chatstream.config import Config
from chatstream.errors import ConfigError
from chatstream.events import TextDelta
from chatstream.messages import Text, ToolCall, ToolResult
from chatstream.providers.scripted import Scripted
from chatstream.server import make_app
from chatstream.server.replay import ReplayServer
from chatstream.testing import Call, FakeProvider, Turn
from tests.cassettes import record, stop_at

from .rig import HANG, Frame, Running, texts, turn

Replay = Callable[[Path], Awaitable[tuple[Running, str]]]


@pytest.fixture
async def replay(stack: AsyncExitStack, run_app: Callable[[web.Application], Any]) -> Replay:
    """Start a server that plays a file at once; returns it and the id of the conversation."""

    async def replay(path: Path) -> tuple[Running, str]:
        server = ReplayServer(Config(), read_cassette(path), float("inf"))
        running = Running(await run_app(make_app(server)), server)
        stack.push_async_callback(server.close)
        stack.push_async_callback(running.session.close)
        await server.open()
        return running, server.home.removeprefix("c=")

    return replay


async def look(server: Running, conversation: str) -> tuple[Any, list[Frame]]:
    """Open the conversation as the page does, and follow the run that is there to its end."""
    tree = await server.tree(conversation)
    assert [each["state"] for each in tree["runs"]][-1:] == ["running"]
    frames = [frame for _, frame in await server.follow(tree["runs"][-1]["id"]) if frame]
    return tree, frames


def said(tree: Any) -> list[str]:
    return [
        f"{each['role']}: " + "".join(part.get("text", "") for part in each["content"]) for each in tree["messages"]
    ]


async def test_the_recorded_question_is_asked_when_its_conversation_is_opened(tmp_path: Path, replay: Replay) -> None:
    messages = [user("One?"), Message("assistant", (Text("1"),)), Message("system", (Text("Be brief."),)), user("Sum?")]
    turns = [Turn(text="I add.", tools=[Call("add", {"a": 1, "b": 2}, "x")]), Turn(text="Three.")]
    async with FakeProvider(turns) as fake:
        path, _ = await record(tmp_path, fake.anthropic(), messages=messages)
    server, conversation = await replay(path)
    listed = await server.get("/api/conversations")
    assert [each["isRunning"] for each in listed["conversations"]] == [False], "nobody has looked yet"
    tree, frames = await look(server, conversation)
    assert said(tree) == ["user: One?", "assistant: 1", "user: Sum?"]
    assert texts(frames) == "I add.Three." and frames[-1]["outcome"] == "completed"
    assert [frame["result"] for frame in frames if frame["type"] == "tool_result"] == ["3"]
    again = await server.ask(turn(conversation, "Something else"))
    assert texts(again) == "I add.Three." and [each["type"] for each in again] == [each["type"] for each in frames]
    assert len((await server.tree(conversation))["runs"]) == 3, "another look asks nothing"
    models = await server.get("/api/models")
    assert [each["label"] for each in models["models"]] == ["claude-sonnet-5-5 (recorded)"]


async def test_what_was_stopped_is_stopped_again(tmp_path: Path, replay: Replay) -> None:
    async with FakeProvider([Turn(text="One, two, three", stall=900)]) as fake:
        path, _ = await record(tmp_path, fake.anthropic(), stop_at(TextDelta))
    server, conversation = await replay(path)
    _, frames = await look(server, conversation)
    assert (frames[-1]["type"], frames[-1]["outcome"]) == ("done", "stopped")


async def test_what_was_decided_is_decided_again(tmp_path: Path, replay: Replay) -> None:
    calls = [ToolCall(name, "delete", {"file": name}, f'{{"file":"{name}"}}') for name in "xy"]
    messages = [user("Delete x and y."), Message("assistant", tuple(calls))]
    answers = [Answer(calls[0]), Answer(calls[1], ToolResult("y", "delete", "The user denied this call.", True))]
    path, _ = await record(tmp_path, Scripted([{"text": "One is gone."}]), messages=messages, answers=answers)
    server, conversation = await replay(path)
    tree, frames = await look(server, conversation)
    assert said(tree)[0] == "user: Delete x and y." and texts(frames) == "One is gone."
    results = {frame["toolCallId"]: frame["result"] for frame in frames if frame["type"] == "tool_result"}
    assert results == {"x": "x is gone", "y": "The user denied this call."}


async def test_a_recorded_pause_waits_for_whoever_looks(tmp_path: Path, replay: Replay) -> None:
    path, _ = await record(tmp_path, Scripted([{"tools": [{"name": "delete", "arguments": {"file": "a"}}]}]))
    server, conversation = await replay(path)
    tree, frames = await look(server, conversation)
    assert frames[-1]["outcome"] == "paused"
    (call,) = [frame["toolCallId"] for frame in frames if frame["type"] == "approval"]
    decisions = {"decisions": [{"toolCallId": call, "decision": "deny"}]}
    decided = await server.request("POST", f"/api/runs/{tree['runs'][-1]['id']}/approvals", decisions)
    async with asyncio.timeout(HANG):
        frames = [frame for _, frame in await server.follow(decided.json["runId"]) if frame]
    assert frames[-1]["type"] == "error" and "The recording ends here" in frames[-1]["message"]


async def test_a_recording_without_a_question_says_so(tmp_path: Path, replay: Replay) -> None:
    path, _ = await record(tmp_path, Scripted([{"text": "Hello"}]), messages=[Message("assistant", (Text("Hm"),))])
    with pytest.raises(ConfigError, match="has no question"):
        await replay(path)
