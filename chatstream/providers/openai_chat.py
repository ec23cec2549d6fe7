"""Chat Completions, as OpenAI and every compatible server speak it: https://platform.openai.com/docs/api-reference/chat

A stream is chunks with `choices[0].delta` (role, content, tool_calls by index), one with the finish reason, one with
the usage and no choices, then `[DONE]`. Compatible servers differ in the small: tool calls without an index or an id,
arguments as an object, reasoning as `reasoning_content` or `reasoning`, no `[DONE]`.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import orjson

from ..deltas import (
    Batch,
    Delta,
    Finish,
    FinishReason,
    PartEnd,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
    UsageDelta,
    arguments_delta,
)
from ..messages import Message, Reasoning, ToolResult, sendable, system_text
from ..sse import Frame
from .base import ModelInfo, ModelRequest, SdkProvider, Told, finish_reason, read_json, translate

_FINISH = {
    "stop": FinishReason.STOP,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "length": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
}
# OpenAI's reasoning models refuse a temperature and take an effort; the others the other way round.
_REASONS = re.compile(r"o\d|gpt-[5-9](?!.*chat)")
_REASONING_FIELDS = ("reasoning_content", "reasoning")
_TEXT, _REASONING = "text", "reasoning"


class OpenAIChat(SdkProvider):
    """OpenAI's chat models, or with `OPENAI_BASE_URL` those of Ollama, vLLM, llama.cpp, OpenRouter and the like."""

    name = "openai-chat"
    label = "OpenAI"
    default_model = "gpt-6.1-terra"
    sdk = "openai"
    client_class = "AsyncOpenAI"
    key_variables = ("OPENAI_API_KEY",)
    base_variable = "OPENAI_BASE_URL"

    @property
    def needs_key(self) -> bool:
        return not self.base_url  # servers of one's own mostly want none

    @property
    def is_default_known(self) -> bool:
        return not self.base_url or self.default_model != type(self).default_model

    def info(self, model: str) -> ModelInfo:
        reasons = bool(_REASONS.match(model))
        return ModelInfo(self.name, model, f"{model} ({self.shown})", reasoning=reasons, reason=self.reason)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[list[Delta]]:
        await self.open()
        told = self.told(request.model)
        create = self._client.chat.completions.with_streaming_response.create
        body = build_request(request, self.name, compatible=bool(self.base_url))
        # What goes as `extra_body` the SDK sends as it is. The rest it walks against its types, every message and tool
        # of it, which was a quarter of a short request's cost (measured) and grows with the conversation.
        parameters = {"model": request.model, "messages": [], "stream": True, "extra_body": body}
        async with (
            self.answer(create, parameters, told) as chunks,
            aclosing(translate(chunks, ChatTranslator(told))) as batches,
        ):
            async for batch in batches:
                yield batch


class OpenAI(OpenAIChat):
    """The names `openai:...` and bare `gpt-*`, which go the way of `openai-chat`."""

    name = "openai"


def build_request(request: ModelRequest, provider: str, *, compatible: bool) -> dict[str, Any]:
    """Return the body of a request; `compatible` is another server than OpenAI's own."""
    messages: list[dict[str, Any]] = []
    if system := system_text(request.messages, request.system):
        messages.append({"role": "system", "content": system})
    # OpenAI takes ids of at most 40 characters; of compatible servers some want their own back as they were.
    fit_id = str if compatible else lambda call_id: call_id[:32]
    history = sendable(request.messages, f"{provider}:{request.model}", fit_id)
    asked = max((index for index, message in enumerate(history) if message.role == "user"), default=0)
    for index, message in enumerate(history):
        messages.extend(_messages(message, with_reasoning=index > asked))
    # OpenAI's own servers know `max_tokens` as the older name; many compatible ones know only that.
    limit = "max_tokens" if compatible else "max_completion_tokens"
    parameters: dict[str, Any] = {
        "model": request.model,
        "messages": messages,
        "stream": True,
        "stream_options": {"include_usage": True},
        limit: request.max_output_tokens,
    }
    if request.tools:
        parameters["tools"] = [
            {
                "type": "function",
                "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
            }
            for tool in request.tools
        ]
    if request.effort is not None and (compatible or _REASONS.match(request.model)):
        parameters["reasoning_effort"] = request.effort
    if request.temperature is not None and not _REASONS.match(request.model):
        parameters["temperature"] = request.temperature
    return parameters


def _messages(message: Message, *, with_reasoning: bool) -> list[dict[str, Any]]:
    """Return a message in the API's form: one for each result, none where nothing is left that this API knows."""
    if message.role == "tool":
        return [
            {"role": "tool", "tool_call_id": part.tool_call_id, "content": part.content}
            for part in message.parts
            if isinstance(part, ToolResult)
        ]
    if not message.text and not message.calls:
        return []
    value: dict[str, Any] = {"role": message.role, "content": message.text or None}
    if message.calls:
        value["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                # As it came where it was an object: servers parse it again, and refuse the history where they cannot.
                "function": {"name": call.name, "arguments": call.arguments if call.input else "{}"},
            }
            for call in message.calls
        ]
    if with_reasoning:
        value |= _reasoning(message.parts)
    return [value]


