"""Anthropic's Messages API: https://platform.claude.com/docs/en/api/messages

A stream is `message_start`, content blocks by index (`content_block_start`, `_delta`*, `_stop`), `message_delta` with
the stop reason and the usage so far, `message_stop`; `ping` anywhere, `error` at any time after the status 200.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
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
    ToolCallDelta,
    Usage,
    UsageDelta,
    arguments_delta,
)
from ..messages import Message, Opaque, Part, Reasoning, Text, ToolCall, ToolResult, sendable, system_text
from ..sse import Frame
from .base import ModelInfo, ModelRequest, SdkProvider, Told, finish_reason, read_json, translate

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


class Anthropic(SdkProvider):
    """Claude models, or any server that speaks the Messages API (`ANTHROPIC_BASE_URL`)."""

    name = "anthropic"
    label = "Anthropic"
    default_model = "claude-sonnet-5-5"
    sdk = "anthropic"
    client_class = "AsyncAnthropic"
    key_variables = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")
    base_variable = "ANTHROPIC_BASE_URL"

    def info(self, model: str) -> ModelInfo:
        return ModelInfo(self.name, model, f"{model} ({self.shown})", reasoning=True, reason=self.reason)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[list[Delta]]:
        await self.open()
        told = self.told(request.model)
        create = self._client.messages.with_streaming_response.create
        async with (
            self.answer(create, build_request(request, self.name), told) as chunks,
            aclosing(translate(chunks, MessagesTranslator(told))) as batches,
        ):
            async for batch in batches:
                yield batch


def build_request(request: ModelRequest, provider: str) -> dict[str, Any]:
    """Return the arguments of `messages.create`.

    Temperature is never among them: API version 2026-10-21, which the SDK asks for, refuses the parameter.
    """
    history = sendable(request.messages, f"{provider}:{request.model}", _fit_id)
    parameters: dict[str, Any] = {
        "model": request.model,
        "max_tokens": request.max_output_tokens,
        "messages": _messages(history),
        "stream": True,
        # One breakpoint that moves with the end of the conversation: what was sent before is read from the cache.
        "cache_control": {"type": "ephemeral"},
    }
    if system := system_text(request.messages, request.system):
        parameters["system"] = system
    if request.tools:
        parameters["tools"] = [
            {"name": tool.name, "description": tool.description, "input_schema": tool.parameters}
            for tool in request.tools
        ]
    return parameters | _thinking(request)


def _fit_id(call_id: str) -> str:
    """Return a call's id with nothing but what this API takes (`^[a-zA-Z0-9_-]+$`): other providers' hold more."""
    return re.sub("[^A-Za-z0-9_-]", "_", call_id)


def _thinking(request: ModelRequest) -> dict[str, Any]:
    if not request.model.startswith("claude-"):
        return {}  # another server's model, which may not know the word
    if not _TAKES_BUDGET.match(request.model):
        effort = {"output_config": {"effort": request.effort}} if request.effort else {}
        return {"thinking": {"type": "adaptive", "display": "summarized"}} | effort
    budget = int(request.max_output_tokens * _BUDGET_SHARE[request.effort]) if request.effort else 0
    if budget < _LEAST_BUDGET:
        return {}
    return {"thinking": {"type": "enabled", "budget_tokens": budget}}


def _messages(history: Sequence[Message]) -> list[dict[str, Any]]:
    """Return the history in turns of user and assistant: results are a user's, and what was asked next joins them."""
    turns: list[dict[str, Any]] = []
    for message in history:
        role = "assistant" if message.role == "assistant" else "user"
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += _blocks(message.parts)
        else:
            turns.append({"role": role, "content": _blocks(message.parts)})
    return turns


def _blocks(parts: Sequence[Part]) -> list[dict[str, Any]]:
    return [block for part in parts if (block := _block(part)) is not None]


def _block(part: Part) -> dict[str, Any] | None:
    match part:
        case Text():
            return {"type": "text", "text": part.text}
        case Reasoning() if part.redacted:
            return {"type": "redacted_thinking", "data": part.redacted}
        case Reasoning() if part.signature:
            return {"type": "thinking", "thinking": part.text, "signature": part.signature}
        case ToolCall():
            return {"type": "tool_use", "id": part.id, "name": part.name, "input": part.input or {}}
        case ToolResult():
            error = {"is_error": True} if part.is_error else {}
            return {"type": "tool_result", "tool_use_id": part.tool_call_id, "content": part.content} | error
        case Opaque():
            return part.data
        case _:
            return None  # thinking that broke off before its signature came: the API refuses it


