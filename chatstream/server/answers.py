"""What is answered: the JSON Schemas of the answers and of the native frames, for the document that tells of them.

They are closed, so that a test that holds real answers against them finds whatever is not told here. The functions that
make the answers are `conversations.*_to_json`, `Runs.stop`, the `to_json` of models and tools, and `wires/native.py`.
"""

from __future__ import annotations

from typing import Any

from ..conversations import ENDING_SCHEMA, TIMING_SCHEMA, USAGE_SCHEMA
from ..deltas import FinishReason
from ..errors import CODES
from ..events import Outcome
from ..messages import MESSAGE_SCHEMA
from .bodies import object_schema

RUN, CONVERSATION, CONVERSATIONS, TREE = "Run", "Conversation", "ConversationList", "ConversationTree"
ACCEPTED, DECIDED, RECEIPT, MODELS, TOOLS, STATE = (
    "Accepted",
    "Decided",
    "StopReceipt",
    "ModelList",
    "ToolList",
    "State",
)
TANSTACK_THREAD = "TanStackThread"
COMPLETION, OPENAI_MODEL, OPENAI_MODELS = "ChatCompletion", "OpenAiModel", "OpenAiModelList"
FRAME, ERROR, OPENAI_ERROR = "NativeFrame", "Error", "OpenAiError"
Schema = dict[str, Any]

_TEXT, _BOOLEAN, _COUNT = {"type": "string"}, {"type": "boolean"}, {"type": "integer", "minimum": 0}
_TIME = {"type": "string", "format": "date-time"}
_OBJECT: Schema = {"type": "object"}
_ANY: Schema = {}


def _object(required: Schema, **optional: Any) -> Schema:
    return object_schema(required | optional, *required)


