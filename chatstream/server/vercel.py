"""The routes of the AI SDK: its chat asks at one path, and comes back to an answer at `{that path}/{chat id}/stream`.

Its client sends no id of a run, and can stop only by closing its request: the same body is the same run while that
runs, and once it has an answer; asked anew for another one (`regenerate-message`) it is a new run as soon as the
earlier is over. An application that is to stop at once adds a POST to `{that path}/{chat id}/stop`.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from .. import errors
from ..conversations import Caller, Run, digest
from ..wires import vercel_request
from ..wires.vercel import Encoder
from .answers import RECEIPT
from .bodies import AI_SDK_REQUEST
from .frontend import FrontEnd, aside
from .guard import OWNER, error_headers
from .routes import Route

# The states in which the same body is the same run.
_AGAIN = frozenset({"", "completed", "paused"})
_REGENERATED = frozenset({""})


class AiSdk(FrontEnd):
    schema = AI_SDK_REQUEST
    read = staticmethod(vercel_request.read)

    @staticmethod
    def form(request: web.Request, error: errors.ChatstreamError) -> web.Response:
        """Return an error as text: what its client shows is the whole body."""
        return web.Response(text=error.message, status=error.status, headers=error_headers(error))

    @property
    def routes(self) -> list[Route]:
        def route(method: str, path: str, handler: Any, part: str = "ai-sdk", **more: Any) -> Route:
            return Route(method, path, handler, part, form=self.form, wire="ai-sdk", **more)

        asked: dict[str, Any] = {"bodies": (AI_SDK_REQUEST,), "answer": "stream"}
        again: dict[str, Any] = {"answer": "stream", "also": ("empty",)}
        return [
            route("POST", "/ai-sdk/chat", self.ask, **asked),
            route("GET", "/ai-sdk/chat/{id}/stream", self.resume, **again),
            route("POST", "/ai-sdk/chat/{id}/stop", self.stop, returns=RECEIPT),
            # Where an application names no path its client asks at /api/chat, which is a path of all wires.
            route("GET", "/api/chat/{id}/stream", self.resume, "api", **again),
            route("POST", "/api/chat/{id}/stop", self.stop, "api", returns=RECEIPT),
        ]

    async def answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        asked = await self._read(request, body)
        again = _REGENERATED if body.get("trigger") == "regenerate-message" else _AGAIN
        mark = await aside(request, lambda: digest(body))
        caller = Caller(_thread(body["id"]), mark, mark, again)
        continued = vercel_request.continued(body)
        run = await self._begin(request, asked, caller, continued)
        return await self._stream(request, run, Encoder(continued))

    async def resume(self, request: web.Request) -> web.StreamResponse:
        """Tell the last answer of a chat again, from its first chunk on, while it is written or may have been missed.

        There is nothing (204) to come back to where it was seen to its end.
        """
        run = await self._runs.store.newest(request[OWNER], thread_id=_thread(request.match_info["id"]))
        if run is None or not await self._may_be_missed(run):
            return web.Response(status=204)
        return await self._stream(request, run, Encoder(run.request.get("wire"), whole=True))

    async def stop(self, request: web.Request) -> web.Response:
        """Stop the answer of a chat at once; a receipt comes when it has ended."""
        return await self._stop(request, _thread(request.match_info["id"]))

    async def _may_be_missed(self, run: Run) -> bool:
        if not run.outcome:
            return True
        # Who watched may have been a connection that was dead already.
        is_recent = self._runs.store.clock() - run.ended_at < self._config.linger
        return (is_recent or not run.ending.get("watched")) and await self._runs.knows(run, 1)


def _thread(chat_id: str) -> str:
    """Return the name by which the store knows a chat."""
    return f"ai-sdk:{chat_id}"
