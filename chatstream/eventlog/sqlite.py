"""A log in the database: each batch is a row of a table that only grows, in the order in which they came.

A table in the order of the runs, or an index, would make each row cost ten times as much (measured). So a read passes
over what other runs said meanwhile: it begins where the run began, or where the last read ended, and ends where the run
did. Each row finds its run by the run's id, so that a run that is deleted cannot leave anything more.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from functools import partial

import orjson

from ..database import Database, Schema
from ..errors import NotFound
from ..events import Event, RunFailed, RunFinished, TextDelta, event_from_json, event_to_json
from .base import Entry, EventLog, Kept

# Row ids are never used twice, so that nothing new can stand behind a place that was read. The rows of a run are those
# behind `start`, up to `stop` where it has ended. A deleted run has no id, and goes once its rows have gone.
SCHEMA = Schema(
    "events",
    [
        """
        CREATE TABLE logs (key INTEGER PRIMARY KEY, run_id TEXT UNIQUE, start INTEGER NOT NULL, stop INTEGER) STRICT;
        CREATE TABLE events (
            id INTEGER PRIMARY KEY AUTOINCREMENT, run INTEGER NOT NULL, last INTEGER NOT NULL, data TEXT NOT NULL
        ) STRICT;
        """
    ],
)
_NEWEST = "(SELECT coalesce(max(id), 0) FROM events)"
_BEGIN = f"INSERT INTO logs (run_id, start) VALUES (?, {_NEWEST})"
_END = f"UPDATE logs SET stop = {_NEWEST} WHERE run_id = ?"
_APPEND = """
    INSERT INTO events (run, last, data)
    SELECT logs.key, value->>1, value->2 FROM json_each(?) CROSS JOIN logs ON run_id = value->>0
"""
_FIND = f"SELECT logs.key, start, coalesce(stop, {_NEWEST}) FROM logs WHERE run_id = ?"
_MUCH = 64 * 1024  # characters of rows that end a read: what a viewer holds is bounded, however long its rows are
# One step for all rows: the interpreter's lock has to be won back after each.
_READ = f"""
    SELECT '[' || group_concat('[' || id || ',' || last || ',' || data || ']') || ']'
    FROM (
        SELECT id, last, data, sum(length(data)) OVER (ORDER BY id) - length(data) AS before
        FROM (SELECT id, last, data FROM events WHERE id > ? AND id <= ? AND run = ? AND last > ? ORDER BY id LIMIT ?)
    ) WHERE before < {_MUCH}
"""
_SLICE = 20_000  # rows that a delete looks at in one transaction: others wait for it
_PLACES = 1000


class SqliteLog(EventLog):
    """The log in `database`, which its owner opens before and closes after."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # The row behind which a reader goes on who comes back for what is behind the number it has.
        self._places: dict[tuple[str, int], int] = {}

    async def open(self) -> None:
        await self._sweep()

    async def aclose(self) -> None:
        self._places.clear()

    def keep(self, run_id: str, first: int, batch: Sequence[Event], kept: Kept) -> None:
        event = batch[0]
        if type(event) is TextDelta and len(batch) == 1 < first:
            # Nearly all are: the same row, made in a third of the time.
            told = orjson.dumps(run_id), first, event.part, orjson.dumps(event.text)
            self._database.post(kept, _APPEND, b'[%b,%d,[["text_delta",%d,%b]]]' % told)
            return
        row = orjson.dumps((run_id, first + len(batch) - 1, list(map(event_to_json, batch))))
        is_end = isinstance(batch[-1], (RunFinished, RunFailed))
        if first == 1 or is_end:
            self._database.post(kept, partial(_append_edge, run_id, row, first == 1, is_end))
        else:
            self._database.post(kept, _APPEND, row)

    async def read(self, run_id: str, after: int = 0, limit: int = 1000) -> list[Entry]:
        place = self._places.pop((run_id, after), 0)
        entries, place = await self._database.read(partial(_read, run_id, after, limit, place))
        if len(self._places) >= _PLACES:
            del self._places[next(iter(self._places))]
        self._places[run_id, entries[-1][0] if entries else after] = place
        return entries

    async def delete(self, run_ids: Iterable[str]) -> None:
        """As `EventLog.delete`; the last copy of it goes with the journal, at the database's next `checkpoint`."""
        await self._database.write(partial(_forget, orjson.dumps(list(run_ids)).decode()))
        await self._sweep()

    async def _sweep(self) -> None:
        """Remove what forgotten runs said, those of a process that died over it too."""
        while await self._database.write(_remove_slice):
            pass


def _append_edge(run_id: str, row: bytes, is_begin: bool, is_end: bool, connection: sqlite3.Connection) -> None:
    """Add the first or the last batch of a run, and note where its rows begin or end."""
    if is_begin:
        connection.execute(_BEGIN, (run_id,))
    connection.execute(_APPEND, (f"[{row.decode()}]",))
    if is_end:
        connection.execute(_END, (run_id,))


def _read(run_id: str, after: int, limit: int, place: int, connection: sqlite3.Connection) -> tuple[list[Entry], int]:
    """Return entries, and the row behind which those after them are."""
    found = connection.execute(_FIND, (run_id,)).fetchone()
    if found is None:
        raise NotFound(f"there is no run {run_id!r}")
    key, start, stop = found
    (text,) = connection.execute(_READ, (place or start, stop, key, after, limit)).fetchone()
    rows = orjson.loads(text or "[]")
    told = [
        (row, number, event)
        for row, last, events in rows
        for number, event in enumerate(events, last - len(events) + 1)
        if number > after
    ]
    is_all = len(rows) < limit and len(told) <= limit and len(text or "") < _MUCH
    place = stop if is_all else told[:limit][-1][0] - 1
    # A number is missing where a commit failed; from there on none is the expected one.
    expected = enumerate(told[:limit], after + 1)
    return [(number, event_from_json(event)) for due, (_, number, event) in expected if number == due], place


def _forget(run_ids: str, connection: sqlite3.Connection) -> None:
    these = "run_id IN (SELECT value FROM json_each(?))"
    connection.execute(f"UPDATE logs SET run_id = NULL, stop = coalesce(stop, {_NEWEST}) WHERE {these}", (run_ids,))


def _remove_slice(connection: sqlite3.Connection) -> bool:
    """Remove some rows of forgotten runs, overwritten with zeros; return whether there may be more."""
    (start,) = connection.execute("SELECT min(start) FROM logs WHERE run_id IS NULL").fetchone()
    if start is None:
        return False
    end = start + _SLICE
    connection.execute(
        "DELETE FROM events WHERE id > ? AND id <= ? AND run IN (SELECT key FROM logs WHERE run_id IS NULL)",
        (start, end),
    )
    connection.execute("UPDATE logs SET start = ? WHERE run_id IS NULL AND start < ?", (end, end))
    connection.execute("DELETE FROM logs WHERE run_id IS NULL AND start >= stop")
    return True
