"""Conversations, the runs that write them, and what waits for a decision: tables in the one `Database`.

A conversation is a tree of messages that only grows. A node never changes; an edit is a sibling of the message that it
edits, another answer a sibling of the answer, and `leaf_id` says which branch is shown. `begin` adds a user's message
and the run that answers it, `end` what the run added, a chain with ids that are known from its start.

Each method is one transaction and durable when it returns. Whoever asks is an `owner`: what belongs to another does not
exist for them. The times are seconds of `clock`.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar

import orjson

from .agent import new_id
from .conversations import (
    EXPIRED,
    NOBODY,
    Approval,
    Caller,
    Conversation,
    Decision,
    Node,
    Run,
    conversation_to_markdown,
    tree_to_json,
)
from .database import Database, Schema
from .errors import Conflict, NotFound, RequestError
from .messages import NOT_RUN, Message, ToolResult, message_to_json, messages_from_json

Db = sqlite3.Connection
P = ParamSpec("P")
T = TypeVar("T")

_TITLE = 60  # characters of a title that is taken from a message
_WORDS = 32  # of a search; the others are left out
_MERGE = 16  # pages of the index that are merged in one step
_SPACE = "\N{ZERO WIDTH SPACE}"
# Thai, Lao, Burmese, Khmer, kana, Chinese characters and emoji.
_ALONE = "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uf900-\ufaff\U0001f000-\U0001faff\U00020000-\U0003ffff]"
_EDGES = re.compile(f"(?={_ALONE})|(?<={_ALONE})")

_TABLES = """
CREATE TABLE conversations (
    id TEXT NOT NULL PRIMARY KEY, owner TEXT NOT NULL, title TEXT NOT NULL, leaf_id TEXT NOT NULL DEFAULT '',
    created_at REAL NOT NULL, updated_at REAL NOT NULL
) STRICT;
CREATE INDEX conversations_newest ON conversations (owner, updated_at, id);

CREATE TABLE messages (
    number INTEGER PRIMARY KEY,   -- in the order of creation: a parent before its children
    id TEXT NOT NULL UNIQUE,
    conversation_id TEXT NOT NULL REFERENCES conversations ON DELETE CASCADE,
    parent_id TEXT NOT NULL,      -- '' for a first message
    run_id TEXT NOT NULL,         -- '' for a user's
    created_at REAL NOT NULL, role TEXT NOT NULL,
    content TEXT NOT NULL         -- JSON
) STRICT;
CREATE INDEX messages_of ON messages (conversation_id);

CREATE TABLE runs (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL,
    conversation_id TEXT REFERENCES conversations ON DELETE CASCADE,
    parent_id TEXT NOT NULL, message_id TEXT NOT NULL, turn_id TEXT,
    digest TEXT NOT NULL,         -- of the request that began it
    model TEXT NOT NULL, process TEXT NOT NULL, created_at REAL NOT NULL, ended_at REAL NOT NULL DEFAULT 0,
    outcome TEXT NOT NULL DEFAULT '', next_run_id TEXT NOT NULL DEFAULT '',
    request TEXT NOT NULL, ending TEXT NOT NULL DEFAULT '{}', approvals TEXT NOT NULL DEFAULT '[]',  -- JSON
    waits_until REAL,             -- when the first of the open approvals expires
    logged_since REAL             -- when it ended, for as long as its log is kept
) STRICT;
CREATE UNIQUE INDEX runs_of ON runs (conversation_id, turn_id);
CREATE INDEX runs_running ON runs (conversation_id, parent_id) WHERE outcome = '';
CREATE INDEX runs_waiting ON runs (waits_until) WHERE waits_until IS NOT NULL;
CREATE INDEX runs_logged ON runs (logged_since) WHERE logged_since IS NOT NULL;

CREATE TABLE texts (              -- what is searched: titles, and what messages say
    number INTEGER PRIMARY KEY,
    conversation_id TEXT NOT NULL REFERENCES conversations ON DELETE CASCADE,
    is_title INTEGER NOT NULL, text TEXT NOT NULL
) STRICT;
CREATE INDEX texts_of ON texts (conversation_id);
CREATE VIRTUAL TABLE search USING fts5 (
    text, content = texts, content_rowid = number, columnsize = 0, prefix = '1 2'
);
CREATE TRIGGER texts_added AFTER INSERT ON texts BEGIN
    INSERT INTO search (rowid, text) VALUES (new.number, new.text);
