"""The file: what is told as written is there, whatever happens to the process, and a mistake costs no neighbour."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from chatstream import database as module
from chatstream.database import FILE, TICK, Database, Schema
from chatstream.errors import ConfigError, StorageError

ROOT = Path(__file__).parents[1]
TABLE = "CREATE TABLE numbers (number INTEGER PRIMARY KEY) STRICT;"
OTHER = "CREATE TABLE children (parent INTEGER REFERENCES numbers DEFERRABLE INITIALLY DEFERRED) STRICT;"
SCHEMA = Schema("numbers", [TABLE, OTHER])
ROWS = "INSERT INTO numbers SELECT value->>0 FROM json_each(?)"

# Another process: its program sees `database` open on the folder that is its argument.
CHILD = """
import asyncio, sys
from pathlib import Path
from chatstream.database import Database
from tests.test_database import ROWS, SCHEMA

async def main():
    database = Database(Path(sys.argv[1]))
    await database.open(SCHEMA)
    print(database.process, flush=True)
    {body}

asyncio.run(main())
"""


@pytest.fixture(params=["file", "memory"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(tmp_path / "data" if request.param == "file" else None)
    await database.open(SCHEMA)
    yield database
    await database.close()


def child(folder: Path, body: str) -> subprocess.Popen[str]:
    """Start a process that opens the database in `folder` and says its name, and then does `body`."""
    code = [sys.executable, "-c", CHILD.format(body=body), str(folder)]
    return subprocess.Popen(code, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> None:
    with process:
        process.send_signal(signal.SIGKILL)


def add(number: int) -> Any:
    return lambda connection: connection.execute("INSERT INTO numbers VALUES (?)", (number,)).rowcount


def numbers(connection: sqlite3.Connection) -> list[int]:
    return [number for (number,) in connection.execute("SELECT number FROM numbers ORDER BY number")]


# --- transactions -----------------------------------------------------------------------------------------------------


async def test_what_comes_in_one_tick_is_one_transaction(database: Database) -> None:
    told: list[str] = []
    await database.write(lambda connection: connection.set_trace_callback(told.append))
    writes = [database.append(ROWS, (number,)) for number in range(1000)] + [database.write(add(1000))]
    await asyncio.gather(*writes)
    await database.write(lambda connection: connection.set_trace_callback(None))
    assert await database.read(numbers) == list(range(1001))
    those = [each.split()[0] for each in told][: told.index("COMMIT", 3) + 1]
    assert those[-6:] == ["BEGIN", "INSERT", "SAVEPOINT", "INSERT", "RELEASE", "COMMIT"]


async def test_rows_alone_are_one_statement(database: Database) -> None:
    told: list[str] = []
    await database.write(lambda connection: connection.set_trace_callback(told.append))
    told.clear()
    await asyncio.gather(*(database.append(ROWS, (number,)) for number in range(1000)))
    assert [each.split()[0] for each in told] == ["INSERT"]


async def test_while_much_comes_it_rests_between_two_transactions_and_loses_nothing(database: Database) -> None:
    told: list[str] = []
    await database.write(lambda connection: connection.set_trace_callback(told.append))
    told.clear()
    ends = asyncio.get_running_loop().time() + 0.5
    count = 0
    while asyncio.get_running_loop().time() < ends:
        for _ in range(20):
            database.append(ROWS, (count,))
            count += 1
        await asyncio.sleep(0)
    assert await database.write(numbers) == list(range(count))
    assert len(told) <= 0.5 / TICK * 1.5, "more transactions than ticks"


async def test_writes_take_place_in_the_order_of_the_calls_awaited_or_not(database: Database) -> None:
    seen: list[list[int]] = []
    database.append(ROWS, (1,))
    database.write(lambda connection: seen.append(numbers(connection)))
    database.append(ROWS, (2,))
    database.write(add(3))
    await database.write(lambda connection: seen.append(numbers(connection)))
    assert seen == [[1], [1, 2, 3]]


async def test_a_waiter_that_is_cancelled_changes_nothing(database: Database) -> None:
    async def wait() -> None:
        await database.write(add(1))

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    await database.write(add(2))
    assert task.cancelled()
    assert await database.read(numbers) == [1, 2]


async def test_what_raises_fails_alone_and_is_undone(database: Database) -> None:
    def half(connection: sqlite3.Connection) -> None:
        add(50)(connection)
        raise LookupError("half")

    writes = [database.write(add(1)), database.write(half), database.append("INSERT INTO nowhere VALUES (?)", (2,))]
    writes += [database.write(add(1)), database.append(ROWS, (3,)), database.write(add(4))]
    good, raised, no_table, twice, row, last = await asyncio.gather(*writes, return_exceptions=True)
    assert isinstance(raised, LookupError)
    assert isinstance(no_table, StorageError)
    assert isinstance(twice, StorageError)
    assert (good, row, last) == (1, None, 1)
    assert await database.read(numbers) == [1, 3, 4]


async def test_a_commit_that_fails_fails_all_of_it_and_nothing_after_it(database: Database) -> None:
    def orphan(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO children VALUES (99)")  # is found at the commit

    writes = [database.append(ROWS, (1,)), database.write(orphan), database.write(add(2))]
    for told in await asyncio.gather(*writes, return_exceptions=True):
        assert isinstance(told, StorageError)
    await database.write(add(3))
    assert await database.read(numbers) == [3]


async def test_a_full_disk_is_told_and_what_was_kept_stays(database: Database) -> None:
    await database.write(lambda connection: connection.execute("CREATE TABLE texts (text TEXT)").fetchall())
    await database.write(lambda connection: connection.execute("PRAGMA max_page_count = 20").fetchall())
    insert = "INSERT INTO texts SELECT value->>0 FROM json_each(?)"
    kept = 0
    with pytest.raises(StorageError, match="full"):
        while True:
            await database.append(insert, ("x" * 5000,))
            kept += 1
    await database.write(lambda connection: connection.execute("PRAGMA max_page_count = 1000000").fetchall())
    await database.append(insert, ("behind",))
    assert kept > 1
    assert await database.read(lambda connection: connection.execute("SELECT count(*) FROM texts").fetchone()) == (
        kept + 1,
    )


async def test_a_read_sees_what_was_kept_and_cannot_write(tmp_path: Path) -> None:
    database = Database(tmp_path)
    await database.open(SCHEMA)
    for number in range(20):
        await database.append(ROWS, (number,))
        assert await database.read(numbers) == list(range(number + 1))
    with pytest.raises(StorageError):
        await database.read(add(100))
    await database.close()


async def test_close_writes_what_waits_and_refuses_what_comes_later(tmp_path: Path) -> None:
    database = Database(tmp_path)
    await database.open(SCHEMA)
    for number in range(5000):
        database.append(ROWS, (number,))
    await database.close()
    await database.close()
    for late in (database.append(ROWS, (1,)), database.write(numbers), database.read(numbers)):
        with pytest.raises(StorageError):
            await late
    again = Database(tmp_path)
    await again.open(SCHEMA)
    assert len(await again.read(numbers)) == 5000
    await again.close()


# --- opening ----------------------------------------------------------------------------------------------------------


async def test_only_the_missing_steps_are_made(tmp_path: Path) -> None:
    for schemas in ([Schema("numbers", [TABLE])], [SCHEMA], [SCHEMA, Schema("more", ["CREATE TABLE more (x);"])]):
        database = Database(tmp_path)
        await database.open(*schemas)
        await database.append(ROWS, (len(await database.read(numbers)),))
        await database.close()
    with sqlite3.connect(tmp_path / FILE) as connection:
        assert dict(connection.execute("SELECT part, number FROM migrations")) == {"numbers": 2, "more": 1}
        assert numbers(connection) == [0, 1, 2]
    connection.close()


async def test_what_a_newer_version_wrote_is_refused(tmp_path: Path) -> None:
    database = Database(tmp_path)
    await database.open(SCHEMA)
    await database.close()
    older = Database(tmp_path)
    with pytest.raises(ConfigError, match=r"version 2.*knows 1.*update chatstream"):
        await older.open(Schema("numbers", [TABLE]))
    assert list((tmp_path / "processes").iterdir()) == []


async def test_a_step_that_fails_leaves_the_version_before_it(tmp_path: Path) -> None:
    broken = Schema("numbers", ["CREATE TABLE a (x);", "CREATE TABLE b (x);\nCREATE TABLE a (x);"])
    with pytest.raises(ConfigError):
        await Database(tmp_path).open(broken)
    with sqlite3.connect(tmp_path / FILE) as connection:
        assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == []
    connection.close()


async def test_nobody_else_can_read_the_files(tmp_path: Path) -> None:
    database = Database(tmp_path / "a" / "b")
    before = os.umask(0)
    try:
        await database.open(SCHEMA)
        await database.append(ROWS, (1,))
        await database.read(numbers)
    finally:
        os.umask(before)
    paths = [tmp_path / "a" / "b", *(tmp_path / "a" / "b").rglob("*")]
    modes = {path.name: (path.is_dir(), path.stat().st_mode & 0o777) for path in paths}
    await database.close()
    assert {FILE, f"{FILE}-wal", f"{FILE}-shm", database.process} <= set(modes)
    assert {mode for is_dir, mode in modes.values() if is_dir} == {0o700}
    assert {mode for is_dir, mode in modes.values() if not is_dir} == {0o600}


@pytest.mark.parametrize("spoil", ["a file", "no database", "half a database", "read-only"])
async def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path, spoil: str) -> None:
    folder = tmp_path / "data"
    if spoil == "a file":
        folder.write_text("x")
    elif spoil == "read-only":
        folder.mkdir(mode=0o500)
        if os.geteuid() == 0:
            pytest.skip("nothing is read-only for root")
    else:
        folder.mkdir()
        (folder / FILE).write_bytes(
            (b"SQLite format 3\0" if spoil == "half a database" else b"") + b"no database" * 100
        )
    database = Database(folder)
    with pytest.raises(ConfigError, match=str(folder)):
        await database.open(SCHEMA)
    await database.close()


# --- processes --------------------------------------------------------------------------------------------------------


async def test_a_process_is_alive_until_it_dies_however_it_dies(tmp_path: Path) -> None:
    other = child(tmp_path, "await asyncio.sleep(100)")
    name = said(other)
    database = Database(tmp_path)
    await database.open(SCHEMA)
    assert database.is_alive(name)
    assert database.is_alive(name), "asking does not end it"
    assert database.is_alive(database.process)
    assert not database.is_alive("proc_unknown")
    end(other)
    assert not database.is_alive(name)
    assert [path.name for path in (tmp_path / "processes").iterdir()] == [database.process]
    await database.close()
    assert list((tmp_path / "processes").iterdir()) == []


async def test_what_was_told_as_written_outlives_a_killed_process(tmp_path: Path) -> None:
    body = """
