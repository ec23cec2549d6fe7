"""OpenAI's Responses API: https://platform.openai.com/docs/api-reference/responses

A stream is `response.created`, output items by index (`output_item.added`, what is added to them, `output_item.done`
with the whole item), then `response.completed`, `incomplete` or `failed` with the whole response; `error` at any time.
Nothing is stored at the provider: each request carries the whole history, and reasoning in it as `encrypted_content`.
Compatible servers differ in the small: ids that change from event to event, no `output_index` (llama.cpp), no deltas
of the arguments (LM Studio), no `event:` lines, `[DONE]` (OpenRouter).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import orjson

from ..deltas import (
    Batch,
    Delta,
    Finish,
    FinishReason,
    Key,
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
    Citation,
    Image,
    Message,
    Opaque,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    sendable,
    system_text,
)
from ..sse import Frame
from ..tools import Tool
from .base import ModelRequest, Surroundings, Told, Translator, finish_reason, own_tools, read_json
from .openai_chat import OpenAIChat, is_reasoning_model
from .openai_items import PAID, Item, input_of, is_error, is_output, name_of, result_of, word

_FINISH = {
    "completed": FinishReason.STOP,
    "incomplete:max_output_tokens": FinishReason.LENGTH,
    "incomplete:content_filter": FinishReason.CONTENT_FILTER,
}
_PROVIDER_TOOLS: dict[str, Item] = {
    "web_search": {"type": "web_search"},
    "code_execution": {"type": "code_interpreter", "container": {"type": "auto"}},
}
# What the API leaves out of their items unless it is asked for.
_RESULTS = {"web_search": "web_search_call.action.sources", "code_execution": "code_interpreter_call.outputs"}
_LEAST_OUTPUT = 16  # OpenAI refuses fewer tokens
_LONGEST_ID = 56  # of the 64 characters that OpenAI takes, so that one that occurs again can be told apart


class OpenAI(OpenAIChat):
    """OpenAI's models by the Responses API, or with `OPENAI_BASE_URL` those of another server that speaks it."""

    name = "openai"
    provider_tools = tuple(_PROVIDER_TOOLS)

    def asking(self, request: ModelRequest) -> tuple[Any, dict[str, Any]]:
        body = build_request(request, self.name, compatible=self.is_compatible)
        # As `extra_body` the SDK sends it as it is: see OpenAIChat.
        parameters = {"model": request.model, "input": [], "stream": True, "extra_body": body}
        return self._client.responses.with_streaming_response.create, parameters

    def translator(self, told: Told) -> Translator:
        return ResponsesTranslator(told)


# --- requests ---------------------------------------------------------------------------------------------------------


def build_request(request: ModelRequest, provider: str, *, compatible: bool) -> dict[str, Any]:
    """Return the body of a request; `compatible` is another server than OpenAI's own."""
    fit_id: Callable[[str], str] = str if compatible else lambda call_id: call_id[:_LONGEST_ID]
    history = sendable(_answered(request.messages), f"{provider}:{request.model}", fit_id)
    limit = request.max_output_tokens
    body: dict[str, Any] = {
        "model": request.model,
        "input": list(_input(history, compatible)),
        "stream": True,
        "store": False,
        "max_output_tokens": limit if compatible else max(limit, _LEAST_OUTPUT),
    }
    if system := system_text(request.messages, request.system):
        body["instructions"] = system
    if tools := [*map(_function, request.tools), *_provider_tools(request)]:
        body["tools"] = tools
    reasons = is_reasoning_model(request.model)
    include = [_RESULTS[name] for name in _RESULTS if name in request.provider_tools]
    if include := ["reasoning.encrypted_content"] * reasons + include:
        body["include"] = include
    effort = {"effort": request.effort} if request.effort and (reasons or compatible) else {}
    summary = {"summary": "auto"} if reasons and "summary" not in request.without else {}
    if reasoning := effort | summary:
        body["reasoning"] = reasoning
    if request.temperature is not None and not reasons:
        body["temperature"] = request.temperature
    return body


