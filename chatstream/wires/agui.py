"""The wire of AG-UI 1.0, as `@ag-ui/client` 1.0 and 0.0.59 and TanStack AI read it: one stream for all of them.

    run  = RUN_STARTED step* (RUN_FINISHED | RUN_ERROR)
    step = (REASONING_* TEXT_MESSAGE_* TOOL_CALL_*)*     and a TOOL_CALL_RESULT or a CUSTOM anywhere

The rules, and who needs them (docs.ag-ui.com/concepts/events; the rest stands in the sources of the clients):

- START, CONTENT and END are told apart, and all that is open ends before RUN_FINISHED: AG-UI throws otherwise, and
  TanStack AI leaves out what comes as a `_CHUNK`. No member is null, no line ends in CR, nothing follows the end.
- What the clients send back of a message is its reasoning, then its text, then its calls. So these make a message, and
  where a model thinks again it begins another one, `ID.2`: text behind it TanStack AI would say twice otherwise.
- REASONING_MESSAGE_START stands before TEXT_MESSAGE_START, so that AG-UI lists them in that order, and its content
  behind it: TanStack AI adds that to the message that was opened last. So a step without text has an empty one.
- A call without arguments says `{}`: TanStack AI has no input otherwise. One that nobody answered is answered at the
  end, or AG-UI takes it for one that its application has to run.
- An approval is an interrupt, and so is a call of the caller's own in the same turn. Alone that is the CUSTOM
  `tool-input-available`, upon which TanStack AI acts, and a success: AG-UI sees a call without a result.
- `tool_calls` is a finish reason only where an interrupt is: TanStack AI waits for more of the run otherwise.

The ids are made of run, turn and call, and occur once in a conversation, as TanStack AI needs. `encryptedValue` holds
what the provider wants back with its reasoning, or a call. A call whose id begins with `provider:` the provider ran.
Our own are `metadata.chatstream` and the CUSTOM events `tool-progress`, `notice` and `citations`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from .. import events
from ..deltas import FinishReason, Usage
from ..events import Event, Outcome
from ..messages import NOT_RUN, Opaque, Part, Reasoning, Text, ToolCall, part_to_json
from ..turn import CUT_OFF
from . import base
from .agui_messages import Frame, Messages

BY_PROVIDER = "provider:"
BY_CALLER = "result:"  # before the id of an interrupt that asks for the result of a call
_SUCCESS: Frame = {"type": "success"}
_FINISH = {
    FinishReason.LENGTH: "length",
    FinishReason.CONTEXT_OVERFLOW: "length",
    FinishReason.CONTENT_FILTER: "content_filter",
    FinishReason.REFUSAL: "content_filter",
}


class Encoder(base.Encoder):
    """Makes the frames of one run, in which the ids of thread and runs are the client's.

    The client has the results of the calls `answered`, for it gave them itself.
    """

    numbered = True

    def __init__(self, thread_id: str, run_id: str, parent_run_id: str = "", answered: Iterable[str] = ()) -> None:
        self._answered = frozenset(answered)
        self._ids = {"threadId": thread_id, "runId": run_id}
        self._parent = {"parentRunId": parent_run_id} if parent_run_id else {}
        self._started = events.RunStarted("", "", "")
        self._said = Messages()
        self._provided: dict[str, bool] = {}  # the calls of the provider's own tools, and whether their input was told
        self._unanswered: dict[str, str] = {}  # what is told of a call at the end, where it has no result
        self._waiting: list[events.ApprovalRequested] = []

    def tell(self, event: Event) -> list[Frame]:
        return list(self._tell(event))

    def _tell(self, event: Event) -> Iterator[Frame]:
        match event:
            case events.RunStarted():
                self._started = event
                about = {"tanstack": {"model": event.model}, "chatstream": {"runId": event.run_id}}
                yield {"type": "RUN_STARTED"} | self._ids | self._parent | {"metadata": about}
            case events.TurnStarted():
                self._said = Messages(f"{self._started.message_id}-{event.turn}")
            case events.PartStarted(kind="reasoning"):
                yield from self._said.think()
            case events.PartStarted(kind="tool_call"):
                yield from self._call(event.call_id, event.name)
            case events.PartStarted(kind="opaque") if event.name:
                yield from self._show(Opaque("", {}, event.call_id, event.name), is_whole=False)
            case events.TextDelta():
                yield from self._said.speak()
                yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": self._said.id, "delta": event.text}
            case events.ReasoningDelta():
                yield from self._said.think()
                yield {"type": "REASONING_MESSAGE_CONTENT", "messageId": self._said.reasoning_id, "delta": event.text}
            case events.ArgumentsDelta():
                yield {"type": "TOOL_CALL_ARGS", "toolCallId": event.call_id, "delta": event.text}
            case events.PartFinished():
                yield from self._finish(event.value)
            case events.ToolProgress():
                yield _custom("tool-progress", {"toolCallId": event.call_id, "content": event.content})
            case events.ToolFinished() if event.call_id not in self._answered:
                yield self._result(event.call_id, event.content, event.is_error)
            case events.ApprovalRequested():
                self._unanswered.pop(event.call_id, None)
                self._waiting.append(event)
            case events.TurnFinished():
                yield from self._said.close()
            case events.Notice():
                yield _custom("notice", {"code": event.code, "message": event.message})
            case events.RunFinished() | events.RunFailed():
                yield from [self._result(id, why, True) for id, why in list(self._unanswered.items())]
                yield from self._end(event)

    def _call(self, id: str, name: str) -> Iterator[Frame]:
        yield from self._said.shut()
        ours = not id.startswith(BY_PROVIDER)
        self._unanswered[id] = NOT_RUN if ours else CUT_OFF
        started = {"toolCallId": id, "toolCallName": name, "parentMessageId": self._said.id}
        yield {"type": "TOOL_CALL_START"} | started | ({} if ours else {"metadata": {"providerExecuted": True}})

    def _finish(self, part: Part) -> Iterator[Frame]:
        match part:
            case ToolCall():
                if not part.arguments:
                    yield {"type": "TOOL_CALL_ARGS", "toolCallId": part.id, "delta": "{}"}
                if part.extra:
                    signed = {"entityId": part.id, "encryptedValue": _dumps(base.pack(part))}
                    yield {"type": "REASONING_ENCRYPTED_VALUE", "subtype": "tool-call"} | signed
                yield {"type": "TOOL_CALL_END", "toolCallId": part.id}
            case Opaque(name=name) if name:
                yield from self._show(part, is_whole=True)
            case Reasoning():
                self._said.sign(part)
            case Text(citations=citations) if citations:
                yield _custom("citations", {"messageId": self._said.id, "citations": part_to_json(part)["citations"]})

    def _show(self, tool: Opaque, *, is_whole: bool) -> Iterator[Frame]:
        """Tell of a tool of the provider's own: its call and its result may be two parts, in different turns."""
        id = BY_PROVIDER + tool.call_id
        if id not in self._provided:
            self._provided[id] = False
            yield from self._call(id, tool.name)
        if is_whole and not self._provided[id]:
            self._provided[id] = True
            yield {"type": "TOOL_CALL_ARGS", "toolCallId": id, "delta": _dumps(tool.input or {})}
            yield {"type": "TOOL_CALL_END", "toolCallId": id}
        if tool.result is not None and id in self._unanswered:
            yield self._result(id, tool.result, tool.is_error)

    def _result(self, id: str, content: str, is_error: bool) -> Frame:
        self._unanswered.pop(id, None)
        told = {"messageId": f"{self._started.message_id}-{id}", "toolCallId": id, "role": "tool", "content": content}
        failed = {"metadata": {"tanstack": {"state": "output-error"}}} if is_error else {}
        return {"type": "TOOL_CALL_RESULT"} | told | failed

    def _end(self, event: events.RunFinished | events.RunFailed) -> Iterator[Frame]:
        ended = {"usage": [_usage(self._started.model, event.usage)]}
        if isinstance(event, events.RunFailed):
            ours: Frame = {"retryable": event.retryable} | ({"details": event.details} if event.details else {})
            yield _error(event.code, event.message, ours) | ended
            return
        if event.outcome is Outcome.INTERRUPTED:
            yield _error("interrupted", base.INTERRUPTED, {"retryable": True}) | ended
            return
        waiting = self._waiting if event.outcome is Outcome.PAUSED else []
        reason, outcome = _FINISH.get(event.finish_reason, "stop"), _SUCCESS
        if all(each.by_caller for each in waiting):
            yield from [_custom("tool-input-available", _about(each)) for each in waiting]
        else:
            asked = [_interrupt(self._started.run_id, each) for each in waiting]
            reason, outcome = "tool_calls", {"type": "interrupt", "interrupts": asked}
        ours = {"outcome": event.outcome} | ({"estimated": True} if event.usage.estimated else {})
        about = {"tanstack": {"model": self._started.model, "finishReason": reason}, "chatstream": ours}
        yield {"type": "RUN_FINISHED"} | self._ids | {"outcome": outcome} | ended | {"metadata": about}


