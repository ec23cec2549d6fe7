"""The conversation as plain values, and the one function that makes any history fit to be sent.

A `Message` has a role and parts. `system` and `user` messages hold `Text`, a user's also `Image`; an `assistant`
message holds what one turn of a model produced, in its order; a `tool` message holds the results of that turn's calls,
in the order of the calls.

    {"role": "user",      "content": [{"type": "text", "text": "..."},
                                      {"type": "image", "mediaType": "image/png", "data": "(base64)"}]}
    {"role": "assistant", "content": [{"type": "text", "text": "...", "citations": [{"url", "title", "text"}]},
                                      {"type": "reasoning", "text": "...", "signature": "...", "origin": "..."},
                                      {"type": "tool_call", "id": "...", "name": "...", "input": {...}},
                                      {"type": "opaque", "origin": "...", "data": {...}, "toolName": "...", ...}]}
    {"role": "tool",      "content": [{"type": "tool_result", "toolCallId": "...", "toolName": "...",
                                       "result": "...", "isError": false}]}

is their JSON, as `done.messages` carries it and as `messages_from_json` takes it back.

What a provider sent with a part and wants back with it, nobody else can read: it is kept as it came, in `extra` or an
`Opaque`, together with the `origin` (`provider:model`) that wrote it, and is never sent to another one.
"""

from __future__ import annotations

import dataclasses
import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import orjson

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Citation:
    """Where a text is from: `text` is what stands there, `url` is empty for a document that was sent along."""

    url: str
    title: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Text:
    """`extra` holds members of the API's own text block, such as its `citations` in their own form."""

    type: ClassVar = "text"
    text: str
    citations: tuple[Citation, ...] = ()
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Image:
    """A picture that a user sent, its bytes in base64."""

    type: ClassVar = "image"
    media_type: str
    data: str = dataclasses.field(repr=False)


@dataclass(frozen=True, slots=True)
class Reasoning:
    """What a model thought, with all that its provider wants back.

    `signature` and `redacted` (the data of a redacted block) are the provider's, kept byte for byte. `field` names the
    key that an OpenAI-compatible server used (`reasoning_content`, `reasoning`), for it is where that server looks for
    it. `extra` holds other members of the block (an item's `id`, `reasoning_details`).
    """

    type: ClassVar = "reasoning"
    text: str
    signature: str = ""
    redacted: str = ""
    origin: str = ""
    field: str = ""
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's call of a tool.

    `arguments` is the JSON text as it came; `input` is the object it stands for, or None where it is no JSON object,
    and then `problem` says why. `extra` holds other members of the call, such as a signature.
    """

    type: ClassVar = "tool_call"
    id: str
    name: str
    input: dict[str, Any] | None
    arguments: str = ""
    problem: str = ""
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Opaque:
    """Something that only its provider understands, carried whole in `data`, which is empty where it broke off.

    Of a tool that the provider runs itself the rest is what can be shown: a call has an `input`, a result a `result`,
    some blocks are both; `call_id` ties the two together.
    """

    type: ClassVar = "opaque"
    origin: str
    data: dict[str, Any]
    call_id: str = ""
    name: str = ""
    input: dict[str, Any] | None = None
    result: str | None = None
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The answer to one call, `content` being what the model is told."""

    type: ClassVar = "tool_result"
    tool_call_id: str
    tool_name: str
    content: str
    is_error: bool = False


Part = Text | Image | Reasoning | ToolCall | Opaque | ToolResult


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    parts: tuple[Part, ...] = ()

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if isinstance(part, Text))

    @property
    def calls(self) -> list[ToolCall]:
        return [part for part in self.parts if isinstance(part, ToolCall)]


def user(text: str) -> Message:
    return Message("user", (Text(text),))


def check_depth(value: object) -> None:
    """Raise TypeError for what was read and could not be passed on, a few levels further in.

    orjson reads 1024 levels and writes 254.
    """
    orjson.dumps([[[[[[[[value]]]]]]]])


def read_arguments(arguments: str) -> tuple[dict[str, Any] | None, str]:
    """Return the object that a call's arguments stand for, or None and the reason why they stand for none.

    No text at all counts as `{}`: providers send nothing for a tool without parameters.
    """
    if not arguments.strip():
        return {}, ""
    try:
        value = orjson.loads(arguments)
        check_depth(value)
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
            cited = [{"url": each.url} | _given(each, "title", "text") for each in part.citations]
            text = {"type": "text", "text": part.text} | ({"citations": cited} if cited else {})
            return text | (_given(part, "extra", "origin") if part.extra else {})
        case Image():
            return {"type": "image", "mediaType": part.media_type, "data": part.data}
        case Reasoning():
            optional = _given(part, "signature", "redacted", "origin", "field", "extra")
            return {"type": "reasoning", "text": part.text} | optional
        case ToolCall():
            call: dict[str, Any] = {"type": "tool_call", "id": part.id, "name": part.name}
            if part.input is not None:
                call["input"] = part.input
            call |= _given(part, "extra", "origin") if part.extra else {}
            # The text goes along where the object does not give it back: a provider's cache knows it by its bytes.
            is_same = part.input is not None and part.arguments == _dumps(part.input)
            return call | ({} if is_same else {"arguments": part.arguments})
        case Opaque():
            tool: dict[str, Any] = {
                "toolCallId": part.call_id or None,
                "toolName": part.name or None,
                "input": part.input,
            }
            tool |= {"result": part.result, "isError": part.is_error or None}
            known = {name: value for name, value in tool.items() if value is not None}
            return {"type": "opaque", "origin": part.origin, "data": part.data} | known
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


