"""R41: clients that connect and tear the connection leave nothing behind in the server.

They do it while they send their request, as soon as it is sent, in the middle of an answer that they asked for, that
they follow, or that they have too little room for, some while they wait for a place (`--max-runs`). Afterwards tasks,
file descriptors, threads, live runs and free places are those that there were before, and so is the memory, but for a
few MB. Meanwhile the garbage collector is off, which in a busy server comes late: nothing may wait for it.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import socket
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from chatstream.agent import new_id
from chatstream.errors import Busy
from chatstream.testing import Call, FakeProvider, Recorded, Turn, chat_stream

from .kills import has_results
from .proxy import reset
from .rig import Client, Json, Program, Report, descriptors, environment_of, status_of, turn_of, until

AT_ONCE = 20
GOAL = 5.0  # MB
SPEECH = chat_stream(Turn(text="word " * 1000))
BIG = chat_stream(Turn(text="x" * 400_000, chunk=4000))  # more than the buffers between two sockets hold
HEAD = "Host: localhost\r\nConnection: close\r\n"
KEPT = 0.5  # seconds after which a connection to the provider is closed that waits for another request


@dataclass(frozen=True, slots=True)
class Rest:
    """What lives in the server when nobody asks anything of it."""

    tasks: int
    descriptors: int
    threads: int
    objects: int
    left: int
    megabytes: float


def turn(recorded: Recorded) -> Turn:
    last = recorded.body["messages"][-1]
    said = str(last["content"])
    if has_results(last):
        return Turn(text="Seen.")
    if "look" in said:
        return Turn(tools=[Call("look", {})])
    if "big" in said:
        return Turn(raw=BIG)
    return Turn(raw=SPEECH, delay=0.01, write=500)


async def prove(report: Report, folder: Path, count: int) -> None:
    """Tear `count` connections, after a fifth as many to warm up."""
    # What nobody watches ends soon, so that its end is seen here.
    options = ("--model", "openai-chat:fake", "--linger", "0.2", "--orphan-after", "0.2", "--max-turns", "3")
    # Fewer than there are at times, so that some leave while they wait for their turn.
    options += ("--max-runs", str(AT_ONCE), "--max-queue", "1000")
    # Of several arenas glibc keeps the free memory at the top: which thread happened to work last would be the figure.
    arenas = {"MALLOC_ARENA_MAX": "1"}
    async with (
        FakeProvider(turn, keep_alive=KEPT) as fake,
        Program(folder, *options, **environment_of(fake), **arenas) as program,
    ):
        proof = _Proof(report, program, folder)
        await proof.prepare()
        await proof.rest()  # from here on nothing is collected
        await proof.tear(max(count // 5, 3 * AT_ONCE))
        await asyncio.sleep(4 * KEPT)
        before = await proof.rest()
        proof.torn.clear()
        await proof.tear(count)
        after = await proof.rest(before)
        await proof.fill()
        assert after.left < count, f"{after.left} objects were left in circles"
        assert "Traceback" not in program.log.read_text(), program.log.read_text()[-3000:]
    report.say(f"{count:,} connections torn: " + ", ".join(f"{times:,} {kind}" for kind, times in proof.torn.items()))
    report.say(
        f"tasks, file descriptors and threads: {before.tasks}, {before.descriptors}, {before.threads} before, and"
    )
    report.say(f"  {after.tasks}, {after.descriptors}, {after.threads} afterwards; no run goes on, all places are free")
    report.say(f"Python objects: {before.objects:,} before, {after.objects:,} afterwards; with no garbage collector")
    report.say(f"  {after.left / count:.1f} of each connection would wait for it")
    report.goal("memory grew", after.megabytes - before.megabytes, GOAL, "MB")


class _Proof:
    def __init__(self, report: Report, program: Program, folder: Path) -> None:
        self.report = report
        self.program = program
        self.folder = folder
        self.random = random.Random(3)
        self.torn = Counter[str]()
        self.kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "within the request": self._within_the_request,
            "before the headers": self._before_the_headers,
            "within an answer": self._within_an_answer,
            "within a stored answer": self._within_a_stored_answer,
            "as a follower": self._as_a_follower,
            "as a slow reader": self._as_a_slow_reader,
        }

    async def prepare(self) -> None:
        async with Client(self.program.url) as client:
            self.conversation = await client.conversation()
            response = await client.ask({"messages": [{"role": "user", "content": "big"}]})
            async with response:
                self.big = response.headers["X-Run-Id"]
                await response.read()

    async def tear(self, count: int) -> None:
        """Tear so many connections, some of each kind, a few at a time."""
        kinds = list(itertools.islice(itertools.cycle(self.kinds), count))

        async def work() -> None:
            while kinds:
                kind = kinds.pop()
                with suppress(ConnectionError, asyncio.IncompleteReadError):
                    await self.kinds[kind]()
                self.torn[kind] += 1
                self.report.progress(f"{self.torn.total():,} connections torn")

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))

    async def rest(self, like: Rest | None = None) -> Rest:
        """Wait until all runs have ended and what was open is closed, and return what is there then."""
        await until(lambda: self._running() == 0, "all runs end", 0.1)
        pid = self.program.process.pid
        if like is not None:
            await until(lambda: len(descriptors(pid)) <= like.descriptors, "what was open is closed", 0.1)
        seen = await self._look()
        status = status_of(pid)
        threads, megabytes = int(status["Threads"]), int(status["VmRSS"].split()[0]) / 1024
        found = Rest(seen["tasks"], len(descriptors(pid)), threads, seen["objects"], seen["left"], megabytes)
        if like is not None:
            assert found.tasks <= like.tasks and found.threads <= like.threads, f"{like} before, {found} afterwards"
        return found

    async def fill(self) -> None:
        """Take all places at once: none is held by a run that is over, or nobody's."""
        async with Client(self.program.url) as client:
            told = await asyncio.gather(
                *(client.answer({"messages": [{"role": "user", "content": "Speak."}]}) for _ in range(AT_ONCE))
            )
        notices = [value for values in told for value in values if value["type"] == "notice"]
        # Another notice may be of a connection that the provider closed as it was taken.
        assert not any(notice["code"] == Busy.code for notice in notices), f"a place is still taken: {notices}"

    async def _look(self) -> Json:
        async with Client(self.program.url) as client:
            told = await client.answer({"messages": [{"role": "user", "content": "look"}], "tools": ["look"]})
        found = next(value for value in told if value["type"] == "tool_result")
        assert not found["isError"], found
        return dict(json.loads(found["result"]))

    def _running(self) -> int:
        with closing(sqlite3.connect(self.folder / "data" / "chatstream.db")) as database:
            return int(database.execute("SELECT count(*) FROM runs WHERE outcome = ''").fetchone()[0])

    # --- the kinds ----------------------------------------------------------------------------------------------------

    async def _within_the_request(self) -> None:
        request = _post({"messages": [{"role": "user", "content": "Speak."}]})
        await self._send(request[: self.random.randrange(1, len(request))], 0)

    async def _before_the_headers(self) -> None:
        await self._send(_post({"messages": [{"role": "user", "content": "Speak."}]}), 0)

    async def _within_an_answer(self) -> None:
        await self._send(_post({"messages": [{"role": "user", "content": "Speak."}]}), self.random.randrange(600, 4000))

    async def _within_a_stored_answer(self) -> None:
        body = turn_of(self.conversation, new_id("turn"), "Speak.", parentId=None)
        run = await self._send(_post(body), self.random.randrange(600, 4000))
        self.followed = run or self.followed

    followed = ""

    async def _as_a_follower(self) -> None:
        await self._send(
            request_of(f"/api/runs/{self.followed or self.big}/events?after=2"), self.random.randrange(1, 4000)
        )

    async def _as_a_slow_reader(self) -> None:
        await self._send(request_of(f"/api/runs/{self.big}/events"), 1, is_slow=True)

    async def _send(self, request: bytes, least: int, *, is_slow: bool = False) -> str:
        """Send a request, read so many bytes, and tear the connection; returns the run's id where it came."""
        connection = socket.socket()
        connection.setblocking(False)
        if is_slow:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reset(connection)
        try:
            loop = asyncio.get_running_loop()
            await loop.sock_connect(connection, ("127.0.0.1", self.program.port))
            await loop.sock_sendall(connection, request)
            seen = b""
            while len(seen) < least and (data := await loop.sock_recv(connection, 2048)):
                seen += data
            if is_slow:
                await asyncio.sleep(0.05)
            return seen.partition(b"X-Run-Id: ")[2].partition(b"\r")[0].decode()
        finally:
            connection.close()


def _post(body: Json) -> bytes:
    data = json.dumps(body).encode()
    kind = f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
    return f"POST /api/chat HTTP/1.1\r\n{HEAD}{kind}\r\n".encode() + data


def request_of(path: str) -> bytes:
    """Return the request for what is there."""
    return f"GET {path} HTTP/1.1\r\n{HEAD}\r\n".encode()
