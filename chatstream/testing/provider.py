"""A fake provider: an HTTP server on loopback that plays turns, records requests and knows when its client left."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TypeVar

from aiohttp import web

from ..providers.anthropic import Anthropic
from ..providers.base import SdkProvider
from ..providers.openai_chat import OpenAIChat
from .streams import STREAMS, Call, Turn

P = TypeVar("P", bound=SdkProvider)

__all__ = ["Call", "FakeProvider", "Recorded", "Turn"]


@dataclass(slots=True)
class Recorded:
    """One request that came, and how its answer went.

    `sent` counts bytes of the body; `ended` is set when the answer is over, and `left` then says that the client
    closed the connection before it was, `left_at` when that was seen (of `time.monotonic`).
    """

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    sent: int = 0
    left: bool = False
    left_at: float = 0.0
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class FakeProvider:
    """Answers request n with turn n, in the form of the API that was asked; after the last one with status 400.

    A function in place of the turns is handed each request and returns its turn. `url` is the address without a path;
    `anthropic()` and `openai_chat()` are providers that talk to it. A connection may wait `keep_alive` seconds for the
    next request.
    """

    def __init__(self, turns: Sequence[Turn] | Callable[[Recorded], Turn], *, keep_alive: float = 75.0) -> None:
        self.turns = turns if callable(turns) else list(turns)
        self.requests: list[Recorded] = []
        self.url = ""
        self._keep_alive = keep_alive
        self._providers: list[SdkProvider] = []

    def anthropic(self) -> Anthropic:
        return self._kept(Anthropic(api_key="test-key", base_url=self.url))

    def openai_chat(self) -> OpenAIChat:
        return self._kept(OpenAIChat(api_key="test-key", base_url=f"{self.url}/v1"))

    def _kept(self, provider: P) -> P:
        """Note a provider, to be closed with the server."""
        self._providers.append(provider)
        return provider

    async def __aenter__(self) -> FakeProvider:
        app = web.Application(client_max_size=2**30)
        app.router.add_post("/v1/{api:messages|chat/completions}", self._answer)
        self._runner = web.AppRunner(
            app,
            handler_cancellation=True,
            access_log=None,
            shutdown_timeout=0.1,
            keepalive_timeout=self._keep_alive,
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for provider in self._providers:
            await provider.aclose()
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        number = len(self.requests)
        recorded = Recorded(request.path, {k.lower(): v for k, v in request.headers.items()}, await request.json())
        self.requests.append(recorded)
        try:
            if callable(self.turns):
                turn = self.turns(recorded)
            elif number < len(self.turns):
                turn = self.turns[number]
            else:
                return _error(400, f"the fake provider has {len(self.turns)} turns, and this is request {number + 1}")
            if turn.status != 200:
                return _error(turn.status, "a fault that was asked for", turn.retry_after)
            body = turn.raw if turn.raw is not None else STREAMS[request.match_info["api"]](turn, number)
            return await self._play(request, turn, body, recorded)
        except (ConnectionError, asyncio.CancelledError):
            recorded.left, recorded.left_at = True, time.monotonic()
            raise
        finally:
            recorded.ended.set()

    async def _play(self, request: web.Request, turn: Turn, body: bytes, recorded: Recorded) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await asyncio.sleep(turn.first)
        stops = [at for at in (turn.drop, turn.end, turn.stall) if at is not None]
        for piece in _cut(body[: min(stops, default=len(body))], turn.write):
            await response.write(piece)
            recorded.sent += len(piece)
            await asyncio.sleep(turn.delay)
        if turn.stall is not None:
            await asyncio.Event().wait()
        if turn.drop is not None and request.transport is not None:
            # Let what was written out first: an abort throws away what still waits.
            await asyncio.sleep(0.02)
            request.transport.abort()
        return response


def _cut(body: bytes, size: int) -> Iterator[bytes]:
    size = size or max(len(body), 1)
    return (body[start : start + size] for start in range(0, len(body), size))


def _error(status: int, message: str, retry_after: float | None = None) -> web.Response:
    """Return an error that either SDK can read: the objects of the two APIs have these members in common."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    error = {"type": "api_error", "message": message, "code": None}
    return web.json_response({"type": "error", "error": error}, status=status, headers=headers)
