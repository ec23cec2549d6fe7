"""What the AI SDK's client asks: a chat's id, its whole history, and what triggered the request.

An assistant's message holds all steps of an answer, each behind a `step-start`; a step is a message of the model, and
the outputs of its calls are one of its tools. A request whose last message is an assistant's, or which names one in
`messageId`, goes on with it: calls of its last step may have been decided or answered since.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson

from ..conversations import DENIED
from ..errors import Conflict, RequestError
from ..messages import Message, Part, Reasoning, Text, ToolCall, ToolResult, read_arguments
from .base import MAX_MESSAGES, Asked, Said, read_file, read_tool, split_id, unpack
from .vercel_message import calls_of, tool_name

_TEXT = {"type": "string"}
_OBJECT = {"type": "object"}


def _part(kind: str, required: str = "", **members: Any) -> dict[str, Any]:
    """Return what the parts whose `type` is like this have to be like."""
    then = {"properties": members, "required": required.split()}
    return {"if": {"properties": {"type": {"pattern": kind}}}, "then": then}


_APPROVAL = {
    "type": "object",
    "properties": {"id": _TEXT, "approved": {"type": "boolean"}, "reason": _TEXT},
    "required": ["id"],
}
_CALL: dict[str, Any] = {"toolCallId": _TEXT, "state": _TEXT, "errorText": _TEXT, "approval": _APPROVAL}
_PART = {
    "type": "object",
    "properties": {"type": _TEXT},
    "required": ["type"],
    "allOf": [
        _part("^(text|reasoning)$", "text", text=_TEXT),
        _part("^file$", "url", url=_TEXT, mediaType=_TEXT, filename=_TEXT),
        _part("^tool-", "toolCallId", **_CALL),
        _part("^dynamic-tool$", "toolCallId toolName", toolName=_TEXT, **_CALL),
    ],
}
_MESSAGE = {
    "type": "object",
    "properties": {
        "id": _TEXT,
        "role": {"enum": ["system", "user", "assistant"]},
        "parts": {"type": "array", "items": _PART, "maxItems": 10_000},
    },
    "required": ["role", "parts"],
}
_TOOL = {
    "type": "object",
    "properties": {"name": _TEXT, "description": _TEXT, "parameters": _OBJECT, "inputSchema": _OBJECT},
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "minLength": 1, "maxLength": 200},
        "messages": {"type": "array", "items": _MESSAGE, "maxItems": MAX_MESSAGES, "minItems": 1},
        "trigger": {"enum": ["submit-message", "regenerate-message"]},
        "messageId": _TEXT,
        "system": _TEXT,
        "model": {"type": "string", "minLength": 1, "maxLength": 200},
        "maxOutputTokens": {"type": "integer", "minimum": 1},
        "temperature": {"type": "number", "minimum": 0, "maximum": 2},
        "effort": {"enum": ["low", "medium", "high"]},
        "tools": {
            "type": ["array", "object"],
            "items": _TOOL | {"required": ["name"]},
            "maxItems": 200,
            "additionalProperties": _TOOL,
            "maxProperties": 200,
        },
    },
    "required": ["id"],
}
_OPTIONS = ("model", "maxOutputTokens", "temperature", "effort")


def read(body: dict[str, Any]) -> Asked:
    if "messages" not in body:
        hint = "let prepareSendMessagesRequest send them all, or leave it out" if "message" in body else "send them"
        raise RequestError(f"messages: the history is kept by the client, and 'messages' is missing: {hint}")
    messages = [Message("system", (Text(body["system"]),))] if body.get("system") else []
    for number, message in enumerate(body["messages"]):
        messages += _MESSAGES[message["role"]](message["parts"], f"messages[{number}]")
    options = {name: body[name] for name in _OPTIONS if name in body} | {"tools": list(_tools(body.get("tools", [])))}
    told = continued(body)
    return Asked(messages, options, tuple(_said(_steps(told["parts"])[-1])) if told else ())


def continued(body: dict[str, Any]) -> dict[str, Any] | None:
    """Return the assistant's message that the answer goes on with, None where it is to be a new one."""
    if body.get("trigger") == "regenerate-message":
        return None
    messages: list[dict[str, Any]] = body["messages"]
    named = [each for each in messages if each.get("id") == body.get("messageId") and each["role"] == "assistant"]
    last = messages[-1]
    return named[-1] if named and "messageId" in body else last if last["role"] == "assistant" else None


