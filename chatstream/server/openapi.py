"""The OpenAPI document (https://spec.openapis.org/oas/v3.1.1), made of what is there anyway.

The routes say what they take and answer, the schemas are those that requests are checked against (`bodies.py`) and
those of the answers (`answers.py`), and what a route does is the first sentence of its handler's docstring.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import Any

from .. import __version__
from ..messages import PART_SCHEMAS
from . import answers, bodies
from .answers import Schema, ref
from .routes import Answer, Parameter, Route

_ABOUT = (
    "An agent loop with tools behind every wire. What is wrong with a request is said before a stream begins, in the "
    "form of its wire. Whatever answers GET answers HEAD, but for streams."
)
# What each part is, and where the frames of its streams are told; those of the native wire are a schema here.
_PARTS = {
    "api": ("Runs and stored conversations, by the native wire.", ""),
    "ag-ui": ("AG-UI 1.0, for TanStack AI too.", "https://docs.ag-ui.com/concepts/events"),
    "ai-sdk": ("The UI message stream v1 of the AI SDK.", "https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol"),
    "openai": ("Chat Completions.", "https://platform.openai.com/docs/api-reference/chat"),
    "page": ("The page and its files.", ""),
}
_NATIVE = "Server-sent events: the data of each is one frame, as `contentSchema` tells; a block may be an id alone. "
_OTHERS = "A body of another wire is answered in that wire."
_ERRORS: dict[str, dict[str, Any]] = {
    "openai": {"application/json": {"schema": ref(answers.OPENAI_ERROR)}},
    # Its clients show the body as it is.
    "ai-sdk": {"text/plain": {"schema": {"type": "string"}}},
}
_HEADERS = {
    "X-Run-Id": "The id of the run, by which it is followed and stopped.",
    "Chatstream-Heartbeat": "Seconds of silence after which a comment follows.",
}
_BUSY = "As many runs go and wait as the server takes at once, or it is stopping. Nothing was begun: ask again."
_RETRY = {"Retry-After": {"description": "Seconds after which to ask again.", "schema": {"type": "integer"}}}
_VARIABLE = re.compile(r"\{(\w+)(?::[^{}]*)?\}")


def describe(routes: Sequence[Route], prefix: str, *, has_token: bool) -> dict[str, Any]:
    """Return the document of `routes` that are mounted behind `prefix`."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        # What takes any method has files, or refuses whatever it is asked.
        if route.method != "*" or route.answer == "file":
            operation = _operation(route)
            if has_token and not route.is_public:
                operation["security"] = [{"bearer": []}]
            paths.setdefault(_VARIABLE.sub(r"{\1}", route.path), {})[_method(route)] = operation
    parts = dict.fromkeys(route.part for route in routes)
    return {
        "openapi": "3.1.1",
        "info": {"title": "chatstream", "version": __version__, "description": _ABOUT},
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "servers": [{"url": prefix or "/"}],
        "tags": [_tag(part) for part in parts],
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}} if has_token else {},
        },
    }


def _tag(part: str) -> dict[str, Any]:
    about, url = _PARTS[part]
    return {"name": part, "description": about} | ({"externalDocs": {"url": url}} if url else {})


def _operation(route: Route) -> dict[str, Any]:
    parameters = [_in_path(name) for name in _VARIABLE.findall(route.path)] + list(map(_parameter, route.parameters))
    operation: dict[str, Any] = {"operationId": _operation_id(route), "tags": [route.part], "summary": _summary(route)}
    if parameters:
        operation["parameters"] = parameters
    if route.bodies:
        shapes = [ref(_request(name)) for name in route.bodies]
        schema = shapes[0] if len(shapes) == 1 else {"oneOf": shapes}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return operation | {"responses": _responses(route)}


def _method(route: Route) -> str:
    return "get" if route.method == "*" else route.method.lower()


def _operation_id(route: Route) -> str:
    words = re.findall(r"\w+", _VARIABLE.sub(r"by \1", route.path))
    return _method(route) + _camel(*words)