for number in range(1_000_000):
        await asyncio.gather(*(database.append(ROWS, (number * 10 + each,)) for each in range(10)))
        print(number, flush=True)
"""
    for folder in (tmp_path / "1", tmp_path / "2"):
        writer = child(folder, body.strip())
        said(writer)
        told = [said(writer) for _ in range(40)]
        writer.send_signal(signal.SIGKILL)
        told += writer.communicate()[0].split("\n")[:-1]  # the last line may be half a one
        database = Database(folder)
        await database.open(SCHEMA)
        kept = await database.read(numbers)
        assert kept == list(range(len(kept)))
        assert len(kept) >= int(told[-1]) * 10 + 10
        assert await database.read(lambda connection: connection.execute("PRAGMA integrity_check").fetchone()) == (
            "ok",
        )
        await database.close()


async def test_processes_may_open_a_new_folder_at_once(tmp_path: Path) -> None:
    body = "await database.write(lambda connection: connection.execute('INSERT INTO numbers DEFAULT VALUES').rowcount)"
    others = [child(tmp_path / "data", f"{body}; await database.close()") for _ in range(4)]
    for other in others:
        other.communicate()
    assert [other.returncode for other in others] == [0, 0, 0, 0]
    database = Database(tmp_path / "data")
    await database.open(SCHEMA)
    assert await database.read(numbers) == [1, 2, 3, 4]
    await database.close()


@pytest.mark.parametrize(("count", "length", "is_row"), [(600, 100, True), (2, 3_000_000, True), (2, 3_000_000, False)])
async def test_what_was_written_moves_to_the_file_by_itself(
    tmp_path: Path, count: int, length: int, is_row: bool
) -> None:
    database = Database(tmp_path)
    await database.open(Schema("texts", ["CREATE TABLE texts (text TEXT NOT NULL) STRICT;"]))
    size = (tmp_path / FILE).stat().st_size
    for _ in range(count):
        if is_row:
            await database.append("INSERT INTO texts SELECT value->>0 FROM json_each(?)", ("x" * length,))
        else:
            await database.write(lambda db: db.execute("INSERT INTO texts VALUES (?)", ("x" * length,)).rowcount)
    for _ in range(3000):
        if (tmp_path / FILE).stat().st_size > size:
            break
        await asyncio.sleep(0.01)
    assert (tmp_path / FILE).stat().st_size > size
    await database.close()


@pytest.mark.parametrize(("most", "where"), [(16_000, "chatstream-reader"), (0, "chatstream-writer")])
async def test_one_thread_at_a_time_moves_it_and_the_writer_itself_where_it_is_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, where: str
) -> None:
    movers: list[str] = []
    may_end = threading.Event()

    def move(self: Database, how: str, connection: sqlite3.Connection) -> bool:
        movers.append(threading.current_thread().name)
        return where == "chatstream-writer" or may_end.wait(30)

    monkeypatch.setattr(module, "_MANY", 1)
    monkeypatch.setattr(module, "_TOO_MANY", most)
    monkeypatch.setattr(Database, "_move", move)
    database = Database(tmp_path)
    await database.open(SCHEMA)
    for number in range(5):
        await database.append(ROWS, (number,))
    assert await database.read(numbers) == list(range(5)), "somebody is there to read"
    assert {name.partition("_")[0] for name in movers} == {where}
    assert len(movers) == (5 if where == "chatstream-writer" else 1)
    may_end.set()
    await database.close()


async def test_a_checkpoint_leaves_nothing_in_the_journal(tmp_path: Path) -> None:
    database = Database(tmp_path)
    await database.open(SCHEMA)
    await database.append(ROWS, (1,))
    await database.read(numbers)
    assert (tmp_path / f"{FILE}-wal").stat().st_size > 0
    await database.checkpoint()
    assert (tmp_path / f"{FILE}-wal").stat().st_size == 0
    await database.close()


async def test_a_process_that_cannot_be_looked_at_is_not_taken_for_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = Database(tmp_path), Database(tmp_path)
    await one.open()
    await other.open()

    def no_descriptor(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", no_descriptor)
        assert other.is_alive(one.process)
    await one.close()
    assert not other.is_alive(one.process)
    await other.close()


async def test_a_database_that_others_could_read_is_made_ones_own(tmp_path: Path) -> None:
    (tmp_path / FILE).touch(0o644)
    (tmp_path / FILE).chmod(0o644)
    database = Database(tmp_path)
    await database.open()
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    await database.close()


async def test_what_is_not_open_yet_says_so(tmp_path: Path) -> None:
    database = Database(tmp_path)
    for ask in (database.write, database.read, lambda work: database.append(ROWS, (1,))):
        with pytest.raises(StorageError, match="not open"):
            await ask(numbers)
