"""A conversation as a file, to be read or to be taken in again, and such a file read.

What a file says was answered is shown, and is history to a model, but it proves nothing: its ids are replaced by new
ones, none of its calls waits for a decision, and what only a provider can have written (signatures, blocks of its own)
is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson

from .agent import new_id
from .conversations import ENDING_SCHEMA, Conversation, Node, Run, title_of, tree_to_json
from .errors import RequestError
from .events import Outcome
from .messages import (
    Image,
    Message,
    Opaque,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    is_answerable,
    messages_from_json,
)

# --- written ----------------------------------------------------------------------------------------------------------


def to_file(
    conversation: Conversation, nodes: Sequence[Node], runs: Sequence[Run], format: str
) -> tuple[str, str, bytes]:
    """Return file name, content type and bytes: the branch that is shown as `md`, or the whole tree as `json`."""
    stem = re.sub(r"[^\w-]+", "-", conversation.title).strip("-") or "conversation"
    if format == "md":
        text = _to_markdown(conversation, [*_branch(conversation, nodes)][::-1])
        return f"{stem}.md", "text/markdown; charset=utf-8", text.encode()
    value = tree_to_json(conversation, nodes, runs)
    return f"{stem}.json", "application/json", orjson.dumps(value, option=orjson.OPT_INDENT_2)


def _branch(conversation: Conversation, nodes: Sequence[Node]) -> Iterator[Node]:
    """Yield the messages of the branch that is shown, from the last to the first."""
    known = {node.id: node for node in nodes}
    at = known.get(conversation.leaf_id)
    while at is not None:
        yield at
        at = known.get(at.parent_id)


def _to_markdown(conversation: Conversation, nodes: Sequence[Node]) -> str:
    """Return a branch for people to read: calls and results folded in, reasoning left out."""
    blocks = [f"# {conversation.title or 'Conversation'}"]
    speaker = ""
    for node in nodes:
        heading = "## User" if node.message.role == "user" else "## Assistant"
        if heading != speaker:
            blocks.append(heading)
        speaker = heading
        for part in node.message.parts:
            match part:
                case Image():
                    blocks.append("*(an image)*")
                case Opaque(name=name, result=str(result)) if name:
                    blocks.append(_folded(f"{name} answered", result))
                case Text() if part.text.strip():
                    blocks.append(part.text.strip())
                case ToolCall():
                    blocks.append(_folded(f"{part.name} was called with", part.arguments or "{}"))
                case ToolResult():
                    blocks.append(
                        _folded(f"{part.tool_name} {'failed' if part.is_error else 'answered'}", part.content)
                    )
    return "\n\n".join(blocks) + "\n"


def _folded(summary: str, text: str) -> str:
    # A fence ends at one as long as itself: this is longer than any within.
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"<details><summary>{summary}</summary>\n\n{fence}\n{text}\n{fence}\n\n</details>"


# --- read -------------------------------------------------------------------------------------------------------------


def read_tree(value: dict[str, Any], now: float) -> tuple[Conversation, list[Node], list[Run]]:
    """Return what a file tells, whose shape was checked, as a new conversation; nothing in it is later than `now`.

    Raises RequestError, which names the place of what does not fit together: messages come behind their parents.
    """
    messages = _new_ids("messages", "msg", value["messages"])
    runs = _new_ids("runs", "run", value.get("runs", ()))
    nodes = _read_nodes(value["messages"], messages, runs, now)
    said = [node.message for node in nodes.values()]
    conversation = Conversation(
        id=new_id("conv"),
        title=value.get("title", title_of(said[0]) if said else ""),
        created_at=_seconds(value, "", "createdAt", now),
        updated_at=_seconds(value, "", "updatedAt", now),
        leaf_id=_known(messages, value, "", "leafId") or next(reversed(nodes), ""),
        system=value.get("system", ""),
        model=value.get("model", ""),
        is_pinned=value.get("pinned", False),
    )
    return conversation, [*nodes.values()], [*_read_runs(value.get("runs", ()), messages, runs, now)]


def _read_nodes(
    values: Sequence[dict[str, Any]], messages: dict[str, str], runs: dict[str, str], now: float
) -> dict[str, Node]:
    nodes: dict[str, Node] = {}
    for at, (told, message) in enumerate(zip(values, messages_from_json(values), strict=True)):
        where = f"messages[{at}]."
        message = Message(message.role, tuple(_believable(message.parts)))
        parent_id = _known(messages, told, where, "parentId")
        if parent_id and parent_id not in nodes:
            raise RequestError(f"{where}parentId: {told['parentId']!r} is no message before this one, as a parent is")
        # So that whatever is asked behind it is something.
        if not parent_id and not is_answerable([message]):
            raise RequestError(f"{where}content: a first message has to say something; expected a text or an image")
        run_id = _known(runs, told, where, "runId") if message.role != "user" else ""
        earliest = nodes[parent_id].created_at if parent_id else 0.0
        created_at = max(earliest, _seconds(told, where, "createdAt", now))
        node_id = messages[told["id"]]
        nodes[node_id] = Node(node_id, parent_id, message, run_id, created_at)
    return nodes


def _read_runs(
    values: Sequence[dict[str, Any]], messages: dict[str, str], runs: dict[str, str], now: float
) -> Iterator[Run]:
    """Yield runs that have ended, whatever the file says: one that wrote or waited there was interrupted."""
    for at, told in enumerate(values):
        where = f"runs[{at}]."
        next_run_id = _known(runs, told, where, "nextRunId")
        needs = {Outcome.PAUSED: next_run_id, "failed": told.get("error")}
        is_whole = told.get("outcome") and needs.get(told["outcome"], True)
        yield Run(
            id=runs[told["id"]],
            owner="",
            parent_id=_known(messages, told, where, "parentId"),
            message_id=messages.get(told.get("messageId") or "") or new_id("msg"),
            model=told.get("model", ""),
            created_at=_seconds(told, where, "createdAt", now),
            ended_at=_seconds(told, where, "endedAt", now),
            outcome=told["outcome"] if is_whole else str(Outcome.INTERRUPTED),
            next_run_id=next_run_id,
            ending={name: told[name] for name in ENDING_SCHEMA if told.get(name) is not None},
        )


def _new_ids(where: str, kind: str, values: Sequence[dict[str, Any]]) -> dict[str, str]:
    ids: dict[str, str] = {}
    for at, told in enumerate(values):
        if told["id"] in ids:
            raise RequestError(f"{where}[{at}].id: {told['id']!r} is the id of another one")
        ids[told["id"]] = new_id(kind)
    return ids


def _known(ids: dict[str, str], told: dict[str, Any], where: str, name: str) -> str:
    """Return the new id of what a member names, "" where it names nothing."""
    old = told.get(name)
    if old and old not in ids:
        raise RequestError(f"{where}{name}: there is no {old!r} in this conversation")
    return ids[old] if old else ""


def _seconds(told: dict[str, Any], where: str, name: str, now: float) -> float:
    """Return a time in seconds, `now` where none is told or it has yet to come."""
    try:
        time = datetime.fromisoformat(told.get(name) or "9999-12-31")
    except ValueError:
        raise RequestError(f"{where}{name}: {told[name]!r} is no time, such as '2026-11-22T15:04:05.123Z'") from None
    return min(max((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp(), 0.0), now)


def _believable(parts: Sequence[Part]) -> Iterator[Part]:
    """Yield what can be believed of parts that anybody may have written."""
    for part in parts:
        match part:
            case Text() | ToolCall():
                yield replace(part, extra={}, origin="")
            case Reasoning(text=text) if text:
                yield Reasoning(text)
            case Opaque(name=name) if name:  # what a tool of the provider's own did can still be shown
                yield replace(part, origin="", data={})
            case Image() | ToolResult():
                yield part
