"""Conversations, the runs that write them, and what waits for a decision: tables in the one `Database`.

A conversation is a tree of messages that only grows. A node never changes; an edit is a sibling of the message that it
edits, another answer a sibling of the answer, and `leaf_id` says which branch is shown. `begin` adds a user's message
and the run that answers it, `end` what the run added, a chain with ids that are known from its start.

Each method is one transaction and durable when it returns. Whoever asks is an `owner`: what belongs to another does not
exist for them, nor does what was deleted. That can be had back for a while, until it is purged. The times are seconds
of `clock`.
"""

from __future__ import annotations

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
    title_of,
)
from .database import Database
from .errors import Conflict, NotFound, RequestError
from .messages import NOT_RUN, Message, ToolResult, message_to_json, messages_from_json

Db = sqlite3.Connection
P = ParamSpec("P")
T = TypeVar("T")

UNDO = 600.0  # seconds for which what was deleted can be had back
_SLICE = 50  # messages that are added in one transaction: others wait for it
_WORDS = 32  # of a search; the others are left out
_MERGE = 16  # pages of the index that are merged in one step
_SPACE = "\N{ZERO WIDTH SPACE}"
# Thai, Lao, Burmese, Khmer, kana, Chinese characters and emoji.
_ALONE = "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uf900-\ufaff\U0001f000-\U0001faff\U00020000-\U0003ffff]"
_EDGES = re.compile(f"(?={_ALONE})|(?<={_ALONE})")

_CONVERSATION = """SELECT id, title, created_at, updated_at, leaf_id,
    EXISTS (SELECT 1 FROM runs WHERE conversation_id = conversations.id AND outcome = ''), system, model, pinned
    FROM conversations"""
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
    WHERE search MATCH ? AND conversations.owner = ? AND conversations.deleted_at IS NULL ORDER BY search.rowid DESC"""
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
    """Everything that is kept but the events. Open `database` with `tables.SCHEMA` first."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self.database = database
        self.clock = clock

    # --- conversations ------------------------------------------------------------------------------------------------

    @_writes
    def create(self, db: Db, owner: str, title: str = "", system: str = "", model: str = "") -> Conversation:
        now = self.clock()
        conversation = Conversation(new_id("conv"), title, now, now, system=system, model=model)
        return _add_conversation(db, owner, conversation)

    async def add(self, owner: str, conversation: Conversation, nodes: Nodes, runs: Runs) -> Conversation:
        """Add a conversation with all that is in it, none of which is there before the last of it."""

        def begin(db: Db) -> None:
            _add_conversation(db, owner, conversation, deleted_at=self.clock())
            for run in runs:
                _add_run(db, replace(run, owner=owner, conversation_id=conversation.id))

        def go_on(db: Db, nodes: Nodes) -> None:
            for node in nodes:
                _add_node(db, conversation.id, node)

        await self.database.write(begin)
        for at in range(0, len(nodes), _SLICE):
            await self.database.write(partial(go_on, nodes=nodes[at : at + _SLICE]))
        return await self.change(owner, conversation.id, restore=True)

    @_reads
    def list(self, db: Db, owner: str, limit: int = 50, before: str = "") -> tuple[Conversations, str]:
        """Return the conversations behind the cursor, and the cursor of those behind them or "".

        Those that are pinned come first, and of either kind those that changed last.
        """
        try:
            pinned, changed, last = before.split("_", 2) if before else ("inf", "0", "")
            key = float(pinned), float(changed), last
        except ValueError:
            raise RequestError(f"before: {before!r} is not a cursor that a list of conversations gave") from None
        where = """owner = ? AND deleted_at IS NULL AND (pinned, updated_at, id) < (?, ?, ?)
            ORDER BY pinned DESC, updated_at DESC, id DESC LIMIT ?"""
        found = _conversations(db, where, owner, *key, limit + 1)
        end = found[limit - 1] if len(found) > limit else None
        return found[:limit], f"{int(end.is_pinned)}_{end.updated_at!r}_{end.id}" if end else ""

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
    def change(
        self,
        db: Db,
        owner: str,
        conversation_id: str,
        *,
        title: str | None = None,
        leaf_id: str | None = None,
        system: str | None = None,
        model: str | None = None,
        pinned: bool | None = None,
        restore: bool = False,
    ) -> Conversation:
        """Change what is not None: `leaf_id` shows the branch that ends there, `restore` takes a deletion back."""
        if restore:
            sql = "UPDATE conversations SET deleted_at = NULL WHERE id = ? AND owner = ? AND deleted_at > ?"
            db.execute(sql, (conversation_id, owner, self.clock() - UNDO))
        conversation = _conversation(db, owner, conversation_id)
        if leaf_id is not None:
            _check_message(db, conversation_id, leaf_id)
        if title is not None:
            _entitle(db, conversation_id, title)
        sql = """UPDATE conversations SET leaf_id = ifnull(?, leaf_id), system = ifnull(?, system),
            model = ifnull(?, model), pinned = ifnull(?, pinned) WHERE id = ?"""
        db.execute(sql, (leaf_id, system, model, pinned, conversation.id))
        return _conversation(db, owner, conversation_id)

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

    @_writes
    def delete(self, db: Db, owner: str, conversation_id: str) -> Runs:
        """Let a conversation be gone, to be purged later; returns its runs that have not ended."""
        conversation = _conversation(db, owner, conversation_id)
        db.execute("UPDATE conversations SET deleted_at = ? WHERE id = ?", (self.clock(), conversation.id))
        return _runs(db, f"{_OF} AND outcome = ''", conversation.id)

    @_reads
    def lost(self, db: Db) -> tuple[Ids, Ids]:
        """Return the conversations that nobody can have back any more, and their runs."""
        sql = "SELECT id FROM conversations WHERE deleted_at <= ?"
        ids = [id for (id,) in db.execute(sql, (self.clock() - UNDO,))]
        sql = "SELECT id FROM runs WHERE conversation_id IN (SELECT value FROM json_each(?))"
        return ids, [id for (id,) in db.execute(sql, (_dumps(ids),))]

    async def purge(self, ids: Ids) -> None:
        """Delete conversations so that the file holds no word of them; the journal does until its next checkpoint."""
        these = (_dumps(ids),)

        def remove(db: Db, table: str, column: str) -> None:
            db.execute(f"DELETE FROM {table} WHERE {column} IN (SELECT value FROM json_each(?))", these)

        def merge(db: Db, pages: int) -> bool:
            before = db.total_changes
            db.execute("INSERT INTO search (search, rank) VALUES ('merge', ?)", (pages,))
            return db.total_changes - before > 1

        await self.database.write(partial(remove, table="texts", column="conversation_id"))
        # The index keeps what was deleted until its segments are merged, which is done in steps that let others write
        # between them: the first says "all into one" (https://sqlite.org/fts5.html#the_merge_command).
        pages = -_MERGE
        while await self.database.write(partial(merge, pages=pages)):
            pages = _MERGE
        # Last, so that what a process that died had begun is seen, and done again.
        await self.database.write(partial(remove, table="conversations", column="id"))

    # --- runs ---------------------------------------------------------------------------------------------------------

    @_reads
    def runs(self, db: Db, owner: str, conversation_id: str) -> Runs:
        _conversation(db, owner, conversation_id)
        return _runs(db, _OF, conversation_id)

    @_reads
    def run(self, db: Db, owner: str, run_id: str, *, deleted: bool = False) -> Run:
        """Return a run, where it is `deleted` with its conversation only if that is wanted."""
        return _run(db, owner, run_id, deleted)

    @_reads
    def turn(
        self, db: Db, owner: str, conversation_id: str, turn_id: str, digest: str
    ) -> tuple[Conversation, Run | None]:
        """Return a conversation, and the run that this turn began before; raises Conflict if with another body."""
        conversation = _conversation(db, owner, conversation_id)
        return conversation, _known_turn(db, owner, conversation_id, turn_id, digest)

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
                _entitle(db, conversation.id, title_of(message))
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


