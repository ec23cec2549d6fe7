"""The routes of runs: ask, follow one or several, stop, decide. What a run says goes out as the native wire.

A question is of one of two forms, told by its shape: with `messages` the caller keeps the conversation, with a
`conversationId` the server does. One in the form of another front end's is handed on, and answered in its wire.

Over HTTP/1.1 a browser has six connections to a host, however many tabs. So a client may ask without waiting for the
stream (`Prefer: respond-async`, https://www.rfc-editor.org/rfc/rfc7240#section-4.1) and follow all its runs over one.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

from aiohttp import web

from .. import errors, events
from ..config import Config
from ..conversations import Decision, Run, run_to_json
from ..deltas import FinishReason, Usage
from ..messages import Message, messages_from_json
from ..runs import Runs
from ..wires import native
from .answers import ACCEPTED, DECIDED, RECEIPT, RUN
from .bodies import AG_UI_REQUEST, AI_SDK_REQUEST, CHAT_REQUEST, DECISIONS, TURN_REQUEST, read_body
from .frontend import FrontEnd, event_of, need_text, read_cursor, run_id
from .guard import FORM, OWNER
from .routes import LAST_EVENT_ID, Parameter, Route
from .stream import EventStream, Send

MOST = 50  # runs in one stream
_AFTER = Parameter("after", "The same, where no header can be sent.")
_SEVERAL = (
    Parameter("run", "The id of a run.", {"type": "array", "items": {"type": "string"}, "maxItems": MOST}),
    Parameter(
        *("after", "The last event that the viewer has of the run named before it."),
        {"type": "array", "items": {"type": "string"}},
    ),
)
_PREFER = Parameter(
    *(
        "Prefer",
        "`respond-async`: a turn of a stored conversation is begun and answered with 202, to be followed by id.",
    ),
    place="header",
)
_ID = re.compile(r"[\w.:-]{1,200}", re.ASCII)


class Chat:
    """`others` are the wires of other front ends that ask at the same path, by the schemas of their requests."""

    def __init__(self, config: Config, runs: Runs, others: Mapping[str, FrontEnd]) -> None:
        self._config = config
        self._runs = runs
        self._others = others

    @property
    def routes(self) -> list[Route]:
        asked = (CHAT_REQUEST, TURN_REQUEST, *self._others)
        return [
            Route(
                *("POST", "/api/chat", self.ask),
                bodies=asked,
                answer="stream",
                accepted=ACCEPTED,
                parameters=(_PREFER,),
            ),
            Route("GET", "/api/events", self.follow_several, answer="stream", parameters=_SEVERAL),
            Route("GET", "/api/runs/{id}", self.show, returns=RUN),
            Route("GET", "/api/runs/{id}/events", self.follow, answer="stream", parameters=(LAST_EVENT_ID, _AFTER)),
            Route("POST", "/api/runs/{id}/stop", self.stop, returns=RECEIPT),
            Route("POST", "/api/runs/{id}/approvals", self.decide, bodies=(DECISIONS,), returns=DECIDED),
        ]

    async def ask(self, request: web.Request) -> web.StreamResponse:
        """Answer one question, as a stream."""

        def find_schema(body: Any) -> str:
            schema = _schema(body)
            if schema in self._others:
                request[FORM] = self._others[schema].form
            return schema

        body = await read_body(request, find_schema, self._config.max_body)
        if other := self._others.get(_schema(body)):
            return await other.answer(request, body)
        if "conversationId" in body:
            need_text(messages_from_json([{"role": "user", "content": body.get("message", "Continue.")}]), "message")
            run = await self._runs.ask(request[OWNER], body, run_id(request))
            if _prefers_not_to_wait(request):
                return _accepted(run)
        else:
            messages = messages_from_json(body["messages"])
            need_text(messages, "messages")
            run = await self._runs.ask_once(request[OWNER], body, messages, run_id(request))
        return await self._stream(request, run)

    async def show(self, request: web.Request) -> web.Response:
        """Return what became of a run, and which of its calls wait."""
        return web.json_response(run_to_json(await self._run(request)))

    async def follow(self, request: web.Request) -> web.StreamResponse:
        """Follow a run from a cursor on, the number of the last event that the viewer has."""
        # An EventSource that connects again keeps the address, and says in the header where it really is.
        cursor = request.headers.get("Last-Event-ID") or request.query.get("after", "0")
        return await self._stream(request, await self._run(request), cursor)

    async def follow_several(self, request: web.Request) -> web.StreamResponse:
        """Follow several runs over one stream; the name of each event is the id of its run."""
        asked = _runs_asked(request)
        async with EventStream(request, native.Encoder.content_type, self._config.heartbeat) as stream:
            send = stream.send_together
            await stream.all(self._one_of_several(request[OWNER], id, cursor, send) for id, cursor in asked)
        return stream.response

    async def stop(self, request: web.Request) -> web.Response:
        """Stop a run at once; a receipt comes when it has ended."""
        return web.json_response(await self._runs.stop(await self._run(request)))

    async def decide(self, request: web.Request) -> web.Response:
        """Approve or deny calls that wait, or give the results of those that the caller ran."""
        run = await self._run(request)
        body = await read_body(request, DECISIONS, self._config.max_body)
        decisions = {each["toolCallId"]: _decision(each) for each in body["decisions"]}
        if len(decisions) < len(body["decisions"]):
            raise errors.RequestError("decisions: there are two on one call")
        run, next_id = await self._runs.decide(run, list(decisions.values()), run_id(request))
        return web.json_response({"runId": next_id or None, "approvals": run_to_json(run)["approvals"]})

    async def _run(self, request: web.Request) -> Run:
        return await self._runs.store.run(request[OWNER], request.match_info["id"])

    async def _stream(self, request: web.Request, run: Run, cursor: str = "0") -> web.StreamResponse:
        after = await self._place(run, cursor)
        headers = {"X-Run-Id": run.id}
        async with EventStream(request, native.Encoder.content_type, self._config.heartbeat, headers) as stream:
            await self._tell(run, after, _encoder(run.id), stream.send)
        return stream.response

    async def _one_of_several(self, owner: str, id: str, cursor: str, send: Send) -> None:
        """Send the frames of a run, or the one that says that there is none: which does not end the others."""
        encoder = _encoder(id, name=id)
        try:
            run = await self._runs.store.run(owner, id)
            await self._tell(run, await self._place(run, cursor), encoder, send)
        except errors.NotFound as error:
            send([encoder.refuse(error)])

    async def _tell(self, run: Run, after: int | None, encoder: native.Encoder, send: Send) -> None:
        """Send the frames of a run behind event `after`, all of it behind a resync where that is None."""
        if after is None:
            messages = await self._messages(run) if run.outcome and not await self._runs.knows(run, 1) else []
            send([encoder.resync(messages)])
        last = 0

        def show(entries: Sequence[tuple[int, events.Event]]) -> Awaitable[None] | None:
            nonlocal last
            last = entries[-1][0]
            if len(entries) == 1:
                return send([encoder.encode(*entries[0])])
            return send(encoder.encode(number, event) for number, event in entries)

        await self._runs.tell(run, after or 0, show)
        if not last and after is None:
            send([encoder.encode(1, _last_event(run, messages))])

    async def _place(self, run: Run, cursor: str) -> int | None:
        """Return the number behind which a viewer goes on, None where its cursor leads nowhere."""
        if (place := read_cursor(cursor)) is None:
            return None
        after = event_of(place)
        if after == 0 and not run.outcome:
            return 0
        return after if await self._runs.knows(run, max(after, 1)) else None

    async def _messages(self, run: Run) -> list[Message]:
        """Return what a run added to its conversation."""
        if not run.conversation_id:
            return []
        nodes = await self._runs.store.nodes(run.owner, run.conversation_id)
        return [node.message for node in nodes if node.run_id == run.id]


def _schema(body: Any) -> str:
    """Return the schema that a body is to be held against, by the members that only one front end sends."""
    members = body if isinstance(body, dict) else {}
    if "conversationId" in members:
        return TURN_REQUEST
    if "trigger" in members:
        return AI_SDK_REQUEST
    return AG_UI_REQUEST if "threadId" in members and "runId" in members else CHAT_REQUEST


def _prefers_not_to_wait(request: web.Request) -> bool:
    preferences = ",".join(request.headers.getall("Prefer", ())).lower().split(",")
    return any(re.split("[;=]", each)[0].strip() == "respond-async" for each in preferences)


def _accepted(run: Run) -> web.Response:
    """Say that a run has begun, or that it had, and where to ask for it: beside this route, whatever its prefix."""
    ids = {"conversationId": run.conversation_id, "messageId": run.message_id, "parentId": run.parent_id or None}
    headers = {"Location": f"runs/{run.id}", "Preference-Applied": "respond-async", "X-Run-Id": run.id}
    return web.json_response({"runId": run.id} | ids, status=202, headers=headers)


def _runs_asked(request: web.Request) -> list[tuple[str, str]]:
    """Return the runs that a query names, each with the cursor that stands behind it."""
    asked: list[tuple[str, str]] = []
    for name, value in request.query.items():
        if name == "run":
            asked.append((value, "0"))
        elif name == "after" and asked:
            asked[-1] = (asked[-1][0], value)
    ids = [id for id, _ in asked]
    if not 1 <= len(ids) <= MOST or len(set(ids)) < len(ids):
        raise errors.RequestError(f"run: a stream takes from 1 to {MOST} runs, each once; these are {len(ids)}")
    for id in ids:
        if not _ID.fullmatch(id):
            raise errors.RequestError(f"run: {id[:50]!r} is not the id of a run")
    return asked


def _encoder(run_id: str, name: str = "") -> native.Encoder:
    # The id by which the log knows the request that began the run, whoever follows it.
    return native.Encoder(run_id.replace("run", "req", 1), name)


def _decision(value: dict[str, Any]) -> Decision:
    if "result" in value:
        return Decision(value["toolCallId"], "result", value["result"], value.get("isError", False))
    return Decision(value["toolCallId"], value["decision"], value.get("reason", ""))


def _last_event(run: Run, messages: Sequence[Message]) -> events.Event:
    """Return the last event of a run whose log is gone, as far as it is known."""
    ending = run.ending
    said = ending.get("usage", {})
    usage = Usage(
        said.get("inputTokens", 0),
        said.get("outputTokens", 0),
        said.get("cachedTokens", 0),
        said.get("reasoningTokens", 0),
        said.get("estimated", False),
        said.get("providerToolCalls", 0),
    )
    times = ending.get("timing")
    timing = times and events.Timing(times["firstTokenMs"], times["durationMs"], times["generationMs"])
    if error := ending.get("error"):
        failed = (error["code"], error["message"], error["retryable"], usage, tuple(messages))
        return events.RunFailed(*failed, error.get("details", {}), timing)
    reason = FinishReason(ending.get("finishReason", FinishReason.OTHER))
    return events.RunFinished(events.Outcome(run.outcome), reason, usage, tuple(messages), timing)