def _function(tool: Tool) -> Item:
    function = {"type": "function", "name": tool.name, "description": tool.description}
    # Strict is the default, and refuses a schema with a parameter that need not be given.
    return function | {"parameters": tool.parameters, "strict": False}


def _provider_tools(request: ModelRequest) -> list[Item]:
    return [_PROVIDER_TOOLS[name] for name in own_tools(request, _PROVIDER_TOOLS, "OpenAI")]


def _answered(messages: Sequence[Message]) -> list[Message]:
    """Return `messages` without the calls that our side should have run (a shell's, a patch), and what led to them.

    The API refuses a call without an output. A program alone may wait: for the results of the functions it called.
    """
    opaque = [part for message in messages for part in message.parts if isinstance(part, Opaque)]
    answered = {_tie(part) for part in opaque if part.result is not None}
    called = {_tie(part) for part in opaque if part.input is not None}

    def is_half(part: Part) -> bool:
        if not isinstance(part, Opaque) or not part.name or part.data.get("type") == "program":
            return False
        return _tie(part) not in answered & called

    def keep(parts: Sequence[Part]) -> Iterator[Part]:
        led: list[Reasoning] = []
        for part in parts:
            if isinstance(part, Reasoning):
                led.append(part)
                continue
            if not is_half(part):
                yield from (*led, part)
            led = []
        yield from led

    return [replace(message, parts=tuple(keep(message.parts))) for message in messages]


def _tie(part: Opaque) -> tuple[str, str]:
    """Return what ties a call to its output, for the API and for us."""
    return word(part.data.get("call_id")), part.call_id


def _input(history: Sequence[Message], compatible: bool) -> Iterator[Item]:
    own = [part for message in history for part in message.parts if isinstance(part, Opaque)]
    programs = {part.call_id for part in own if part.call_id}
    callers: dict[str, Item] = {}
    for message in history:
        if message.role == "assistant":
            items, calls = _assistant(message.parts, compatible)
            for call in calls:
                caller = call.pop("caller", None)
                # A program that is not sent calls nothing.
                if isinstance(caller, dict) and word(caller.get("caller_id")) in programs:
                    callers[call["call_id"]] = {"caller": caller}
                    call |= callers[call["call_id"]]
            yield from items + calls
        elif message.role == "tool":
            for result in message.parts:
                if isinstance(result, ToolResult):
                    answer = {"type": "function_call_output", "call_id": result.tool_call_id, "output": result.content}
                    yield answer | callers.get(result.tool_call_id, {})
        else:
            yield {"type": "message", "role": "user", "content": [_content(part) for part in message.parts]}


def _content(part: Part) -> Item:
    if isinstance(part, Image):
        address = f"data:{part.media_type};base64,{part.data}"
        return {"type": "input_image", "image_url": address, "detail": "auto"}
    assert isinstance(part, Text)
    return {"type": "input_text", "text": part.text}


def _assistant(parts: Sequence[Part], compatible: bool) -> tuple[list[Item], list[Item]]:
    """Return the items of an answer and, to be sent last, its calls; reasoning stands before what it led to."""
    items: list[Item] = []
    calls: list[Item] = []
    led: list[Item] = []
    for _, group in itertools.groupby(parts, key=_item_of):
        together = list(group)
        match part := together[0]:
            case Reasoning():
                led += _reasoning([each for each in together if isinstance(each, Reasoning)], compatible)
                continue
            case ToolCall():
                calls += [*led, _call(part)]
            case Text():
                items += [*led, _message(part)]
            case Opaque():
                items += [*led, part.data]
        led = []
    return items, calls


def _item_of(part: Part) -> object:
    """Return what tells the items of an answer apart: parts of reasoning with the same id are one."""
    return part.extra.get("id", id(part)) if isinstance(part, Reasoning) else id(part)


