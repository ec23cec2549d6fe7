"""What may be asked: the JSON Schemas of the requests, and the reading of a body against them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cache
from itertools import islice
from typing import Any

import orjson
from aiohttp import web

from .. import errors
from ..conversations import ENDING_SCHEMA
from ..events import Outcome
from ..messages import MESSAGE_SCHEMA, PART_SCHEMAS, USER_CONTENT
from ..providers import EFFORTS
from ..tools.base import MAX_OUTPUT
from ..tools.schema import word
from ..wires import agui_request, openai_request, vercel_request
from ..wires.base import MAX_MESSAGES
from .images import check_images

CHAT_REQUEST, TURN_REQUEST, DECISIONS = "chat", "turn", "decisions"
CONVERSATION, CONVERSATION_CHANGE, IMPORT = "conversation", "conversation_change", "import"
AG_UI_REQUEST, AI_SDK_REQUEST, OPENAI_REQUEST = "ag_ui", "ai_sdk", "openai"
_ID = {"type": "string", "minLength": 1, "maxLength": 200}
_NO_ID = {"type": ["string", "null"], "maxLength": 200}
_WHEN = {"type": ["string", "null"], "maxLength": 50}
_CONVERSATION = {
    "title": {"type": "string", "maxLength": 500},
    "system": {"type": "string", "maxLength": 50_000},
    "model": {"type": "string", "maxLength": 200},  # "" for the default
}


def object_schema(properties: dict[str, Any], *required: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    } | more


# A tool of the server's by its name, or one of the caller's own.
_TOOL = {
    "type": ["string", "object"],
    "properties": {
        "name": {"type": "string"},
        "description": {"type": "string"},
        "parameters": {"type": "object", "properties": {"type": {"const": "object"}}, "required": ["type"]},
    },
    "required": ["name", "description", "parameters"],
    "additionalProperties": False,
}
_OPTIONS = {
    "model": {"type": "string", "minLength": 1, "maxLength": 200},
    "maxOutputTokens": {"type": "integer", "minimum": 1},
    "temperature": {"type": "number", "minimum": 0, "maximum": 2},
    "effort": {"enum": list(EFFORTS)},
    "tools": {"type": "array", "items": _TOOL, "maxItems": 200},
}
_MESSAGES = {"type": "array", "items": MESSAGE_SCHEMA, "minItems": 1, "maxItems": MAX_MESSAGES}
_TURN = {"conversationId": _ID, "turnId": _ID, "message": USER_CONTENT, "parentId": {"type": ["string", "null"]}}
_DECISION = {
    "toolCallId": {"type": "string"},
    "decision": {"enum": ["approve", "deny"]},
    "reason": {"type": "string", "maxLength": 10_000},
    "result": {"type": "string", "maxLength": MAX_OUTPUT},
    "isError": {"type": "boolean"},
}
# One of the two and not both: a result is a decision of its own.
_DECIDED = {
    "if": {"required": ["result"]},
    "then": {"properties": {"decision": False, "reason": False}},
    "else": {"required": ["decision"], "properties": {"isError": False}},
}
_DECISION_LIST = {
    "type": "array",
    "items": object_schema(_DECISION, "toolCallId", **_DECIDED),
    "minItems": 1,
    "maxItems": 1000,
}
_CHANGE = {"leafId": _ID, "pinned": {"type": "boolean"}, "deleted": {"const": False}}
# A conversation as it is exported: what else its members have is left out.
_NODE = object_schema(
    {"id": _ID, "role": {"enum": ["user", "assistant", "tool"]}, "content": {}}
    | {"parentId": _NO_ID, "runId": _NO_ID, "createdAt": _WHEN},
    *("id", "role", "content"),
    allOf=MESSAGE_SCHEMA["allOf"],
    additionalProperties=True,
)
_RUN = object_schema(
    {"id": _ID, "model": _CONVERSATION["model"], "outcome": {"enum": [*map(str, Outcome), "failed", None]}}
    | {"parentId": _NO_ID, "messageId": _NO_ID, "nextRunId": _NO_ID, "createdAt": _WHEN, "endedAt": _WHEN}
    | ENDING_SCHEMA,
    "id",
    additionalProperties=True,
)
_TREE = {
    "messages": {"type": "array", "items": _NODE, "maxItems": MAX_MESSAGES},
    "runs": {"type": "array", "items": _RUN, "maxItems": MAX_MESSAGES},
    **{"leafId": _NO_ID, "pinned": {"type": "boolean"}, "createdAt": _WHEN, "updatedAt": _WHEN},
}
SCHEMAS: dict[str, dict[str, Any]] = {
    name: {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema | {"$defs": PART_SCHEMAS | _OPTIONS}
    for name, schema in {
        CHAT_REQUEST: object_schema({"messages": _MESSAGES} | _OPTIONS, "messages"),
        TURN_REQUEST: object_schema(_TURN | _OPTIONS, "conversationId", "turnId"),
        DECISIONS: object_schema({"decisions": _DECISION_LIST}, "decisions"),
        AG_UI_REQUEST: agui_request.SCHEMA,
        AI_SDK_REQUEST: vercel_request.SCHEMA,
        OPENAI_REQUEST: openai_request.SCHEMA,
        CONVERSATION: object_schema(_CONVERSATION),
        CONVERSATION_CHANGE: object_schema(_CONVERSATION | _CHANGE, minProperties=1),
        IMPORT: object_schema(_CONVERSATION | _TREE, "messages", additionalProperties=True),
    }.items()
}
# Checking takes up to 6 us a byte (measured): longer bodies are checked beside the event loop.
LONG = 32 * 1024


@cache
def _validator(name: str) -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(SCHEMAS[name])


async def read_body(request: web.Request, schema: str | Callable[[Any], str], limit: int) -> dict[str, Any]:
    """Return the body of a request as its schema promises it, which may depend on the body's shape.

    Raises UnsupportedMedia, TooLarge (`limit` in bytes) and RequestError, which names the path and what was expected;
    images are looked at too.
    """
    if request.content_type != "application/json":
        met = repr(request.content_type)
        raise errors.UnsupportedMedia(
            f"Content-Type must be application/json, not {met} (curl: -H 'Content-Type: application/json')"
        )
    data = await read_bytes(request, limit)
    if len(data) > LONG:
        return await asyncio.to_thread(_parse, data, schema)
    return _parse(data, schema)


async def read_bytes(request: web.Request, limit: int) -> bytes:
    """Return the body of a request; raises TooLarge where it has more than `limit` bytes."""
    if request.content_length is not None and request.content_length > limit:
        raise errors.TooLarge(f"the body has {request.content_length} bytes; this server takes {limit} at most")
    data = bytearray()
    async for chunk in request.content.iter_any():
        data += chunk
        if len(data) > limit:
            raise errors.TooLarge(f"the body has more than {limit} bytes, the most that this server takes")
    return bytes(data)


def _parse(data: bytes, schema: str | Callable[[Any], str]) -> dict[str, Any]:
    try:
        value = orjson.loads(data)
    except ValueError as error:
        raise errors.RequestError(f"the body is not valid JSON: {error}") from error
    try:
        # More can be read (1024 levels) than can be written again (254), to the log or to the viewer.
        orjson.dumps(value)
    except TypeError as error:
        raise errors.RequestError("the body is nested too deep") from error
    name = schema if isinstance(schema, str) else schema(value)
    if problem := explain(name, value):
        raise errors.RequestError(problem)
    checked: dict[str, Any] = value
    if name in (CHAT_REQUEST, TURN_REQUEST):
        check_images(checked)
    elif name == IMPORT:
        check_images({"messages": checked["messages"]})
    return checked


def explain(schema: str, value: object) -> str:
    """Return where `value` fails its schema and what was expected there, empty where it does not."""
    from jsonschema.exceptions import best_match

    # The first is enough: a body of nothing but errors has as many as it has bytes.
    error = best_match(islice(_validator(schema).iter_errors(value), 1))
    if error is None:
        return ""
    return f"{error.json_path.removeprefix('$').removeprefix('.') or 'body'}: {word(error)}"
