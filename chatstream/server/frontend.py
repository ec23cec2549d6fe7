"""What the routes of the other front ends share: beginning a run, going on after a pause, telling it from any place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, TypeVar

import orjson
from aiohttp import web

from .. import errors
from ..config import Config
from ..conversations import Approval, Caller, Decision, Run
from ..eventlog import Entry
from ..events import Outcome
from ..messages import Message, is_answerable
from ..runs import Runs
from ..wires.base import Asked, Encoder, Said
from .bodies import LONG, read_body
from .guard import OWNER, REQUEST_ID, error_response
from .images import check_read_images
from .routes import Route
from .stream import EventStream

T = TypeVar("T")

_BROKEN = ("failed", Outcome.STOPPED, Outcome.INTERRUPTED)


class FrontEnd:
    """The routes of one wire build on it; `schema` names that of its request."""

    schema: ClassVar[str]

    def __init__(self, config: Config, runs: Runs) -> None:
        self._config = config
        self._runs = runs

    @staticmethod
    def form(request: web.Request, error: errors.ChatstreamError) -> web.Response:
        """Return the answer that says what went wrong."""
        return error_response(request, error)

    @staticmethod
    def read(body: dict[str, Any]) -> Asked:
        """Return what a body asks, whose shape was checked; raises RequestError for what cannot be asked."""
        raise NotImplementedError

    @property
    def routes(self) -> list[Route]:
        raise NotImplementedError

    async def ask(self, request: web.Request) -> web.StreamResponse:
        """Answer one question, as a stream."""
        return await self.answer(request, await read_body(request, self.schema, self._config.max_body))

    async def answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        """Answer a body whose shape was checked."""
        raise NotImplementedError

    async def _read(self, request: web.Request, body: dict[str, Any]) -> Asked:
        def read() -> Asked:
            asked = self.read(body)
            check_read_images(asked.messages)
            return asked

        return await aside(request, read)

    async def _begin(self, request: web.Request, asked: Asked, caller: Caller, wire: Any = None) -> Run:
        """Begin the run that a request asks for, or find the one that it began before; `wire` is kept with it.

        Raises Conflict where it decides on a call that does not wait for it.
        """
        owner = request[OWNER]
        if known := await self._runs.store.asked(owner, caller):
            return known
        if asked.said and (run := await self._go_on(request, asked, caller, wire)):
            return run
        need_text(asked.messages, "messages")
        options = asked.options | {"wire": wire, "tools": self._tools(asked.options.get("tools", ()))}
        return await self._runs.ask_once(owner, options, asked.messages, run_id(request), caller)

    async def _paused(self, owner: str, asked: Asked, caller: Caller, wire: Any = None) -> Run | None:
        """Return the run that may wait for what is said; `wire` is what a run of this request keeps."""
        store = self._runs.store
        try:
            named = next((each.run_id for each in asked.said if each.run_id), "")
            paused = await (store.run(owner, named) if named else store.newest(owner, thread_id=caller.thread_id))
        except errors.NotFound:
            return None
        # What waits elsewhere is not decided from here.
        is_here = paused and not paused.conversation_id and paused.thread_id == caller.thread_id
        return paused if is_here else None

    async def _go_on(self, request: web.Request, asked: Asked, caller: Caller, wire: Any) -> Run | None:
        """Return the run that goes on with what was decided, None where nothing waits for it."""
        owner, store, said = request[OWNER], self._runs.store, asked.said
        paused = await self._paused(owner, asked, caller, wire)
        waiting = {approval.call_id: approval for approval in paused.approvals} if paused else {}
        decisions: dict[str, Decision] = {}
        for each in said:
            if paused is None or each.call_id not in waiting or each.run_id not in ("", paused.id):
                if each.kind != "result":
                    raise errors.Conflict(
                        f"No call {each.call_id!r} waits for a decision: it was never asked, or expired."
                    )
                continue
            if each.call_id in decisions:
                raise errors.RequestError(f"Call {each.call_id!r} is decided twice in one request.")
            _check_same(each, waiting[each.call_id])
            decisions[each.call_id] = Decision(each.call_id, each.kind, each.text, each.is_error)
        if paused is None or not decisions:
            return None
        named = run_id(request)
        paused, next_id = await self._runs.decide(paused, list(decisions.values()), named, caller, wire)
        if not next_id:
            rest = ", ".join(each.call_id for each in paused.approvals if each.decision is None)
            raise errors.Conflict(f"These calls still wait for a decision, to be sent with the others: {rest}.")
        run = await store.run(owner, next_id)
        # Who decides again because that came to nothing would be told the same failure for ever.
        return await self._runs.go_on(paused, run, named, caller, wire) if run.outcome in _BROKEN else run

    def _tools(self, own: Sequence[dict[str, Any]]) -> list[Any]:
        """Return the server's tools, and those of the caller's own; a name of the server's stays the server's."""
        names = [tool.name for tool in self._runs.tools]
        return [*names, *(tool for tool in own if tool["name"] not in names)]

    async def _stream(
        self, request: web.Request, run: Run, encoder: Encoder, cursor: tuple[int, int] = (0, 0)
    ) -> web.StreamResponse:
        """Tell a run behind a place that `read_cursor` gave; raises NotFound where it is not kept any more."""
        after, skip = cursor
        if run.outcome and not await self._runs.knows(run, 1):
            raise errors.NotFound(f"What run {run.id} said is not kept any more.")
        headers = {"X-Run-Id": run.id, **encoder.headers}
        async with EventStream(request, encoder.content_type, self._config.heartbeat, headers) as stream:
            await self._runs.tell(run, 0, lambda entries: stream.send(_frames(encoder, entries, after, skip)))
        return stream.response

    async def _stop(self, request: web.Request, thread_id: str) -> web.Response:
        """Stop all that is being written in a thread; the receipt is that of its newest run."""
        owner, store = request[OWNER], self._runs.store
        newest = await store.newest(owner, thread_id=thread_id)
        if newest is None:
            raise errors.NotFound("There is no answer to stop.")
        older = [run for run in await store.unfinished(owner, thread_id) if run.id != newest.id]
        *_, receipt = await asyncio.gather(*map(self._runs.stop, [*older, newest]))
        return web.json_response(receipt)


def _frames(encoder: Encoder, entries: Sequence[Entry], after: int, skip: int) -> Iterator[bytes]:
    """Yield what is behind a place; what is before it only tells the encoder where it is."""
    for number, event in entries:
        if number > after:
            yield encoder.encode(number, event, skip * (number == after + 1))
        else:
            encoder.tell(event)


def run_id(request: web.Request) -> str:
    """Return an id for the run of a request, named after it, so that what the log says of either is found."""
    return request[REQUEST_ID].replace("req", "run", 1)


async def aside(request: web.Request, work: Callable[[], T]) -> T:
    """Do `work` with a body, beside the event loop where that is long."""
    is_long = request.content_length is None or request.content_length > LONG
    return await asyncio.to_thread(work) if is_long else work()


def need_text(messages: Sequence[Message], where: str) -> None:
    if not is_answerable(messages):
        raise errors.RequestError(f"{where}: there is nothing to answer: no message has any text")


def read_cursor(text: str) -> tuple[int, int] | None:
    """Return the event behind which a viewer goes on, and how many frames it has of the next; None for no cursor."""
    number, _, piece = text.partition(".")
    if not all(part.isdecimal() and part.isascii() and len(part) < 16 for part in (number, piece or "0")):
        return None
    return (int(number) - 1, int(piece)) if piece else (int(number), 0)


def event_of(cursor: tuple[int, int]) -> int:
    """Return the number of the last event that a viewer at this place has anything of."""
    return cursor[0] + (cursor[1] > 0)


def _check_same(said: Said, asked: Approval) -> None:
    if (said.name and said.name != asked.name) or not _is_same(said.input, asked.input):
        wanted = orjson.dumps(asked.input).decode()[:500]
        raise errors.Conflict(
            f"Call {said.call_id!r} was decided with other arguments than were asked about: {asked.name} {wanted}"
        )


def _is_same(told: Any, asked: Any) -> bool:
    """Return whether what came back is what was asked, as far as JavaScript's numbers can tell; None says nothing."""
    return told is None or _as_doubles(told) == _as_doubles(asked)


def _as_doubles(value: Any) -> Any:
    match value:
        case bool():
            return str(value)
        case int() | float():
            return float(value)
        case list():
            return [_as_doubles(each) for each in value]
        case dict():
            return {name: _as_doubles(each) for name, each in value.items()}
        case _:
            return value