def _call(call: ToolCall) -> Item:
    # As it came where it was an object: servers parse it again, and refuse the history where they cannot.
    arguments = call.arguments if call.input else "{}"
    return call.extra | {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": arguments}


def _message(part: Text) -> Item:
    """Return a text as a message of its own, without the `id` that nobody keeps.

    The shorter form with a string for content has no place for annotations, and llama.cpp does not take it.
    """
    extra = dict(part.extra)
    annotations = extra.pop("annotations", [])
    if extra.pop("is_refusal", False):
        content: Item = {"type": "refusal", "refusal": part.text}
    else:
        content = {"type": "output_text", "text": part.text, "annotations": annotations}
    return extra | {"type": "message", "role": "assistant", "content": [content]}


def _reasoning(parts: Sequence[Reasoning], compatible: bool) -> list[Item]:
    """Return an item of reasoning as it came, none where it cannot be read without what the provider kept of it.

    Raw reasoning is in the item itself; OpenAI, which never sends it, takes none.
    """
    signature = "".join(part.signature for part in parts)
    raw = [part.text for part in parts if part.extra.get("is_raw") and compatible]
    if not signature and not raw:
        return []
    # In their place, which need not be the order in which they were told; without one there was nothing to tell.
    summary = {at: part.text for part in parts if isinstance(at := part.extra.get("summary_index"), int)}
    item: Item = {"type": "reasoning", "id": parts[0].extra.get("id", "")}
    item["summary"] = [{"type": "summary_text", "text": summary[at]} for at in sorted(summary)]
    if raw:
        item["content"] = [{"type": "reasoning_text", "text": text} for text in raw]
    return [item | ({"encrypted_content": signature} if signature else {})]


# --- streams ----------------------------------------------------------------------------------------------------------


class ResponsesTranslator:
    """Translates one stream of the Responses API. Items are told apart by `output_index`: their ids may change."""

    def __init__(self, told: Told) -> None:
        self.told = told
        self.batch = Batch()
        self.around = Surroundings()  # which nothing is learned for: every event has a number
        self.is_complete = False
        # The text under way: where it is by its indexes, and its key.
        self._place: tuple[object, object] | None = None
        self._key = ""
        # Keys of the parts that deltas told: of these the whole item at their end brings nothing new.
        self._said: set[str] = set()
        self._done: set[tuple[object, str, str]] = set()
        self._summarised: set[object] = set()
        self._annotations: dict[str, list[Item]] = {}
        self._call_ids: dict[str, str] = {}
        self._refused = self._called = False
        self._paid = 0
        self._handlers: dict[str, Callable[[dict[str, Any]], None]] = {
            "response.output_item.added": self._begin,
            "response.output_item.done": lambda event: self._finish(_index(event), event["item"]),
            "response.output_text.annotation.added": self._annotate,
            "response.refusal.delta": self._refuse,
            "response.reasoning_summary_text.delta": self._summarise,
            "response.reasoning_text.delta": self._reason,
            "response.function_call_arguments.delta": self._argue,
            "response.completed": self._end,
            "response.incomplete": self._end,
            "response.failed": self._end,
            "error": self._fail,
        }

    def feed(self, frames: list[Frame]) -> list[Delta]:
        batch = self.batch
        for frame in frames:
            if frame.data.startswith(b"[DONE]"):
                continue
            event = read_json(frame, self.told.label)
            kind = event.get("type")
            if kind == "response.output_text.delta":
                # Most of all events are this, and worth the shortest way.
                text = event["delta"]
                if (event.get("output_index"), event.get("content_index")) == self._place and isinstance(text, str):
                    batch.join(TextDelta, self._key, text)
                else:
                    self._speak(event)
            elif handler := self._handlers.get(kind):
                handler(event)
            elif event.get("error") or frame.event == b"error":
                self._fail(event)
        return batch.take()

    # --- deltas ---

    def _speak(self, event: dict[str, Any]) -> None:
        self._key = f"{_index(event)}.{event.get('content_index', 0)}"
        self._say(TextDelta, self._key, event["delta"])
        if self._key in self._said and event.get("output_index") is not None:
            self._place = (event["output_index"], event.get("content_index"))

    def _say(self, make: Callable[[Key, str], Delta], key: str, text: object) -> None:
        if not isinstance(text, str):
            raise TypeError(f"not a string: {text!r:.100}")
        if text:
            self._said.add(key)
            self.batch.join(make, key, text)

    def _say_whole(self, make: Callable[[Key, str], Delta], key: str, text: object) -> None:
        if key not in self._said:
            self._say(make, key, text or "")

    def _refuse(self, event: dict[str, Any]) -> None:
        self._refused = True
        self._speak(event)

    def _annotate(self, event: dict[str, Any]) -> None:
        key = f"{_index(event)}.{event.get('content_index', 0)}"
        self._annotations.setdefault(key, []).append(event["annotation"])

    def _summarise(self, event: dict[str, Any]) -> None:
        index = _index(event)
        self._summarised.add(index)
        self._say(ReasoningDelta, f"{index}.{event.get('summary_index', 0)}", event["delta"])

    def _reason(self, event: dict[str, Any]) -> None:
        """Show raw reasoning, where no summary takes its place."""
        if (index := _index(event)) not in self._summarised:
            self._say(ReasoningDelta, f"{index} raw", event["delta"])

    def _argue(self, event: dict[str, Any]) -> None:
        self._say(arguments_delta, str(_index(event)), event["delta"])

    # --- items ---

    def _begin(self, event: dict[str, Any]) -> None:
        """Show that a call began; text and reasoning have not begun before there is some."""
        item, key = event["item"], str(_index(event))
        kind = item.get("type")
        if kind == "function_call":
            self.batch.add(ToolCallDelta(key, word(item.get("call_id")), word(item.get("name"))))
        elif kind not in ("message", "reasoning") and (name := name_of(item)):
            self.batch.add(OpaqueDelta(key, None, self._call_id(item), name))

    def _finish(self, index: object, item: Item) -> None:
        """End an item with what its deltas did not bring; some servers send no deltas."""
        kind = word(item.get("type"))
        this = (index, kind, word(item.get("call_id")))
        if this in self._done:
            return
        self._done.add(this)
        if kind == "message":
            self._finish_message(index, item)
        elif kind == "reasoning":
            self._finish_reasoning(index, item)
        elif kind == "function_call":
            self._finish_call(str(index), item)
        elif not kind:
            raise TypeError("an item without a type")  # nobody would take it back
        else:
            self._paid += kind in PAID
            call_id, shown = self._call_id(item), (input_of(item), result_of(item), is_error(item))
            self.batch.add(OpaqueDelta(str(index), item, call_id, name_of(item), *shown))

    def _finish_message(self, index: object, item: Item) -> None:
        for number, part in enumerate(item.get("content") or ()):
            key = f"{index}.{number}"
            is_refusal = part.get("type") == "refusal"
            self._say_whole(TextDelta, key, part.get("refusal" if is_refusal else "text"))
            if key not in self._said:
                continue
            self._refused = self._refused or is_refusal
            annotations = part.get("annotations") or self._annotations.get(key) or []
            extra = {"is_refusal": is_refusal, "annotations": annotations, "phase": item.get("phase")}
            if extra := {name: value for name, value in extra.items() if value}:
                self.batch.add(TextDetail(key, tuple(_citations(annotations)), extra))
            self.batch.add(PartEnd(key))

    def _finish_reasoning(self, index: object, item: Item) -> None:
        """End the parts of an item of reasoning: all of them get its id, the last one what is encrypted."""
        signature = word(item.get("encrypted_content"))
        summary, raw = item.get("summary") or (), f"{index} raw"
        parts: list[tuple[str, Item]] = []
        for number, part in enumerate(summary):
            self._say_whole(ReasoningDelta, f"{index}.{number}", part.get("text"))
            parts.append((f"{index}.{number}", {"summary_index": number}))
        if not summary:
            self._say_whole(ReasoningDelta, raw, "".join(word(part.get("text")) for part in item.get("content") or ()))
        if raw in self._said:
            parts.append((raw, {"is_raw": True}))
        elif signature and not parts:
            parts.append((f"{index}.0", {}))
        about = {"id": item["id"]} if word(item.get("id")) else {}
        for number, (key, extra) in enumerate(parts, 1):
            signed = signature if number == len(parts) else ""
            self.batch.add(ReasoningDelta(key, signature=signed, extra=about | extra))
            self.batch.add(PartEnd(key))

    def _finish_call(self, key: str, item: Item) -> None:
        self._called = True
        arguments = item.get("arguments") or ""
        # LM Studio sends them here only.
        self._say_whole(
            arguments_delta, key, arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
        )
        extra = {name: item[name] for name in ("namespace", "caller") if item.get(name)}
        call_id, name = word(item.get("call_id")), word(item.get("name"))
        self.batch.add(ToolCallDelta(key, call_id, name, extra=extra or None))
        self.batch.add(PartEnd(key))

    def _call_id(self, item: Item) -> str:
        """Return the id that ties a tool's call to its output, which follows it where the API gives none."""
        name = name_of(item)
        given = word(item.get("call_id")) or (self._call_ids.get(name, "") if is_output(item) else "")
        call_id = given or (word(item.get("id")) if name else "")
        self._call_ids[name] = call_id
        return call_id

    # --- the end ---

    def _end(self, event: dict[str, Any]) -> None:
        response = event.get("response") or {}
        status = response.get("status") or event["type"].removeprefix("response.")
        if status == "failed":
            self._fail(response)
        output = response.get("output") or []
        if len(output) > len(self._done):  # some servers tell of an item nowhere else
            for index, item in enumerate(output):
                self._finish(index, item)
        if usage := response.get("usage"):
            self.batch.add(UsageDelta(_usage(usage, self._paid)))
        why = word((response.get("incomplete_details") or {}).get("reason"))
        raw = f"{status}:{why}" if why else word(status)
        reason = finish_reason(_FINISH, raw)
        if reason is FinishReason.STOP:
            reason = FinishReason.REFUSAL if self._refused else reason
            reason = FinishReason.TOOL_CALLS if self._called else reason
        self.is_complete = True
        self.batch.add(Finish(reason, raw))

    def _fail(self, value: dict[str, Any]) -> None:
        # The error is documented as the event itself, and seen as a member of it.
        raise self.told.stream_error(value.get("error") or value)


def _index(event: dict[str, Any]) -> object:
    """Return which item an event is about: llama.cpp has no index, and says it by an id."""
    index = event.get("output_index")
    if index is None:
        item = event.get("item") or {}
        index = event.get("item_id") or item.get("id") or item.get("call_id")
    return index


def _citations(annotations: Sequence[Item]) -> Iterator[Citation]:
    for each in annotations:
        title = word(each.get("title")) or word(each.get("filename")) or word(each.get("file_id"))
        if title or word(each.get("url")):
            yield Citation(word(each.get("url")), title)


def _usage(usage: dict[str, Any], provider_tool_calls: int) -> Usage:
    def count(name: str, details: str = "") -> int:
        values = usage.get(details) if details else usage
        value = values.get(name) if isinstance(values, dict) else 0
        return value if isinstance(value, int) else 0

    return Usage(
        count("input_tokens"),
        count("output_tokens"),
        count("cached_tokens", "input_tokens_details"),
        count("reasoning_tokens", "output_tokens_details"),
        provider_tool_calls=provider_tool_calls,
    )
