"""The one SQLite file in the data folder: a thread that writes, threads that read, numbered migrations.

    write(work)          `work(connection)` in a transaction of the writing thread, undone if it raises
    append(sql, row)     a row for a table that only grows: what comes within a tick is one statement
    post(done, ...)      either of them, for one who does not wait but is told
    read(work)           beside the writes, on a connection that cannot write

What comes while the writer is busy is one transaction with its neighbours: it costs what a commit costs, not what a row
does. While much comes the loop itself rests between two transactions, up to a tick: the writer has the interpreter for
itself, and what arrives meanwhile is one turn of the loop. As with the interrupts of a network card, fewer and fuller
turns are cheaper than one for each delta. Of 200 answers of 50 deltas a second a delta takes 50 us of CPU so, and 68
where the tick is a timer and the loop goes on; rests of 4 ms instead of 3 save no more. Where turns are long anyway the
loop waits for the writer: of 1,000 such answers p99 is 90 ms so, and 250 where viewers wait for another turn (all
measured).

The journal is a WAL with `synchronous=NORMAL` (https://sqlite.org/pragma.html#pragma_synchronous): what is committed
survives the death of the process, and may be lost when the machine loses its power. A thread beside the writer moves it
to the file, for that waits for the disk: 10 ms, and up to 230 where others use it too (measured), in which the writer
would stand still, and every stream.

A process that has the file open holds a lock on a file named after it, which the system lets go of when it dies,
however it dies. So the others can tell.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import orjson

from .errors import ConfigError, StorageError

log = logging.getLogger("chatstream.database")

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]
# Is told that something was written, or why it was not.
Done = Callable[[Exception | None], None]

FILE = "chatstream.db"
# Seconds between two commits. More of them cost CPU for each stream, fewer are a delay that a reader could see.
TICK = 0.003
_MUCH = 1000  # jobs a second
_LATE = 0.02  # seconds more than a tick, from which on a turn of the loop is a long one
_LONGEST = 0.05  # seconds that a loop of long turns waits for the writer
_WINDOW = 0.02  # seconds over which they are counted
_BUSY = 5.0  # seconds that another process may hold the file
_READERS = 3  # one of which may move the journal to the file
_MANY = 1000  # pages of the journal that are moved together, about
_PAGE = 4096  # bytes, SQLite's default
# The journal begins anew only once all of it was moved, which beside a writer without a pause never happens: from so
# many pages on the writer moves it itself.
_TOO_MANY = 16_000


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables of one part of the program: step n of `steps` makes version n + 1 of version n."""

    part: str
    steps: Sequence[str]


class _Job:
    """Something to write: a function, or the SQL for a `row`, whose one parameter is a JSON array of such rows."""

    __slots__ = ("done", "error", "result", "row", "work")

    def __init__(self, done: Done, work: Work[Any] | str, row: bytes) -> None:
        self.done = done
        self.work = work
        self.row = row
        self.result: Any = None
        self.error: Exception | None = None


