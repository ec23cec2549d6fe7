"""What OpenAI's Chat Completions clients ask, read: https://platform.openai.com/docs/api-reference/chat/create

Clients send members that this server does not know, and `null` for those that they leave out (LangChain, LiteLLM):
both are taken. What would change what the answer means and cannot be done here is refused by its name. What only
guides the model is left out (`seed`, `top_p`, penalties, `logit_bias`, `verbosity`, a tool's `strict`), and so is
`parallel_tool_calls`: LlamaIndex forbids them with every tool, and copes with several.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..errors import RequestError
from ..messages import Message, Part, Text, ToolCall, ToolResult, read_arguments
from .base import MAX_MESSAGES, Asked, Said, read_file, read_tool, split_id

# The options of a native request that these come to, the better name last.
_OPTIONS = {
    "model": "model",
    "max_tokens": "maxOutputTokens",
    "max_completion_tokens": "maxOutputTokens",
    "temperature": "temperature",
}
# What they are here; the missing one leaves it to the server.
_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
_STRING, _BOOLEAN = {"type": ["string", "null"]}, {"type": ["boolean", "null"]}
_PART = {
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "text": _STRING,
        "refusal": _STRING,
        "image_url": {"type": ["object", "null"], "properties": {"url": {"type": "string"}}, "required": ["url"]},
    },
    "required": ["type"],
}
_FUNCTION_CALL = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "arguments": _STRING},
    "required": ["name"],
}
_CALL = {
    "type": "object",
    "properties": {"id": {"type": "string"}, "type": {"const": "function"}, "function": _FUNCTION_CALL},
    "required": ["id", "function"],
}
_MESSAGE = {
    "type": "object",
    "properties": {
        "role": {"enum": ["system", "developer", "user", "assistant", "tool"]},
        "content": {"type": ["string", "array", "null"], "items": _PART, "maxItems": 1000},
        "refusal": _STRING,
        "tool_calls": {"type": ["array", "null"], "items": _CALL, "maxItems": 1000},
        "tool_call_id": _STRING,
    },
    "required": ["role"],
    "if": {"properties": {"role": {"const": "tool"}}},
    "then": {"properties": {"tool_call_id": {"type": "string"}}, "required": ["tool_call_id"]},
}
_FUNCTION = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "description": _STRING,
        "parameters": {"type": ["object", "null"]},
    },
    "required": ["name"],
}
_TOOL = {
    "type": "object",
    "properties": {"type": {"const": "function"}, "function": _FUNCTION},
    "required": ["type", "function"],
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "model": {"type": ["string", "null"], "maxLength": 200},
        "messages": {"type": "array", "items": _MESSAGE, "maxItems": MAX_MESSAGES, "minItems": 1},
        "stream": _BOOLEAN,
        "stream_options": {"type": ["object", "null"], "properties": {"include_usage": _BOOLEAN}},
        "max_tokens": {"type": ["integer", "null"], "minimum": 1},
        "max_completion_tokens": {"type": ["integer", "null"], "minimum": 1},
        "temperature": {"type": ["number", "null"], "minimum": 0, "maximum": 2},
        "reasoning_effort": {"enum": [None, "none", *_EFFORTS]},
        "tools": {"type": ["array", "null"], "items": _TOOL, "maxItems": 200},
        "tool_choice": {"type": ["string", "object", "null"]},
    },
    "required": ["messages"],
}


def _refusal(what: str) -> Callable[[Any], str]:
    return lambda value: what if value else ""


_OLD = _refusal("this older form is not taken; send them as 'tools', and their results as messages of the role 'tool'")
# What cannot be done, each with what to say of a value, "" where that asks for nothing.
_REFUSED: dict[str, Callable[[Any], str]] = {
    "n": lambda value: "" if value in (None, 1) else "this server gives one answer to a request; leave it out",
    "stop": _refusal("this server cannot stop at a text; leave it out"),
    "logprobs": _refusal("this server knows no probabilities; leave it out"),
    "top_logprobs": _refusal("this server knows no probabilities; leave it out"),
    "response_format": lambda value: (
        "" if not value or value == {"type": "text"} else "this server answers in text only; expected {'type': 'text'}"
    ),
    "tool_choice": lambda value: (
        "" if value in (None, "auto", "none") else "the agent decides itself what it calls; expected 'auto' or 'none'"
    ),
    "modalities": lambda value: "" if value in (None, [], ["text"]) else "this server answers in text only",
    "audio": _refusal("this server answers in text only"),
    "moderation": _refusal("this server moderates nothing; leave it out"),
    "functions": _OLD,
    "function_call": _OLD,
}


def read(body: dict[str, Any]) -> Asked:
    """Return what a request asks, whose shape was checked; its `tools` are None where no tool at all may be called.

    Results that stand at the end are `said`: they may be what a run waits for.
    """
    for name, refuse in _REFUSED.items():
        if why := refuse(body.get(name)):
            raise RequestError(f"{name}: {why}")
    options = {ours: body[name] for name, ours in _OPTIONS.items() if body.get(name) not in (None, "")}
    if effort := _EFFORTS.get(body.get("reasoning_effort") or ""):
        options["effort"] = effort
    tools = [_tool(f"tools[{at}]", each["function"]) for at, each in enumerate(body.get("tools") or ())]
    options["tools"] = None if body.get("tool_choice") == "none" else tools
    return Asked(_messages(body["messages"]), options, _said(body["messages"]))


def _tool(where: str, function: dict[str, Any]) -> dict[str, Any]:
    return read_tool(where, function["name"], function.get("description"), function.get("parameters"))


def _messages(values: Sequence[dict[str, Any]]) -> list[Message]:
    names: dict[str, str] = {}
    messages = []
    for at, value in enumerate(values):
        where, role = f"messages[{at}]", value["role"]
        if why := _OLD(value.get("function_call")):
            raise RequestError(f"{where}.function_call: {why}")
        parts = _parts(f"{where}.content", value.get("content"), role)
        if role == "assistant":
            parts += _texts([value.get("refusal")])
            parts += [_call(each) for each in value.get("tool_calls") or ()]
            names |= {part.id: part.name for part in parts if isinstance(part, ToolCall)}
        elif role == "tool":
            call_id = split_id(value["tool_call_id"])[1]
            parts = [ToolResult(call_id, names.get(call_id, ""), _text(parts))]
        messages.append(Message("system" if role == "developer" else role, tuple(parts)))
    return messages


def _parts(where: str, content: Any, role: str) -> list[Part]:
    if not isinstance(content, list):
        return _texts([content])
    parts: list[Part] = []
    for at, value in enumerate(content):
        kind = value["type"]
        if kind in ("text", "refusal"):
            parts += _texts([value.get(kind)])
        elif kind == "image_url" and role == "user" and (image := value.get(kind)):
            parts.append(read_file(f"{where}[{at}].image_url.url", image["url"]))
        else:
            taken = "'text' or 'image_url'" if role == "user" else "'text'"
            raise RequestError(f"{where}[{at}]: a part of the type {kind!r} is not taken here; expected {taken}")
    return parts


def _texts(texts: Iterable[str | None]) -> list[Part]:
    return [Text(text) for text in texts if text]


def _text(parts: Iterable[Part]) -> str:
    return "".join(part.text for part in parts if isinstance(part, Text))


def _call(value: dict[str, Any]) -> ToolCall:
    function = value["function"]
    arguments = function.get("arguments") or ""
    parsed, problem = read_arguments(arguments)
    return ToolCall(split_id(value["id"])[1], function["name"], parsed, arguments, problem)


def _said(values: Sequence[dict[str, Any]]) -> tuple[Said, ...]:
    """Return the results at the end; raises RequestError where a call that they belong to has none."""
    last = max((at for at, value in enumerate(values) if value["role"] != "tool"), default=-1)
    results = {value["tool_call_id"]: value for value in values[last + 1 :]}
    if not results:
        return ()
    for call in values[last].get("tool_calls") or ():
        if call["id"] not in results:
            raise RequestError(f"messages: there is no result of the call {call['id']!r}, and of others there is")
    said = []
    for id, value in results.items():
        run_id, call_id = split_id(id)
        said.append(Said(call_id, "result", _text(_parts("", value.get("content"), "tool")), run_id=run_id))
    return tuple(said)
