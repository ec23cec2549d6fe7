"""A viewer that reads slowly or not at all holds little, is dropped, and nobody else notices (R42)."""

from __future__ import annotations

import asyncio
import fcntl
import json
import re
import socket
import struct
import termios
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, closing
from typing import Any

import pytest

from chatstream.server import chat, stream
from chatstream.server.stream import EventStream
from chatstream.testing import Turn

from .rig import HANG, Gate, Running, numbered, question, texts, turn, until

MOST = 256 * 1024  # bytes that a viewer holds
LONG = Turn(text="word " * 150_000, chunk=1000)
Begin = Callable[..., Awaitable[tuple[Running, str]]]


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr(stream, "PATIENCE", 0.3)
    return stream.PATIENCE


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The transports of the native streams that were opened, the newest last."""
    opened: list[Any] = []

    class Seen(EventStream):
        async def __aenter__(self) -> EventStream:
            opened.append(self._request.transport)
            return await super().__aenter__()

    monkeypatch.setattr(chat, "EventStream", Seen)
    return opened


@pytest.fixture
def begin(start: Any, fake: Any) -> Begin:
    async def begin(answer: Turn = LONG, **settings: Any) -> tuple[Running, str]:
        """Start a server, begin a stored run, and return both."""
        await fake(lambda asked: answer)
        running = await start("openai-chat:fake", **settings)
        return running, await begun(running)

    return begin


async def begun(running: Running) -> str:
    """Begin a stored run that nobody watches yet."""
    body = turn(await running.conversation())
    answer = await running.session.post("/api/chat", json=body, headers={"Prefer": "respond-async"})
    return str((await answer.json())["runId"])


async def look(
    running: Running, path: str, *, version: str = "1.1", method: str = "GET", body: bytes = b""
) -> socket.socket:
    """Ask for a stream with little room for it, and read nothing."""
    viewer = socket.socket()
    viewer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    viewer.setblocking(False)
    loop = asyncio.get_running_loop()
    kind = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
    request = f"{method} {path} HTTP/{version}\r\nHost: {running.host}\r\n{kind}Connection: close\r\n\r\n"
    await loop.sock_connect(viewer, ("127.0.0.1", running.port))
    await loop.sock_sendall(viewer, request.encode() + body)
    return viewer


async def read(viewer: socket.socket, size: int = 65536, pause: float = 0.0) -> AsyncIterator[bytes]:
    """Yield what comes, to the end, however that is."""
    try:
        while data := await asyncio.get_running_loop().sock_recv(viewer, size):
            yield data
            await asyncio.sleep(pause)
    except ConnectionError:
        pass


async def read_all(viewer: socket.socket, size: int = 65536, pause: float = 0.0) -> bytes:
    async with asyncio.timeout(HANG):
        return b"".join([data async for data in read(viewer, size, pause)])


def body_of(answer: bytes) -> bytes:
    """Return the body of an answer in chunks, as far as it came: an empty chunk stands as b"\\0" at its end."""
    rest, body = answer.partition(b"\r\n\r\n")[2], b""
    while met := re.match(rb"([0-9a-f]+)\r\n", rest):
        size = int(met[1], 16)
        body += rest[met.end() : met.end() + size] or b"\0"
        rest = rest[met.end() + size + 2 :]
    return body


def held(transport: Any) -> int:
    """Return how many bytes this process and its kernel hold for a viewer."""
    connection = transport.get_extra_info("socket")
    (queued,) = struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))
    return int(transport.get_write_buffer_size() + queued)


async def dropped(running: Running) -> None:
    while not re.search(r"/events (gone|499)", await running.over()):
        pass


# --- what it holds ----------------------------------------------------------------------------------------------------


async def test_who_does_not_read_holds_little_of_a_long_answer_and_the_others_see_all_of_it(
    begin: Begin, streams: list[Any]
) -> None:
    running, run = await begin()
    with closing(await look(running, f"/api/runs/{run}/events")):
        await until(lambda: streams and streams[0].get_write_buffer_size())
        whole = await running.follow(run)

        assert whole[-1][1] and whole[-1][1]["outcome"] == "completed"
        assert sum(len(frame.get("content", "")) for _, frame in whole if frame) == len(LONG.text)
        assert stream.HIGH / 4 < held(streams[0]) < MOST
    with closing(await look(running, f"/api/runs/{run}/events")):  # the same of what is read from the log
        await until(lambda: len(streams) == 3 and streams[2].get_write_buffer_size() > stream.HIGH / 4)
        await asyncio.sleep(0.05)
        assert held(streams[2]) < MOST


async def test_while_nobody_takes_it_the_model_is_read_no_faster_and_who_comes_sees_all(start: Any, fake: Any) -> None:
    text = "word " * 3_000_000
    provider = await fake(Turn(text=text, chunk=5000, write=65536))
    running = await start("openai-chat:fake")
    with closing(await look(running, "/api/chat", method="POST", body=json.dumps(question()).encode())):
        sent = -1
        while not provider.requests or provider.requests[0].sent > sent:
            sent = provider.requests[0].sent if provider.requests else -1
            await asyncio.sleep(0.1)
        assert 0 < sent < len(text) / 2, "the sockets between them are full"
        (run,) = running.server.runs._live
        whole = await running.follow(run)
    assert texts(frame for _, frame in whole if frame) == text


async def test_a_frame_longer_than_a_piece_comes_whole_with_no_comment_in_it(begin: Begin) -> None:
    running, run = await begin(heartbeat=0.001)
    with closing(await look(running, f"/api/runs/{run}/events")) as viewer:
        told = body_of(await read_all(viewer))

    blocks = numbered(told.removesuffix(b"\0"))
    assert told.endswith(b"\n\n\0")
    assert blocks[-1][1] and len(str(blocks[-1][1]["messages"])) > len(LONG.text) > stream.PIECE
    assert [number for number, _ in blocks] == list(range(1, len(blocks) + 1))


async def test_one_that_speaks_http_1_0_is_told_the_same_without_chunks(begin: Begin) -> None:
    running, run = await begin()
    whole = await running.follow(run)
    with closing(await look(running, f"/api/runs/{run}/events", version="1.0")) as viewer:
        head, _, told = (await read_all(viewer)).partition(b"\r\n\r\n")

    assert b"Transfer-Encoding" not in head
    assert numbered(told) == whole


async def test_a_viewer_has_no_task_but_the_two_of_aiohttp(start: Any, write_script: Any, gate: Gate) -> None:
    running = await start(write_script({"tools": [{"name": "wait"}]}, {"text": "Done."}), tools=gate.tools)
    async with await running.open() as first:
        run = first.headers["X-Run-Id"]
        await gate.entered.wait()
        before = len(asyncio.all_tasks())
        with ExitStack() as opened:
            for _ in range(10):
                viewer = opened.enter_context(await look(running, f"/api/runs/{run}/events"))
                assert await asyncio.get_running_loop().sock_recv(viewer, 1)
            assert len(asyncio.all_tasks()) == before + 2 * 10


# --- who is dropped ---------------------------------------------------------------------------------------------------


async def test_who_takes_nothing_is_dropped_and_goes_on_where_it_was(begin: Begin, patience: float) -> None:
    running, run = await begin()
    with closing(await look(running, f"/api/runs/{run}/events")) as viewer:
        await dropped(running)
        told = body_of(await read_all(viewer))

    seen = numbered(told[: told.rindex(b"\n\n") + 2])
    assert not told.endswith(b"\0"), "it looks like an answer that ended"
    whole = await running.follow(run)
    assert 0 < len(seen) < len(whole)
    assert seen + await running.follow(run, str(seen[-1][0])) == whole
    assert whole[-1][1] and whole[-1][1]["outcome"] == "completed", "the run noticed"


async def test_who_takes_too_little_is_dropped_and_who_takes_enough_is_not(
    begin: Begin, patience: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, run = await begin()
    whole = await running.follow(run)
    path = f"/api/runs/{run}/events"
    with closing(await look(running, path)) as slow, closing(await look(running, path)) as patient:
        reading = asyncio.create_task(read_all(patient, 65536, 0.001))
        trickle = asyncio.create_task(read_all(slow, 1024, 0.05))
        await dropped(running)
        assert numbered(body_of(await reading).removesuffix(b"\0")) == whole
        assert not body_of(await trickle).endswith(b"\0")


async def test_who_leaves_the_end_lying_is_dropped_too(begin: Begin, patience: float, streams: list[Any]) -> None:
    running, run = await begin(Turn(text="word " * 4000, chunk=500))
    whole = await running.follow(run)
    with closing(await look(running, f"/api/runs/{run}/events")) as viewer:
        await until(lambda: len(streams) == 2)
        connection = streams[1].get_extra_info("socket")
        await until(lambda: connection.fileno() == -1)
        told = await read_all(viewer)

    assert stream.HIGH > len(str(whole)) > len(told)


async def test_who_is_given_nothing_is_not_dropped(start: Any, write_script: Any, gate: Gate, patience: float) -> None:
    model = write_script({"tools": [{"name": "wait"}]}, {"text": "Done."})
    running = await start(model, tools=gate.tools, heartbeat=0.05)
    async with await running.open() as response:
        await gate.entered.wait()
        await asyncio.sleep(3 * patience)
        gate.opened.put_nowait("go on")
        assert numbered(await response.read())[-1][1]


async def test_who_follows_several_and_takes_nothing_is_dropped_and_the_runs_go_on(
    begin: Begin, patience: float
) -> None:
    running, run = await begin()
    runs = (run, await begun(running))
    with closing(await look(running, f"/api/events?run={runs[0]}&run={runs[1]}")):
        await dropped(running)
    for each in runs:
        last = (await running.follow(each))[-1][1]
        assert last and last["outcome"] == "completed"