# --- rows -------------------------------------------------------------------------------------------------------------


def _conversations(db: Db, where: str, *values: object) -> Conversations:
    rows = db.execute(f"{_CONVERSATION} WHERE {where}", values)
    return [replace(Conversation(*row), is_running=bool(row[5]), is_pinned=bool(row[8])) for row in rows]


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
    for conversation in _conversations(db, "id = ? AND owner = ? AND deleted_at IS NULL", conversation_id, owner):
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


def _run(db: Db, owner: str, run_id: str, deleted: bool = False) -> Run:
    gone = "SELECT 1 FROM conversations WHERE id = conversation_id AND deleted_at IS NOT NULL"
    for run in _runs(db, f"id = ? AND owner = ? AND (? OR NOT EXISTS ({gone}))", run_id, owner, deleted):
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


def _add_conversation(db: Db, owner: str, conversation: Conversation, deleted_at: float | None = None) -> Conversation:
    sql = """INSERT INTO conversations (id, owner, title, created_at, updated_at, leaf_id, system, model, pinned,
        deleted_at) VALUES (?, ?, '', ?, ?, ?, ?, ?, ?, ?)"""
    each = conversation
    when = each.created_at, each.updated_at
    db.execute(sql, (each.id, owner, *when, each.leaf_id, each.system, each.model, each.is_pinned, deleted_at))
    return replace(conversation, title=_entitle(db, conversation.id, conversation.title))


def _add_run(db: Db, run: Run) -> None:
    sql = """INSERT INTO runs (id, owner, conversation_id, thread_id, parent_id, message_id, turn_id, digest, model,
        process, created_at, request, ended_at, outcome, next_run_id, ending)
        VALUES (?, ?, nullif(?, ''), ?, ?, ?, nullif(?, ''), ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
    who = run.id, run.owner, run.conversation_id, run.thread_id, run.parent_id, run.message_id, run.turn_id
    what = run.digest, run.model, run.process, run.created_at, _dumps(run.request)
    db.execute(sql, (*who, *what, run.ended_at, run.outcome, run.next_run_id, _dumps(run.ending)))


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


def _entitle(db: Db, conversation_id: str, title: str) -> str:
    title = " ".join(title.split())[:200]
    db.execute("UPDATE conversations SET title = ? WHERE id = ?", (title, conversation_id))
    db.execute("DELETE FROM texts WHERE conversation_id = ? AND is_title", (conversation_id,))
    _add_text(db, conversation_id, title, is_title=True)
    return title


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
