"""What a page of TanStack AI's asks when it is loaded again; the rest it asks as AG-UI clients do (see `agui`).

It asks where it posts its questions, with `persistence` set: first for its thread, then for the run that goes on there.
Nothing of a thread is known any more once the log of its last run is gone (`--keep-runs`), and a client that sends less
than its whole history (`history.pageSize`) has no more than that answered, and shown again.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from .. import errors
from ..conversations import Run, run_to_json
from ..wires.agui import Encoder
from ..wires.tanstack import Rejoin, Thread
from .agui import about, check_place, thread
from .answers import TANSTACK_THREAD
from .frontend import FrontEnd, read_cursor
from .guard import OWNER
from .routes import LAST_EVENT_ID, Parameter, Route

_ASKED = (
    Parameter("threadId", "The thread that is wanted."),
    Parameter("runId", "In place of a thread the run that is to be told, by the client's id of it."),
    Parameter("offset", "Where it is to be told from: -1 for its first event, or the id of the event in front."),
    LAST_EVENT_ID,
)


class Reload(FrontEnd):
    @property
    def routes(self) -> list[Route]:
        def reload(path: str, part: str) -> Route:
            return Route(
                *("GET", path, self.reload, part),
                form=self.form,
                also=("stream",),
                returns=TANSTACK_THREAD,
                wire="ag-ui",
                parameters=_ASKED,
            )

        return [reload("/ag-ui", "ag-ui"), reload("/api/chat", "api")]

    async def reload(self, request: web.Request) -> web.StreamResponse:
        """Tell a page that was loaded again what its thread holds, or what a run of it says."""
        if run_id := request.query.get("runId"):
            return await self._rejoin(request, run_id)
        if thread_id := request.query.get("threadId"):
            return web.json_response(await self._restore(request[OWNER], thread_id))
        raise errors.RequestError("the address has neither a threadId nor a runId; expected one of them")

    async def _restore(self, owner: str, thread_id: str) -> dict[str, Any]:
        """Return what a page shows of a thread, and what goes on there.

        Of a run that is not over, or waits for the page's own tools, the page builds the answer itself.
        """
        state: dict[str, Any] = {"messages": [], "activeRun": None, "interrupts": None}
        run = await self._runs.store.newest(owner, thread_id=thread(thread_id))
        if run is None or (posted := _posted(run)) is None:
            return state
        told = await asyncio.to_thread(Thread, posted, run_to_json(run)["createdAt"])
        this = {"runId": run.request["wire"]["runId"]}
        if not run.outcome or any(each.by_caller and each.decision is None for each in run.approvals):
            return state | {"messages": told.messages, "activeRun": this}
        encoder = Encoder(*about(run))
        for event in await self._runs.events(run):
            told.see(encoder.tell(event))
        told.decide(run.approvals)
        interrupts = this | {"pending": told.pending} if told.pending else None
        return state | {"messages": told.messages, "interrupts": interrupts}

    async def _rejoin(self, request: web.Request, run_id: str) -> web.StreamResponse:
        offset = request.headers.get("Last-Event-ID") or request.query.get("offset", "-1")
        place = (0, 0) if offset == "-1" else read_cursor(offset)
        if place is None:
            raise errors.RequestError(f"offset: {offset[:100]!r} is no id of an event; expected one like '7', or -1")
        run = await self._runs.store.newest(request[OWNER], turn_id=run_id)
        if run is None or not run.thread_id.startswith(thread("")):  # another wire's
            raise errors.NotFound(f"There is no run {run_id[:100]!r}, or not any more.")
        await check_place(self._runs, run, place)
        encoder = Encoder(*about(run))
        if (posted := _posted(run)) is not None:
            before = await asyncio.to_thread(Thread, posted)
            encoder = Rejoin(before.messages, *about(run))
        return await self._stream(request, run, encoder, (0, 0) if place <= (1, 0) else place)


def _posted(run: Run) -> list[dict[str, Any]] | None:
    """Return the messages with which a run was asked for, None where its client never comes back for them."""
    posted: list[dict[str, Any]] | None = run.request["wire"].get("messages")
    return posted