END;
CREATE TRIGGER texts_deleted AFTER DELETE ON texts BEGIN
    INSERT INTO search (search, rowid, text) VALUES ('delete', old.number, old.text);
END;
"""
_THREADS = """
ALTER TABLE runs ADD COLUMN thread_id TEXT NOT NULL DEFAULT '';  -- of a caller that keeps the conversation itself
ALTER TABLE runs ADD COLUMN watched_until REAL NOT NULL DEFAULT 0;  -- through a process that does not write it
ALTER TABLE runs ADD COLUMN stop_wanted INTEGER NOT NULL DEFAULT 0; -- by one of those
CREATE INDEX runs_of_thread ON runs (thread_id) WHERE thread_id <> '';
CREATE INDEX runs_of_turn ON runs (turn_id) WHERE thread_id <> '';
"""
SCHEMA = Schema("conversations", [_TABLES, _THREADS])

_CONVERSATION = """SELECT id, title, created_at, updated_at, leaf_id,
    EXISTS (SELECT 1 FROM runs WHERE conversation_id = conversations.id AND outcome = '') FROM conversations"""
_NODE = "SELECT id, parent_id, run_id, created_at, role, content FROM messages"
_NODES = f"{_NODE} WHERE conversation_id = ? ORDER BY number"
_OF = "conversation_id = ?"
_RUN = """SELECT id, owner, ifnull(conversation_id, ''), parent_id, message_id, ifnull(turn_id, ''), model, process,
    created_at, ended_at, outcome, next_run_id, thread_id, digest, request, ending, approvals FROM runs"""
_PATH = f"""WITH RECURSIVE path (number, parent_id) AS (
        SELECT number, parent_id FROM messages WHERE id = ? AND conversation_id = ?
        UNION ALL
        SELECT messages.number, messages.parent_id FROM path JOIN messages ON messages.id = path.parent_id
    ) {_NODE} WHERE number IN (SELECT number FROM path) ORDER BY number"""
# From the newest match on, so that it can end after as many as are wanted, however common the words are.
_MATCHES = """SELECT texts.conversation_id, search.rowid FROM search
    CROSS JOIN texts ON texts.number = search.rowid
    CROSS JOIN conversations ON conversations.id = texts.conversation_id
    WHERE search MATCH ? AND conversations.owner = ? ORDER BY search.rowid DESC"""
_SNIPPETS = """SELECT rowid, snippet(search, 0, '', '', ?, 16) FROM search
    WHERE search MATCH ? AND rowid BETWEEN ? AND ? AND +rowid IN (SELECT value FROM json_each(?))"""


# What `Store.list` hides from the annotations behind it.
Conversations = list[Conversation]
Nodes = list[Node]
Runs = list[Run]
Ids = list[str]


def _reads(method: Callable[Concatenate[Store, Db, P], T]) -> Callable[Concatenate[Store, P], Awaitable[T]]:
    """Make of what is done with a connection a method that reads."""

    def call(store: Store, /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        return store.database.read(lambda db: method(store, db, *args, **kwargs))

    return call


def _writes(method: Callable[Concatenate[Store, Db, P], T]) -> Callable[Concatenate[Store, P], Awaitable[T]]:
    """Make of what is done with a connection a method that writes, all of it or nothing."""

    def call(store: Store, /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        return store.database.write(lambda db: method(store, db, *args, **kwargs))

    return call


class Store:
    """Everything that is kept but the events. Open `database` with `SCHEMA` first."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self.database = database
        self.clock = clock

    # --- conversations ------------------------------------------------------------------------------------------------

    @_writes
    def create(self, db: Db, owner: str, title: str = "") -> Conversation:
        now = self.clock()
        conversation = Conversation(new_id("conv"), "", now, now)
        sql = "INSERT INTO conversations (id, owner, title, created_at, updated_at) VALUES (?, ?, '', ?, ?)"
        db.execute(sql, (conversation.id, owner, now, now))
        return _entitle(db, conversation, title)

    @_reads
    def list(self, db: Db, owner: str, limit: int = 50, before: str = "") -> tuple[Conversations, str]:
        """Return the conversations that changed last before the cursor, and the cursor of those behind them or ""."""
        changed, _, last = before.partition("_") if before else ("inf", "", "")
        try:
            key = float(changed), last
        except ValueError:
            raise RequestError(f"before: {before!r} is not a cursor that a list of conversations gave") from None
        where = "owner = ? AND (updated_at, id) < (?, ?) ORDER BY updated_at DESC, id DESC LIMIT ?"
        found = _conversations(db, where, owner, *key, limit + 1)
        cursor = f"{found[limit - 1].updated_at!r}_{found[limit - 1].id}" if len(found) > limit else ""
        return found[:limit], cursor

    @_reads
    def search(self, db: Db, owner: str, words: str, limit: int = 50) -> Conversations:
        """Return the conversations in which one text holds all the words, the last of them perhaps just begun."""
        query = _query(words)
        newest: dict[str, int] = {}
        for conversation_id, number in db.execute(_MATCHES, (query, owner)):
            newest.setdefault(conversation_id, number)
            if len(newest) == limit:
                break
        numbers = list(newest.values()) or [0]
        places = min(numbers), max(numbers), _dumps(numbers)
        snippets = dict(db.execute(_SNIPPETS, ("\N{HORIZONTAL ELLIPSIS}", query, *places)))
        which = "id IN (SELECT value FROM json_each(?)) ORDER BY updated_at DESC"
        found = _conversations(db, which, _dumps(list(newest)))
        return [replace(each, snippet=_plain(snippets.get(newest[each.id], ""))) for each in found]

    @_reads
    def get(self, db: Db, owner: str, conversation_id: str) -> Conversation:
        return _conversation(db, owner, conversation_id)

    @_writes
    def rename(self, db: Db, owner: str, conversation_id: str, title: str) -> Conversation:
        return _entitle(db, _conversation(db, owner, conversation_id), title)

    @_writes
    def select(self, db: Db, owner: str, conversation_id: str, leaf_id: str) -> Conversation:
        """Show the branch that ends with this message."""
        conversation = _conversation(db, owner, conversation_id)
        _check_message(db, conversation_id, leaf_id)
        db.execute("UPDATE conversations SET leaf_id = ? WHERE id = ?", (leaf_id, conversation_id))
        return replace(conversation, leaf_id=leaf_id)

    @_reads
    def nodes(self, db: Db, owner: str, conversation_id: str) -> Nodes:
        """Return all messages, in the order of their creation."""
        _conversation(db, owner, conversation_id)
        return _nodes(db, _NODES, conversation_id)

    @_reads
    def path(self, db: Db, conversation_id: str, leaf_id: str) -> Nodes:
        """Return the branch that ends with this message, from its first one on."""
        return _nodes(db, _PATH, leaf_id, conversation_id)

    @_reads
    def tree(self, db: Db, owner: str, conversation_id: str) -> tuple[Conversation, Nodes, Runs]:
        """Return all of a conversation as it was at one moment."""
        db.execute("SAVEPOINT moment")
        try:
            conversation = _conversation(db, owner, conversation_id)
            return conversation, _nodes(db, _NODES, conversation_id), _runs(db, _OF, conversation_id)
        finally:
            db.execute("RELEASE moment")

    async def delete(self, owner: str, conversation_id: str) -> Ids:
        """Delete it so that no file holds a word of it any more; returns the ids of its runs, whose logs are left."""

        def delete(db: Db) -> Ids:
            _conversation(db, owner, conversation_id)
            run_ids = [run.id for run in _runs(db, _OF, conversation_id)]
            db.execute("DELETE FROM conversations WHERE id = ?", (conversation_id,))
            return run_ids

        def merge(db: Db, pages: int) -> bool:
            before = db.total_changes
            db.execute("INSERT INTO search (search, rank) VALUES ('merge', ?)", (pages,))
            return db.total_changes - before > 1

        run_ids = await self.database.write(delete)
        # The index keeps what was deleted until its segments are merged, which is done in steps that let others write
        # between them: the first says "all into one" (https://sqlite.org/fts5.html#the_merge_command).
        pages = -_MERGE
        while await self.database.write(partial(merge, pages=pages)):
            pages = _MERGE
        await self.database.checkpoint()
        return run_ids

    # --- runs ---------------------------------------------------------------------------------------------------------

    @_reads
    def runs(self, db: Db, owner: str, conversation_id: str) -> Runs:
        _conversation(db, owner, conversation_id)
        return _runs(db, _OF, conversation_id)

    @_reads
    def run(self, db: Db, owner: str, run_id: str) -> Run:
        return _run(db, owner, run_id)

    @_reads
    def turn(self, db: Db, owner: str, conversation_id: str, turn_id: str, digest: str) -> Run | None:
        """Return the run that this turn began before; raises Conflict where that had another body."""
        return _known_turn(db, owner, conversation_id, turn_id, digest)

    @_writes
    def begin(
        self, db: Db, run: Run, digest: str, message: Message | None, user_message_id: str, parent_id: str | None
    ) -> tuple[Run, bool]:
        """Add a user's message behind `parent_id` and the run that answers it, or without one a run that answers that.

        None stands for the end of the branch that is shown, "" for no parent. Returns the run and whether it is new:
        the same turn is begun once.
        """
        conversation = _conversation(db, run.owner, run.conversation_id)
        if known := _known_turn(db, run.owner, conversation.id, run.turn_id, digest):
            return known, False
        parent_id = conversation.leaf_id if parent_id is None else parent_id
        if parent_id:
            _check_message(db, conversation.id, parent_id)
        elif message is None:
            raise RequestError("parentId: there is nothing to answer; expected a message, or the id of one")
        for running in _runs(db, "(conversation_id, parent_id) = (?, ?) AND outcome = ''", conversation.id, parent_id):
            raise Conflict("An answer to that message is being written; wait for it or stop it.", runId=running.id)
        if message is not None:
            if not conversation.title:
                _entitle(db, conversation, _title(message.text))
            _add_node(db, conversation.id, Node(user_message_id, parent_id, message, "", run.created_at))
            parent_id = user_message_id
        _add_run(db, replace(run, parent_id=parent_id, digest=digest))
        sql = "UPDATE conversations SET leaf_id = ?, updated_at = ? WHERE id = ?"
        db.execute(sql, (parent_id, run.created_at, conversation.id))
        return _run(db, run.owner, run.id), True

    @_reads
    def asked(self, db: Db, owner: str, caller: Caller) -> Run | None:
        """Return the run that this turn of a caller's began before; raises Conflict where that had another body."""
        return _asked(db, owner, caller)

    @_reads
    def newest(self, db: Db, owner: str, *, thread_id: str = "", turn_id: str = "") -> Run | None:
        """Return the newest run of a thread, of a turn, or of a turn in a thread: of a caller's that names them."""
        return _newest(db, owner, thread_id, turn_id)

    @_reads
    def unfinished(self, db: Db, owner: str, thread_id: str) -> Runs:
        """Return the runs of a thread that have not ended."""
        return _runs(db, "thread_id <> '' AND (owner, thread_id, outcome) = (?, ?, '')", owner, thread_id)

    @_writes
    def start(self, db: Db, run: Run, caller: Caller = NOBODY) -> tuple[Run, bool]:
        """Add a run whose conversation the caller keeps; returns the run, and whether it is new."""
        if known := _asked(db, run.owner, caller):
            return known, False
        _add_run(db, run)
        return run, True

    @_writes
    def end(
        self,
        db: Db,
        run_id: str,
        outcome: str,
        ending: dict[str, Any],
        messages: Sequence[Message],
        approvals: Sequence[Approval] = (),
        request: dict[str, Any] | None = None,
    ) -> None:
        """Note how a run ended and what it added; changes nothing where it has ended, or is gone, already."""
        now = self.clock()
        for run in _runs(db, "id = ? AND outcome = ''", run_id):
            db.execute(
                "UPDATE runs SET outcome = ?, ending = ?, request = ?, ended_at = ?, logged_since = ? WHERE id = ?",
                (outcome, _dumps(ending), _dumps(run.request if request is None else request), now, now, run_id),
            )
            _set_approvals(db, run_id, approvals)
            _add_messages(db, run, messages, now)

    @_writes
    def decide(
        self, db: Db, owner: str, run_id: str, decisions: Sequence[Decision], following: Run, now: float
    ) -> tuple[Run, str, bool]:
        """Note decisions, and with the last of them add the run that goes on behind this one.

        Returns the run, the id of the run that goes on or "", and whether it was added by this very call.
        """
        run = _run(db, owner, run_id)
        approvals = {approval.call_id: approval for approval in run.approvals}
        fresh = [decision for decision in decisions if _is_fresh(approvals, decision, run_id, now)]
        approvals |= {each.call_id: replace(approvals[each.call_id], decision=each) for each in fresh}
        _set_approvals(db, run_id, list(approvals.values()))
        goes_on = bool(fresh) and all(approval.decision for approval in approvals.values())
        if goes_on:
            _add_run(db, replace(following, parent_id=_last_message(db, run)[0]))
            db.execute("UPDATE runs SET next_run_id = ? WHERE id = ?", (following.id, run_id))
        run = _run(db, owner, run_id)
        return run, run.next_run_id, goes_on

    @_writes
    def expire_approvals(self, db: Db, now: float) -> int:
        """Deny what nobody decided in time, and answer the calls of a run that thereby cannot go on."""
        count = 0
        for run in _runs(db, "waits_until <= ?", now):
            late = [each for each in run.approvals if each.decision is None and each.expires_at <= now]
            denied = {each.call_id: replace(each, decision=Decision(each.call_id, "deny", EXPIRED)) for each in late}
            approvals = [denied.get(each.call_id, each) for each in run.approvals]
            _set_approvals(db, run.id, approvals)
            if all(approval.decision for approval in approvals):
                not_run = (ToolResult(each.call_id, each.name, NOT_RUN, is_error=True) for each in approvals)
                results = (each.result or other for each, other in zip(approvals, not_run, strict=True))
                _add_messages(db, run, [Message("tool", tuple(results))], now)
            count += len(late)
        return count

    @_reads
    def running(self, db: Db) -> Runs:
        """Return every run that has not ended, whoever owns it."""
        return _runs(db, "outcome = ''")

    @_writes
    def claim(self, db: Db, run: Run, process: str) -> bool:
        """Take a run over from the process that it had; False where another was quicker, or it has ended."""
        sql = "UPDATE runs SET process = ? WHERE id = ? AND process = ? AND outcome = ''"
        return db.execute(sql, (process, run.id, run.process)).rowcount == 1

    @_writes
    def watch(self, db: Db, run_id: str, until: float) -> None:
        """Note that somebody watches a run until then, for the process that writes it."""
        db.execute("UPDATE runs SET watched_until = max(watched_until, ?) WHERE id = ?", (until, run_id))

    @_writes
    def want_stop(self, db: Db, run_id: str) -> None:
        """Note that a run is to be stopped, for the process that writes it."""
        db.execute("UPDATE runs SET stop_wanted = 1 WHERE id = ?", (run_id,))

    @_reads
    def wishes(self, db: Db, process: str) -> dict[str, tuple[float, bool]]:
        """Return for each run that a process writes until when others watch it, and whether they want it stopped."""
        sql = "SELECT id, watched_until, stop_wanted FROM runs WHERE outcome = '' AND process = ?"
        return {run_id: (until, bool(stop)) for run_id, until, stop in db.execute(sql, (process,))}

    @_reads
    def expired(self, db: Db, before: float) -> Ids:
        """Return the runs that ended before then, wait for no decision, and whose log is still there."""
        sql = "SELECT id FROM runs WHERE logged_since < ? AND waits_until IS NULL"
        return [run_id for (run_id,) in db.execute(sql, (before,))]

    @_writes
    def note_deleted(self, db: Db, run_ids: Iterable[str]) -> None:
        """Note that the logs of these runs are gone; of a stateless run nothing is left then."""
        these = (_dumps(list(run_ids)),)
        which = "WHERE id IN (SELECT value FROM json_each(?))"
        db.execute(f"UPDATE runs SET logged_since = NULL {which}", these)
        db.execute(f"DELETE FROM runs {which} AND conversation_id IS NULL", these)

    async def export(self, owner: str, conversation_id: str, format: str) -> tuple[str, str, str]:
        """Return file name, content type and text: the branch that is shown as `md`, or the whole tree as `json`."""
        conversation, nodes, runs = await self.tree(owner, conversation_id)
        stem = re.sub(r"[^\w-]+", "-", conversation.title).strip("-") or "conversation"
        match format:
            case "md":
                nodes = await self.path(conversation_id, conversation.leaf_id)
                text = await asyncio.to_thread(conversation_to_markdown, conversation, nodes)
                return f"{stem}.md", "text/markdown; charset=utf-8", text
            case "json":
                value = await asyncio.to_thread(tree_to_json, conversation, nodes, runs)
                return f"{stem}.json", "application/json", orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
        raise RequestError(f"format: {format!r} is not known; expected 'md' or 'json'")


