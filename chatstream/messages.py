"""The conversation as plain values, and the one function that makes any history fit to be sent.

A `Message` has a role and parts. `system` and `user` messages hold `Text`; an `assistant` message holds what one turn
of a model produced, in its order; a `tool` message holds the results of that turn's calls, in the order of the calls.

    {"role": "assistant", "content": [{"type": "text", "text": "..."},
                                      {"type": "reasoning", "text": "...", "signature": "...", "origin": "..."},
                                      {"type": "tool_call", "id": "...", "name": "...", "input": {...}},
                                      {"type": "opaque", "origin": "...", "data": {...}}]}
    {"role": "tool",      "content": [{"type": "tool_result", "toolCallId": "...", "toolName": "...",
                                       "result": "...", "isError": false}]}

is the JSON of the two, as `done.messages` carries it and as `messages_from_json` takes it back.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import orjson

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Text:
    type: ClassVar = "text"
    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """What a model thought, with all that its provider wants back.

    `signature` and `redacted` (the data of a redacted block) are the provider's, kept byte for byte. `origin` is the
    `provider:model` that wrote them: no other model is ever sent them. `field` names the key that an
    OpenAI-compatible server used (`reasoning_content`, `reasoning`), for it is where that server looks for it.
    """

    type: ClassVar = "reasoning"
    text: str
    signature: str = ""
    redacted: str = ""
    origin: str = ""
    field: str = ""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's call of a tool.

    `arguments` is the JSON text as it came; `input` is the object it stands for, or None where it is no JSON object,
    and then `problem` says why.
    """

    type: ClassVar = "tool_call"
    id: str
    name: str
    input: dict[str, Any] | None
    arguments: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Opaque:
    """Something that only its provider understands (a tool of its own, an unknown block), carried whole."""

    type: ClassVar = "opaque"
    origin: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The answer to one call, `content` being what the model is told."""

    type: ClassVar = "tool_result"
    tool_call_id: str
    tool_name: str
    content: str
    is_error: bool = False


Part = Text | Reasoning | ToolCall | Opaque | ToolResult


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    parts: tuple[Part, ...] = field(default=())

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if isinstance(part, Text))

    @property
    def calls(self) -> list[ToolCall]:
        return [part for part in self.parts if isinstance(part, ToolCall)]


def user(text: str) -> Message:
    return Message("user", (Text(text),))


def read_arguments(arguments: str) -> tuple[dict[str, Any] | None, str]:
    """Return the object that a call's arguments stand for, or None and the reason why they stand for none.

    No text at all counts as `{}`: providers send nothing for a tool without parameters.
    """
    if not arguments.strip():
        return {}, ""
    try:
        value = orjson.loads(arguments)
        # It reads 1024 levels and writes 254: what cannot be passed on, a few levels further in, is not taken.
        orjson.dumps([[[[[[[[value]]]]]]]])
    except (ValueError, TypeError) as error:
        return None, f"the arguments are not valid JSON ({error}); they were: {arguments[:200]}"
    if not isinstance(value, dict):
        return None, f"the arguments must be a JSON object; they were: {arguments[:200]}"
    return value, ""


# --- JSON -------------------------------------------------------------------------------------------------------------


def message_to_json(message: Message) -> dict[str, Any]:
    return {"role": message.role, "content": [part_to_json(part) for part in message.parts]}


def part_to_json(part: Part) -> dict[str, Any]:
    match part:
        case Text():
            return {"type": "text", "text": part.text}
        case Reasoning():
            optional = {name: getattr(part, name) for name in ("signature", "redacted", "origin", "field")}
            return {"type": "reasoning", "text": part.text} | {k: v for k, v in optional.items() if v}
        case ToolCall():
            call: dict[str, Any] = {"type": "tool_call", "id": part.id, "name": part.name}
            if part.input is not None:
                call["input"] = part.input
            # The text goes along where the object does not give it back: a provider's cache knows it by its bytes.
            return call | ({"arguments": part.arguments} if part.arguments != _dumps(part.input) else {})
        case Opaque():
            return {"type": "opaque", "origin": part.origin, "data": part.data}
        case ToolResult():
            return {
                "type": "tool_result",
                "toolCallId": part.tool_call_id,
                "toolName": part.tool_name,
                "result": part.content,
                "isError": part.is_error,
            }


def messages_from_json(values: Iterable[dict[str, Any]]) -> list[Message]:
    """Read messages whose shape was checked against `MESSAGE_SCHEMA`; `content` may be a string."""
    messages = []
    for value in values:
        content = value["content"]
        parts = [Text(content)] if isinstance(content, str) else [_part_from_json(part) for part in content]
        messages.append(Message(value["role"], tuple(parts)))
    return messages


def _dumps(value: object) -> str:
    return orjson.dumps(value).decode()


def _part_from_json(value: dict[str, Any]) -> Part:
    match value["type"]:
        case "text":
            return Text(value["text"])
        case "reasoning":
            return Reasoning(**{name: text for name, text in value.items() if name != "type"})
        case "tool_call":
            arguments = value.get("arguments", _dumps(value.get("input", {})))
            parsed, problem = read_arguments(arguments)
            return ToolCall(value["id"], value["name"], parsed, arguments, problem)
        case "opaque":
            return Opaque(value["origin"], value["data"])
        case _:
            return ToolResult(
                value["toolCallId"], value.get("toolName", ""), value["result"], value.get("isError", False)
            )


def _object(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": required | optional,
        "required": list(required),
        "additionalProperties": False,
    }


def _parts(*kinds: str, string: bool = True) -> dict[str, Any]:
    """Return the schema of a content that is a list of parts of these kinds, or as well a string.

    A part's `type` decides which schema it is held against: an `anyOf` would try them all, and say nothing of use.
    """
    part = {
        "type": "object",
        "properties": {"type": {"enum": list(kinds)}},
        "required": ["type"],
        "allOf": [
            {"if": {"properties": {"type": {"const": kind}}}, "then": {"$ref": f"#/$defs/{kind}"}} for kind in kinds
        ],
    }
    return {"type": ["string", "array"] if string else "array", "items": part, "maxItems": 1000}


_TEXT = {"type": "string"}
PART_SCHEMAS = {
    "text": _object({"type": {"const": "text"}, "text": _TEXT}),
    "reasoning": _object(
        {"type": {"const": "reasoning"}, "text": _TEXT},
        signature=_TEXT,
        redacted=_TEXT,
        origin=_TEXT,
        field={"enum": ["", "reasoning_content", "reasoning"]},
    ),
    "tool_call": _object(
        {"type": {"const": "tool_call"}, "id": _TEXT, "name": _TEXT}, input={"type": "object"}, arguments=_TEXT
    ),
    "opaque": _object({"type": {"const": "opaque"}, "origin": _TEXT, "data": {"type": "object"}}),
    "tool_result": _object(
        {"type": {"const": "tool_result"}, "toolCallId": _TEXT, "result": _TEXT},
        toolName=_TEXT,
        isError={"type": "boolean"},
    ),
}
_CONTENTS = {
    "system": _parts("text"),
    "user": _parts("text"),
    "assistant": _parts("text", "reasoning", "tool_call", "opaque"),
    "tool": _parts("tool_result", string=False),
}
USER_CONTENT = _CONTENTS["user"]
MESSAGE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"role": {"enum": list(_CONTENTS)}, "content": {}},
    "required": ["role", "content"],
    "additionalProperties": False,
    "allOf": [
        {
            "if": {"properties": {"role": {"const": role}}, "required": ["role"]},
            "then": {"properties": {"content": content}},
        }
        for role, content in _CONTENTS.items()
    ],
}


# --- what a provider may be sent --------------------------------------------------------------------------------------

NOT_RUN = "This call was not run: the turn was interrupted before its result was there."
INTERRUPTED = "This call was interrupted before its result was there; it may have run or not."
NO_OUTPUT = "(no output)"
CONTINUE = "Continue."


def sendable(messages: Sequence[Message], origin: str, fit_id: Callable[[str], str] = str) -> list[Message]:
    """Return `messages` as any provider's API takes them, for a request to the model `origin` (`provider:model`).

    Every call is followed at once by exactly one result and no result is without its call; call ids occur once, each
    made to fit by `fit_id`; names hold only what both APIs take; no message is empty; the first is a user's and the
    last a user's or a tool's. Reasoning and opaque parts of another origin are left out, and so are system messages:
    see `system_text`. Both APIs answer a history that breaks one of these with status 400
    (platform.claude.com/docs/en/api/messages, platform.openai.com/docs/api-reference/chat).
    """
    fit: list[tuple[Role, list[Part]]] = []
    used = UsedIds()
    results = iter(_results(messages))
    for message in messages:
        if message.role == "user":
            _append(fit, "user", [part for part in message.parts if not isinstance(part, Text) or part.text.strip()])
        elif message.role == "assistant":
            assistant, answers = _assistant(message, next(results), origin, fit_id, used)
            _append(fit, "assistant", assistant)
            _append(fit, "tool", answers)
    if fit and fit[0][0] != "user":
        fit.insert(0, ("user", [Text(CONTINUE)]))
    # An answer that ends with a provider's own tool was paused there, and goes on when it comes back as it is.
    if fit and fit[-1][0] == "assistant" and not isinstance(fit[-1][1][-1], Opaque):
        fit.append(("user", [Text(CONTINUE)]))
    return [Message(role, tuple(parts)) for role, parts in fit]


def is_answerable(messages: Iterable[Message]) -> bool:
    """Return whether there is anything that a model can be asked."""
    return any(
        isinstance(part, ToolCall) or (isinstance(part, Text) and part.text.strip())
        for message in messages
        if message.role in ("user", "assistant")
        for part in message.parts
    )


def system_text(messages: Iterable[Message], first: str = "") -> str:
    """Return `first` and the text of every system message, a blank line between them."""
    texts = [first, *(message.text for message in messages if message.role == "system")]
    return "\n\n".join(text for text in texts if text.strip())


def without_tools(messages: Iterable[Message]) -> list[Message]:
    """Return `messages` for a model that cannot call tools: what calls and results said stands there as text."""
    told: list[Message] = []
    for message in messages:
        parts: list[Part] = []
        for part in message.parts:
            match part:
                case ToolCall():
                    parts.append(Text(f"[called {part.name} with {part.arguments or '{}'}]\n"))
                case ToolResult():
                    parts.append(Text(f"[{part.tool_name} answered: {part.content}]\n"))
                case _:
                    parts.append(part)
        told.append(Message("user" if message.role == "tool" else message.role, tuple(parts)))
    return told


def _append(fit: list[tuple[Role, list[Part]]], role: Role, parts: list[Part]) -> None:
    """Add a message that has parts, to the last one where both are of the same role (a provider may not join them)."""
    if parts and fit and fit[-1][0] == role != "tool":
        fit[-1][1].extend(parts)
    elif parts:
        fit.append((role, parts))


def _results(messages: Iterable[Message]) -> list[dict[str, deque[ToolResult]]]:
    """Return for each assistant message the results between it and the next one, by call id, in order."""
    found: list[dict[str, deque[ToolResult]]] = []
    for message in messages:
        if message.role == "assistant":
            found.append({})
        for part in message.parts if found else ():
            if isinstance(part, ToolResult):
                found[-1].setdefault(part.tool_call_id, deque()).append(part)
    return found


def _assistant(
    message: Message,
    results: dict[str, deque[ToolResult]],
    origin: str,
    fit_id: Callable[[str], str],
    used: UsedIds,
) -> tuple[list[Part], list[Part]]:
    """Return the parts of an assistant's message and the results of its calls."""
    parts: list[Part] = []
    answers: list[Part] = []
    for part in message.parts:
        match part:
            case Text() if part.text.strip():
                parts.append(part)
            case Reasoning() | Opaque() if part.origin == origin:
                parts.append(part)
            case ToolCall():
                # A name that no tool can have: a model made it up, and was told so in the result.
                name = re.sub("[^A-Za-z0-9_-]", "_", part.name)[:64] or "unknown"
                call = replace(part, id=used.take(fit_id(part.id)), name=name, input=part.input or {})
                given = results.get(part.id)
                result = given.popleft() if given else ToolResult(part.id, name, NOT_RUN, is_error=True)
                content = result.content if result.content.strip() else NO_OUTPUT
                parts.append(call)
                answers.append(replace(result, tool_call_id=call.id, tool_name=name, content=content))
            case _:
                pass
    if not any(isinstance(part, Text | ToolCall | Opaque) for part in parts):
        parts = []  # reasoning alone is no message that either API takes
    return parts, answers


class UsedIds:
    """The call ids of a conversation, so that none occurs twice."""

    def __init__(self, ids: Iterable[str] = ()) -> None:
        self._used = set(ids)
        self._next: dict[str, int] = {}

    def take(self, wanted: str) -> str:
        """Return `wanted`, or where it is empty or taken a variant of it, and note it as taken."""
        stem = wanted or "call"
        found = stem
        while found in self._used:
            number = self._next.get(stem, 2)
            self._next[stem] = number + 1
            found = f"{stem}_{number}"
        self._used.add(found)
        return found