class MessagesTranslator:
    """Translates one stream of the Messages API."""

    def __init__(self, told: Told) -> None:
        self.told = told
        self.batch = Batch()
        self.is_complete = False
        self._usage: dict[str, int] = {}
        self._id: str | None = None
        # Arguments that a block's start brought whole; deltas, where they come, take their place.
        self._inputs: dict[int, dict[str, Any]] = {}
        # Blocks of a kind that is not known here, gathered whole: their start, with what their deltas added.
        self._opaque: dict[int, dict[str, Any]] = {}

    def feed(self, frames: list[Frame]) -> list[Delta]:
        batch = self.batch
        for frame in frames:
            event = read_json(frame, self.told.label)
            kind = event.get("type")
            if kind == "content_block_delta":
                delta = event["delta"]
                if delta["type"] == "text_delta":
                    batch.join(TextDelta, event["index"], delta["text"])
                else:
                    self._delta(event["index"], delta)
            elif kind == "content_block_start":
                self._start(event["index"], event["content_block"])
            elif kind == "content_block_stop":
                self._stop(event["index"])
            elif kind == "message_start":
                self._begin(event["message"])
            elif kind == "message_delta":
                self._count(event.get("usage"))
                if raw := event["delta"].get("stop_reason"):
                    batch.add(Finish(finish_reason(_FINISH, raw), raw))
            elif kind == "message_stop":
                self.is_complete = True
            elif kind == "error":
                raise self.told.stream_error(event.get("error"))
        return batch.take()

    def _begin(self, message: dict[str, Any]) -> None:
        """Note the start of the message, whose content may be there already."""
        if self._id not in (None, message.get("id")):
            raise self.told.lost("another message began in the same stream")
        if self._id is None:
            for index, block in enumerate(message.get("content") or ()):
                self._start(index, block)
                self._stop(index)
        self._id = message.get("id")
        self._count(message.get("usage"))

    def _start(self, index: int, block: dict[str, Any]) -> None:
        kind = block.get("type")
        if kind == "text":
            if block.get("text"):
                self.batch.join(TextDelta, index, block["text"])
        elif kind == "thinking":
            text, signature = block.get("thinking", ""), block.get("signature", "")
            self.batch.add(ReasoningDelta(index, text, signature))
        elif kind == "redacted_thinking":
            self.batch.add(ReasoningDelta(index, redacted=block["data"]))
        elif kind == "tool_use":
            self.batch.add(ToolCallDelta(index, block.get("id", ""), block.get("name", "")))
            if block.get("input"):
                self._inputs[index] = block["input"]
        else:
            self._opaque[index] = dict(block)

    def _delta(self, index: int, delta: dict[str, Any]) -> None:
        kind = delta["type"]
        if index in self._opaque:
            self._add_to_opaque(self._opaque[index], delta)
        elif kind == "thinking_delta":
            self.batch.join(ReasoningDelta, index, delta["thinking"])
        elif kind == "input_json_delta":
            self._inputs.pop(index, None)
            self.batch.join(arguments_delta, index, delta["partial_json"])
        elif kind == "signature_delta":
            self.batch.add(ReasoningDelta(index, signature=delta["signature"]))

    @staticmethod
    def _add_to_opaque(block: dict[str, Any], delta: dict[str, Any]) -> None:
        if delta["type"] == "input_json_delta":
            block["partial_json"] = block.get("partial_json", "") + delta["partial_json"]

    def _stop(self, index: int) -> None:
        block = self._opaque.pop(index, None)
        if block is None:
            if index in self._inputs:
                self.batch.join(arguments_delta, index, json.dumps(self._inputs.pop(index)))
            self.batch.add(PartEnd(index))
            return
        if arguments := block.pop("partial_json", ""):
            block["input"] = read_json(Frame(arguments.encode()), self.told.label)
        self.batch.add(OpaqueDelta(index, block, block.get("id", ""), block.get("name", ""), block.get("input")))

    def _count(self, usage: dict[str, Any] | None) -> None:
        """Note what is known of the tokens: `message_delta` repeats or corrects what `message_start` said."""
        self._usage |= {name: value for name, value in (usage or {}).items() if isinstance(value, int)}
        known = self._usage.get
        read = known("cache_read_input_tokens", 0)
        total = known("input_tokens", 0) + read + known("cache_creation_input_tokens", 0)
        details = (usage or {}).get("output_tokens_details") or {}
        thinking = details.get("thinking_tokens", 0) if isinstance(details, dict) else 0
        self.batch.add(UsageDelta(Usage(total, known("output_tokens", 0), read, thinking)))
