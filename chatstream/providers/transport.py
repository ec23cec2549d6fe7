"""HTTP/1.1 for the SDKs whose answers are pushed: the bytes of a body are handed on in the callback that brings them.

    Transport    takes a request from the SDK's HTTP client, finds a connection or makes one
    _Connection  one connection: head, body, and then the next request or 15 s of waiting for one
    Body         what came of a body, for whoever takes it: at most `_MOST` bytes wait, then the socket is not read

With 200 answers of 50 deltas a second on one core a delta costs, without what chatstream does with it (measured): this
37 us of CPU, aiohttp's client with its protocol replaced 45, its reader awaited 52, the SDK's own transport 95.

Framing is that of RFC 9112, 6.3: chunks, a length, or the connection's end. TLS is asyncio's, with the certificates of
httpx. What it does not do is left to the SDK's own transport: proxies, and HTTP/2.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Any, cast

import httpx2

from .limits import Watch
from .reading import Feed, pulled

KEEP = 15.0  # seconds that a connection waits for its next request
_MOST = 256 * 1024  # bytes of a body that wait to be taken
_LONGEST = 64 * 1024  # bytes of a head, or of what stands behind the last chunk
_SIZE = re.compile(rb"([0-9a-fA-F]{1,12})[ \t]*(?:;[^\r\n]*)?").fullmatch
# The sizes that chunks have begun with, the short ones: with 16 chunks in a read, reading each size anew was a fifth of
# a delta's cost (measured).
_SIZES: dict[bytes, int] = {}
_SHORT = 3  # characters
_STATUS = re.compile(rb"HTTP/1\.([01]) (\d{3})(?: [^\r\n]*)?").fullmatch
_Headers = list[tuple[bytes, bytes]]


class Body(httpx2.AsyncByteStream):
    """The body of one response: pushed to one taker, or iterated."""

    __slots__ = ("_clock", "_connection", "_failure", "_feed", "_halted", "_pieces", "_size", "_watch")

    def __init__(self, connection: _Connection) -> None:
        self._connection: _Connection | None = connection  # None once it is over
        self._failure: Exception | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self._feed: Feed
        self._watch: Watch | None = None
        self._clock = asyncio.get_running_loop().time
        # Is done when there is something to wait for, a failure, or nothing more; None while nobody takes it.
        self._halted: Any = None

    async def push(self, feed: Feed, watch: Watch | None = None) -> Exception | None:
        """Hand `feed` all bytes as they come; returns by which failure they ended early, if by one.

        What `feed` returns is waited for while the socket is not read; what it raises is raised.
        """
        self._feed, self._watch = feed, watch
        while True:
            halted = self._halted = asyncio.get_running_loop().create_future()
            while self._pieces and not halted.done():
                self._hand_on(self._pieces.pop(0))
            self._size = sum(map(len, self._pieces))
            if not halted.done():
                if self._connection is None:
                    return self._failure
                self._connection.resume()
            why = await halted if watch is None else await _watched(halted, watch)
            if why is None or isinstance(why, Exception):
                return why
            await why

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        async def push(take: Feed) -> None:
            if (failure := await self.push(take)) is not None:
                raise failure

        async with aclosing(pulled(push)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def aclose(self) -> None:
        """Close the connection unless the body is over."""
        if self._connection is not None:
            self._connection.abort()

    def receive(self, data: bytes) -> None:
        if self._halted is not None and not self._halted.done():
            self._hand_on(data)
            return
        self._pieces.append(data)
        self._size += len(data)
        if self._size > _MOST and self._connection is not None:
            self._connection.pause()

    def end(self, failure: Exception | None = None) -> None:
        self._connection, self._failure = None, failure
        if self._halted is not None and not self._halted.done():
            self._halted.set_result(failure)

    def _hand_on(self, data: bytes) -> None:
        if self._watch is not None:
            self._watch.since = self._clock()
        try:
            wait = self._feed(data)
        except Exception as error:
            self._halted.set_exception(error)
        else:
            if wait is not None:
                self._halted.set_result(wait)
                if self._connection is not None:
                    self._connection.pause()


async def _watched(
    halted: asyncio.Future[Awaitable[None] | Exception | None], watch: Watch
) -> Awaitable[None] | Exception | None:
    with watch:
        return await halted


class _Connection(asyncio.Protocol):
    """One connection. `release` is called with it when it is free for the next request."""

    __slots__ = (
        "_body",
        "_expiry",
        "_head",
        "_is_chunked",
        "_is_last",
        "_left",
        "_loop",
        "_may_stay",
        "_release",
        "_rest",
        "_stays",
        "_transport",
    )

    def __init__(self, release: Callable[[_Connection], None]) -> None:
        self._release = release
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._head: asyncio.Future[tuple[int, _Headers]] | None = None
        self._body: Body | None = None
        self._rest = b""
        self._is_chunked = self._is_last = self._stays = self._may_stay = False
        self._left: int | None = 0  # bytes of the body, or of the chunk and its line end; None: up to the end
        self._expiry: asyncio.TimerHandle | None = None

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, request: bytes, may_stay: bool) -> tuple[int, _Headers, Body]:
        """Send a request; returns the head of its answer, and the body to come."""
        self._may_stay = may_stay
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        assert self._transport is not None
        head = self._head = self._loop.create_future()
        body = self._body = Body(self)
        self._transport.write(request)
        try:
            status, headers = await head
        except BaseException:
            if self._body is body:
                self.abort()
            raise
        return status, headers, body

    def wait_for_next(self) -> None:
        self._expiry = self._loop.call_later(KEEP, self.abort)

    def abort(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        if self.is_open:
            assert self._transport is not None
            self._transport.pause_reading()

    def resume(self) -> None:
        if self.is_open:
            assert self._transport is not None
            self._transport.resume_reading()

    # --- asyncio.Protocol ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by name

    def data_received(self, data: bytes) -> None:
        is_between = not (self._left or self._rest or self._head or self._is_last)
        if is_between and self._is_chunked and self._body is not None:
            # Nearly every read is one event, and that one chunk.
            end = data.find(b"\r\n")
            if end > 0 and _SIZES.get(data[:end]) == len(data) - end - 4:
                self._body.receive(data[end + 2 : -2])
                return
        if self._rest:
            data, self._rest = self._rest + data, b""
        try:
            if self._body is None:
                raise httpx2.RemoteProtocolError("the server said something that was not asked for")
            if self._head is not None:
                self._read_head(data)
            else:
                self._read_body(data)
        except httpx2.RemoteProtocolError as error:
            self._fail(error)
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if exc is None and self._head is None and self._left is None:
            self._end()
        else:
            lost = httpx2.ReadError(f"the connection was lost: {exc or 'the server closed it'}")
            lost.__cause__ = exc
            self._fail(lost)

    # --- the messages (RFC 9112) --------------------------------------------------------------------------------------

    def _read_head(self, data: bytes) -> None:
        status, rest, version = 100, data, b""
        others: list[bytes] = []
        while 100 <= status < 200:  # what comes before the answer
            lines, end, rest = (data := rest).partition(b"\r\n\r\n")
            if not end:
                if len(data) > _LONGEST:
                    raise httpx2.RemoteProtocolError(f"the head of the answer has more than {_LONGEST} bytes")
                self._rest = data
                return
            first, *others = lines.split(b"\r\n")
            begin = _STATUS(first)
            if begin is None:
                raise httpx2.RemoteProtocolError(f"no answer in HTTP/1.1: {first[:100]!r}")
            version, status = begin[1], int(begin[2])
        headers = [(name.strip(), value.strip()) for name, _, value in (line.partition(b":") for line in others)]
        self._frame(status, version == b"1", {name.lower(): value.lower() for name, value in headers})
        head, self._head = self._head, None
        if head is not None and not head.done():
            head.set_result((status, headers))
        if self._left == 0 and not self._is_chunked:
            self._end(rest)
        elif rest:
            self._read_body(rest)

    def _frame(self, status: int, is_1_1: bool, headers: dict[bytes, bytes]) -> None:
        """Note how the body ends, and whether the connection outlives it."""
        coding, length = headers.get(b"transfer-encoding", b""), headers.get(b"content-length", b"")
        if coding not in (b"", b"chunked"):
            raise httpx2.RemoteProtocolError(f"Transfer-Encoding is {coding[:100]!r}")
        has_body = status not in (204, 304)
        self._is_chunked = bool(coding) and has_body
        if self._is_chunked or not has_body:
            self._left = 0
        elif length.isdigit():
            self._left = int(length)
        elif length:
            raise httpx2.RemoteProtocolError(f"Content-Length is {length[:100]!r}")
        else:
            self._left = None
        wished = headers.get(b"connection", b"")
        stays = b"close" not in wished if is_1_1 else b"keep-alive" in wished
        self._stays = stays and self._may_stay and self._left is not None

    def _read_body(self, data: bytes) -> None:
        body, left = self._body, self._left
        assert body is not None
        if self._is_chunked:
            self._read_chunks(body, data)
        elif left is None:
            body.receive(data)
        else:
            self._left = max(left - len(data), 0)
            body.receive(data[:left])
            if self._left == 0:
                self._end(data[left:])

    def _read_chunks(self, body: Body, data: bytes) -> None:
        """Hand on what the chunks in one read hold, together."""
        parts: list[bytes] = []
        at, end = 0, len(data)
        is_whole = not (self._left or self._is_last)
        while is_whole:  # chunks that are whole, and whose sizes are known
            line = data.find(b"\r\n", at)
            stop = line + 4 + _SIZES.get(data[at:line], end)
            if line < 0 or stop > end:
                break
            parts.append(data[line + 2 : stop - 2])
            at = stop
        while at < end and not self._is_last:
            if not self._left:
                line = data.find(b"\r\n", at)
                if line < 0:
                    break
                self._left = self._size(data[at:line])
                at = line + 2
                if self._is_last:
                    break
            assert self._left is not None
            if self._left > 2:
                parts.append(data[at : at + self._left - 2])
            step = min(self._left, end - at)
            self._left -= step
            at += step
        if parts:
            body.receive(parts[0] if len(parts) == 1 else b"".join(parts))
        rest = data[at:]
        if self._is_last:
            self._read_trailer(rest)
        elif len(rest) > _LONGEST:
            raise httpx2.RemoteProtocolError("a chunk begins with no size")
        else:
            self._rest = rest

    def _size(self, line: bytes) -> int:
        """Return how long a chunk is with the line end behind it, and note the last one."""
        found = _SIZE(line)
        if found is None:
            raise httpx2.RemoteProtocolError(f"a chunk begins with no size: {line[:100]!r}")
        size = int(found[1], 16)
        self._is_last = size == 0
        if size and len(line) <= _SHORT:
            _SIZES[line] = size
        return size + 2 if size else 0

    def _read_trailer(self, rest: bytes) -> None:
        if rest.startswith(b"\r\n"):
            self._end(rest[2:])
        elif b"\r\n\r\n" in rest:
            self._end(rest.partition(b"\r\n\r\n")[2])
        elif len(rest) > _LONGEST:
            raise httpx2.RemoteProtocolError(f"more than {_LONGEST} bytes stand behind the body")
        else:
            self._rest = rest

    def _end(self, beyond: bytes = b"") -> None:
        """End the body; the connection is free, or closed where it does not stay or says more than it was asked."""
        body, self._body = self._body, None
        self._is_last = False
        if body is not None:
            body.end()
        if self._stays and not beyond and self.is_open:
            self.resume()
            self._release(self)
        else:
            self.abort()

    def _fail(self, failure: Exception) -> None:
        head, self._head = self._head, None
        body, self._body = self._body, None
        if head is not None and not head.done():
            head.set_exception(failure)
        elif body is not None:
            body.end(failure)


class Transport(httpx2.AsyncBaseTransport):
    """Sends requests, each over a connection of its own while it lasts; of one event loop."""

    def __init__(self) -> None:
        self._free: dict[tuple[str, str, int], list[_Connection]] = {}
        self._tls: ssl.SSLContext | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Return the head of the answer; its Body is in `extensions["body"]` too. Raises TransportError."""
        url = request.url
        origin = (url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80))
        told = _head(request) + await request.aread()
        connection = self._take(origin) or await self._connect(origin, request.extensions.get("timeout") or {})
        may_stay = request.headers.get("connection", "").lower() != "close"
        status, headers, body = await connection.ask(told, may_stay)
        return httpx2.Response(status, headers=headers, stream=body, extensions={"body": body})

    async def aclose(self) -> None:
        for connections in self._free.values():
            for connection in connections:
                connection.abort()
        self._free.clear()
        await asyncio.sleep(0)  # until they are closed

    def _take(self, origin: tuple[str, str, int]) -> _Connection | None:
        """Return the connection that was used last: what is not needed any more is left to expire."""
        free = self._free.get(origin, [])
        while free:
            if (connection := free.pop()).is_open:
                return connection
        return None

    def _put(self, origin: tuple[str, str, int], connection: _Connection) -> None:
        free = self._free.setdefault(origin, [])
        free[:] = [each for each in free if each.is_open]
        free.append(connection)
        connection.wait_for_next()

    async def _connect(self, origin: tuple[str, str, int], limits: dict[str, float | None]) -> _Connection:
        scheme, host, port = origin
        if scheme == "https" and self._tls is None:
            self._tls = httpx2.create_ssl_context()
        tls = self._tls if scheme == "https" else None
        make = partial(_Connection, partial(self._put, origin))
        try:
            async with asyncio.timeout(limits.get("connect")):
                _, connection = await asyncio.get_running_loop().create_connection(make, host, port, ssl=tls)
        except TimeoutError as error:
            raise httpx2.ConnectTimeout(f"{host}:{port} does not answer") from error
        except OSError as error:
            raise httpx2.ConnectError(f"{host}:{port}: {error}") from error
        return connection


def _head(request: httpx2.Request) -> bytes:
    lines = [b"%b %b HTTP/1.1" % (request.method.encode(), request.url.raw_path)]
    lines += [b"%b: %b" % header for header in request.headers.raw]
    if any(b"\r" in line or b"\n" in line for line in lines):
        raise httpx2.LocalProtocolError("a header holds a line break")
    return b"\r\n".join([*lines, b"", b""])
