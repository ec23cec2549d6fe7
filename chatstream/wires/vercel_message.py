"""The AI SDK's messages: what their parts say, as values that its client takes, and as chunks that make them anew.

A call is a part that changes its `state` as it goes on: input-streaming, input-available, approval-requested,
approval-responded, output-available, output-error, output-denied.
"""

from __future__ import annotations

from typing import Any

import orjson

from .. import messages
from ..messages import Opaque, ToolCall
from .base import pack

Part = dict[str, Any]
Chunk = dict[str, Any]

ANSWERED = frozenset({"output-available", "output-error", "output-denied"})
# What a chunk has of a part that is the same in both.
_SAME = {
    "source-url": ("sourceId", "url", "title", "providerMetadata"),
    "source-document": ("sourceId", "mediaType", "title", "filename", "providerMetadata"),
    "file": ("url", "mediaType", "providerMetadata"),
    "reasoning-file": ("url", "mediaType", "providerMetadata"),
    "custom": ("kind", "providerMetadata"),
    "steering-message": ("id", "parts"),
}
_BROKE_OFF = "The answer broke off before this call was complete."


def tool_name(part: Part) -> str:
    """Return the tool that a part is a call of, "" where it is none."""
    kind: str = part["type"]
    return part.get("toolName", "") if kind == "dynamic-tool" else kind[5:] if kind.startswith("tool-") else ""


def calls_of(parts: list[Part]) -> dict[str, Part]:
    """Return the calls among parts, by their ids."""
    return {part["toolCallId"]: part for part in parts if tool_name(part)}


def value_of(text: str) -> Any:
    """Return what a result's JSON stands for, or the text itself where that would not come back as the same text."""
    try:
        value = orjson.loads(text)
        return value if orjson.dumps(value).decode() == text and comes_through(value) else text
    except (ValueError, TypeError):
        return text


def comes_through(value: object) -> bool:
    """Return whether the client's JSON parser takes a value, and its numbers, which are doubles, hold it.

    The parser refuses what could reach a prototype (`secureJsonParse` in @ai-sdk/provider-utils).
    """
    match value:
        case int():
            return abs(value) < 2**53
        case list():
            return all(map(comes_through, value))
        case dict():
            maker = value.get("constructor")
            reaches = "__proto__" in value or (isinstance(maker, dict) and "prototype" in maker)
            return not reaches and all(map(comes_through, value.values()))
        case _:
            return True


def call_chunk(call: ToolCall, is_complete: bool) -> Chunk:
    """Return the chunk of a call that the model has said."""
    named = {"toolCallId": call.id, "toolName": call.name}
    if call.input is None or not is_complete:
        problem = {"input": call.arguments, "errorText": call.problem or _BROKE_OFF}
        return {"type": "tool-input-error"} | named | problem
    input = call.input if comes_through(call.input) else call.arguments
    return {"type": "tool-input-available"} | named | {"input": input} | metadata_of(call)


def output_chunk(call_id: str, text: str, is_error: bool) -> Chunk:
    call = {"toolCallId": call_id}
    if is_error:
        return {"type": "tool-output-error"} | call | {"errorText": text}
    return {"type": "tool-output-available"} | call | {"output": value_of(text)}


def provider_chunks(tool: Opaque) -> list[Chunk]:
    """Return the chunks of a tool that the provider runs itself: some blocks are a call, some its result."""
    said: list[Chunk] = []
    if tool.input is not None:
        input = tool.input if comes_through(tool.input) else orjson.dumps(tool.input).decode()
        said.append({"type": "tool-input-available", "toolCallId": tool.call_id, "toolName": tool.name, "input": input})
    if tool.result is not None:
        said.append(output_chunk(tool.call_id, tool.result, tool.is_error))
    return [chunk | {"providerExecuted": True} for chunk in said]


def metadata_of(part: messages.Part) -> dict[str, Any]:
    """Return the member that brings back what only the provider of a part understands, where there is any."""
    packed = pack(part)
    return {"providerMetadata": {"chatstream": packed}} if packed and comes_through(packed) else {}


def with_earlier(usage: dict[str, Any], message: dict[str, Any]) -> dict[str, Any]:
    """Return the usage of a run together with what its message says of those that wrote it before."""
    metadata = message.get("metadata")
    before = metadata.get("usage") if isinstance(metadata, dict) else None
    known = before if isinstance(before, dict) else {}
    counts = {name: known[name] for name in usage if type(known.get(name)) is int and comes_through(known[name])}
    return usage | {name: usage[name] + count for name, count in counts.items()}


def chunks_of(parts: list[Part]) -> list[Chunk]:
    """Return the chunks that make these parts anew, for a client that has lost them."""
    return [chunk for number, part in enumerate(parts) for chunk in _chunks(part, f"0.{number}")]


def _chunks(part: Part, id: str) -> list[Chunk]:
    kind = part["type"]
    if kind == "step-start":
        return [{"type": "start-step"}]
    if kind in ("text", "reasoning"):
        metadata = _given(part, "providerMetadata", "citations")
        delta = {"type": f"{kind}-delta", "id": id, "delta": part.get("text", "")}
        return [{"type": f"{kind}-start", "id": id}, delta, {"type": f"{kind}-end", "id": id} | metadata]
    if kind in _SAME:
        return [{"type": kind} | _given(part, *_SAME[kind])]
    if kind.startswith("data-"):
        return [{"type": kind, "data": part.get("data")} | _given(part, "id")]
    return _call_chunks(part) if tool_name(part) else []


def _call_chunks(part: Part) -> list[Chunk]:
    state, call = part.get("state"), {"toolCallId": part["toolCallId"]}
    named = call | {"toolName": tool_name(part)} | _given(part, "providerExecuted", "title", "toolMetadata")
    named |= {"dynamic": True} if part["type"] == "dynamic-tool" else {}
    named |= {"providerMetadata": part["callProviderMetadata"]} if part.get("callProviderMetadata") else {}
    if state == "input-available":
        return [{"type": "tool-input-available", "input": part.get("input")} | named]
    if state == "output-error" and part.get("input") is None:
        told = {"input": part.get("rawInput"), "errorText": part.get("errorText", "")}
        return [{"type": "tool-input-error"} | told | named]
    # Of an input that comes whole the client tells the application, which would run the call once more.
    raw: Any = part.get("rawInput") if state == "input-streaming" else orjson.dumps(part.get("input")).decode()
    chunks: list[Chunk] = [{"type": "tool-input-start"} | named]
    chunks += [{"type": "tool-input-delta", "inputTextDelta": raw} | call] if raw else []
    if approval := part.get("approval"):
        chunks.append({"type": "tool-approval-request", "approvalId": approval["id"]} | call)
    match state:
        case "output-available":
            chunks.append({"type": "tool-output-available", "output": part.get("output")} | call)
        case "output-error":
            chunks.append({"type": "tool-output-error", "errorText": part.get("errorText", "")} | call)
        case "output-denied":
            chunks.append({"type": "tool-output-denied"} | call)
    return chunks


def _given(part: Part, *names: str) -> dict[str, Any]:
    """Return the members that are there: to the client `null` is none."""
    return {name: part[name] for name in names if part.get(name) is not None}
