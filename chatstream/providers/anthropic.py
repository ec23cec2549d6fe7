"""Anthropic's Messages API: https://platform.claude.com/docs/en/api/messages

A stream is `message_start`, content blocks by index (`content_block_start`, `_delta`*, `_stop`), `message_delta` with
the stop reason and the usage so far, `message_stop`; `ping` anywhere, `error` at any time after the status 200.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from ..deltas import (
    Batch,
    Delta,
    Finish,
    FinishReason,
    OpaqueDelta,
    PartEnd,
    ReasoningDelta,
    TextDelta,
    TextDetail,
    ToolCallDelta,
    Usage,
    UsageDelta,
    arguments_delta,
)
from ..messages import (
    Image,
    Message,
    Opaque,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    check_depth,
    sendable,
    system_text,
)
from ..sse import Frame
from .anthropic_blocks import Block, call_name, cited, is_call, shown, text, whole
from .base import ModelInfo, ModelRequest, SdkProvider, Surroundings, Translator, finish_reason, own_tools, read_json
from .failures import Told

_FINISH = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "tool_use": FinishReason.TOOL_CALLS,
    "max_tokens": FinishReason.LENGTH,
    "pause_turn": FinishReason.PAUSE,
    "refusal": FinishReason.REFUSAL,
    "model_context_window_exceeded": FinishReason.CONTEXT_OVERFLOW,
}
# These take a thinking budget in tokens; every later model decides by itself, within the effort it is given
# (platform.claude.com/docs/en/build-with-claude/adaptive-thinking).
_TAKES_BUDGET = re.compile(r"claude-(3|(opus|sonnet|haiku)-4(-5|-1|-0|-\d{8}|$))")
_BUDGET_SHARE = {"low": 0.25, "medium": 0.5, "high": 0.75}
_LEAST_BUDGET = 1024
# The type of each tool that Anthropic runs: the newest for Claude 4.6 and later, which filter by code of their own what
# they found, and the basic one for every other model. None of them needs a beta header (anthropic 2.12,
# types/tool_union_param.py; platform.claude.com/docs/en/agents-and-tools/tool-use/web-search-tool).
_PROVIDER_TOOLS = {
    "web_search": ("web_search_20260318", "web_search_20250305"),
    "web_fetch": ("web_fetch_20260318", "web_fetch_20250910"),
    "code_execution": ("code_execution_20260521", "code_execution_20250825"),
}
# The members of the blocks that are read apart; what else such a block has goes back as `extra`.
_READ = {
    "text": {"type", "text", "citations"},
    "thinking": {"type", "thinking", "signature"},
    "redacted_thinking": {"type", "data"},
    "tool_use": {"type", "id", "name", "input"},
}


class Anthropic(SdkProvider):
    """Claude models, or any server that speaks the Messages API (`ANTHROPIC_BASE_URL`)."""

    name = "anthropic"
    label = "Anthropic"
    default_model = "claude-sonnet-5-5"
    sdk = "anthropic"
    client_class = "AsyncAnthropic"
    key_variables = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")
    base_variable = "ANTHROPIC_BASE_URL"
    home = "https://api.anthropic.com"
    models_path = "/v1/models"
    provider_tools = tuple(_PROVIDER_TOOLS)

    def info(self, model: str) -> ModelInfo:
        label = f"{model} ({self.shown})"
        return ModelInfo(self.name, model, label, images=True, reasoning=True, reason=self.reason)

    def asking(self, request: ModelRequest) -> tuple[Any, dict[str, Any]]:
        return self._client.messages.with_streaming_response.create, build_request(request, self.name)

    def translator(self, told: Told) -> Translator:
        return MessagesTranslator(told)


def build_request(request: ModelRequest, provider: str) -> dict[str, Any]:
    """Return the arguments of `messages.create`.

    Temperature is never among them: API version 2026-10-21, which the SDK asks for, refuses the parameter.
    """
    origin = f"{provider}:{request.model}"
    history = sendable(list(map(_without_container, request.messages)), origin, _fit_id)
    parameters: dict[str, Any] = {
        "model": request.model,
        "max_tokens": request.max_output_tokens,
        "messages": _messages(history),
        "stream": True,
    }
    if "cache_control" not in request.without:
        # One breakpoint that moves with the end of the conversation: what was sent before is read from the cache.
        parameters["cache_control"] = {"type": "ephemeral"}
    if system := system_text(request.messages, request.system):
        parameters["system"] = system
    if container := _container(request.messages, origin):
        parameters["container"] = container
    tools: list[dict[str, Any]] = [
        {"name": tool.name, "description": tool.description, "input_schema": tool.parameters} for tool in request.tools
    ]
    if tools := tools + _provider_tools(request):
        parameters["tools"] = tools
    return parameters | _thinking(request, history)


def _provider_tools(request: ModelRequest) -> list[dict[str, Any]]:
    is_new = request.model.startswith("claude-") and not _TAKES_BUDGET.match(request.model)
    names = own_tools(request, _PROVIDER_TOOLS, "Anthropic")
    return [{"type": _PROVIDER_TOOLS[name][0 if is_new else 1], "name": name} for name in names]


def _is_container(part: Part) -> bool:
    return isinstance(part, Opaque) and part.data.get("type") == "container"


def _without_container(message: Message) -> Message:
    """Return a message without the note of a container, which is none of its blocks."""
    return replace(message, parts=tuple(part for part in message.parts if not _is_container(part)))


def _container(messages: Sequence[Message], origin: str) -> str:
    """Return the id of the last container that code ran in, empty where none is known that has not expired.

    A request that answers calls out of running code is refused without it, one that names an expired container makes
    the next run fail (github.com/anthropics/anthropic-sdk-python/issues/1801, github.com/vercel/ai/pull/11708).
    """
    known = [part for message in messages for part in message.parts if isinstance(part, Opaque)]
    noted = [part.data for part in known if part.origin == origin and _is_container(part)]
    return str(noted[-1].get("id", "")) if noted and not _has_expired(noted[-1]) else ""


def _has_expired(container: Mapping[str, Any]) -> bool:
    try:
        return datetime.fromisoformat(container["expires_at"]) <= datetime.now(UTC)
    except (KeyError, TypeError, ValueError):
        return False  # as far as is known


def _fit_id(call_id: str) -> str:
    """Return a call's id with nothing but what this API takes (`^[a-zA-Z0-9_-]+$`): other providers' hold more."""
    return re.sub("[^A-Za-z0-9_-]", "_", call_id)


def _thinking(request: ModelRequest, history: Sequence[Message]) -> dict[str, Any]:
    if not request.model.startswith("claude-") or "thinking" in request.without:
        return {}  # the first is another server's model, which may not know the word
    if not _TAKES_BUDGET.match(request.model):
        effort = {"output_config": {"effort": request.effort}} if request.effort else {}
        return {"thinking": {"type": "adaptive", "display": "summarized"}} | effort
    budget = int(request.max_output_tokens * _BUDGET_SHARE[request.effort]) if request.effort else 0
    # With a budget, calls that are answered must come behind thinking: there is none where another model made them, or
    # where what was thought was refused (platform.claude.com/docs/en/build-with-claude/extended-thinking).
    answers = bool(history) and history[-1].role == "tool"
    if budget < _LEAST_BUDGET or (answers and not isinstance(history[-2].parts[0], Reasoning)):
        return {}
    return {"thinking": {"type": "enabled", "budget_tokens": budget}}


def _messages(history: Sequence[Message]) -> list[dict[str, Any]]:
    """Return the history in turns of user and assistant: results are a user's, and what was asked next joins them."""
    turns: list[dict[str, Any]] = []
    running = {part.call_id for message in history for part in message.parts if isinstance(part, Opaque)}
    for message in history:
        role = "assistant" if message.role == "assistant" else "user"
        blocks = [_with_known_caller(block, running) for part in message.parts if (block := _block(part)) is not None]
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": role, "content": blocks})
    return turns


