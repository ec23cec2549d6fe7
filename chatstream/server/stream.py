"""One response of server-sent events: open at once, never silent for long, closed on every way out.

What one viewer may hold, who reads slowly or not at all, is bounded, whatever the length of the answer:

    in the process     HIGH and one piece, of which the last write made it too much: 128 KiB
    in the kernel      UNSENT, and what of a segment is over it (left alone it grows to 2.8 MB on loopback: measured)
    beside these       the frame that is being sent, and the entries of the log that were read for it

Nothing more is taken from a run for a viewer who is behind. One that takes less than LEAST in PATIENCE is dropped: its
connection breaks, with no end of the stream, and a client that comes back says where it was. The run does not notice.

A write goes straight to the transport, in the chunk that HTTP/1.1 wants and aiohttp promised in the headers: 0.5 us of
our own in place of 1.5 through `StreamResponse.write` (measured). All that is used of aiohttp is public.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain
from types import MappingProxyType, TracebackType
from typing import Any

from aiohttp import web

from ..sse import COMMENT
from .guard import REQUEST_ID, add_headers

log = logging.getLogger("chatstream.server")

HIGH = 64 * 1024  # bytes in the transport above which a viewer is waited for, until a quarter of them is left
PIECE = 64 * 1024  # bytes of one write at most
UNSENT = 32 * 1024  # bytes that the kernel takes beyond what the viewer's own will take
LEAST = 48 * 1024  # bytes that a viewer takes in PATIENCE at least, while it is waited for
PATIENCE = 30.0  # seconds
_HEADERS = {
    "Cache-Control": "no-store, no-transform",
    # nginx would gather the stream into blocks (nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_buffering).
    "X-Accel-Buffering": "no",
}


# Sends frames; where it returns something, that is to be waited for before it is handed more.
Send = Callable[[Iterable[bytes]], Awaitable[None] | None]


class EventStream:
    """Sends the headers and a first comment when entered, before anything is known of the answer.

    While it is open a comment follows every `heartbeat` seconds in which nothing was written, which a header tells:
    proxies close what is silent, and a client can tell a slow model from a dead connection.
    """

    __slots__ = (
        *("response", "_request", "_heartbeat", "_clock", "_handler", "_protocol", "_is_chunked", "_drain"),
        *("_written_at", "_timer", "_waits", "_since", "_held", "_gathered", "_queue"),
    )

    def __init__(
        self,
        request: web.Request,
        content_type: str,
        heartbeat: float,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        told = {"Content-Type": content_type, "Chatstream-Heartbeat": f"{heartbeat:g}"}
        self.response = web.StreamResponse(headers={**told, **_HEADERS, **headers})
        self._request = request
        self._protocol = request.protocol
        self._heartbeat = heartbeat
        self._clock = asyncio.get_running_loop().time
        self._written_at = 0.0
        self._handler = asyncio.current_task()
        self._waits = False  # for the viewer, since `_since`, when its transport held `_held` bytes
        self._since = 0.0
        self._held = 0
        self._gathered: list[Iterable[bytes]] = []
        self._queue: list[Iterator[bytes]] = []  # what the viewer has to be waited for

    async def __aenter__(self) -> EventStream:
        add_headers(self._request, self.response)
        writer = await self.response.prepare(self._request)
        assert writer is not None
        self._drain = writer.drain
        self._is_chunked = self.response.headers.get("Transfer-Encoding") == "chunked"
        transport = self._transport()
        transport.set_write_buffer_limits(high=HIGH)
        if hasattr(socket, "TCP_NOTSENT_LOWAT") and (connection := transport.get_extra_info("socket")) is not None:
            with suppress(OSError):  # it is none of TCP
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
        self._send(COMMENT)
        self._set_timer(self._heartbeat)
        return self

    def send(self, frames: Iterable[bytes]) -> Awaitable[None] | None:
        """Send `frames` in one write; returns what to wait for where the viewer is behind.

        Then the rest of them is asked for when it has caught up. Raises ConnectionError when it is gone or was dropped.
        """
        if isinstance(frames, list) and not self._queue and len(data := b"".join(frames)) <= PIECE:
            if data:  # an empty chunk would be the end
                self._send(data)
        else:
            self._queue.append(_pieces(frames))
            self._pump()
        return self if self._queue or self._protocol.writing_paused else None

    def send_together(self, frames: Iterable[bytes]) -> Awaitable[None] | None:
        """Do as `send`, in one write with what others send in the same turn of the loop."""
        if not self._gathered:
            asyncio.get_running_loop().call_soon(self._flush)
        self._gathered.append(frames)
        return self if self._queue or self._protocol.writing_paused else None

    def __await__(self) -> Generator[Any, None, None]:
        """Wait until the viewer has taken most of what was sent."""
        return self._catch_up().__await__()

    async def _catch_up(self) -> None:
        while self._queue or self._protocol.writing_paused:
            await self._wait(self._drain)
            self._pump()

    def _pump(self) -> None:
        while self._queue and not self._protocol.writing_paused:
            if piece := next(self._queue[0], b""):
                self._send(piece)
            else:
                self._queue.pop(0)

    def _flush(self) -> None:
        gathered, self._gathered = self._gathered, []
        with suppress(ConnectionError):  # whoever sends next is told
            self.send(chain.from_iterable(gathered))

    async def all(self, sources: Iterable[Coroutine[Any, Any, None]]) -> None:
        """Let all of `sources` send, each to its end."""
        try:
            async with asyncio.TaskGroup() as group:
                for source in sources:
                    group.create_task(source)
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                await self._end()
            elif (transport := self._protocol.transport) is not None:
                # An answer that broke off must not look like one that ended.
                transport.abort()
        finally:
            # These lead back here: what is no circle goes at once, and need not wait for the garbage collector.
            self._timer.cancel()
            self._handler = None

    def _transport(self) -> asyncio.Transport:
        transport = self._protocol.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the viewer is gone")
        return transport

    def _send(self, data: bytes) -> None:
        self._written_at = self._clock()
        self._transport().write(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)

    async def _wait(self, drain: Callable[[], Awaitable[None]]) -> None:
        """Wait until the viewer has taken most of what its transport holds, or was dropped."""
        self._since, self._held = self._clock(), self._transport().get_write_buffer_size()
        self._waits = True
        try:
            await drain()
        finally:
            self._waits = False

    async def _end(self) -> None:
        """End the stream, and wait until the viewer has all of it: what it leaves lying would be held for good."""
        self._flush()
        await self
        await self._wait(self.response.write_eof)
        transport = self._protocol.transport
        if transport is not None and transport.get_write_buffer_size():
            transport.set_write_buffer_limits(high=0)
            await self._wait(self._drain)
            if not transport.is_closing():
                transport.set_write_buffer_limits(high=HIGH)

    def _set_timer(self, seconds: float) -> None:
        # A coarse one that a write leaves alone: it looks at the clock when it fires, and sets itself anew.
        self._timer = asyncio.get_running_loop().call_later(min(seconds, PATIENCE / 4), self._look)

    def _look(self) -> None:
        """Send a comment where it is time, and drop a viewer that takes next to nothing."""
        now = self._clock()
        try:
            if self._waits:
                if now - self._since >= PATIENCE and not self._go_on(now):
                    return
            elif not self._queue and now - self._written_at >= self._heartbeat:
                self._send(COMMENT)
        except ConnectionError:
            # Where the server does not cancel a handler whose viewer left, this does.
            if self._handler is not None:
                self._handler.cancel()
        else:
            self._set_timer(self._heartbeat if self._waits else self._written_at + self._heartbeat - now)

    def _go_on(self, now: float) -> bool:
        """Drop the viewer unless it took enough since it is waited for; then it is waited for again."""
        transport = self._transport()
        held = transport.get_write_buffer_size()
        if self._held - held < LEAST:
            log.info("%s: the viewer takes too little, and is dropped", self._request[REQUEST_ID])
            transport.abort()
            return False
        self._since, self._held = now, held
        return True


def _pieces(frames: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the bytes of frames in pieces of PIECE at most."""
    gathered: list[bytes] = []
    size = 0
    for frame in frames:
        gathered.append(frame)
        size += len(frame)
        if size >= PIECE:
            data = b"".join(gathered)
            yield from (data[start : start + PIECE] for start in range(0, size, PIECE))
            gathered, size = [], 0
    if size:
        yield b"".join(gathered)
