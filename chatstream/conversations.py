"""What is kept of conversations, as values and as JSON for clients.

A conversation is a tree of messages and the runs that wrote them. The times are seconds since 1970, in JSON they are
ISO 8601 with milliseconds.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

from .deltas import FinishReason
from .errors import CODES
from .messages import Message, Text, ToolResult, message_to_json

EXPIRED = "Nobody decided on this call in time, so it was not run."
DENIED = "The user denied this call."
_TITLE = 60  # characters of a title that is taken from a message
# A text file that was attached is a part of its own: this, its lines, `</file>`.
_FILE = re.compile(r'<file name="([^"\n]+)"')


@dataclass(frozen=True, slots=True)
class Conversation:
    """`leaf_id` is the last message of the branch that is shown, empty while there is no message.

    `system` is asked with besides what the operator says; `model` is empty for the default one.
    """

    id: str
    title: str
    created_at: float
    updated_at: float
    leaf_id: str = ""
    is_running: bool = False
    system: str = ""
    model: str = ""
    is_pinned: bool = False
    snippet: str = ""


@dataclass(frozen=True, slots=True)
class Node:
    """A message in its tree: `parent_id` is empty for a first one, `run_id` for a user's."""

    id: str
    parent_id: str
    message: Message
    run_id: str
    created_at: float


@dataclass(frozen=True, slots=True)
class Decision:
    """`text` is the reason of a denial, or the result of a call that the caller ran."""

    call_id: str
    kind: Literal["approve", "deny", "result"]
    text: str = ""
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class Approval:
    """A call that waits for a decision, or `by_caller` for its result."""

    call_id: str
    name: str
    input: dict[str, Any]
    by_caller: bool
    expires_at: float
    decision: Decision | None = None

    @property
    def result(self) -> ToolResult | None:
        """What the call is answered without being run; None where it was approved, or nothing is decided."""
        match self.decision:
            case Decision(kind="deny", text=text):
                told = text if text == EXPIRED else f"{DENIED} {text}".strip()
                return ToolResult(self.call_id, self.name, told, is_error=True)
            case Decision(kind="result", text=text, is_error=is_error):
                return ToolResult(self.call_id, self.name, text, is_error)
            case _:
                return None


@dataclass(frozen=True, slots=True)
class Caller:
    """How a caller that keeps its conversation names it, and this turn of it, where it names them at all.

    The same `turn_id` in the same thread is the same run as long as that is in one of the states `again` ("" while it
    runs), and has to have the same `digest`. A run that nobody watches is stopped after `unwatched` seconds, None for
    as many as are usual.
    """

    thread_id: str = ""
    turn_id: str = ""
    digest: str = ""
    again: frozenset[str] = frozenset()
    unwatched: float | None = None


NOBODY = Caller()  # who names nothing


@dataclass(frozen=True, slots=True)
class Run:
    """A run that answers message `parent_id` with `message_id`, f"{message_id}_2" and so on.

    `conversation_id` is empty for a stateless one, which may have a `thread_id` by which its caller knows it; `outcome`
    is empty while it runs, `digest` is that of the request that began it. `request` is what is needed to go on after a
    pause and to tell the run again, `ending` holds finishReason, usage, error and notices as they go to the client, and
    whether anybody watched it end.
    """

    id: str
    owner: str
    conversation_id: str = ""
    parent_id: str = ""
    message_id: str = ""
    turn_id: str = ""
    model: str = ""
    process: str = ""
    created_at: float = 0.0
    ended_at: float = 0.0
    outcome: str = ""
    next_run_id: str = ""
    thread_id: str = ""
    digest: str = ""
    request: dict[str, Any] = field(default_factory=dict)
    ending: dict[str, Any] = field(default_factory=dict)
    approvals: tuple[Approval, ...] = ()


def digest(body: Any) -> str:
    """Return what tells one request from another."""
    return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()


