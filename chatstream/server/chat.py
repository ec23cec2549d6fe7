"""The routes of runs: ask, follow, stop, decide. What a run says goes out as the native wire.

A question is of one of two forms, told by its shape: with `messages` the caller keeps the conversation, with a
`conversationId` the server does. One in the form of another front end's is handed on, and answered in its wire.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any

from aiohttp import web

from .. import errors, events
from ..config import Config
from ..conversations import Decision, Run, run_to_json
from ..deltas import FinishReason, Usage
from ..messages import Message, messages_from_json
from ..runs import Runs
from ..wires import native
from .answers import DECIDED, RECEIPT, RUN
from .bodies import AG_UI_REQUEST, AI_SDK_REQUEST, CHAT_REQUEST, DECISIONS, TURN_REQUEST, read_body
from .frontend import FrontEnd, event_of, need_text, read_cursor, run_id
from .guard import FORM, OWNER
from .routes import LAST_EVENT_ID, Parameter, Route
from .stream import EventStream

_AFTER = Parameter("after", "The same, where no header can be sent.")


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
            Route("POST", "/api/chat", self.ask, bodies=asked, answer="stream"),
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
        # The id by which the log knows the request that began the run, whoever follows it.
        encoder = native.Encoder(run.id.replace("run", "req", 1))
        after = await self._place(run, cursor)
        headers = {"X-Run-Id": run.id}
        async with EventStream(request, encoder.content_type, self._config.heartbeat, headers) as stream:
            if after is None:
                messages = await self._messages(run) if run.outcome and not await self._runs.knows(run, 1) else []
                await stream.write(encoder.resync(messages))
            async with aclosing(self._runs.follow(run, after or 0)) as batches:
                entries: Sequence[tuple[int, events.Event]] = ()
                async for entries in batches:
                    await stream.write(b"".join([encoder.encode(number, event) for number, event in entries]))
            if not entries and after is None:
                await stream.write(encoder.encode(1, _last_event(run, messages)))
        return stream.response

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
    if error := ending.get("error"):
        details = error.get("details", {})
        return events.RunFailed(error["code"], error["message"], error["retryable"], usage, tuple(messages), details)
    reason = FinishReason(ending.get("finishReason", FinishReason.OTHER))
    return events.RunFinished(events.Outcome(run.outcome), reason, usage, tuple(messages))