def _with_known_caller(block: Block, running: set[str]) -> Block:
    """Return a block without its `caller` where that is code whose own call is not sent, because it broke off."""
    caller = block.get("caller")
    if isinstance(caller, dict) and "tool_id" in caller and str(caller["tool_id"]) not in running:
        return {name: value for name, value in block.items() if name != "caller"}
    return block


def _block(part: Part) -> Block | None:
    match part:
        case Text():
            return {"type": "text", "text": part.text} | part.extra
        case Image():
            source = {"type": "base64", "media_type": part.media_type, "data": part.data}
            return {"type": "image", "source": source}
        case Reasoning() if part.redacted:
            return {"type": "redacted_thinking", "data": part.redacted} | part.extra
        case Reasoning() if part.signature:
            return {"type": "thinking", "thinking": part.text, "signature": part.signature} | part.extra
        case Reasoning() if "type" in part.extra:
            return {"thinking": part.text} | part.extra  # whole, and its server signs none
        case ToolCall():
            return {"type": "tool_use", "id": part.id, "name": part.name, "input": part.input or {}} | part.extra
        case ToolResult():
            error = {"is_error": True} if part.is_error else {}
            return {"type": "tool_result", "tool_use_id": part.tool_call_id, "content": part.content} | error
        case Opaque():
            return part.data
        case _:
            return None  # thinking that broke off before its signature came: the API refuses it