def _tools(tools: list[dict[str, Any]] | dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Read a list of tools, or what maps their names to the rest of them, as assistant-ui does."""
    named = [(each["name"], each) for each in tools] if isinstance(tools, list) else list(tools.items())
    for name, tool in named:
        parameters = tool.get("parameters") or tool.get("inputSchema")
        yield read_tool(f"tools.{name}", name, tool.get("description"), parameters)


def _system(parts: list[dict[str, Any]], where: str) -> list[Message]:
    return [Message("system", tuple(Text(part["text"]) for part in parts if part["type"] == "text"))]


def _user(parts: list[dict[str, Any]], where: str) -> list[Message]:
    said: list[Part] = []
    for number, part in enumerate(parts):
        if part["type"] == "text":
            said.append(Text(part["text"]))
        elif part["type"] == "file":
            place = f"{where}.parts[{number}]"
            said.append(read_file(place, part["url"], part.get("mediaType", ""), part.get("filename", "")))
    return [Message("user", tuple(said))]


def _assistant(parts: list[dict[str, Any]], where: str) -> list[Message]:
    messages = []
    for step in _steps(parts):
        said = [read for part in step if (read := _spoken(part))]
        results = [result for part in calls_of(step).values() if (result := _result(part))]
        messages += [Message("assistant", tuple(said)), Message("tool", tuple(results))]
    return [message for message in messages if message.parts]


_MESSAGES = {"system": _system, "user": _user, "assistant": _assistant}


def _steps(parts: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    steps: list[list[dict[str, Any]]] = [[]]
    for part in parts:
        if part["type"] == "step-start":
            steps.append([])
        else:
            steps[-1].append(part)
    return steps


def _spoken(part: dict[str, Any]) -> Part | None:
    """Return what the model said, None for what is there to be shown only.

    What the provider ran itself has no place in the history: nothing here can answer such a call.
    """
    kind = part["type"]
    if kind == "text":
        return Text(part["text"], (), **_packed(part, "providerMetadata", "extra", "origin"))
    if kind == "reasoning":
        names = ("signature", "redacted", "origin", "field", "extra")
        return Reasoning(part["text"], **_packed(part, "providerMetadata", *names))
    if tool_name(part) and not part.get("providerExecuted") and part.get("state") != "input-streaming":
        return _call(part)
    return None


def _call(part: dict[str, Any]) -> ToolCall:
    packed = _packed(part, "callProviderMetadata", "arguments", "extra", "origin")
    arguments = packed.pop("arguments", "")
    input, problem = read_arguments(arguments) if arguments else (None, "")
    if input is None or input != _input(part):
        given = part.get("input", part.get("rawInput"))
        arguments = given if isinstance(given, str) else orjson.dumps(given or {}).decode()
        input, problem = read_arguments(arguments)
    return ToolCall(part["toolCallId"], tool_name(part), input, arguments, problem, **packed)


def _input(part: dict[str, Any]) -> dict[str, Any] | None:
    """Return the arguments of a call as the client has them, None where it has no object."""
    input = part.get("input")
    if isinstance(input, str):
        input = read_arguments(input)[0]
    return input if isinstance(input, dict) else None


def _result(part: dict[str, Any]) -> ToolResult | None:
    named = part["toolCallId"], tool_name(part)
    approval = part.get("approval") or {}
    is_denied = part.get("state") == "approval-responded" and not approval.get("approved")
    if part.get("providerExecuted"):
        return None
    if part.get("state") == "output-denied" or is_denied:
        return ToolResult(*named, f"{DENIED} {approval.get('reason', '')}".strip(), is_error=True)
    if part.get("state") == "output-error":
        return ToolResult(*named, part.get("errorText", ""), is_error=True)
    return ToolResult(*named, _output(part)) if part.get("state") == "output-available" else None


def _output(part: dict[str, Any]) -> str:
    output = part.get("output", "")
    return output if isinstance(output, str) else orjson.dumps(output).decode()


def _packed(part: dict[str, Any], member: str, *names: str) -> dict[str, Any]:
    metadata = part.get(member)
    return unpack(metadata.get("chatstream"), *names) if isinstance(metadata, dict) else {}


def _said(step: list[dict[str, Any]]) -> Iterator[Said]:
    """Yield what the last step says of calls that may wait: decisions, and the results of those that the client ran."""
    for part in calls_of(step).values():
        call_id, name, input = part["toolCallId"], tool_name(part), _input(part)
        match part.get("state"):
            case "approval-responded" if approval := part.get("approval"):
                run_id, asked_id = split_id(approval["id"])
                if asked_id != call_id:
                    raise Conflict(f"No call {call_id!r} waits for a decision: {approval['id']!r} is not of this call.")
                # Who decides has seen the arguments: to say nothing of them is to say that there were none.
                decided = Said(call_id, "deny", approval.get("reason", ""), False, run_id, name, input or {})
                yield replace(decided, kind="approve", text="") if approval.get("approved") else decided
            case "output-available" | "output-error" as state if not part.get("providerExecuted"):
                is_error = state == "output-error"
                text = part.get("errorText", "") if is_error else _output(part)
                yield Said(call_id, "result", text, is_error, "", name, input)