def _reasoning(parts: Sequence[object]) -> dict[str, str]:
    """Return what was thought since the last question, in the field it came in: servers that send it want it back.

    What was thought for earlier questions is left out, as DeepSeek's and Qwen's documents ask.
    """
    fields: dict[str, str] = {}
    for part in parts:
        if isinstance(part, Reasoning) and part.field:
            fields[part.field] = fields.get(part.field, "") + part.text
    return fields


class ChatTranslator:
    """Translates one stream of chat completion chunks, of its first choice."""

    def __init__(self, told: Told) -> None:
        self.told = told
        self.batch = Batch()
        self.is_complete = False
        self._speaking = ""
        # Calls by their index and id, and under the id "" the last one of that index.
        self._keys: dict[tuple[int, str], str] = {}
        self._with_id: set[str] = set()
        self._calls = 0

    def feed(self, frames: list[Frame]) -> list[Delta]:
        for frame in frames:
            if frame.data.startswith(b"[DONE]"):
                self.is_complete = True
                continue
            chunk = read_json(frame, self.told.label)
            if not isinstance(chunk, dict):
                continue
            if chunk.get("error"):
                raise self.told.stream_error(chunk["error"])
            for choice in chunk.get("choices") or ():
                if not choice.get("index"):  # others are other answers to the same question
                    self._choice(choice)
            if usage := chunk.get("usage"):
                self.batch.add(UsageDelta(_usage(usage)))
        return self.batch.take()

    def _choice(self, choice: dict[str, Any]) -> None:
        delta = choice.get("delta") or {}
        content = delta.get("content")
        if content and self._speaking == _TEXT and len(delta) == 1 and isinstance(content, str):
            self.batch.join(TextDelta, _TEXT, content)  # most of all chunks are this, and worth the shortest way
        elif delta:
            self._delta(delta)
        if raw := choice.get("finish_reason"):
            self.is_complete = True
            self.batch.add(Finish(finish_reason(_FINISH, raw), raw))

    def _delta(self, delta: dict[str, Any]) -> None:
        for field in _REASONING_FIELDS:
            if text := delta.get(field):
                self._reason(text, field)
                break  # some servers say it in both fields: it counts once
        if content := delta.get("content"):
            self._content(content)
        for call in delta.get("tool_calls") or ():
            self._call(call)

    def _content(self, content: str | list[dict[str, Any]]) -> None:
        if isinstance(content, list):  # Mistral's: parts of text, and of thinking that is a list of them again
            for part in content:
                if part.get("type") == "thinking":
                    self._reason("".join(each.get("text", "") for each in part["thinking"]), "")
                elif part.get("text"):
                    self._content(part["text"])
            return
        if self._speaking != _TEXT:
            self._speak(_TEXT)
        self.batch.join(TextDelta, _TEXT, content)

    def _reason(self, text: str, field: str) -> None:
        if self._speaking != _REASONING:
            self._speak(_REASONING)
            self.batch.add(ReasoningDelta(_REASONING, field=field))
        self.batch.join(ReasoningDelta, _REASONING, text)

    def _speak(self, kind: str) -> None:
        """End the part that was under way: this API says only what comes, not what ends."""
        if self._speaking:
            self.batch.add(PartEnd(self._speaking))
        self._speaking = kind

    def _call(self, call: dict[str, Any]) -> None:
        function = call.get("function") or {}
        call_id, name = call.get("id") or "", function.get("name") or ""
        arguments = function.get("arguments") or ""
        if not isinstance(arguments, str):
            arguments = orjson.dumps(arguments).decode()
        key = self._key(call.get("index"), call_id, name)
        if call_id or name:
            self._speak("")
            self.batch.add(ToolCallDelta(key, call_id, name, arguments))
        else:
            self.batch.join(arguments_delta, key, arguments)

    def _key(self, index: int | None, call_id: str, name: str) -> str:
        """Return which call a piece belongs to: its index tells, and where that is missing or shared, its id."""
        place = -1 if index is None else index
        if call_id and (place, call_id) in self._keys:
            return self._keys[place, call_id]
        last = self._keys.get((place, ""))
        # An id that comes late belongs to the call that has none yet; without an index a name begins a new call.
        is_known = last is not None and (not call_id or last not in self._with_id)
        if last is None or not is_known or (index is None and name and not call_id):
            self._calls += 1
            last = f"call {self._calls}"
        self._keys[place, ""] = last
        if call_id:
            self._keys[place, call_id] = last
            self._with_id.add(last)
        return last


def _usage(usage: dict[str, Any]) -> Usage:
    def count(values: Any, name: str) -> int:
        return int(values.get(name) or 0) if isinstance(values, dict) else 0

    return Usage(
        count(usage, "prompt_tokens"),
        count(usage, "completion_tokens"),
        count(usage.get("prompt_tokens_details"), "cached_tokens"),
        count(usage.get("completion_tokens_details"), "reasoning_tokens"),
    )