class Database:
    """The file in `folder`, or one in memory that goes with the process where that is None. `open` comes first."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.process = f"proc_{secrets.token_hex(8)}"
        self._waiting: list[_Job] = []
        self._is_writing = False
        self._count = 0  # jobs since `_counted`, to tell whether much comes
        self._counted = self._flushed = 0.0
        self._is_busy = False
        self._jobs: SimpleQueue[list[_Job]] = SimpleQueue()  # what is one transaction; an empty one is the last
        self._done: SimpleQueue[list[_Job]] = SimpleQueue()  # what was written and is to be told
        self._writer: threading.Thread | None = None
        self._connection: sqlite3.Connection | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._local = threading.local()
        self._moves = threading.Lock()  # SQLite refuses a second one who moves the journal, and does not let it wait
        self._moving: Future[bool] | None = None  # the last time that it was moved beside the writer
        self._length = 0  # its pages then
        self._pages = 0  # what was written to it since, at least about
        self._size = 0  # of its file, in bytes
        self._opened: list[sqlite3.Connection] = []
        self._lock = -1

    async def open(self, *schemas: Schema) -> None:
        """Open the file and bring it to the newest version; raises ConfigError where that cannot be."""
        self._loop = asyncio.get_running_loop()
        try:
            self._connection = await asyncio.to_thread(self._open, schemas)
        except ConfigError:
            self._unlock()
            raise
        self._writer = threading.Thread(target=self._serve, name="chatstream-writer", daemon=True)
        self._writer.start()
        if self.folder is not None:
            self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="chatstream-reader")

    async def close(self) -> None:
        """Write what waits, and close the file."""
        if self._writer is None or self._connection is None:
            return
        writer, self._writer = self._writer, None
        self._flush()
        self._jobs.put([])
        await asyncio.to_thread(writer.join)
        if self._readers is not None:
            readers, self._readers = self._readers, None
            await asyncio.to_thread(readers.shutdown)
        for connection in (*self._opened, self._connection):
            connection.close()
        self._unlock()

    def write(self, work: Work[T]) -> asyncio.Future[T]:
        """Do `work`, in the order of the calls; the future has its result once it is committed.

        It raises what `work` raises, and StorageError.
        """
        written: asyncio.Future[T] = self._future()
        job = _Job(lambda error: settle(written, job.result, error), work, b"")
        self._put(job)
        return written

    def append(self, sql: str, row: Sequence[Any]) -> asyncio.Future[None]:
        """Add a row, in the order of the calls; the future is done once it is committed, or raises StorageError."""
        written: asyncio.Future[None] = self._future()
        self.post(partial(settle, written, None), sql, orjson.dumps(row))
        return written

    def post(self, done: Done, work: Work[Any] | str, row: bytes = b"") -> None:
        """Do as `write`, or as `append` for SQL and a `row` of JSON, and call `done` when it is committed or failed."""
        self._put(_Job(done, work, row))

    async def read(self, work: Work[T]) -> T:
        """Return what `work` returns, who sees all that was committed before; raises StorageError."""
        if self._readers is None:
            return await self.write(work)
        return await self._loop.run_in_executor(self._readers, self._read, work)

    async def checkpoint(self) -> bool:
        """Move what was written from the journal to the file, so that neither holds what was deleted.

        Returns False where somebody, such as another program that reads the file, did not let it.
        """
        return self.folder is None or await self.read(partial(self._move, "TRUNCATE"))

    def is_alive(self, process: str) -> bool:
        """Return whether the process of that name still runs."""
        if process == self.process:
            return True
        if self.folder is None:
            return False
        path = _lock_file(self.folder, process)
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return False
        except OSError:
            return True  # nobody can tell: it is not to be taken for dead
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # so that two may ask at once
        except OSError:
            return True
        finally:
            os.close(descriptor)
        path.unlink(missing_ok=True)
        return False

    def _future(self) -> asyncio.Future[Any]:
        return (asyncio.get_running_loop() if self._writer is None else self._loop).create_future()

    def _put(self, job: _Job) -> None:
        if self._writer is None:
            job.done(StorageError("the data is not open: the server starts or ends"))
            return
        self._waiting.append(job)
        if not self._is_writing:
            self._is_writing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Hand the writer all that came since the last time; rest until the tick is over while much comes."""
        if not self._waiting:
            return
        self._count += len(self._waiting)
        self._jobs.put(self._waiting)
        self._waiting = []
        now = time.monotonic()
        if now - self._counted > _WINDOW:
            self._is_busy = self._count > _MUCH * (now - self._counted)
            self._counted, self._count = now, 0
        if self._is_busy and (rest := self._flushed + TICK - now) > 0:
            time.sleep(rest)
        elif self._is_busy and rest < -_LATE:
            self._tell(_LONGEST)  # else it would be told after another such turn
        self._flushed = time.monotonic()

    def _tell(self, wait: float = 0.0) -> None:
        """Tell who asked what the writer has done, within so many seconds."""
        try:
            jobs = self._done.get(timeout=wait) if wait else self._done.get_nowait()
        except Empty:
            return  # not yet, or told before
        for job in jobs:
            try:
                job.done(job.error)
            except Exception:
                log.exception("what was written could not be told")
            del job.done  # which may lead back to the job
        self._is_writing = bool(self._waiting)
        if self._is_busy:
            self._loop.call_soon(self._flush)
        elif self._waiting:
            self._loop.call_later(TICK, self._flush)

    def _unlock(self) -> None:
        if self._lock >= 0 and self.folder is not None:
            _lock_file(self.folder, self.process).unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = -1

    # --- the threads --------------------------------------------------------------------------------------------------

    def _open(self, schemas: Sequence[Schema]) -> sqlite3.Connection:
        if self.folder is None:
            connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        else:
            self._make_files(self.folder)
            connection = self._connect(self.folder / FILE)
        try:
            with _mapped():
                connection.execute("PRAGMA foreign_keys = ON")
                connection.execute("PRAGMA secure_delete = ON")  # what is freed is overwritten
                for schema in schemas:
                    _migrate(connection, schema)
        except StorageError as error:
            connection.close()
            raise ConfigError(f"--data: {self.folder or 'memory'}: {error.message}") from error
        return connection

    def _make_files(self, folder: Path) -> None:
        """Make folder, database and lock where they are missing, for nobody but this user to read."""
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.open(folder / FILE, os.O_CREAT | os.O_RDWR, 0o600)
            os.fchmod(file, 0o600)
            os.close(file)
            lock = _lock_file(folder, self.process)
            lock.parent.mkdir(mode=0o700, exist_ok=True)
            self._lock = os.open(lock, os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            for other in lock.parent.iterdir():
                self.is_alive(other.name)  # removes what a dead process left
        except OSError as error:
            raise ConfigError(f"--data: cannot write to {folder}: {error.strerror}") from error

    def _connect(self, path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=_BUSY, isolation_level=None, check_same_thread=False)
        try:
            with _mapped():
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute("PRAGMA wal_autocheckpoint = 0")  # see `_start_to_move`
        except StorageError as error:
            connection.close()
            raise ConfigError(f"--data: {path} cannot be used: {error.message}") from error
        return connection

    def _read(self, work: Work[T]) -> T:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            assert self.folder is not None
            connection = self._local.connection = self._connect(self.folder / FILE)
            connection.execute("PRAGMA query_only = ON")
            self._opened.append(connection)
        with _mapped():
            return work(connection)

    def _move(self, how: str, connection: sqlite3.Connection) -> bool:
        """Move the journal to the file, by one of SQLite's ways (`PRAGMA wal_checkpoint`); False if it is in use."""
        with self._moves:
            busy, self._length, _ = connection.execute(f"PRAGMA wal_checkpoint({how})").fetchone()
        return not busy

    def _start_to_move(self, connection: sqlite3.Connection) -> None:
        """Have the journal moved beside the writer, or move it here where it is long.

        Where a commit begins the journal anew while somebody begins to move it, SQLite before 3.51.3 may lose pages
        (https://sqlite.org/wal.html#walresetbug). So it is moved only where something was committed since it was moved
        last: then no commit begins it anew until that is moved too.
        """
        if self._readers is None:
            return
        self._pages = 0
        if self._length < _TOO_MANY:
            self._moving = self._readers.submit(self._read, partial(self._move, "PASSIVE"))
        else:
            with suppress(sqlite3.Error):  # the next time mends it
                self._move("PASSIVE", connection)
            self._length = 0

    def _taken(self, jobs: list[_Job]) -> int:
        """Return how many pages of the journal a transaction took, about.

        What is not rows may be of any size. It counts where the journal's file grew for it: it does not get shorter, so
        what is written over from its begin on is no more than was counted before.
        """
        pages = 2 + sum(len(job.row) for job in jobs) // _PAGE
        if self.folder is None or all(job.row for job in jobs):
            return pages
        before = self._size
        with suppress(OSError):
            self._size = (self.folder / f"{FILE}-wal").stat().st_size
        return max(pages, (self._size - before) // _PAGE)

    def _serve(self) -> None:
        connection = self._connection
        assert connection is not None
        while jobs := self._jobs.get():
            # Asked before the commit, so that it comes after what was moved.
            may_move, changes = self._moving is None or self._moving.done(), connection.total_changes
            _commit(connection, jobs)
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                self._done.put(jobs)
                self._loop.call_soon_threadsafe(self._tell)
            self._pages += self._taken(jobs)
            if may_move and self._pages >= _MANY and connection.total_changes > changes:
                self._start_to_move(connection)


def _commit(connection: sqlite3.Connection, jobs: list[_Job]) -> None:
    """Do all the jobs in one transaction; one that raises fails alone, a commit that does fails them all."""
    groups = list(_joined(jobs))
    try:
        with _mapped():
            if len(groups) == 1 and isinstance(jobs[0].work, str):
                return _insert(connection, jobs)  # one statement is a transaction of its own
            connection.execute("BEGIN IMMEDIATE")
            for some in groups:
                _do(connection, some)
            connection.execute("COMMIT")
    except Exception as error:
        for job in jobs:
            job.error = error
        with suppress(sqlite3.Error):  # SQLite may have undone it already
            connection.execute("ROLLBACK")


def _joined(jobs: list[_Job]) -> Iterator[list[_Job]]:
    """Yield the jobs in their order, rows of one statement together."""
    rows: list[_Job] = []
    for job in jobs:
        if rows and job.work != rows[0].work:
            yield rows
            rows = []
        if isinstance(job.work, str):
            rows.append(job)
        else:
            yield [job]
    if rows:
        yield rows


def _do(connection: sqlite3.Connection, jobs: list[_Job]) -> None:
    work = jobs[0].work
    try:
        with _mapped():
            if isinstance(work, str):
                _insert(connection, jobs)
            else:
                connection.execute("SAVEPOINT job")
                jobs[0].result = work(connection)
    except Exception as error:
        if not connection.in_transaction:
            raise  # SQLite has undone it all, as it does when the disk is full
        for job in jobs:
            job.error = error
        if not isinstance(work, str):
            connection.execute("ROLLBACK TO job")
    if not isinstance(work, str):
        connection.execute("RELEASE job")


def _insert(connection: sqlite3.Connection, jobs: list[_Job]) -> None:
    """Add the rows by one call of SQLite, which undoes itself where it fails.

    Each call lets go of the interpreter's lock and has to win it back, which takes long while the loop is busy: with
    `executemany`, a call for every row, 20 times as long at full load (measured).
    """
    rows = b",".join([job.row for job in jobs]).decode()
    connection.execute(str(jobs[0].work), (f"[{rows}]",))


def settle(written: asyncio.Future[T], result: T, error: Exception | None) -> None:
    """Give a future its result, or the error where there is one."""
    if written.done():
        return  # cancelled: what was written stays
    if error is None:
        written.set_result(result)
    else:
        written.set_exception(error)


def _migrate(connection: sqlite3.Connection, schema: Schema) -> None:
    connection.execute("BEGIN IMMEDIATE")
    with closing(connection.cursor()) as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS migrations (part TEXT PRIMARY KEY, number INTEGER NOT NULL) STRICT")
        row = cursor.execute("SELECT number FROM migrations WHERE part = ?", (schema.part,)).fetchone()
        number = row[0] if row else 0
        if number > len(schema.steps):
            connection.execute("ROLLBACK")
            raise StorageError(
                f"the {schema.part} were written by a newer chatstream (version {number}; "
                f"this one knows {len(schema.steps)}): update chatstream, or name another folder"
            )
        for step in schema.steps[number:]:
            for statement in _statements(step):
                cursor.execute(statement)
        cursor.execute("REPLACE INTO migrations VALUES (?, ?)", (schema.part, len(schema.steps)))
    connection.execute("COMMIT")


def _statements(script: str) -> Iterator[str]:
    """Yield the statements of a script, which `executescript` would commit one by one."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    assert not statement.strip(), statement


def _lock_file(folder: Path, process: str) -> Path:
    return folder / "processes" / process


@contextmanager
def _mapped() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StorageError(f"the data could not be read or written: {error}") from error