def _summary(route: Route) -> str:
    sentence = re.split(r"[.;]\s", f"{inspect.getdoc(route.handler) or ''} ")[0]
    return " ".join(sentence.split())


def _in_path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _parameter(parameter: Parameter) -> dict[str, Any]:
    place = {"name": parameter.name, "in": parameter.place}
    return place | {"description": parameter.about, "schema": dict(parameter.schema)}


def _responses(route: Route) -> dict[str, Any]:
    kinds = [kind for kind in (route.answer, *route.also) if kind != "empty"]
    content = {name: told for kind in reversed(kinds) for name, told in _content(route, kind).items()}
    told: dict[str, Any] = {"description": "What was asked for.", "content": content}
    if "stream" in kinds:
        told["headers"] = {
            name: {"description": about, "schema": {"type": "string"}} for name, about in _HEADERS.items()
        }
    responses = {str(status): told for status in route.statuses} if kinds else {}
    if route.accepted:
        accepted = {"application/json": {"schema": ref(route.accepted)}}
        responses["202"] = {"description": "It has begun, and goes on by itself.", "content": accepted}
    if "empty" in (route.answer, *route.also):
        responses["204"] = {"description": "There is nothing to tell."}
    if route.bodies and ("stream" in kinds or route.returns == answers.DECIDED):
        responses["503"] = {"description": _BUSY, "headers": _RETRY, "content": _errors(route)}
    return responses | {"default": {"description": "What went wrong.", "content": _errors(route)}}


def _errors(route: Route) -> dict[str, Any]:
    """Return how errors are told by each wire that a route takes questions of, by media type."""
    native = {"application/json": {"schema": ref(answers.ERROR)}}
    wires = [route.wire or route.part, *(name.replace("_", "-") for name in route.bodies)]
    return {kind: told for wire in reversed(wires) for kind, told in _ERRORS.get(wire, native).items()}


def _content(route: Route, kind: Answer) -> dict[str, Any]:
    """Return what the body of an answer of this kind is, by its media type."""
    about, url = _PARTS[route.wire or route.part]
    match kind:
        case "stream" if url:
            frames: Schema = {"type": "string", "description": f"Server-sent events. {about} See {url}"}
            return {"text/event-stream": {"schema": frames}}
        case "stream":
            description = _NATIVE + (_OTHERS if len(route.bodies) > 1 else "")
            frames = {"type": "string", "description": description.strip(), "contentMediaType": "text/event-stream"}
            return {"text/event-stream": {"schema": frames | {"contentSchema": ref(answers.FRAME)}}}
        case "json":
            return {"application/json": {"schema": ref(route.returns) if route.returns else {"type": "object"}}}
        case _:
            return {"*/*": {}}


# --- schemas ----------------------------------------------------------------------------------------------------------


def _schemas() -> dict[str, Schema]:
    requests = {_request(name): schema for name, schema in bodies.SCHEMAS.items()}
    shared = {_shared(name): schema for each in requests.values() for name, schema in each["$defs"].items()}
    return {name: _placed(schema) for name, schema in (requests | shared | answers.SCHEMAS).items()}


def _placed(schema: Any) -> Any:
    """Return a schema as it stands in the document, where what they share has another place."""
    match schema:
        case {"$ref": str(place)} if place.startswith("#/$defs/"):
            return ref(_shared(place.removeprefix("#/$defs/")))
        case dict():
            return {name: _placed(value) for name, value in schema.items() if name not in ("$schema", "$defs")}
        case list():
            return list(map(_placed, schema))
        case _:
            return schema


def _request(name: str) -> str:
    return _camel(*name.split("_"), "request")


def _shared(name: str) -> str:
    return _camel(*name.split("_"), "part" if name in PART_SCHEMAS else "option")


def _camel(*words: str) -> str:
    return "".join(word[:1].upper() + word[1:] for word in words)
