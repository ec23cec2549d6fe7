"""What AG-UI clients ask, read: a `RunAgentInput` as AG-UI 1.0, 0.0.59 and TanStack AI send it.

They send the whole conversation (docs.ag-ui.com/concepts/messages). Reasoning stands before the message that it led to;
a step that `agui.Encoder` told as several messages, `ID`, `ID.2` and so on, is one again, so that what is signed comes
back in the order in which it was said. Calls of a provider's own tools (`provider:...`) are left out, which nobody but
the provider could give back, and so are TanStack AI's notes of what was decided on a call, which look like results.

What is said of calls that wait is in `resume`, by the ids of our interrupts, or a result at the very end of the
messages. With it goes what the client believes that the call was.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import orjson

from ..errors import RequestError
from ..messages import Message, Part, Reasoning, Role, Text, ToolCall, ToolResult, check_depth, read_arguments
from .agui import BY_CALLER, BY_PROVIDER
from .base import MAX_MESSAGES, Asked, Said, read_file, read_tool, split_id, unpack

Json = dict[str, Any]


def _optional(*types: str, **more: Any) -> Json:
    return {"type": [*types, "null"]} | more


_ID = {"type": "string", "minLength": 1, "maxLength": 200}
_TEXT = {"type": "string"}
_PART = {"type": "object", "properties": {"type": _TEXT}, "required": ["type"]}
_CONTENT = _optional("string", "array", items=_PART, maxItems=1000)
_CALL = {
    "type": "object",
    "properties": {
        "id": _TEXT,
        "function": {
            "type": "object",
            "properties": {"name": _TEXT, "arguments": _TEXT},
            "required": ["name", "arguments"],
        },
    },
    "required": ["id", "function"],
}
_MESSAGE = {
    "type": "object",
    "properties": {
        "role": {"enum": ["user", "assistant", "tool", "system", "developer", "reasoning", "activity"]},
        "id": _optional("string"),
        "toolCallId": _optional("string"),
        "toolCalls": _optional("array", items=_CALL),
    },
    "required": ["role"],
    "allOf": [
        {
            "if": {"properties": {"role": {"const": "activity"}}},
            "else": {"properties": {"content": _CONTENT}},
        },
        {
            "if": {"properties": {"role": {"const": "tool"}}},
            "then": {"properties": {"toolCallId": _TEXT}, "required": ["toolCallId", "content"]},
        },
    ],
}
_TOOL = {
    "type": "object",
    "properties": {"name": _TEXT, "description": _optional("string"), "parameters": _optional("object")},
    "required": ["name"],
}
_RESUME = {
    "type": "object",
    "properties": {"interruptId": _TEXT, "status": {"enum": ["resolved", "cancelled"]}},
    "required": ["interruptId", "status"],
}
_CONTEXT = {
    "type": "object",
    "properties": {"description": _TEXT, "value": _TEXT},
    "required": ["description", "value"],
}
_OPTIONS = ("model", "maxOutputTokens", "temperature", "effort")
SCHEMA: Json = {
    "type": "object",
    "properties": {
        "threadId": _ID,
        "runId": _ID,
        "parentRunId": _optional("string", maxLength=200),
        "messages": {"type": "array", "items": _MESSAGE, "maxItems": MAX_MESSAGES},
        "tools": _optional("array", items=_TOOL, maxItems=200),
        "context": _optional("array", items=_CONTEXT),
        "resume": _optional("array", items=_RESUME, maxItems=1000),
        "forwardedProps": _optional("object", properties={name: {"$ref": f"#/$defs/{name}"} for name in _OPTIONS}),
    },
    "required": ["threadId", "runId", "messages"],
}


def read(body: Json) -> Asked:
    """Return what a body asks whose shape was checked; raises RequestError, which names the place."""
    history = _History()
    for at, message in enumerate(body["messages"]):
        history.add(f"messages[{at}]", message)
    context = [f"{each['description']}: {each['value']}" for each in body.get("context") or ()]
    state = [Message("system", (Text("\n\n".join(context)),))] if context else []
    given = body.get("forwardedProps") or {}
    options = {name: given[name] for name in _OPTIONS if name in given}
    if tools := body.get("tools"):
        options["tools"] = [
            read_tool(f"tools[{at}]", tool["name"], tool.get("description"), tool.get("parameters"))
            for at, tool in enumerate(tools)
        ]
    said = list(_resumed(body.get("resume") or (), history.calls))
    decided = {each.call_id for each in said}
    said += [each for each in history.given if each.call_id not in decided]
    return Asked([*state, *history.messages], options, tuple(said))


class _History:
    """The messages that were read; reasoning waits for the message that it led to. `calls` is by their ids."""

    def __init__(self) -> None:
        self.calls: dict[str, ToolCall] = {}
        # Messages at the end: one that was made anew with each of its parts would be quadratic.
        self._spoken: list[tuple[Role, list[Part]]] = []
        self._thoughts: list[Part] = []
        self._step = ""  # the id of the assistant's last message, without the number of a later piece
        self._last = 0  # where that is

    @property
    def messages(self) -> list[Message]:
        return [Message(role, tuple(parts)) for role, parts in self._spoken]

    @property
    def given(self) -> list[Said]:
        """What is said, by results at the end, of calls that may wait for them."""
        last = self._spoken[-1][1] if self._spoken else ()
        results = [part for part in last if isinstance(part, ToolResult)]
        calls = [self.calls.get(each.tool_call_id) for each in results]
        return [
            Said(each.tool_call_id, "result", each.content, each.is_error, **_believed(call))
            for each, call in zip(results, calls, strict=True)
        ]

    def add(self, where: str, message: Json) -> None:
        match message["role"]:
            case "user":
                content = message.get("content") or ""
                parts: list[Part] = [Text(content)] if isinstance(content, str) else _user_parts(where, content)
                self._spoken.append(("user", parts))
                self._thoughts = []
            case "system" | "developer":
                self._spoken.append(("system", [Text(_text(message))]))
            case "reasoning":
                self._thoughts += _read_reasoning(_text(message), _loads(message.get("encryptedValue")))
            case "assistant":
                self._add_assistant(message)
            case "tool":
                self._add_result(message)

    def _add_assistant(self, message: Json) -> None:
        text = _text(message)
        calls = [_read_call(call) for call in message.get("toolCalls") or () if not call["id"].startswith(BY_PROVIDER)]
        parts = [*self._thoughts, *([Text(text)] if text else []), *calls]
        self._thoughts = []
        self.calls |= {call.id: call for call in calls}
        id = message.get("id") or ""
        if (piece := _PIECE.fullmatch(id)) and piece[1] == self._step:
            self._spoken[self._last][1].extend(parts)
            return
        self._step, self._last = id, len(self._spoken)
        self._spoken.append(("assistant", parts))

    def _add_result(self, message: Json) -> None:
        id, content = message["toolCallId"], _text(message)
        if id.startswith(BY_PROVIDER) or _is_note(content):
            return
        error = message.get("error")
        match message.get("metadata"):
            case {"tanstack": {"state": "output-error"}}:
                is_error = True
            case _:
                is_error = bool(error)
        # A tool of TanStack AI's page that failed gives no content, and says why beside it.
        if isinstance(error, str) and content in ("", "null"):
            content = error
        name = self.calls[id].name if id in self.calls else ""
        if not self._spoken or self._spoken[-1][0] != "tool":
            self._spoken.append(("tool", []))
        self._spoken[-1][1].append(ToolResult(id, name, content, is_error))


# The id of a later piece of a step, as `agui.Encoder` makes it.
_PIECE = re.compile(r"(msg_[0-9a-f]+-\d+)\.\d+")


def _user_parts(where: str, content: list[Json]) -> list[Part]:
    return [_user_part(f"{where}.content[{at}]", part) for at, part in enumerate(content)]


def _user_part(where: str, part: Json) -> Part:
    match part:
        case {"type": "text", "text": str(text)}:
            return Text(text)
        case {
            "type": "image" | "audio" | "video" | "document",
            "source": {"type": str(), "value": str(value)} as source,
        }:
            kind = source.get("mimeType") or ""
            about = part.get("metadata") or {}
            name = about.get("filename") if isinstance(about, dict) else ""
        case {"type": "binary", "mimeType": str(kind)}:  # of 0.0.59 and before
            value = part.get("data") or part.get("url") or part.get("id") or ""
            source = {"type": "data" if part.get("data") else "url"}
            name = part.get("filename")
        case _:
            raise RequestError(f"{where}: met a part of type {part['type'][:100]!r}; expected a text, or a whole file")
    if not (isinstance(kind, str) and isinstance(value, str)):
        raise RequestError(f"{where}: met a file that is no string; expected a data: URL, or base64 with its type")
    if source["type"] == "data" and not value.startswith("data:"):
        value = f"data:{kind};base64,{value}"
    return read_file(where, value, kind, name if isinstance(name, str) else "")


def _text(message: Json) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    texts = [part.get("text") for part in content if part["type"] == "text"]
    return "".join(text for text in texts if isinstance(text, str))


def _read_call(call: Json) -> ToolCall:
    arguments = call["function"]["arguments"]
    input, problem = read_arguments(arguments)
    signed = unpack(_loads(call.get("encryptedValue")), "extra", "origin")
    return ToolCall(call["id"], call["function"]["name"], input, arguments, problem, **signed)


def _read_reasoning(text: str, signed: Any) -> list[Part]:
    """Return the parts that were told as one: each has its length and what is signed of it."""
    parts: list[Part] = []
    at = 0
    for each in signed if isinstance(signed, list) else ():
        match each:
            case {"length": int(length)} if 0 <= length <= len(text) - at:
                known = unpack(each, "signature", "redacted", "origin", "field", "extra")
                parts.append(Reasoning(text[at : at + length], **known))
                at += length
            case _:
                return [Reasoning(text)]
    return parts if parts and at == len(text) else [Reasoning(text)]


def _is_note(content: str) -> bool:
    """Return whether a result is what TanStack AI notes of a decision (`uiMessagesToWire` of @tanstack/ai)."""
    match _loads(content) if content.startswith('{"approved":') else None:
        case {"approved": True, "pendingExecution": True}:
            return True
        case {"approved": False, "message": "User denied this action"}:
            return True
        case _:
            return False


def _resumed(entries: Iterable[Json], calls: dict[str, ToolCall]) -> list[Said]:
    said: dict[str, Said] = {}
    for at, entry in enumerate(entries):
        run_id, call_id = split_id(entry["interruptId"].removeprefix(BY_CALLER))
        if call_id in said:
            raise RequestError(f"resume[{at}]: there are two entries for {entry['interruptId']!r}")
        wants_result = entry["interruptId"].startswith(BY_CALLER)
        about: Json = {"run_id": run_id} | _believed(calls.get(call_id))
        match entry["status"], entry.get("payload"):
            case "cancelled", _:
                said[call_id] = Said(call_id, "deny", **about)
            case _, {"error": str(text), **rest} if wants_result and not rest:
                said[call_id] = Said(call_id, "result", text, True, **about)
            case _, payload if wants_result:
                text = payload if isinstance(payload, str) else orjson.dumps(payload).decode()
                said[call_id] = Said(call_id, "result", text, **about)
            case _, {"approved": True, **rest}:
                # What a client edited was not asked about: that is found, and refused, where the two are compared.
                edited = {"input": rest["editedArgs"]} if "editedArgs" in rest else {}
                said[call_id] = Said(call_id, "approve", **about | edited)
            case _, {"approved": False}:
                said[call_id] = Said(call_id, "deny", **about)
            case _:
                raise RequestError(f'resume[{at}].payload: expected {{"approved": true}} or {{"approved": false}}')
    return list(said.values())


def _believed(call: ToolCall | None) -> Json:
    return {"name": call.name, "input": call.input} if call else {}


def _loads(text: object) -> Any:
    """Return the JSON in a string, None where there is none that could be kept."""
    try:
        value = orjson.loads(text) if isinstance(text, str) else None
        check_depth(value)
    except (ValueError, TypeError):
        return None
    return value