# --- rows -------------------------------------------------------------------------------------------------------------


def _conversations(db: Db, where: str, *values: object) -> Conversations:
    rows = db.execute(f"{_CONVERSATION} WHERE {where}", values)
    return [replace(Conversation(*row[:5]), is_running=bool(row[5])) for row in rows]


def _known_turn(db: Db, owner: str, conversation_id: str, turn_id: str, digest: str) -> Run | None:
    where = "SELECT id, digest FROM runs WHERE (conversation_id, turn_id) = (?, ?)"
    for known_id, known_digest in db.execute(where, (conversation_id, turn_id)).fetchall():
        if known_digest != digest:
            raise Conflict(f"turnId: {turn_id} was sent before, with another body", runId=known_id)
        return _run(db, owner, known_id)
    return None


def _asked(db: Db, owner: str, caller: Caller) -> Run | None:
    if not caller.turn_id:
        return None
    known = _newest(db, owner, caller.thread_id, caller.turn_id)
    if known is None or known.outcome not in caller.again:
        return None
    if known.digest != caller.digest:
        raise Conflict(f"{caller.turn_id} was sent before, with another body", runId=known.id)
    return known


def _newest(db: Db, owner: str, thread_id: str, turn_id: str) -> Run | None:
    named = {name: value for name, value in {"thread_id": thread_id, "turn_id": turn_id}.items() if value}
    which = " AND ".join(["thread_id <> ''", "owner = ?", *(f"{name} = ?" for name in named)])
    sql = f"number = (SELECT max(number) FROM runs WHERE {which})"
    return next(iter(_runs(db, sql, owner, *named.values())), None)


