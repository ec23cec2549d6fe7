"""What every log promises, kept by each of them; and what the one in the database promises besides."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import fields, is_dataclass
from enum import EnumType
from itertools import pairwise
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatstream import database as module
from chatstream.database import Database
from chatstream.deltas import FinishReason, Usage
from chatstream.errors import NotFound, StorageError
from chatstream.eventlog import Entry, EventLog, MemoryLog, SqliteLog, sqlite
from chatstream.events import (
    ApprovalRequested,
    Event,
    Outcome,
    PartFinished,
    PartStarted,
    RunFinished,
    RunStarted,
    TextDelta,
    TurnFinished,
    TurnStarted,
    event_from_json,
    event_to_json,
)
from chatstream.messages import Message, Text, ToolCall

START = RunStarted("run", "message", "p:m")
END = RunFinished(Outcome.COMPLETED, FinishReason.STOP, Usage(1, 2), (Message("assistant", (Text("Hi"),)),))
WORD = "Zanzibarquartz"


def run_of(count: int, name: str = "") -> list[Event]:
    """Return a run of so many deltas, each of them one of a kind."""
    texts = [TextDelta(0, f"{name} {number}\0 \N{GRINNING FACE}") for number in range(count)]
    part = PartFinished(0, Text("".join(delta.text for delta in texts)))
    turn_end = TurnFinished(0, FinishReason.STOP, Usage(1, 2))
    return [START, TurnStarted(0), PartStarted(0, "text"), *texts, part, turn_end, END]


def batches(events: Sequence[Event], seed: int = 1) -> list[tuple[int, Sequence[Event]]]:
    """Cut a run into batches of one to five, each with the number of its first."""
    cuts, chance = [0], random.Random(seed)
    while cuts[-1] < len(events):
        cuts.append(cuts[-1] + chance.randint(1, 5))
    return [(cut + 1, events[cut:stop]) for cut, stop in pairwise(cuts)]


async def keep(log: EventLog, run_id: str, events: Sequence[Event]) -> None:
    for first, batch in batches(events):
        await log.append(run_id, first, batch)


async def read_all(log: EventLog, run_id: str, after: int = 0, limit: int = 1000) -> list[Entry]:
    entries: list[Entry] = []
    while some := await log.read(run_id, entries[-1][0] if entries else after, limit):
        assert len(some) <= limit
        entries += some
    return entries


def numbered(events: Sequence[Event]) -> list[Entry]:
    return list(enumerate(events, 1))


@asynccontextmanager
async def opened(folder: Path | None) -> AsyncIterator[tuple[SqliteLog, Database]]:
    database = Database(folder)
    await database.open(sqlite.SCHEMA)
    log = SqliteLog(database)
    await log.open()
    yield log, database
    await log.aclose()
    await database.close()


@pytest.fixture(params=["memory", "sqlite"])
async def log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EventLog]:
    if request.param == "sqlite":
        async with opened(tmp_path) as (log, _):
            yield log
    else:
        memory = MemoryLog()
        await memory.open()
        yield memory
        await memory.aclose()


# --- every log --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 1000])
async def test_what_was_appended_is_read_from_any_number_on(log: EventLog, limit: int) -> None:
    run = run_of(20)
    await keep(log, "run", run)
    for after in range(len(run) + 2):
        assert await read_all(log, "run", after, limit) == numbered(run)[after:]


async def test_a_run_may_begin_with_anything(log: EventLog) -> None:
    await log.append("run", 1, [TextDelta(0, 'a "word"')])
    await log.append("run", 2, [TextDelta(0, "\u2028\N{GRINNING FACE}\0")])
    assert await read_all(log, "run") == [(1, TextDelta(0, 'a "word"')), (2, TextDelta(0, "\u2028\N{GRINNING FACE}\0"))]


async def test_the_order_is_that_of_the_calls_awaited_or_not(log: EventLog) -> None:
    run = run_of(300)
    appended = [log.append("run", first, batch) for first, batch in batches(run)]
    await appended[-1]
    assert all(each.done() for each in appended)
    assert await read_all(log, "run") == numbered(run)


async def test_a_waiter_that_is_cancelled_changes_nothing(log: EventLog) -> None:
    async def wait(first: int, batch: Sequence[Event]) -> None:
        await log.append("run", first, batch)

    run = run_of(50)
    for first, batch in batches(run):
        task = asyncio.create_task(wait(first, batch))
        await asyncio.sleep(0)
        task.cancel()
    await log.append("other", 1, [START])
    assert await read_all(log, "run") == numbered(run)


async def test_fifty_runs_at_once_stay_apart(log: EventLog) -> None:
    runs = {f"run_{number}": run_of(20, str(number)) for number in range(50)}
    await asyncio.gather(*(keep(log, run_id, run) for run_id, run in runs.items()))
    for run_id, run in runs.items():
        assert await read_all(log, run_id, limit=10) == numbered(run)


async def test_who_reads_while_a_run_lasts_misses_nothing(log: EventLog) -> None:
    async def follow() -> list[Entry]:
        entries: list[Entry] = []
        while not entries or not isinstance(entries[-1][1], RunFinished):
            entries += await log.read("run", len(entries), 7)
            await asyncio.sleep(0.001)
        return entries

    run = run_of(100)
    await log.append("run", 1, run[:1])
    readers = [asyncio.create_task(follow()) for _ in range(3)]
    for first, batch in batches(run[1:]):
        await log.append("run", first + 1, batch)
        log.append(f"other_{first}", 1, [START])
    for entries in await asyncio.gather(*readers):
        assert entries == numbered(run)


async def test_a_run_that_is_not_known_is_told_from_one_that_has_no_more(log: EventLog) -> None:
    await keep(log, "run", run_of(1))
    assert await log.read("run", 1000) == []
    with pytest.raises(NotFound):
        await log.read("another")
    await log.delete(["run", "another"])
    with pytest.raises(NotFound):
        await log.read("run")


async def test_what_is_deleted_stays_deleted_and_the_others_stay(log: EventLog) -> None:
    runs = {f"run_{number}": run_of(30, str(number)) for number in range(6)}
    for run_id, run in runs.items():
        await log.append(run_id, 1, run[:10])
    await log.delete(["run_1", "run_4"])
    for run_id, run in runs.items():
        await log.append(run_id, 11, run[10:20])
        await log.append(run_id, 21, run[20:])
    for run_id, run in runs.items():
        if run_id in ("run_1", "run_4"):
            with pytest.raises(NotFound):
                await log.read(run_id)
        else:
            assert await read_all(log, run_id) == numbered(run)


@settings(deadline=None)
@given(st.integers(0, 10**6))
def test_all_logs_say_the_same(seed: int) -> None:
    async def play() -> None:
        chance, memory = random.Random(seed), MemoryLog()
        await memory.open()
        runs = {run_id: batches(run_of(40, run_id), seed) for run_id in "abc"}
        async with opened(None) as (log, _):
            for _ in range(60):
                run_id, after, limit = chance.choice("abc"), chance.randint(0, 50), chance.randint(1, 20)
                match chance.choice(["append", "append", "append", "read", "delete"]):
                    case "append" if runs[run_id]:
                        batch = runs[run_id].pop(0)
                        for each in (memory, log):
                            each.append(run_id, *batch)
                    case "read":
                        assert await told(memory, run_id, after, limit) == await told(log, run_id, after, limit)
                    case "delete" if chance.random() < 0.1:
                        for each in (memory, log):
                            await each.delete([run_id])

    async def told(log: EventLog, run_id: str, after: int, limit: int) -> list[list[Entry]] | None:
        """Return two pages, one behind the other."""
        try:
            page = await log.read(run_id, after, limit)
            return [page, await log.read(run_id, page[-1][0] if page else after, limit)]
        except NotFound:
            return None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TICK", 0)
        patch.setattr(sqlite, "_SLICE", 7)
        asyncio.run(play())


# --- the one in the database ------------------------------------------------------------------------------------------


async def test_a_log_is_read_after_a_restart_and_can_be_ended_then(tmp_path: Path) -> None:
    run = run_of(30)
    async with opened(tmp_path) as (log, _):
        await log.append("run", 1, run[:20])
    async with opened(tmp_path) as (log, _):
        assert await read_all(log, "run") == numbered(run[:20])
        await log.append("run", 21, run[20:])
    async with opened(tmp_path) as (log, _):
        assert await read_all(log, "run", 15) == numbered(run)[15:]


async def test_another_process_can_follow(tmp_path: Path) -> None:
    run = run_of(40)
    async with opened(tmp_path) as (log, _), opened(tmp_path) as (other, _):
        seen: list[Entry] = []
        for first, batch in batches(run):
            await log.append("run", first, batch)
            log.append(f"another_{first}", 1, [START])
            seen += await other.read("run", len(seen))
            assert len(seen) == first + len(batch) - 1
            assert await other.read("run", len(seen)) == []
        assert seen == numbered(run)


async def test_a_read_ends_behind_what_is_long_and_the_next_goes_on_there(tmp_path: Path) -> None:
    run = [START, TurnStarted(0), PartStarted(0, "text"), *(TextDelta(0, letter * 50_000) for letter in "abcde"), END]
    async with opened(tmp_path) as (log, _):
        for number, event in numbered(run):
            await log.append("run", number, [event])
        assert len(await log.read("run")) == 5
        assert await read_all(log, "run") == numbered(run)
        assert await read_all(log, "run", 4, limit=2) == numbered(run)[4:]


async def test_who_follows_misses_nothing_when_other_runs_are_deleted(tmp_path: Path) -> None:
    run = run_of(10)
    async with opened(tmp_path) as (log, _):
        await log.append("run", 1, run[:5])
        await keep(log, "another", run_of(100))
        assert len(await log.read("run")) == 5
        assert await log.read("run", 5) == []
        await log.delete(["another"])
        await log.append("run", 6, run[5:])
        assert await log.read("run", 5) == numbered(run)[5:]


@pytest.mark.parametrize("some", [50, 20_000])
async def test_what_was_deleted_is_in_no_file(tmp_path: Path, some: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def files() -> bytes:
        return b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())

    monkeypatch.setattr(sqlite, "_SLICE", some)
    secret = run_of(300, WORD)
    async with opened(tmp_path) as (log, database):
        await asyncio.gather(*(keep(log, f"run_{number}", run_of(300)) for number in range(5)), keep(log, "x", secret))
        await database.checkpoint()
        await keep(log, "y", secret[:-1])  # never ended, and still in the journal
        assert files().count(WORD.encode()) > 500
        await log.delete(["x", "y"])
        await database.checkpoint()
        assert WORD.encode() not in files()
        assert await database.read(lambda connection: connection.execute("SELECT count(*) FROM logs").fetchone()) == (
            5,
        )
        assert len(await read_all(log, "run_3")) == 306
    assert WORD.encode() not in files()


async def test_a_delete_that_was_cut_off_is_ended_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(connection: object) -> bool:
        raise OSError("killed")

    async with opened(tmp_path) as (log, _):
        await asyncio.gather(*(keep(log, run_id, run_of(50)) for run_id in "abc"))
        with monkeypatch.context() as patch, pytest.raises(OSError, match="killed"):
            patch.setattr(sqlite, "_remove_slice", fail)
            await log.delete(["a", "c"])
        with pytest.raises(NotFound):
            await log.read("a")
    async with opened(tmp_path) as (log, database):
        count = "SELECT (SELECT count(*) FROM logs), count(DISTINCT run) FROM events"
        assert await database.read(lambda connection: connection.execute(count).fetchone()) == (1, 1)
        assert await read_all(log, "b") == numbered(run_of(50))


async def test_behind_a_batch_that_could_not_be_kept_nothing_is_read(tmp_path: Path) -> None:
    run = run_of(10)
    async with opened(tmp_path) as (log, database):
        await log.append("run", 1, run[:5])
        await database.write(lambda connection: connection.execute("PRAGMA max_page_count = 20").fetchall())
        with pytest.raises(StorageError):
            await log.append("run", 6, [TextDelta(0, "x" * 100_000)])
        await database.write(lambda connection: connection.execute("PRAGMA max_page_count = 1000000").fetchall())
        await log.append("run", 7, run[6:])
        assert await read_all(log, "run") == numbered(run[:5])
        with pytest.raises(StorageError):
            await log.append("run", 1, run[:5])  # a run begins once


async def test_a_read_looks_at_no_rows_but_those_of_the_run_s_own_time(tmp_path: Path) -> None:
    async with opened(tmp_path) as (log, database):

        async def ask(statement: str, *values: Any) -> list[Any]:
            return await database.read(lambda connection: connection.execute(statement, values).fetchall())

        for run_id in "abc":
            await keep(log, run_id, run_of(30))
        _, start, stop = (await ask(sqlite._FIND, "b"))[0]
        assert stop - start == len(batches(run_of(30)))
        for statement, values in [(sqlite._READ, (start, stop, 2, 0, 9)), (sqlite._FIND, ("b",))]:
            plan = [step[3] for step in await ask(f"EXPLAIN QUERY PLAN {statement}", *values)]
            assert any("SEARCH" in step for step in plan), plan
            assert not any("SCAN events" in step or "SCAN logs" in step for step in plan), plan


# --- events as JSON ---------------------------------------------------------------------------------------------------

STRINGS = st.text(max_size=20)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | STRINGS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(STRINGS, inner, max_size=3),
    max_leaves=8,
)
SCALARS = {str: STRINGS, int: st.integers(-(2**63), 2**64 - 1), bool: st.booleans(), NoneType: st.none()}


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Return all that a field of that type may hold."""
    origin, members = get_origin(hint), get_args(hint)
    if hint in SCALARS:
        return SCALARS[hint]
    if is_dataclass(hint):
        hints = get_type_hints(hint)
        return st.builds(hint, **{field.name: values_of(hints[field.name]) for field in fields(hint)})
    if isinstance(hint, EnumType) or origin is Literal:
        return st.sampled_from(members or list(hint))
    if origin is dict:
        return st.dictionaries(STRINGS, JSON, max_size=3)
    if origin is tuple:
        return st.lists(values_of(members[0]), max_size=3).map(tuple)
    return st.one_of(*map(values_of, members))


