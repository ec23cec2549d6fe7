"""The routes of AG-UI, which are TanStack AI's too.

A run is told to whoever sends its very request again, and is never begun twice: so TanStack AI's client comes back to
an answer whose connection broke, with the id of the last event that it has in `Last-Event-ID`. Of an error that client
shows the status and the reason phrase and does not read the body (`connection-adapters` of @tanstack/ai-client), so the
message is in both; HTTP/2 has no reason phrase.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from aiohttp import web

from .. import errors
from ..conversations import Caller, Run, digest
from ..events import Outcome
from ..messages import ToolResult
from ..runs import Runs
from ..wires import agui_request
from ..wires.agui import Encoder
from ..wires.base import Asked
from .answers import RECEIPT
from .bodies import AG_UI_REQUEST
from .frontend import FrontEnd, aside, event_of, read_cursor
from .guard import OWNER, error_response
from .routes import LAST_EVENT_ID, Route

_ALWAYS = frozenset({"", "failed", *Outcome})  # the states in which the same turn is the same run
_LONGEST = 300  # characters of a reason phrase


class AgUi(FrontEnd):
    schema = AG_UI_REQUEST
    read = staticmethod(agui_request.read)

    @staticmethod
    def form(request: web.Request, error: errors.ChatstreamError) -> web.Response:
        response = error_response(request, error)
        response.set_status(error.status, _reason(error.message))
        return response

    @property
    def routes(self) -> list[Route]:
        route = partial(Route, part="ag-ui", form=self.form)
        resumed = (LAST_EVENT_ID,)
        return [
            route("POST", "/ag-ui", self.ask, bodies=(AG_UI_REQUEST,), answer="stream", parameters=resumed),
            route("POST", "/ag-ui/{threadId}/stop", self.stop, returns=RECEIPT),
        ]

    async def answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        mark = await aside(request, lambda: digest(body))
        caller = Caller(thread(body["threadId"]), body["runId"], mark, _ALWAYS)
        cursor = request.headers.get("Last-Event-ID")
        if cursor is None:
            asked = await self._read(request, body)
            # TanStack AI's client says its run there too, and may come back for the messages (see `tanstack`).
            posted = ("messages",) if "X-Run-Id" in request.headers else ()
            wire = {name: body[name] for name in ("threadId", "runId", "parentRunId", *posted) if name in body}
            run: Run | None = await self._begin(request, asked, caller, wire | {"answered": _answered(asked)})
            place: tuple[int, int] | None = (0, 0)
        else:
            place = read_cursor(cursor)
            known = await self._runs.store.asked(request[OWNER], caller)
            run = known or await self._following(request, body, caller)
        if place is None:
            raise errors.RequestError(f"Last-Event-ID: {cursor!r} is no id of this server's; expected one like '7'")
        if run is None:
            raise errors.NotFound(f"There is no run {body['runId']!r} to go on with.")
        await check_place(self._runs, run, place)
        return await self._stream(request, run, Encoder(*about(run)), place)

    async def stop(self, request: web.Request) -> web.Response:
        """Stop what is being written in a thread, from wherever."""
        return await self._stop(request, thread(request.match_info["threadId"]))

    async def _following(self, request: web.Request, body: dict[str, Any], caller: Caller) -> Run | None:
        """Return the run that a decision was told which somebody else, or the same client before, had sent already."""
        owner, asked = request[OWNER], await self._read(request, body)
        paused = await self._paused(owner, asked, caller) if asked.said else None
        return await self._runs.store.run(owner, paused.next_run_id) if paused and paused.next_run_id else None


def _answered(asked: Asked) -> list[str]:
    """Return the calls that wait for a result which stands in the messages: their sender need not be told it again."""
    given = {part.tool_call_id for each in asked.messages for part in each.parts if isinstance(part, ToolResult)}
    return [each.call_id for each in asked.said if each.kind == "result" and each.call_id in given]


def _reason(message: str) -> str:
    """Return a message as the reason phrase of a status (RFC 9112, 4): one line of ASCII, and not a long one."""
    line = re.sub("[^ -~]+", "?", " ".join(message.split()))
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."


def about(run: Run) -> tuple[str, str, str, list[str]]:
    """Return what an encoder has to know of a run."""
    wire = run.request["wire"]
    return wire["threadId"], wire["runId"], wire.get("parentRunId") or "", wire["answered"]


async def check_place(runs: Runs, run: Run, place: tuple[int, int]) -> None:
    """Raise NotFound where a run has no such place: silence would look like the end of the answer."""
    number = event_of(place)
    if number > 0 and not await runs.knows(run, number):
        raise errors.NotFound(f"Run {run.id} has no event {number}, or not any more: ask for it from its first event.")


def thread(thread_id: str) -> str:
    """Return the name by which the store knows a thread of AG-UI."""
    return f"ag-ui:{thread_id}"