def _conversation(db: Db, owner: str, conversation_id: str) -> Conversation:
    for conversation in _conversations(db, "id = ? AND owner = ?", conversation_id, owner):
        return conversation
    raise NotFound(f"There is no conversation {conversation_id!r}.")


def _nodes(db: Db, sql: str, *values: object) -> Nodes:
    rows = db.execute(sql, values).fetchall()
    messages = messages_from_json({"role": row[4], "content": orjson.loads(row[5])} for row in rows)
    return [Node(row[0], row[1], message, row[2], row[3]) for row, message in zip(rows, messages, strict=True)]


def _runs(db: Db, where: str, *values: object) -> Runs:
    found = []
    for *columns, request, ending, approvals in db.execute(f"{_RUN} WHERE {where} ORDER BY +number", values):
        columns += [orjson.loads(request), orjson.loads(ending), tuple(map(_approval, orjson.loads(approvals)))]
        found.append(Run(*columns))
    return found


def _approval(value: dict[str, Any]) -> Approval:
    return Approval(**value | {"decision": Decision(**value["decision"]) if value["decision"] else None})


def _run(db: Db, owner: str, run_id: str) -> Run:
    for run in _runs(db, "id = ? AND owner = ?", run_id, owner):
        return run
    raise NotFound(f"There is no run {run_id!r}.")