def ref(name: str) -> Schema:
    """Return the reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def _list(item: Schema) -> Schema:
    return {"type": "array", "items": item}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _texts(*names: str) -> Schema:
    return dict.fromkeys(names, _TEXT)


def _frame(kind: str, required: Schema, **optional: Any) -> Schema:
    return _object({"type": {"const": kind}} | required, **optional)


_OUTCOMES = [each.value for each in Outcome]
_FINISH_REASON = {"enum": [each.value for each in FinishReason]}
_CODE = {"enum": list(CODES)}
_CALL = _texts("toolCallId", "toolName")
_WANTS = {"enum": ["decision", "result"]}
_PROBLEM = _texts("message") | {"code": _CODE, "retryable": _BOOLEAN}
_NOTICE = _texts("code", "message")
_NODE = _texts("id") | {"parentId": _or_null(_TEXT), "runId": _or_null(_TEXT), "createdAt": _TIME}
_LISTED = _texts("id", "title") | {
    "createdAt": _TIME,
    "updatedAt": _TIME,
    "leafId": _or_null(_TEXT),
    "isRunning": _BOOLEAN,
    "system": _TEXT,
    "model": _TEXT,
    "pinned": _BOOLEAN,
}
_RUN = _texts("id", "messageId", "model") | {
    "conversationId": _or_null(_TEXT),
    "parentId": _or_null(_TEXT),
    "turnId": _or_null(_TEXT),
    "state": {"enum": ["running", "ended"]},
    "outcome": _or_null({"enum": [*_OUTCOMES, "failed"]}),
    **ENDING_SCHEMA,
    "approvals": _list(ref("Approval")),
    "nextRunId": _or_null(_TEXT),
    "createdAt": _TIME,
    "endedAt": _or_null(_TIME),
}
_RECEIPT = {
    "stopped": _BOOLEAN,
    "outcome": {"enum": [*_OUTCOMES, "failed"]},
    "upstreamClosedMs": {"type": ["number", "null"]},
    "usage": {"anyOf": [ref("Usage"), {"type": "object", "maxProperties": 0}]},
    "estimated": _BOOLEAN,
}
_ABILITIES = ("isDemo", "available", "tools", "images", "reasoning")
_MODEL = _texts("id", "provider", "name", "label") | dict.fromkeys(_ABILITIES, _BOOLEAN)
_TOOL = _texts("name", "description") | {
    "parameters": _OBJECT,
    "readOnly": _BOOLEAN,
    "approval": {"enum": ["never", "always", "depends"]},
}
_MESSAGES = _list(ref("Message"))
_BY_PROVIDER = {"const": True}
_FRAMES = [
    _frame("start", _texts("runId", "messageId", "model"), conversationId=_TEXT, parentId=_TEXT),
    _frame("reasoning", _texts("content")),
    _frame("text", _texts("content")),
    _frame("tool_start", _CALL, providerExecuted=_BY_PROVIDER),
    _frame("tool_input", _texts("toolCallId", "delta")),
    _frame("tool_call", _CALL | {"input": {"type": ["object", "string"]}}, providerExecuted=_BY_PROVIDER),
    _frame("approval", _CALL | {"input": _OBJECT, "wants": _WANTS}),
    _frame("tool_progress", _texts("toolCallId", "content")),
    _frame(
        "tool_result",
        _CALL | {"result": _TEXT, "isError": _BOOLEAN},
        durationMs=_COUNT,
        providerExecuted=_BY_PROVIDER,
        input=_OBJECT,
    ),
    _frame("citations", {"citations": _list(_object(_texts("url"), title=_TEXT, text=_TEXT))}),
    _frame("turn", {"finishReason": _FINISH_REASON, "usage": ref("Usage")}, timing=ref("Timing")),
    _frame("notice", _NOTICE, lasting=_BOOLEAN),
    _frame("resync", {"messages": _MESSAGES}),
    _frame(
        "error",
        _PROBLEM | {"requestId": _TEXT, "usage": ref("Usage"), "messages": _MESSAGES},
        details=_OBJECT,
        timing=ref("Timing"),
    ),
    # Of several runs in one stream, one that cannot be followed: with the status that it would have had by itself.
    _frame("error", _PROBLEM | {"requestId": _TEXT, "status": _COUNT}),
    _frame(
        "done",
        {"outcome": {"enum": _OUTCOMES}, "finishReason": _FINISH_REASON, "usage": ref("Usage"), "messages": _MESSAGES},
        timing=ref("Timing"),
    ),
]
_OPENAI_MODEL = _object(_texts("id", "owned_by", "name") | {"object": {"const": "model"}, "created": _COUNT})
_OPENAI_CALL = _object({"id": _TEXT, "type": {"const": "function"}, "function": _object(_texts("name", "arguments"))})
_CITED = _object(_texts("url", "title") | {"start_index": _COUNT, "end_index": _COUNT})
_COMPLETED = _object(
    {"role": {"const": "assistant"}, "content": _or_null(_TEXT), "refusal": {"type": "null"}},
    reasoning_content=_TEXT,
    tool_calls=_list(_OPENAI_CALL),
    annotations=_list(_object({"type": {"const": "url_citation"}, "url_citation": _CITED})),
)
_CHOICE = _object(
    {"index": {"const": 0}, "message": _COMPLETED, "logprobs": {"type": "null"}}
    | {"finish_reason": {"enum": ["stop", "length", "tool_calls", "content_filter"]}}
)
_OPENAI_USAGE = _object(
    dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), _COUNT)
    | {"prompt_tokens_details": _object({"cached_tokens": _COUNT})}
    | {"completion_tokens_details": _object({"reasoning_tokens": _COUNT})},
    estimated={"const": True},
)
# By the names that they have in the document; parts of messages are `#/$defs/...`, as in the requests.
SCHEMAS: dict[str, Schema] = {
    "Message": MESSAGE_SCHEMA,
    "Usage": USAGE_SCHEMA,
    "Timing": TIMING_SCHEMA,
    "Approval": _object(
        _CALL
        | {"input": _OBJECT, "wants": _WANTS, "expiresAt": _TIME}
        | {"decision": _or_null({"enum": ["approve", "deny", "result"]})}
    ),
    RUN: _object(_RUN),
    CONVERSATION: _object(_LISTED, snippet=_TEXT),
    CONVERSATIONS: _object({"conversations": _list(ref(CONVERSATION)), "next": _or_null(_TEXT)}),
    TREE: _object(_LISTED | {"messages": _list(ref("Node")), "runs": _list(ref(RUN))}),
    "Node": _object(_NODE | MESSAGE_SCHEMA["properties"]) | {"allOf": MESSAGE_SCHEMA["allOf"]},
    ACCEPTED: _object(_texts("runId", "conversationId", "messageId") | {"parentId": _or_null(_TEXT)}),
    DECIDED: _object({"runId": _or_null(_TEXT), "approvals": _list(ref("Approval"))}),
    RECEIPT: _object(_RECEIPT),
    MODELS: _object({"default": _TEXT, "models": _list(_object(_MODEL, reason=_TEXT)), "imageHosts": _list(_TEXT)}),
    TOOLS: _object({"tools": _list(_object(_TOOL))}),
    # Of the wire of TanStack AI, as its client reads it (`fetchThreadHydration` of @tanstack/ai-client).
    TANSTACK_THREAD: _object(
        {
            "messages": _list(_OBJECT),
            "activeRun": _or_null(_object(_texts("runId"))),
            "interrupts": _or_null(_object(_texts("runId") | {"pending": _list(_OBJECT)})),
        }
    ),
    COMPLETION: _object(
        _texts("id", "model")
        | {"object": {"const": "chat.completion"}, "created": _COUNT}
        | {"choices": _list(_CHOICE), "usage": _OPENAI_USAGE}
    ),
    OPENAI_MODEL: _OPENAI_MODEL,
    OPENAI_MODELS: _object({"object": {"const": "list"}, "data": _list(_OPENAI_MODEL)}),
    STATE: _object({"status": {"enum": ["ok", "starting", "ready", "stopping"]}}),
    FRAME: {"oneOf": _FRAMES},
    ERROR: _object({"error": _object(_texts("message", "requestId") | {"code": _CODE}, details=_OBJECT)}),
    # https://platform.openai.com/docs/guides/error-codes/api-errors: clients read no more than these.
    OPENAI_ERROR: {
        "type": "object",
        "properties": {
            "error": {
                "type": "object",
                "properties": _texts("message", "type") | {"param": _or_null(_TEXT), "code": _or_null(_TEXT)},
                "required": ["message", "type"],
            }
        },
        "required": ["error"],
    },
}