def _interrupt(run_id: str, asked: events.ApprovalRequested) -> Frame:
    kind, reason = ("client_tool", "client_tool_input") if asked.by_caller else ("approval", "approval_required")
    id = (BY_CALLER if asked.by_caller else "") + base.pair_id(run_id, asked.call_id)
    about = {"kind": kind, "toolName": asked.name, "input": asked.input}
    return {"id": id, "reason": reason, "toolCallId": asked.call_id, "metadata": about}


def _about(asked: events.ApprovalRequested) -> Frame:
    return {"toolCallId": asked.call_id, "toolName": asked.name, "input": asked.input}


def _error(code: str, message: str, ours: Frame) -> Frame:
    return {"type": "RUN_ERROR", "message": message, "code": code, "metadata": {"chatstream": ours}}


def _custom(name: str, value: Frame) -> Frame:
    return {"type": "CUSTOM", "name": name, "value": value}


def _usage(origin: str, usage: Usage) -> Frame:
    provider, _, model = origin.partition(":")
    return {
        "provider": provider,
        "model": model,
        "inputTokens": usage.input_tokens,
        "outputTokens": usage.output_tokens,
        "totalTokens": usage.input_tokens + usage.output_tokens,
        "reasoningTokens": usage.reasoning_tokens,
        "cachedInputTokens": usage.cached_tokens,
    }


def _dumps(value: Any) -> str:
    return orjson.dumps(value).decode()