def _check_message(db: Db, conversation_id: str, message_id: str) -> None:
    sql = "SELECT 1 FROM messages WHERE id = ? AND conversation_id = ?"
    if db.execute(sql, (message_id, conversation_id)).fetchone() is None:
        raise NotFound(f"There is no message {message_id!r} in conversation {conversation_id!r}.")


def _last_message(db: Db, run: Run) -> tuple[str, int]:
    """Return the id of the last message that a run added, or of the one which it answers, and how many it added."""
    sql = "SELECT id FROM messages WHERE conversation_id = ? AND run_id = ? ORDER BY number"
    added = db.execute(sql, (run.conversation_id, run.id)).fetchall()
    return added[-1][0] if added else run.parent_id, len(added)


def _add_run(db: Db, run: Run) -> None:
    sql = """INSERT INTO runs (id, owner, conversation_id, thread_id, parent_id, message_id, turn_id, digest, model,
        process, created_at, request) VALUES (?, ?, nullif(?, ''), ?, ?, ?, nullif(?, ''), ?, ?, ?, ?, ?)"""
    who = run.id, run.owner, run.conversation_id, run.thread_id, run.parent_id, run.message_id, run.turn_id
    what = run.digest, run.model, run.process, run.created_at, _dumps(run.request)
    db.execute(sql, (*who, *what))


