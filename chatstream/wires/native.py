"""The native wire: one JSON object a frame, `type` first, names in camelCase.

    {"type":"start","runId","conversationId"?,"parentId"?,"messageId","model"}
    {"type":"reasoning","content"}                       {"type":"text","content"}
    {"type":"tool_start","toolCallId","toolName"}        {"type":"tool_input","toolCallId","delta"}
    {"type":"tool_call","toolCallId","toolName","input"}
    {"type":"approval","toolCallId","toolName","input","wants":"decision" | "result"}
    {"type":"tool_progress","toolCallId","content"}
    {"type":"tool_result","toolCallId","toolName","result","isError","durationMs"}
    {"type":"citations","citations":[{"url","title"?,"text"?}]}      of the text before it
    {"type":"turn","finishReason","usage","timing"?}     {"type":"notice","code","message","lasting"?}
    {"type":"resync","messages"}                         replace what is shown of this run by these messages
    {"type":"error","code","message","retryable","details"?,"requestId","usage","messages","timing"?}  of a failed run
    {"type":"error","code","message","retryable","requestId","status"}      of several runs, one that cannot be followed
    {"type":"done","outcome","finishReason","usage","messages","timing"?}              ends every other run

`timing` is {"firstTokenMs": int or null, "durationMs", "generationMs"}: to the first word of the model, in all, and how
long the model spoke, so that outputTokens / generationMs is its speed.

Of a tool that the provider runs itself (its web search, say) there are `tool_start`, `tool_call` and `tool_result` with
`providerExecuted`; a result without a `tool_call` before it has the `input` too, and there is no `durationMs`.

A client that knows `text`, `tool_start`, `tool_result` and `done`, and reads only lines that begin with `data: `, can
follow a run: every frame is one such line. An event of which a viewer needs nothing makes a block of its id alone,
which is no event to an EventSource (https://html.spec.whatwg.org/multipage/server-sent-events.html#dispatchMessage): so
the ids have no gaps, and a viewer can tell that it missed something. Where several runs share a stream the event's name
(`event:`) is the id of the run that it belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson

from .. import events, sse
from ..deltas import Usage
from ..errors import ChatstreamError
from ..events import Event
from ..messages import Message, Opaque, Text, ToolCall, message_to_json, part_to_json

_dumps = orjson.dumps


def usage_to_json(usage: Usage) -> dict[str, Any]:
    value = {
        "inputTokens": usage.input_tokens,
        "outputTokens": usage.output_tokens,
        "cachedTokens": usage.cached_tokens,
        "reasoningTokens": usage.reasoning_tokens,
    }
    counted = {"providerToolCalls": usage.provider_tool_calls} if usage.provider_tool_calls else {}
    return value | counted | ({"estimated": True} if usage.estimated else {})


def timing_to_json(timing: events.Timing | None) -> dict[str, Any]:
    """Return the member that tells of times, none where they are not known: those of a run whose process died."""
    if timing is None:
        return {}
    told = {"firstTokenMs": timing.first_token_ms, "durationMs": timing.duration_ms}
    return {"timing": told | {"generationMs": timing.generation_ms}}


def notice_to_json(notice: events.Notice) -> dict[str, Any]:
    told = {"code": notice.code, "message": notice.message}
    return told | ({"lasting": True} if notice.is_lasting else {})


def _run_started(event: events.RunStarted) -> dict[str, Any]:
    place = {"conversationId": event.conversation_id, "parentId": event.parent_id}
    named = {"messageId": event.message_id, "model": event.model}
    return {"type": "start", "runId": event.run_id} | {name: id for name, id in place.items() if id} | named


def _part_started(event: events.PartStarted) -> dict[str, Any] | None:
    if not event.name and event.kind != "tool_call":
        return None
    started = {"type": "tool_start", "toolCallId": event.call_id, "toolName": event.name}
    return started | (_BY_PROVIDER if event.kind == "opaque" else {})


def _part_finished(event: events.PartFinished) -> dict[str, Any] | None:
    match event.value:
        case ToolCall() as call:
            # Arguments that are no JSON object are shown as the text that they are.
            shown = call.arguments if call.input is None else call.input
            return {"type": "tool_call", "toolCallId": call.id, "toolName": call.name, "input": shown}
        case Opaque(name=name) as tool if name:
            about = {"toolCallId": tool.call_id, "toolName": name} | _BY_PROVIDER
            given = {} if tool.input is None else {"input": tool.input}
            if tool.result is None:
                return {"type": "tool_call"} | about | given if given else None
            return {"type": "tool_result"} | about | given | {"result": tool.result, "isError": tool.is_error}
        case Text(citations=citations) as text if citations:
            return {"type": "citations", "citations": part_to_json(text)["citations"]}
        case _:
            return None


def _tool_finished(event: events.ToolFinished) -> dict[str, Any]:
    return {
        "type": "tool_result",
        "toolCallId": event.call_id,
        "toolName": event.name,
        "result": event.content,
        "isError": event.is_error,
        "durationMs": event.duration_ms,
    }


_LAST = (events.RunFinished, events.RunFailed)
_BY_PROVIDER = {"providerExecuted": True}
_TABLE: dict[type[Event], Callable[[Any], dict[str, Any] | None]] = {
    events.RunStarted: _run_started,
    events.TurnStarted: lambda event: None,
    events.PartStarted: _part_started,
    events.TextDelta: lambda event: {"type": "text", "content": event.text},
    events.ReasoningDelta: lambda event: {"type": "reasoning", "content": event.text},
    events.ArgumentsDelta: lambda event: {"type": "tool_input", "toolCallId": event.call_id, "delta": event.text},
    events.PartFinished: _part_finished,
    events.ToolStarted: lambda event: None,
    events.ToolProgress: lambda event: {
        "type": "tool_progress",
        "toolCallId": event.call_id,
        "content": event.content,
    },
    events.ToolFinished: _tool_finished,
    events.ApprovalRequested: lambda event: {
        "type": "approval",
        "toolCallId": event.call_id,
        "toolName": event.name,
        "input": event.input,
        "wants": "result" if event.by_caller else "decision",
    },
    events.TurnFinished: lambda event: (
        {
            "type": "turn",
            "finishReason": event.finish_reason,
            "usage": usage_to_json(event.usage),
        }
        | timing_to_json(event.timing)
    ),
    events.Notice: lambda event: {"type": "notice"} | notice_to_json(event),
}


class Encoder:
    """Makes the frames of one run. `request_id` is what an `error` frame names, for the reader to quote.

    `name` is that of the events, where a stream has more than one run.
    """

    __slots__ = ("_head", "_request_id")

    content_type = sse.CONTENT_TYPE

    def __init__(self, request_id: str = "", name: str = "") -> None:
        self._request_id = request_id
        self._head = f"event: {name}\n".encode() if name else b""

    def encode(self, number: int, event: Event) -> bytes:
        """Return the frame of event `number` as bytes."""
        if type(event) is events.TextDelta:  # nearly all are
            text = _dumps(event.text)
            return b'%bid: %d\ndata: {"type":"text","content":%b}\n\n' % (self._head, number, text)
        if isinstance(event, _LAST):
            value: dict[str, Any] | None = self._end(event)
        else:
            value = _TABLE[type(event)](event)
        return sse.encode(None if value is None else _dumps(value), str(number), self._head)

    def resync(self, messages: Sequence[Message]) -> bytes:
        """Return the frame for a viewer whose cursor leads nowhere; what follows it begins anew."""
        value = {"type": "resync", "messages": list(map(message_to_json, messages))}
        return sse.encode(_dumps(value), "0", self._head)

    def refuse(self, error: ChatstreamError) -> bytes:
        """Return the frame that says why the run cannot be followed here, and with which status by itself."""
        told = {"type": "error", "code": error.code, "message": error.message, "retryable": False}
        return sse.encode(_dumps(told | {"requestId": self._request_id, "status": error.status}), "0", self._head)

    def _end(self, event: events.RunFinished | events.RunFailed) -> dict[str, Any]:
        messages = [message_to_json(message) for message in event.messages]
        kept = {"usage": usage_to_json(event.usage), "messages": messages} | timing_to_json(event.timing)
        if isinstance(event, events.RunFailed):
            told = {"code": event.code, "message": event.message, "retryable": event.retryable}
            told |= {"details": event.details} if event.details else {}
            return {"type": "error"} | told | {"requestId": self._request_id} | kept
        ended = {"outcome": event.outcome, "finishReason": event.finish_reason}
        return {"type": "done"} | ended | kept