@given(values_of(Event))
def test_an_event_is_the_same_after_it_was_json(event: Event) -> None:
    again = event_from_json(orjson.loads(orjson.dumps(event_to_json(event))))
    assert repr(again) == repr(event)  # tells an enum from its text, -0.0 from 0.0
    assert again == event


KEPT: list[tuple[str, Event]] = [
    ('["run_started","r","m","p:m"]', RunStarted("r", "m", "p:m")),
    ('["turn_started",1]', TurnStarted(1)),
    ('["text_delta",3,"Hi"]', TextDelta(3, "Hi")),
    ('["text_delta",3,"Hi","of a later version"]', TextDelta(3, "Hi")),
    ('["part_finished",3,["text","Hi"],true]', PartFinished(3, Text("Hi"))),
    (
        '["part_finished",3,["tool_call","a","add",null,"{\\"a\\":","cut"],false]',
        PartFinished(3, ToolCall("a", "add", None, '{"a":', "cut"), False),
    ),
    ('["approval_requested","a","add",{"a":1}]', ApprovalRequested("a", "add", {"a": 1})),
    ('["turn_finished",1,"tool_calls",[1,2]]', TurnFinished(1, FinishReason.TOOL_CALLS, Usage(1, 2))),
    ('["run_finished","completed","stop",[1,2,0,0,false],[["assistant",[["text","Hi"]]]]]', END),
    ('["run_finished","completed","stop",[1,2,0,0,false],[["assistant",[["text","Hi"]]]],null,0]', END),
]


@pytest.mark.parametrize(("text", "event"), KEPT)
def test_what_an_earlier_version_kept_can_still_be_read(text: str, event: Event) -> None:
    assert event_from_json(orjson.loads(text)) == event
