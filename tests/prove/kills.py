"""R6, R9: `kill -9` in the middle of answers loses not one event that any viewer had seen.

Several conversations stream from a fake provider, with reasoning, text and tools. At some moment the server is killed,
now and then again while it starts, and then started on the same data. Whatever a viewer saw has to be in the log as it
was; each run has ended `interrupted`, its text kept, or as its log says; every question is stored once. Then one of the
conversations goes on where it broke off, another one takes a new question, and what the provider is sent is held
against the rules of its API.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chatstream.testing import Call, FakeProvider, Recorded, Turn
from tests.validators import check_anthropic, check_chat, check_responses

from .rig import (
    APIS,
    LOST,
    Client,
    Frame,
    Json,
    Program,
    Report,
    Viewer,
    contents,
    environment_of,
    run_in,
    sent,
    text_of,
    turn_of,
    until,
    values,
)

CONVERSATIONS = 8
MANY = 10  # kills from which on the slow part is proved too
GOAL = 30.0  # seconds until a living process settles what a dead one left
WORDS = " ".join(f"word{number}" for number in range(150))


class Load:
    """What the provider answers: slowly where it `is_slow`, tools first and then text."""

    def __init__(self) -> None:
        self.is_slow = True

    def turn(self, recorded: Recorded) -> Turn:
        pace: dict[str, Any] = {"delay": 0.007, "write": 300} if self.is_slow else {}
        if has_results(sent(recorded)[-1]):
            return Turn(text=f"So: {WORDS}", **pace)
        calls = [Call("calculate", {"expression": "6 * 7"}), Call("mark", {})]
        return Turn(reasoning="Let me see.", text=f"First: {WORDS}", tools=calls, **pace)


def has_results(message: Json) -> bool:
    if message.get("type") == "function_call_output" or message["role"] == "tool":
        return True
    return isinstance(message["content"], list) and any(part["type"] == "tool_result" for part in message["content"])


def check_requests(requests: Sequence[Recorded]) -> None:
    """Hold what a provider was sent against the rules of its API."""
    checks = {"messages": check_anthropic, "completions": check_chat, "responses": check_responses}
    for request in requests:
        checks[request.path.rpartition("/")[2]](sent(request))


@dataclass(slots=True)
class Asked:
    """A question that was asked while the server was killed, and what its viewers saw."""

    body: Json
    viewers: list[Viewer] = field(default_factory=list)
    log: list[Frame] = field(default_factory=list)

    @property
    def run(self) -> str:
        return self.viewers[0].run

    @property
    def conversation(self) -> str:
        return str(self.body["conversationId"])


async def prove(report: Report, folder: Path, count: int) -> None:
    """Kill the server `count` times."""
    await Proof(report, folder).run(count)


class Proof:
    def __init__(self, report: Report, folder: Path) -> None:
        self.report = report
        self.load = Load()
        self.random = random.Random(7)
        self.folder = folder
        self.everything: list[Asked] = []
        self.seen = self.while_starting = self.interrupted = self.continued = 0

    async def run(self, count: int) -> None:
        async with FakeProvider(self.load.turn) as fake:
            self.program = Program(self.folder, "--model", "scripted:demo", **environment_of(fake))
            async with self.program:
                for number in range(count):
                    self.model = f"{APIS[number % len(APIS)]}:fake"
                    asked = await self._kill_under_load()
                    await self._restart()
                    await self._check(asked)
                    self.report.progress(f"{number + 1} kills")
                async with Client(self.program.url) as client:
                    for each in self.everything:
                        assert await client.events(each.run) == each.log, f"{each.run} changed afterwards"
                if count >= MANY:
                    await self._settled_by_another(environment_of(fake))
            check_requests(fake.requests)
        report = self.report
        report.say(
            f"{count} kills with {CONVERSATIONS} answers being written, {self.while_starting} more while starting:"
        )
        report.say(f"  {self.seen:,} frames that viewers saw are all in the log, and as they were seen")
        report.say(
            f"  {self.interrupted} answers ended interrupted, {len(self.everything) - self.interrupted} by themselves,"
        )
        report.say(
            f"  with the text that was shown; integrity_check: ok; {self.continued} went on or took a new question,"
        )
        report.say(f"  {len(fake.requests)} requests to the provider, all valid")

    async def _settled_by_another(self, environment: dict[str, str]) -> None:
        """Kill the server while another one on the same data lives, with a viewer of its own."""
        self.load.is_slow = True
        async with (
            Program(self.folder, "--model", "scripted:demo", **environment) as other,
            Client(self.program.url) as client,
            Client(other.url) as watching,
        ):
            body = turn_of(await client.conversation(), "turn", "Tell me all.", model=self.model)
            viewer = Viewer(client)
            await viewer.read(await client.ask(body), 20)
            elsewhere = asyncio.create_task(watching.events(viewer.run))
            await asyncio.sleep(0.2)
            await self.program.end()
            began = time.monotonic()
            seen = await elsewhere
            self.report.goal("another process on the data ended the answer", time.monotonic() - began, GOAL, "s")
            assert seen[:20] == viewer.seen and values(seen)[-1]["outcome"] == "interrupted", seen[-1]
            assert contents(await watching.tree(body["conversationId"]), viewer.run) == text_of(seen)

    async def _kill_under_load(self) -> list[Asked]:
        """Ask in every conversation, let two viewers watch each answer, and kill the server meanwhile."""
        self.load.is_slow = True
        async with Client(self.program.url) as client:
            conversations = [await client.conversation() for _ in range(CONVERSATIONS)]
            asked = [Asked(turn_of(each, "turn", "Tell me all.", model=self.model)) for each in conversations]
            watching = [asyncio.create_task(self._watch(client, each)) for each in asked]
            # The first request loads the provider's SDK, which takes a while.
            await until(lambda: any(len(viewer.seen) > 3 for each in asked for viewer in each.viewers), "any answer")
            await asyncio.sleep(self.random.uniform(0, 1.5))
            await self.program.end()
            await asyncio.gather(*watching)
        return asked

    async def _watch(self, client: Client, asked: Asked) -> None:
        first = Viewer(client)
        asked.viewers.append(first)
        with suppress(*LOST):
            response = await client.ask(asked.body)
            first.run = response.headers["X-Run-Id"]
            second = Viewer(client, first.run)
            asked.viewers.append(second)
            await asyncio.gather(first.read(response), second.resume())

    async def _restart(self) -> None:
        """Start the server on the same data; now and then it is killed while it starts, and started again."""
        while self.random.random() < 0.3:
            self.while_starting += 1
            await self.program.spawn()
            await asyncio.sleep(self.random.uniform(0.05, 0.8))
            await self.program.end()
        await self.program.start()
        with closing(sqlite3.connect(self.folder / "data" / "chatstream.db")) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert database.execute("PRAGMA foreign_key_check").fetchall() == []

    async def _check(self, asked: Sequence[Asked]) -> None:
        self.load.is_slow = False
        async with Client(self.program.url) as client:
            for each in asked:
                await self._check_one(client, each)
            self.everything += asked
            for each, is_continued in zip(self.random.sample(asked, 2), (True, False), strict=True):
                await self._go_on(client, each, is_continued)

    async def _check_one(self, client: Client, asked: Asked) -> None:
        """Hold the log and the store against what the viewers saw; asking again is the same turn."""
        again = Viewer(client)
        await again.read(await client.ask(asked.body))
        assert asked.run in ("", again.run), "the same turn is another run"
        asked.viewers[0].run, asked.log = again.run, again.seen
        for viewer in asked.viewers:
            assert viewer.seen == again.seen[: len(viewer.seen)], f"{again.run}: {_lost(viewer.seen, again.seen)}"
            self.seen += len(viewer.seen)
        last = values(again.seen)[-1]
        tree = await client.tree(asked.conversation)
        questions = [message for message in tree["messages"] if message["role"] == "user"]
        assert len(questions) == 1, f"the question is stored {len(questions)} times"
        run = run_in(tree, again.run)
        outcome = last.get("outcome", "failed")
        assert (run["state"], run["outcome"]) == ("ended", outcome), run
        assert run["usage"] == last["usage"]
        assert contents(tree, again.run) == text_of(again.seen), "what is stored is not what was shown"
        assert outcome in ("interrupted", "completed"), last
        self.interrupted += outcome == "interrupted"

    async def _go_on(self, client: Client, asked: Asked, is_continued: bool) -> None:
        """Continue the answer, or ask something else behind it."""
        leaf = (await client.tree(asked.conversation))["leafId"]
        what = {"parentId": leaf} if is_continued else {"message": "And then?"}
        told = await client.answer(turn_of(asked.conversation, "next", model=self.model, **what))
        assert told[-1]["outcome"] == "completed", told[-1]
        tree = await client.tree(asked.conversation)
        assert tree["leafId"] != leaf and WORDS in contents(tree, told[0]["runId"])
        self.continued += 1


def _lost(seen: Sequence[Frame], log: Sequence[Frame]) -> str:
    at = next(at for at in range(len(seen)) if at >= len(log) or seen[at] != log[at])
    return f"of {len(seen)} frames that were seen the log has {len(log)}; the first that is lost or another: {seen[at]}"