def title_of(message: Message) -> str:
    """Return the first line that a message says, cut at a word where it is long, or the name of a file with it."""
    texts = [part.text for part in message.parts if isinstance(part, Text)]
    files = [found[1] for text in texts if (found := _FILE.match(text))]
    lines = "".join(text for text in texts if not _FILE.match(text)).splitlines()
    line = " ".join(next((line for line in [*lines, *files] if line.strip()), "").split())
    if len(line) <= _TITLE:
        return line
    head = line[:_TITLE].rpartition(" ")[0]
    return (head if len(head) > _TITLE // 2 else line[: _TITLE - 1]) + "\N{HORIZONTAL ELLIPSIS}"


# --- JSON -------------------------------------------------------------------------------------------------------------


def conversation_to_json(conversation: Conversation) -> dict[str, Any]:
    who = {"id": conversation.id, "title": conversation.title}
    when = {"createdAt": _time(conversation.created_at), "updatedAt": _time(conversation.updated_at)}
    state = {"leafId": conversation.leaf_id or None, "isRunning": conversation.is_running}
    settings = {"system": conversation.system, "model": conversation.model, "pinned": conversation.is_pinned}
    return who | when | state | settings | ({"snippet": conversation.snippet} if conversation.snippet else {})


def node_to_json(node: Node) -> dict[str, Any]:
    value = {"id": node.id, "parentId": node.parent_id or None, **message_to_json(node.message)}
    return value | {"runId": node.run_id or None, "createdAt": _time(node.created_at)}


def approval_to_json(approval: Approval) -> dict[str, Any]:
    call = {"toolCallId": approval.call_id, "toolName": approval.name, "input": approval.input}
    wanted = {"wants": "result" if approval.by_caller else "decision", "expiresAt": _time(approval.expires_at)}
    return call | wanted | {"decision": approval.decision.kind if approval.decision else None}


_COUNT = {"type": "integer", "minimum": 0}
_COUNTED = ("inputTokens", "outputTokens", "cachedTokens", "reasoningTokens")
_TEXT = {"type": "string"}
USAGE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": dict.fromkeys((*_COUNTED, "providerToolCalls"), _COUNT) | {"estimated": {"const": True}},
    "required": list(_COUNTED),
    "additionalProperties": False,
}
_TIMES = ("firstTokenMs", "durationMs", "generationMs")
TIMING_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": dict.fromkeys(_TIMES, _COUNT) | {"firstTokenMs": _COUNT | {"type": ["integer", "null"]}},
    "required": list(_TIMES),
    "additionalProperties": False,
}
_ERROR = {"code": {"enum": list(CODES)}, "message": _TEXT, "retryable": {"type": "boolean"}}
_NOTICE = {"code": _TEXT, "message": _TEXT}
# How a run ended, as its JSON has it and its `ending` keeps it.
ENDING_SCHEMA: dict[str, dict[str, Any]] = {
    "finishReason": {"enum": [*map(str, FinishReason), None]},
    "usage": USAGE_SCHEMA | {"type": ["object", "null"]},
    "error": {
        "type": ["object", "null"],
        "properties": _ERROR | {"details": {"type": "object"}},
        "required": list(_ERROR),
        "additionalProperties": False,
    },
    "notices": {
        "type": "array",
        "items": {
            "type": "object",
            "properties": _NOTICE | {"lasting": {"type": "boolean"}},
            "required": list(_NOTICE),
            "additionalProperties": False,
        },
    },
    "timing": TIMING_SCHEMA | {"type": ["object", "null"]},
    "toolDurations": {"type": "object", "additionalProperties": _COUNT},
}


def run_to_json(run: Run) -> dict[str, Any]:
    ids = {"conversationId": run.conversation_id, "parentId": run.parent_id, "turnId": run.turn_id}
    state = {"state": "ended" if run.outcome else "running", "outcome": run.outcome or None}
    return {
        **{"id": run.id, "messageId": run.message_id, "model": run.model},
        **{name: value or None for name, value in ids.items()},
        **state,
        **{name: run.ending.get(name) for name in ("finishReason", "usage", "timing", "error")},
        "notices": run.ending.get("notices", []),
        "toolDurations": run.ending.get("toolDurations", {}),
        **{"approvals": [approval_to_json(each) for each in run.approvals], "nextRunId": run.next_run_id or None},
        **{"createdAt": _time(run.created_at), "endedAt": _time(run.ended_at) if run.ended_at else None},
    }


def tree_to_json(conversation: Conversation, nodes: Sequence[Node], runs: Sequence[Run]) -> dict[str, Any]:
    """Return the JSON of a whole conversation."""
    members = {"messages": [node_to_json(node) for node in nodes], "runs": [run_to_json(run) for run in runs]}
    return conversation_to_json(conversation) | members


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
