"""The wire of the AI SDK: its UI message stream v1, for `ai` 7 and 6 (ai-sdk.dev/docs/ai-sdk-ui/stream-protocol).

    start (start-step (a chunk of a part or a tool)* finish-step)* (finish | abort | error) [DONE]

Its client ends an answer with an error at a chunk whose type it does not know, at `null`, at a delta or an end without
its start, and at an output for a call that its message does not have (`processUIMessageStream`): so only what both
versions know is sent. Usage and outcome have no field of their own and ride in the message's metadata, which the client
merges: so a member that was told once has to be told again where it changes.

A client that goes on with a message of its own (`continued`: a call of it was decided, or has its result) has to be
told the id of that message, or it shows the parts twice. One that comes back builds the whole message anew from its
`start`: it is told `whole` what the message held before the run.

It may ask again by itself once every call of the last step has an output (`sendAutomaticallyWhen`): an answer that ends
with calls and does not wait for them ends with a step that is empty.
"""

from __future__ import annotations

from typing import Any, ClassVar

from .. import events
from ..conversations import DENIED, EXPIRED
from ..deltas import FinishReason
from ..events import Event, Outcome
from ..messages import NOT_RUN, Opaque, Reasoning, Text, ToolCall
from . import base
from .base import pair_id
from .native import notice_to_json, usage_to_json
from .vercel_message import (
    ANSWERED,
    Chunk,
    call_chunk,
    calls_of,
    chunks_of,
    metadata_of,
    output_chunk,
    provider_chunks,
    with_earlier,
)

_FINISHES = {
    FinishReason.TOOL_CALLS: "tool-calls",
    FinishReason.CONTENT_FILTER: "content-filter",
    FinishReason.REFUSAL: "content-filter",
    FinishReason.CONTEXT_OVERFLOW: "length",
    FinishReason.PAUSE: "other",
}