def _given(value: object, *names: str) -> dict[str, Any]:
    """Return the attributes of these names that are not empty."""
    return {name: given for name in names if (given := getattr(value, name))}


def _part_from_json(value: dict[str, Any]) -> Part:
    match value["type"]:
        case "text":
            citations = tuple(Citation(**each) for each in value.get("citations", ()))
            return Text(value["text"], citations, value.get("extra", {}), value.get("origin", ""))
        case "image":
            return Image(value["mediaType"], value["data"])
        case "reasoning":
            return Reasoning(**{name: text for name, text in value.items() if name != "type"})
        case "tool_call":
            arguments = value.get("arguments", _dumps(value.get("input", {})))
            parsed, problem = read_arguments(arguments)
            extra, origin = value.get("extra", {}), value.get("origin", "")
            return ToolCall(value["id"], value["name"], parsed, arguments, problem, extra, origin)
        case "opaque":
            return Opaque(
                value["origin"],
                value["data"],
                value.get("toolCallId", ""),
                value.get("toolName", ""),
                value.get("input"),
                value.get("result"),
                value.get("isError", False),
            )
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
_EXTRA = {"type": "object"}
_CITATIONS = {"type": "array", "items": _object({"url": _TEXT}, title=_TEXT, text=_TEXT)}
IMAGE_TYPES = ("image/png", "image/jpeg", "image/webp", "image/gif")
PART_SCHEMAS = {
    "text": _object({"type": {"const": "text"}, "text": _TEXT}, citations=_CITATIONS, extra=_EXTRA, origin=_TEXT),
    "image": _object({"type": {"const": "image"}, "mediaType": {"enum": list(IMAGE_TYPES)}, "data": _TEXT}),
    "reasoning": _object(
        {"type": {"const": "reasoning"}, "text": _TEXT},
        signature=_TEXT,
        redacted=_TEXT,
        origin=_TEXT,
        field={"enum": ["", "reasoning_content", "reasoning"]},
        extra=_EXTRA,
    ),
    "tool_call": _object(
        {"type": {"const": "tool_call"}, "id": _TEXT, "name": _TEXT},
        input={"type": "object"},
        arguments=_TEXT,
        extra=_EXTRA,
        origin=_TEXT,
    ),
    "opaque": _object(
        {"type": {"const": "opaque"}, "origin": _TEXT, "data": {"type": "object"}},
        toolCallId=_TEXT,
        toolName=_TEXT,
        input={"type": "object"},
        result=_TEXT,
        isError={"type": "boolean"},
    ),
    "tool_result": _object(
        {"type": {"const": "tool_result"}, "toolCallId": _TEXT, "result": _TEXT},
        toolName=_TEXT,
        isError={"type": "boolean"},
    ),
}
_CONTENTS = {
    "system": _parts("text"),
    "user": _parts("text", "image"),
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

# 1600 tokens of four characters: Anthropic's figure for one of 1092 x 1092 pixels, which is about the most it looks at
# (platform.claude.com/docs/en/build-with-claude/vision).
_IMAGE_LENGTH = 6400
NOT_RUN = "This call was not run: the turn was interrupted before its result was there."
INTERRUPTED = "This call was interrupted before its result was there; it may have run or not."
NO_OUTPUT = "(no output)"
CONTINUE = "Continue."


def sendable(messages: Sequence[Message], origin: str, fit_id: Callable[[str], str] = str) -> list[Message]:
    """Return `messages` as any provider's API takes them, for a request to the model `origin` (`provider:model`).

    Every call is followed at once by exactly one result and no result is without its call; call ids occur once, each
    made to fit by `fit_id`; names hold only what both APIs take; no message is empty; the first is a user's and the
    last a user's or a tool's. Reasoning, opaque parts and extras of another origin are left out, and so are system
    messages (see `system_text`) and a provider's own tools whose result never came. All three APIs answer a history
    that breaks one of these with status 400 (platform.claude.com/docs/en/api/messages,
    platform.openai.com/docs/api-reference/chat, platform.openai.com/docs/api-reference/responses).
    """
    fit: list[tuple[Role, list[Part]]] = []
    used = UsedIds()
    results = iter(_results(messages))
    whole = _whole_calls(messages, origin)
    for message in messages:
        if message.role == "user":
            _append(fit, "user", [part for part in message.parts if not isinstance(part, Text) or part.text.strip()])
        elif message.role == "assistant":
            assistant, answers = _assistant(message, next(results), origin, fit_id, used, whole)
            _append(fit, "assistant", assistant)
            _append(fit, "tool", answers)
    if fit and fit[0][0] != "user":
        fit.insert(0, ("user", [Text(CONTINUE)]))
    if fit and fit[-1][0] == "assistant" and not _is_paused(fit[-1][1]):
        # With a new question no call of a provider's own tool may wait any more.
        return sendable([*messages, user(CONTINUE)], origin, fit_id)
    return [Message(role, tuple(parts)) for role, parts in fit]


def is_answerable(messages: Iterable[Message]) -> bool:
    """Return whether there is anything that a model can be asked."""
    return any(
        isinstance(part, ToolCall | Image) or (isinstance(part, Text) and part.text.strip())
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


def without_images(messages: Iterable[Message]) -> list[Message]:
    """Return `messages` for a model that cannot see: it is told where an image was."""
    unseen = Text("[an image, which this model cannot see]")
    return [
        Message(message.role, tuple(unseen if isinstance(part, Image) else part for part in message.parts))
        for message in messages
    ]


def length(messages: Iterable[Message]) -> int:
    """Return about how many characters `messages` are to a model, to which an image is not its bytes."""
    told = list(messages)
    seen = sum(isinstance(part, Image) for message in told for part in message.parts)
    return len(orjson.dumps([message_to_json(message) for message in without_images(told)])) + seen * _IMAGE_LENGTH


def trimmed(messages: Sequence[Message], most: int) -> list[Message]:
    """Return `messages` without the oldest turns, as many as it takes to be `most` characters long (see `length`).

    A turn is a question and all up to the next one, so that no call is parted from its result. The last one stays, and
    so do system messages.
    """
    starts = [
        number
        for number, message in enumerate(messages)
        if message.role == "user" and (number == 0 or messages[number - 1].role != "user")
    ]
    said = [message for message in messages if message.role != "system"]
    over = length(said) - most
    cut = 0
    for start, end in zip([0, *starts], starts, strict=False):
        if over <= 0:
            break
        over -= length(message for message in messages[start:end] if message.role != "system")
        cut = end
    return [message for message in messages[:cut] if message.role == "system"] + list(messages[cut:])


def without_origin(messages: Iterable[Message]) -> list[Message]:
    """Return `messages` without all that only the provider which wrote it understands: signatures above all."""
    return [
        Message(message.role, tuple(_plain(part) for part in message.parts if not isinstance(part, Reasoning | Opaque)))
        for message in messages
    ]


def _plain(part: Part) -> Part:
    return replace(part, extra={}, origin="") if isinstance(part, Text | ToolCall) and part.extra else part


def _is_paused(parts: Sequence[Part]) -> bool:
    """Return whether an answer ends with a provider's own tool: sent back as it is, it goes on from there."""
    last = parts[-1]
    return isinstance(last, Opaque) and bool(last.call_id)


def _whole_calls(messages: Sequence[Message], origin: str) -> set[str]:
    """Return the ids of the calls of a provider's own tools that may be sent.

    A call may lack its result only since the last question: there it was paused and goes on, or waits for our tools.
    The result may be in a later message than its call: code that the provider runs calls our tools in between.
    """
    parts = [part for message in messages for part in message.parts if isinstance(part, Opaque) and part.data]
    ours = [part for part in parts if part.origin == origin]
    answered = {part.call_id for part in ours if part.result is not None}
    called = {part.call_id for part in ours if part.input is not None}
    since = max((at for at, message in enumerate(messages) if message.role == "user"), default=-1) + 1
    paused = {part.call_id for message in messages[since:] for part in message.parts if isinstance(part, Opaque)}
    return (answered | paused) & called


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
    whole: set[str],
) -> tuple[list[Part], list[Part]]:
    """Return the parts of an assistant's message and the results of its calls; `whole` as `_whole_calls` says."""
    parts: list[Part] = []
    answers: list[Part] = []
    for part in message.parts:
        match part:
            case Text() if part.text.strip():
                parts.append(part if part.origin == origin else _plain(part))
            case Reasoning() if part.origin == origin:
                parts.append(part)
            case Opaque() if part.origin == origin and part.data and (not part.call_id or part.call_id in whole):
                parts.append(part)
            case ToolCall():
                # A name that no tool can have: a model made it up, and was told so in the result.
                name = re.sub("[^A-Za-z0-9_-]", "_", part.name)[:64] or "unknown"
                extra = part.extra if part.origin == origin else {}
                call = replace(part, id=used.take(fit_id(part.id)), name=name, input=part.input or {}, extra=extra)
                given = results.get(part.id)
                result = given.popleft() if given else ToolResult(part.id, name, NOT_RUN, is_error=True)
                content = result.content if result.content.strip() else NO_OUTPUT
                parts.append(call)
                answers.append(replace(result, tool_call_id=call.id, tool_name=name, content=content))
            case _:
                pass
    # What it led to never came: no API takes reasoning at the end of a message, or alone. Only `reasoning_details` may
    # come last: they are no part but a member of the message, if there is one beside them.
    said = any(not isinstance(part, Reasoning) for part in parts)
    while parts and isinstance(last := parts[-1], Reasoning) and not (said and "reasoning_details" in last.extra):
        parts.pop()
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
