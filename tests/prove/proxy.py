"""A proxy on loopback that harms the streams which pass it: cuts them at a byte, delivers frames twice and mixed up."""

from __future__ import annotations

import asyncio
import random
import re
import socket
import struct
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

_AFTER = re.compile(rb"(?<=[?&]after=)\d+")


@dataclass(frozen=True, slots=True)
class Cut:
    """End the connection after `at` bytes of the response; -1 before the request is passed on."""

    at: int
    is_reset: bool = False


@dataclass(frozen=True, slots=True)
class Mix:
    """Deliver the frames of a whole response in another order, some of them twice: each up to `reach` places away."""

    seed: int
    reach: int = 1_000_000


@dataclass(frozen=True, slots=True)
class Rewind:
    """Let a resumed stream begin so many frames before the client's cursor."""

    frames: int


Fault = Cut | Mix | Rewind


class Proxy:
    """Passes requests on, one a connection. The next streams meet `faults`, each one; later ones come through whole.

    Streams are the requests whose path begins like one of `paths`. `longest` is the bytes of the longest response that
    passed, `streams` counts the streams that were asked for.
    """

    def __init__(self, port: int, *paths: bytes) -> None:
        self._paths = paths or (b"/api/chat", b"/api/runs/", b"/api/events")
        self.faults: deque[Fault] = deque()
        self.longest = 0
        self.streams = 0
        self.url = ""
        self._port = port
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=1024)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # What a server accepts while it closes Python leaves open (python/cpython#109564): so it accepts nothing more,
        # and a few turns of the loop later it has all that it had accepted.
        for listening in self._server.sockets:
            asyncio.get_running_loop().remove_reader(listening.fileno())
        for _ in range(5):
            await asyncio.sleep(0)
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # until what was closed has let go of its socket

    def meet(self, faults: Sequence[Fault]) -> None:
        """Let the next streams meet these faults, and no others."""
        self.faults = deque(faults)
        self.streams = 0

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # Not in the task, which may be cancelled before its first step.
        task.add_done_callback(lambda _: writer.close())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await _request(reader)
            fault = self._fault(request)
            if fault == Cut(-1):
                return
            if isinstance(fault, Rewind):
                request = _AFTER.sub(lambda found: b"%d" % max(int(found[0]) - fault.frames, 0), request, count=1)
            upstream, sending = await asyncio.open_connection("127.0.0.1", self._port)
            try:
                sending.write(request)
                if isinstance(fault, Mix):
                    writer.write(_mixed(await upstream.read(), fault))
                    await writer.drain()
                else:
                    await self._relay(upstream, writer, fault if isinstance(fault, Cut) else None)
            finally:
                sending.close()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # one of the two is gone, and so the other goes

    def _fault(self, request: bytes) -> Fault | None:
        path = request.split(b" ", 2)[1]
        if not path.startswith(self._paths):
            return None
        self.streams += 1
        return self.faults.popleft() if self.faults else None

    async def _relay(self, upstream: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: Cut | None) -> None:
        passed = 0
        while data := await upstream.read(2**16):
            rest = len(data) if cut is None else cut.at - passed
            writer.write(data[:rest])
            passed += len(data)
            self.longest = max(self.longest, passed)
            with suppress(ConnectionError):
                await writer.drain()
            if cut is not None and passed >= cut.at:
                if cut.is_reset:
                    reset(writer.get_extra_info("socket"))
                return


def reset(connection: socket.socket) -> None:
    """Let the connection end by a reset when it is closed."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def _request(reader: asyncio.StreamReader) -> bytes:
    """Read one request, and let it be the last of its connection."""
    head = await reader.readuntil(b"\r\n\r\n")
    found = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
    body = await reader.readexactly(int(found[1])) if found else b""
    first, _, rest = head.partition(b"\r\n")
    rest = re.sub(rb"(?im)^connection:.*\r\n", b"", rest)
    return first + b"\r\nConnection: close\r\n" + rest + body


def _mixed(response: bytes, how: Mix) -> bytes:
    """Return a response with its frames mixed, and without chunks, so that it ends where the connection does."""
    head, _, body = response.partition(b"\r\n\r\n")
    plain = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        plain += body[: int(size, 16)]
        body = body[int(size, 16) + 2 :]
    draw = random.Random(how.seed)
    blocks = plain.split(b"\n\n")[:-1]
    doubled = [block for block in blocks for _ in range(draw.choice((1, 1, 2)))]
    places = [place + draw.uniform(0, how.reach) for place in range(len(doubled))]
    mixed = [block for _, block in sorted(zip(places, doubled, strict=True), key=lambda pair: pair[0])]
    head = re.sub(rb"(?im)^transfer-encoding:.*(\r\n|\Z)", b"", head).rstrip()
    return head + b"\r\n\r\n" + b"".join(block + b"\n\n" for block in mixed)