class Encoder(base.Encoder):
    """`continued` is the message that the run goes on with, as the client posted it; None for a new one."""

    headers: ClassVar = {"X-Vercel-AI-UI-Message-Stream": "v1"}
    end: ClassVar = b"data: [DONE]\n\n"

    def __init__(self, continued: dict[str, Any] | None = None, whole: bool = False) -> None:
        self._continued = continued
        self._before = continued["parts"] if continued else []
        self._whole = whole
        calls = calls_of(self._before)
        self._known = set(calls)  # the calls that the client's message has
        self._given = {call_id for call_id, part in calls.items() if part.get("state") in ANSWERED}
        self._open: dict[str, None] = {}  # the calls that were told whole and have no result
        self._started: set[str] = set()
        self._sources: set[str] = set()
        self._ends_with_calls = bool(calls)

    def tell(self, event: Event) -> list[Chunk]:
        match event:
            case events.TextDelta(part=part, text=text):
                return [{"type": "text-delta", "id": self._id(part), "delta": text}]
            case events.ReasoningDelta(part=part, text=text):
                return [{"type": "reasoning-delta", "id": self._id(part), "delta": text}]
            case events.ArgumentsDelta():
                return [{"type": "tool-input-delta", "toolCallId": event.call_id, "inputTextDelta": event.text}]
            case events.PartStarted():
                return self._part_started(event)
            case events.PartFinished():
                return self._part_finished(event)
            case events.ToolStarted():
                self._started.add(event.call_id)
                return []
            case events.ToolProgress():
                told = {"toolCallId": event.call_id, "content": event.content}
                return [{"type": "data-tool-progress", "data": told, "transient": True}]
            case events.ToolFinished():
                return self._tool_finished(event)
            case events.ApprovalRequested(by_caller=False):
                id = pair_id(self._run.run_id, event.call_id)
                return [{"type": "tool-approval-request", "approvalId": id, "toolCallId": event.call_id}]
            case events.ApprovalRequested():
                return []
            case events.Notice():
                return [{"type": "data-notice", "data": notice_to_json(event), "transient": True}]
            case events.TurnStarted():
                self._ends_with_calls = False
                return [{"type": "start-step"}]
            case events.TurnFinished():
                return [{"type": "finish-step"}]
            case events.RunStarted():
                return self._run_started(event)
            case events.RunFinished():
                return self._run_finished(event)
            case events.RunFailed():
                why = {"outcome": "failed", "code": event.code, "retryable": event.retryable}
                return [*self._settled(), self._about(event, why), {"type": "error", "errorText": event.message}]

    def _id(self, part: int) -> str:
        """Return an id that is new in the message."""
        return str(len(self._before) + part)

    def _run_started(self, event: events.RunStarted) -> list[Chunk]:
        self._run = event
        message = self._continued or {"id": event.message_id}
        start = {"type": "start"} | ({"messageId": message["id"]} if message.get("id") else {})
        if not self._whole:
            return [start]
        told = {} if message.get("metadata") is None else {"messageMetadata": message["metadata"]}
        return [start | told, *chunks_of(self._before)]

    def _part_started(self, event: events.PartStarted) -> list[Chunk]:
        if event.kind in ("text", "reasoning"):
            return [{"type": f"{event.kind}-start", "id": self._id(event.part)}]
        # What a provider's own tool answers is a part of its own, whose call was told before.
        if not event.name or (event.kind == "opaque" and event.call_id in self._known):
            return []
        self._known.add(event.call_id)
        by_provider = {"providerExecuted": True} if event.kind == "opaque" else {}
        return [{"type": "tool-input-start", "toolCallId": event.call_id, "toolName": event.name} | by_provider]

    def _part_finished(self, event: events.PartFinished) -> list[Chunk]:
        match event.value:
            case Text(citations=citations) as text:
                sources = [self._source(each.url, each.title) for each in citations if self._is_new(each.url)]
                return [{"type": "text-end", "id": self._id(event.part)} | metadata_of(text), *sources]
            case Reasoning() as reasoning:
                return [{"type": "reasoning-end", "id": self._id(event.part)} | metadata_of(reasoning)]
            case ToolCall() as call:
                self._ends_with_calls = True
                if call.input is not None and event.complete:
                    self._open[call.id] = None
                return [call_chunk(call, event.complete)]
            case Opaque(name=name) as tool if name:
                return provider_chunks(tool)
            case _:
                return []

    def _is_new(self, url: str) -> bool:
        return bool(url) and url not in self._sources

    def _source(self, url: str, title: str) -> Chunk:
        self._sources.add(url)
        source = {"type": "source-url", "sourceId": f"{self._run.message_id}-{len(self._sources)}", "url": url}
        return source | ({"title": title} if title else {})

    def _tool_finished(self, event: events.ToolFinished) -> list[Chunk]:
        self._open.pop(event.call_id, None)
        is_run = event.call_id in self._started
        if event.call_id not in self._known or (event.call_id in self._given and not is_run):
            return []
        if not is_run and (event.content == EXPIRED or event.content.startswith(DENIED)):
            return [{"type": "tool-output-denied", "toolCallId": event.call_id}]
        return [output_chunk(event.call_id, event.content, event.is_error)]

    def _run_finished(self, event: events.RunFinished) -> list[Chunk]:
        about = self._about(event, {"outcome": event.outcome})
        match event.outcome:
            case Outcome.STOPPED:
                return [*self._settled(), about, {"type": "abort"}]
            case Outcome.INTERRUPTED:
                return [*self._settled(), about, {"type": "error", "errorText": base.INTERRUPTED}]
            case _:
                last = [] if event.outcome == Outcome.PAUSED else self._settled()
                reason = _FINISHES.get(event.finish_reason, str(event.finish_reason))
                return [*last, about | {"type": "finish", "finishReason": reason}]

    def _settled(self) -> list[Chunk]:
        """Return the chunks after which nothing in the message waits for anybody."""
        step: list[Chunk] = [{"type": "start-step"}, {"type": "finish-step"}] if self._ends_with_calls else []
        return [*(output_chunk(call_id, NOT_RUN, is_error=True) for call_id in self._open), *step]

    def _about(self, event: events.RunFinished | events.RunFailed, more: dict[str, Any]) -> Chunk:
        total = {"totalTokens": event.usage.input_tokens + event.usage.output_tokens}
        usage = with_earlier(usage_to_json(event.usage) | total, self._continued or {})
        return {"type": "message-metadata", "messageMetadata": {"model": self._run.model, "usage": usage} | more}