def _add_messages(db: Db, run: Run, messages: Sequence[Message], now: float) -> None:
    """Add a chain of messages behind the last one of a run, and show them where that one was shown."""
    first, count = _last_message(db, run)
    last = first
    for number, message in enumerate(messages if run.conversation_id else (), count + 1):
        node_id = run.message_id if number == 1 else f"{run.message_id}_{number}"
        _add_node(db, run.conversation_id, Node(node_id, last, message, run.id, now))
        last = node_id
    sql = "UPDATE conversations SET updated_at = ?, leaf_id = iif(leaf_id = ?, ?, leaf_id) WHERE id = ?"
    db.execute(sql, (now, first, last, run.conversation_id))


def _add_node(db: Db, conversation_id: str, node: Node) -> None:
    sql = """INSERT INTO messages (id, conversation_id, parent_id, role, content, run_id, created_at)
        VALUES (?, ?, ?, ?, ?, ?, ?)"""
    content = _dumps(message_to_json(node.message)["content"])
    row = node.id, conversation_id, node.parent_id, node.message.role, content, node.run_id, node.created_at
    db.execute(sql, row)
    _add_text(db, conversation_id, node.message.text, is_title=False)


def _add_text(db: Db, conversation_id: str, text: str, *, is_title: bool) -> None:
    if text.strip():
        sql = "INSERT INTO texts (conversation_id, text, is_title) VALUES (?, ?, ?)"
        db.execute(sql, (conversation_id, _spaced(text), is_title))


