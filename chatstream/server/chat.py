"""The routes of runs: ask, follow, stop, decide. What a run says goes out as the native wire.

A question is of one of two forms, told by its shape: with `messages` the caller keeps the conversation, with a
`conversationId` the server does.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

from aiohttp import web

from .. import errors, events
from ..config import Config
from ..conversations import Decision, Run, run_to_json
from ..deltas import FinishReason, Usage
from ..messages import Message, is_answerable, messages_from_json
from ..runs import Runs
from ..wires import native
from .bodies import CHAT_REQUEST, DECISIONS, TURN_REQUEST, read_body
from .guard import OWNER, REQUEST_ID
from .stream import EventStream


class Chat:
    def __init__(self, config: Config, runs: Runs) -> None:
        self._config = config
        self._runs = runs

    async def ask(self, request: web.Request) -> web.StreamResponse:
        """Answer one question, as a stream."""
        body = await read_body(request, _form, self._config.max_body)
        # Named after its request, so that what the log says of either is found by the other.
        run_id = request[REQUEST_ID].replace("req", "run", 1)
        if "conversationId" in body:
            _need_text(messages_from_json([{"role": "user", "content": body.get("message", "Continue.")}]), "message")
            run = await self._runs.ask(request[OWNER], body, run_id)
        else:
            messages = messages_from_json(body["messages"])
            _need_text(messages, "messages")
            run = await self._runs.ask_once(request[OWNER], body, messages, run_id)
        return await self._stream(request, run)

    async def show(self, request: web.Request) -> web.Response:
        return web.json_response(run_to_json(await self._run(request)))

    async def follow(self, request: web.Request) -> web.StreamResponse:
        """Follow a run from a cursor on, the number of the last event that the viewer has."""
        # An EventSource that connects again keeps the address, and says in the header where it really is.
        cursor = request.headers.get("Last-Event-ID") or request.query.get("after", "0")
        return await self._stream(request, await self._run(request), cursor)

    async def stop(self, request: web.Request) -> web.Response:
        return web.json_response(await self._runs.stop(await self._run(request)))

    async def decide(self, request: web.Request) -> web.Response:
        """Approve or deny calls that wait, or give the results of those that the caller ran."""
        run = await self._run(request)
        body = await read_body(request, DECISIONS, self._config.max_body)
        decisions = {each["toolCallId"]: _decision(each) for each in body["decisions"]}
        if len(decisions) < len(body["decisions"]):
            raise errors.RequestError("decisions: there are two on one call")
        run_id = request[REQUEST_ID].replace("req", "run", 1)
        run, next_id = await self._runs.decide(run, list(decisions.values()), run_id)
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
        number, _, piece = cursor.partition(".")
        if not (number.isdecimal() and number.isascii() and len(number) < 16 and (piece.isdecimal() or not piece)):
            return None
        after = int(number)
        if after == 0 and not run.outcome:
            return 0
        return after if await self._runs.knows(run, max(after, 1)) else None

    async def _messages(self, run: Run) -> list[Message]:
        """Return what a run added to its conversation."""
        if not run.conversation_id:
            return []
        nodes = await self._runs.store.nodes(run.owner, run.conversation_id)
        return [node.message for node in nodes if node.run_id == run.id]


def _form(body: Any) -> str:
    return TURN_REQUEST if isinstance(body, dict) and "conversationId" in body else CHAT_REQUEST


def _need_text(messages: Sequence[Message], where: str) -> None:
    if not is_answerable(messages):
        raise errors.RequestError(f"{where}: there is nothing to answer: no message has any text")


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
