"""One response of server-sent events: open at once, never silent for long, closed on every way out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from types import MappingProxyType, TracebackType

from aiohttp import web

from ..sse import COMMENT
from .guard import add_headers

_HEADERS = {
    "Cache-Control": "no-store, no-transform",
    # nginx would gather the stream into blocks (nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_buffering).
    "X-Accel-Buffering": "no",
}


class EventStream:
    """Sends the headers and a first comment when entered, before anything is known of the answer.

    While it is open a comment follows every `heartbeat` seconds in which nothing was written, which a header tells:
    proxies close what is silent, and a client can tell a slow model from a dead connection.
    """

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
        self._heartbeat = heartbeat
        self._clock = asyncio.get_running_loop().time
        self._written_at = 0.0
        self._handler = asyncio.current_task()

    async def __aenter__(self) -> EventStream:
        add_headers(self._request, self.response)
        await self.response.prepare(self._request)
        await self.write(COMMENT)
        self._beating = asyncio.create_task(self._beat())
        return self

    async def write(self, data: bytes) -> None:
        """Send `data`; waits while the viewer is slow to read, raises ConnectionError when it is gone."""
        self._written_at = self._clock()
        await self.response.write(data)

    async def write_all(self, sources: Iterable[AsyncGenerator[bytes]]) -> None:
        """Send what all of `sources` say, each to its end; what several say at once is one write.

        No source is asked for more before what it said is sent: a slow viewer slows what it follows, and fills nothing.
        """
        waiting: list[bytes] = []
        sending = asyncio.Lock()

        async def send(source: AsyncGenerator[bytes]) -> None:
            async with aclosing(source):
                async for data in source:
                    waiting.append(data)
                    await asyncio.sleep(0)  # what was woken by the same turn of the loop has something too
                    async with sending:
                        if waiting:
                            together = b"".join(waiting)
                            waiting.clear()
                            await self.write(together)

        try:
            async with asyncio.TaskGroup() as group:
                for source in sources:
                    group.create_task(send(source))
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._beating.cancel()
        # These lead back here: what is no circle goes at once, and need not wait for the garbage collector.
        del self._beating
        self._handler = None
        if kind is None:
            await self.response.write_eof()
        elif (transport := self._request.transport) is not None:
            # An answer that broke off must not look like one that ended.
            transport.abort()

    async def _beat(self) -> None:
        while True:
            silent = self._clock() - self._written_at
            if silent >= self._heartbeat:
                try:
                    await self.write(COMMENT)
                except ConnectionError:
                    # Where the server does not cancel a handler whose viewer left, this does.
                    if self._handler is not None:
                        self._handler.cancel()
                    return
                silent = 0.0
            await asyncio.sleep(self._heartbeat - silent)