def _entitle(db: Db, conversation: Conversation, title: str) -> Conversation:
    title = " ".join(title.split())[:200]
    db.execute("UPDATE conversations SET title = ? WHERE id = ?", (title, conversation.id))
    db.execute("DELETE FROM texts WHERE conversation_id = ? AND is_title", (conversation.id,))
    _add_text(db, conversation.id, title, is_title=True)
    return replace(conversation, title=title)


def _set_approvals(db: Db, run_id: str, approvals: Sequence[Approval]) -> None:
    waits_until = min((each.expires_at for each in approvals if each.decision is None), default=None)
    sql = "UPDATE runs SET approvals = ?, waits_until = ? WHERE id = ?"
    db.execute(sql, (_dumps(approvals), waits_until, run_id))


# --- values -----------------------------------------------------------------------------------------------------------


def _dumps(value: object) -> str:
    return orjson.dumps(value).decode()


def _is_fresh(approvals: dict[str, Approval], decision: Decision, run_id: str, now: float) -> bool:
    """Return whether this call still waits for such a decision, False where it is decided the same way."""
    approval = approvals.get(decision.call_id)
    if approval is None:
        raise NotFound(f"No call {decision.call_id!r} of run {run_id!r} waits for a decision.")
    if approval.decision == decision:
        return False
    is_late = approval.decision.text == EXPIRED if approval.decision else approval.expires_at <= now
    if approval.decision is not None and not is_late:
        raise Conflict(f"Call {decision.call_id!r} was decided already: {approval.decision.kind}.")
    if is_late:
        raise Conflict(f"Call {decision.call_id!r} was not decided in time, so it is denied.")
    # Only who runs a tool knows its result: nobody else makes one up, and the server cannot run what is the caller's.
    if decision.kind == ("approve" if approval.by_caller else "result"):
        wanted = "its result" if approval.by_caller else "a decision"
        raise RequestError(f"Call {decision.call_id!r} waits for {wanted} and was met with {decision.kind!r}.")
    return True


def _title(text: str) -> str:
    """Return the first line of a text, cut at a word where it is long."""
    line = " ".join(next((line for line in text.splitlines() if line.strip()), "").split())
    if len(line) <= _TITLE:
        return line
    head = line[:_TITLE].rpartition(" ")[0]
    return (head if len(head) > _TITLE // 2 else line[: _TITLE - 1]) + "\N{HORIZONTAL ELLIPSIS}"


def _spaced(text: str) -> str:
    """Return a text in which each character is a word where its script does not part them (Chinese, Thai, ...)."""
    return _EDGES.sub(_SPACE, text)


def _query(words: str) -> str:
    """Return what somebody typed as a query: each word a string, which holds no operators, the last one a prefix.

    The grammar is at https://sqlite.org/fts5.html#full_text_query_syntax.
    """
    typed = words.replace("\0", " ").replace('"', '""').split()[:_WORDS]
    return " ".join(f'"{_spaced(word)}"' for word in typed or [""]) + "*"


def _plain(snippet: str) -> str:
    return " ".join(snippet.replace(_SPACE, "").split())[:300]
