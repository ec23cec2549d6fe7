"""The wire of OpenAI's Chat Completions: https://platform.openai.com/docs/api-reference/chat-streaming

A run is one answer of one model, whatever turns and tools of ours it took:

    {"id","object":"chat.completion.chunk","created","model","choices":[{"index":0,"delta","finish_reason"}]}

    delta  {"role":"assistant"}                          first: the JavaScript SDK wants the role
           {"content"}                                   texts with a tool or a turn between them a blank line apart
           {"reasoning_content"}                         DeepSeek's name, which vLLM, Open WebUI and LiteLLM share
           {"tool_calls":[{"index","id","type","function":{"name","arguments"}}]}    then {"index","function"} alone
           {"annotations":[{"type":"url_citation","url_citation":{"url","title","start_index","end_index"}}]}
    then   the finish_reason with an empty delta; with `usage` one more chunk, without choices; `data: [DONE]`
    or     {"error":{"message","type","param","code"}}   both SDKs raise it, Open WebUI shows it where no choices are

Only calls of the caller's own tools are told, and their names only once: Open WebUI adds names up. They are told as the
model writes them; one whose arguments are no JSON the model was told of too, and what a client answers to it counts for
nothing. Annotations come in one delta: Python's `stream()` helper raises RuntimeError for a second list whose members
have no `index`, and that of JavaScript keeps the last list alone.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from .. import events
from ..deltas import FinishReason, Usage
from ..events import Event, Outcome
from ..messages import Text, ToolCall
from . import base

_FINISH = {
    FinishReason.LENGTH: "length",
    FinishReason.CONTEXT_OVERFLOW: "length",
    FinishReason.CONTENT_FILTER: "content_filter",
    FinishReason.REFUSAL: "content_filter",
}
_OUTCOMES = {Outcome.LIMIT: "length", Outcome.STOPPED: "stop"}
_INVALID, _SERVER = "invalid_request_error", "server_error"
# The type and the code that OpenAI's API has for the codes of `errors`: platform.openai.com/docs/guides/error-codes
_ERRORS = {
    "bad_request": (_INVALID, None),
    "auth": (_INVALID, "invalid_api_key"),
    "forbidden": (_INVALID, None),
    "not_found": (_INVALID, "model_not_found"),
    "conflict": (_INVALID, None),
    "too_large": (_INVALID, None),
    "context_overflow": (_INVALID, "context_length_exceeded"),
    "rate_limit": ("rate_limit_error", "rate_limit_exceeded"),
    "overloaded": (_SERVER, "server_is_overloaded"),
}


def error_to_json(code: str, message: str, param: str | None = None) -> dict[str, Any]:
    """Return what OpenAI's clients know as an error; `code` is one of `errors`."""
    kind, name = _ERRORS.get(code, (_SERVER, None))
    return {"error": {"message": message, "type": kind, "param": param, "code": name}}


def upstream(code: str) -> str:
    """Return the code of what went wrong behind the server: a key refused there is none that the client could mend."""
    return "network" if code in ("auth", "forbidden") else code


def failure(event: Event) -> tuple[str, str] | None:
    """Return the code and the message of an event that ends a run without an answer."""
    match event:
        case events.RunFailed(code=code, message=message):
            return upstream(code), message
        case events.RunFinished(outcome=Outcome.INTERRUPTED):
            return "overloaded", base.INTERRUPTED
        case _:
            return None


class Encoder(base.Encoder):
    """Tells one run. `created` is in seconds, `model` what was asked for, `own` the names of the caller's own tools."""

    end = b"data: [DONE]\n\n"

    def __init__(self, created: int, model: str = "", own: Collection[str] = (), with_usage: bool = False) -> None:
        self._head: dict[str, Any] = {"id": "", "object": "chat.completion.chunk", "created": created, "model": model}
        self._own = own
        self._with_usage = with_usage
        self._run_id = ""
        self._length = 0  # of the content so far
        self._is_apart = False  # whether the next text stands apart from the one before
        self._thought: int | None = None  # the part that was thought last
        self._starts: dict[int, int] = {}  # where in the content each text begins
        self._calls: dict[str, int] = {}
        self._bare: set[str] = set()  # calls that have no arguments yet
        self._annotations: list[dict[str, Any]] = []

    def tell(self, event: Event) -> list[dict[str, Any]]:
        if told := failure(event):
            return [error_to_json(*told)]
        match event:
            case events.RunStarted():
                return [self._begun(event)]
            case events.TurnStarted():
                self._is_apart = self._length > 0
            case events.PartStarted(name=name) if name:
                self._is_apart = self._length > 0
                return [self._called(event)] if event.kind == "tool_call" and name in self._own else []
            case events.TextDelta():
                return [self._chunk({"content": self._text(event)})]
            case events.ReasoningDelta(part=part, text=text):
                apart = "" if self._thought in (None, part) else "\n\n"
                self._thought = part
                return [self._chunk({"reasoning_content": apart + text})]
            case events.ArgumentsDelta(call_id=call_id, text=text) if call_id in self._calls:
                self._bare.discard(call_id)
                return [self._arguments(call_id, text)]
            case events.PartFinished(value=ToolCall(id=call_id), complete=True) if call_id in self._bare:
                return [self._arguments(call_id, "{}")]  # clients parse it, whatever it is
            case events.PartFinished(value=Text() as text):
                self._cite(event.part, text)
            case events.RunFinished():
                return self._finished(event)
        return []

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return self._head | {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}

    def _begun(self, event: events.RunStarted) -> dict[str, Any]:
        self._run_id = event.run_id
        self._head["id"] = event.run_id.replace("run_", "chatcmpl-", 1)
        self._head["model"] = self._head["model"] or event.model
        return self._chunk({"role": "assistant"})

    def _text(self, event: events.TextDelta) -> str:
        apart = "\n\n" if self._is_apart else ""
        self._is_apart = False
        self._starts.setdefault(event.part, self._length + len(apart))
        self._length += len(apart) + len(event.text)
        return apart + event.text

    def _called(self, event: events.PartStarted) -> dict[str, Any]:
        index = self._calls[event.call_id] = len(self._calls)
        self._bare.add(event.call_id)
        id = base.pair_id(self._run_id, event.call_id)
        call = {"index": index, "id": id, "type": "function", "function": {"name": event.name, "arguments": ""}}
        return self._chunk({"tool_calls": [call]})

    def _arguments(self, call_id: str, text: str) -> dict[str, Any]:
        return self._chunk({"tool_calls": [{"index": self._calls[call_id], "function": {"arguments": text}}]})

    def _cite(self, part: int, text: Text) -> None:
        place = {"start_index": self._starts.get(part, self._length), "end_index": self._length}
        for each in text.citations:
            if each.url:
                source = {"url": each.url, "title": each.title or each.url}
                self._annotations.append({"type": "url_citation", "url_citation": source | place})

    def _finished(self, event: events.RunFinished) -> list[dict[str, Any]]:
        is_paused = event.outcome is Outcome.PAUSED and self._calls
        outcome = "tool_calls" if is_paused else _OUTCOMES.get(event.outcome)
        reason = outcome or _FINISH.get(event.finish_reason, "stop")
        cited = [self._chunk({"annotations": self._annotations})] if self._annotations else []
        usage = [self._head | {"choices": [], "usage": usage_to_json(event.usage)}] if self._with_usage else []
        return [*cited, self._chunk({}, reason), *usage]


def usage_to_json(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    } | ({"estimated": True} if usage.estimated else {})