class MessagesTranslator:
    """Translates one stream of the Messages API.

    A block ends at its stop, at the start of another under its index, or where the turn does. Deltas of an unknown type
    are left out where the block is known, as the SDK does, and kept where it is not (see `anthropic_blocks.whole`).
    """

    __slots__ = (
        "_container",
        "_has_finished",
        "_id",
        "_inputs",
        "_names",
        "_opaque",
        "_open",
        "_unsigned",
        "_usage",
        "around",
        "batch",
        "is_complete",
        "told",
    )

    def __init__(self, told: Told) -> None:
        self.told = told
        self.batch = Batch()
        self.is_complete = False
        self.around = Surroundings()
        self._usage: dict[str, int] = {}
        self._id: tuple[object] | None = None
        self._has_finished = False
        self._container: dict[str, Any] | None = None
        # The type of each block that is open.
        self._open: dict[int, object] = {}
        # Arguments that a block's start brought whole; deltas, where they come, take their place.
        self._inputs: dict[int, dict[str, Any]] = {}
        # Thinking that has no signature yet: what its block has beside the text.
        self._unsigned: dict[int, Block] = {}
        # Blocks that are carried whole, as they began, and their deltas.
        self._opaque: dict[int, tuple[Block, list[Block]]] = {}
        # The names of the provider's own tools, by the ids of their calls.
        self._names: dict[str, str] = {}

    def feed(self, frames: list[Frame]) -> list[Delta]:
        batch = self.batch
        for frame in frames:
            if frame.data.startswith(b"[DONE]"):
                self._done()
                continue
            if said := self.around.text(frame.data):
                batch.join(TextDelta, self.around.key, said)
                continue
            event = read_json(frame, self.told.label)
            kind = event.get("type")
            if kind == "content_block_delta":
                delta, index = event["delta"], event["index"]
                if delta["type"] == "text_delta" and index not in self._opaque:
                    batch.join(TextDelta, index, delta["text"])
                    self.around.learn(frame, event, delta, "text", index)
                else:
                    self._delta(index, delta)
            elif kind == "content_block_start":
                self.around.forget()
                self._start(event["index"], event["content_block"])
            elif kind == "content_block_stop":
                self._stop(event["index"])
            elif kind == "message_start":
                self._begin(event["message"])
            elif kind == "message_delta":
                self._count(event.get("usage"))
                self._note(event["delta"])
            elif kind == "message_stop":
                self._end()
            elif kind == "error" or event.get("error") or frame.event == b"error":
                raise self.told.stream_error(event.get("error") or event)
        return batch.take()

    def _begin(self, message: dict[str, Any]) -> None:
        """Note the start of the message, whose content and end may be there already; it may be told twice."""
        if self._id not in (None, (message.get("id"),)):
            raise self.told.lost("another message began in the same stream")
        if self._id is None:
            for index, block in enumerate(message.get("content") or ()):
                self._start(index, block)
                self._stop(index)
        self._id = (message.get("id"),)
        self._count(message.get("usage"))
        self._note(message)

    def _note(self, told: dict[str, Any]) -> None:
        """Note what is said of the message's end: why it stopped, and the container that its code ran in."""
        self._container = told.get("container") or self._container
        if raw := told.get("stop_reason"):
            self._has_finished = True
            explanation = text((told.get("stop_details") or {}).get("explanation"))
            self.batch.add(Finish(finish_reason(_FINISH, raw), text(raw), explanation))

    def _done(self) -> None:
        """End an answer that OpenAI's word for it ends: vLLM and DeepSeek say it after `message_stop`.

        GitHub Copilot says it in its place (github.com/huggingface/tau/pull/692), behind the stop reason.
        """
        if self._has_finished and not self.is_complete:
            self._end()

    def _end(self) -> None:
        if self._container is not None:
            self.batch.add(OpaqueDelta("container", {"type": "container"} | self._container))
            self._container = None
        if not self._has_finished:
            self.batch.add(Finish(FinishReason.OTHER))
        self.is_complete = True

    def _start(self, index: int, block: Block) -> None:
        if index in self._open:
            self._stop(index)
        kind = self._open[index] = block.get("type")
        read = _READ.get(str(kind))
        if read is None:
            self._start_opaque(index, block)
            return
        extra = {name: value for name, value in block.items() if name not in read and value is not None} or None
        if kind == "text":
            if said := block.get("text"):
                self.batch.join(TextDelta, index, said)
            if extra:
                self.batch.add(TextDetail(index, extra=extra))
            for citation in block.get("citations") or ():
                self._cite(index, citation)
        elif kind == "thinking":
            signature = text(block.get("signature"))
            self.batch.add(ReasoningDelta(index, text(block.get("thinking")), signature, extra=extra))
            if not signature:
                self._unsigned[index] = {name: block[name] for name in ("type", "signature") if name in block}
        elif kind == "redacted_thinking":
            self.batch.add(ReasoningDelta(index, redacted=text(block["data"]), extra=extra))
        else:
            self.batch.add(ToolCallDelta(index, text(block.get("id")), text(block.get("name")), extra=extra))
            if block.get("input"):
                check_depth(block["input"])
                self._inputs[index] = block["input"]

    def _start_opaque(self, index: int, block: Block) -> None:
        """Begin a block that is carried whole: a call is shown at once, a result when all of it is there."""
        if not text(block.get("type")):
            raise TypeError("a block without a type")  # nobody would take it back
        self._opaque[index] = block, []
        if is_call(block):
            call_id, name = text(block.get("id")), call_name(block)
            self._names[call_id] = name
            self.batch.add(OpaqueDelta(index, None, call_id, name))
        else:
            self.batch.add(OpaqueDelta(index, None))

    def _delta(self, index: int, delta: Block) -> None:
        kind = delta["type"]
        if index in self._opaque:
            self._opaque[index][1].append(delta)
        elif kind == "thinking_delta":
            self.batch.join(ReasoningDelta, index, delta["thinking"])
        elif kind == "input_json_delta" and self._open.get(index) == "tool_use":
            if delta["partial_json"]:
                self._inputs.pop(index, None)
                self.batch.join(arguments_delta, index, delta["partial_json"])
        elif kind == "signature_delta":
            if signature := text(delta["signature"]):
                self._unsigned.pop(index, None)
                self.batch.add(ReasoningDelta(index, signature=signature))
        elif kind == "citations_delta":
            self._cite(index, delta["citation"])

    def _cite(self, index: int, citation: Block) -> None:
        self.batch.add(TextDetail(index, (cited(citation),), {"citations": [citation]}))

    def _stop(self, index: int) -> None:
        self._open.pop(index, None)
        if index in self._opaque:
            block = whole(*self._opaque.pop(index))
            if block is None:
                self.batch.add(PartEnd(index))  # a call whose input broke off: shown so, and never sent back
            else:
                self.batch.add(shown(index, block, self._names))
            return
        if index in self._inputs:
            self.batch.join(arguments_delta, index, json.dumps(self._inputs.pop(index)))
        if index in self._unsigned:
            self.batch.add(ReasoningDelta(index, extra=self._unsigned.pop(index)))
        self.batch.add(PartEnd(index))

    def _count(self, usage: dict[str, Any] | None) -> None:
        """Note what is known of the tokens: `message_delta` repeats or corrects what `message_start` said."""
        told = usage or {}
        details, calls = told.get("output_tokens_details") or {}, told.get("server_tool_use") or {}
        self._usage |= {name: value for name, value in (told | details).items() if isinstance(value, int)}
        if calls:
            self._usage["calls"] = sum(value for value in calls.values() if isinstance(value, int))
        known = self._usage.get
        read = known("cache_read_input_tokens", 0)
        total = known("input_tokens", 0) + read + known("cache_creation_input_tokens", 0)
        output, thinking = known("output_tokens", 0), known("thinking_tokens", 0)
        self.batch.add(UsageDelta(Usage(total, output, read, thinking, provider_tool_calls=known("calls", 0))))
