"""What is kept: that a conversation only grows, what is found and listed, what waits, and that deleted is gone."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from chatstream import conversations
from chatstream import store as module
from chatstream.agent import new_id
from chatstream.conversations import EXPIRED, Approval, Caller, Conversation, Decision, Node, Run
from chatstream.database import Database, Schema
from chatstream.errors import Conflict, NotFound, RequestError, StorageError
from chatstream.messages import Message, Opaque, Reasoning, Text, ToolCall, ToolResult, sendable, user
from chatstream.store import Store
from chatstream.tables import SCHEMA

ME = "local"
SCRIPT = Path(__file__).parents[1] / "scripts" / "store_times.py"
WORD = "Zanzibarquartz"


class Clock:
    """Goes on by a second each time that it is read."""

    now = 1000.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def assistant(text: str) -> Message:
    return Message("assistant", (Text(text),))


def run_of(conversation_id: str = "", **fields: Any) -> Run:
    given = {"turn_id": new_id("turn") if conversation_id else "", "message_id": new_id("msg"), "created_at": 1000.0}
    return Run(new_id("run"), ME, conversation_id, **{"model": "a:b", "process": "p"} | given | fields)


async def ask(store: Store, conversation_id: str, text: str | None = "Hi", parent_id: str | None = None) -> Run:
    message = None if text is None else user(text)
    run = run_of(conversation_id, created_at=store.clock())
    return (await store.begin(run, "digest", message, new_id("msg"), parent_id))[0]


async def answer(store: Store, run: Run, *messages: Message, outcome: str = "completed", **fields: Any) -> None:
    await store.end(run.id, outcome, {"finishReason": "stop"}, messages or [assistant("Ho")], **fields)


def approval(call_id: str, expires_at: float = 9000.0, by_caller: bool = False, **fields: Any) -> Approval:
    return Approval(call_id, "send", {"to": "Bob"}, by_caller, expires_at, **fields)


async def pause(store: Store, run: Run, *approvals: Approval) -> None:
    calls = tuple(ToolCall(each.call_id, each.name, each.input, '{"to":"Bob"}') for each in approvals)
    await answer(store, run, Message("assistant", calls), outcome="paused", approvals=approvals)


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    database = Database()
    await database.open(SCHEMA)
    yield Store(database, Clock())
    await database.close()


# --- conversations ----------------------------------------------------------------------------------------------------


async def test_the_list_has_everything_once_and_what_changed_last_first(store: Store) -> None:
    made = [await store.create(ME, str(number)) for number in range(7)]
    await store.create("somebody else")
    await ask(store, made[2].id)
    pages, cursor = [], ""
    while not pages or cursor:
        page, cursor = await store.list(ME, 3, cursor)
        pages.append([each.title for each in page])
    assert pages == [["2", "6", "5"], ["4", "3", "1"], ["0"]]


async def test_what_is_pinned_comes_first_and_a_cursor_leads_on_whatever_is_pinned_meanwhile(store: Store) -> None:
    made = [await store.create(ME, str(number)) for number in range(9)]
    for number in (4, 2):
        assert (await store.change(ME, made[number].id, pinned=True)).is_pinned
    page, cursor = await store.list(ME, 3)
    assert [each.title for each in page] == ["4", "2", "8"]
    # What has been seen moves, and so does what has not: that is found at the top.
    for number, pinned in ((8, True), (2, False), (6, True)):
        await store.change(ME, made[number].id, pinned=pinned)
    await store.delete(ME, made[5].id)
    page, cursor = await store.list(ME, 3, cursor)
    assert [each.title for each in page] == ["7", "3", "2"]
    page, cursor = await store.list(ME, 3, cursor)
    assert ([each.title for each in page], cursor) == (["1", "0"], "")
    assert [each.title for each in (await store.list(ME, 4))[0]] == ["8", "6", "4", "7"]
    _, cursor = await store.list(ME, 1)
    assert [each.title for each in (await store.list(ME, 3, cursor))[0]] == ["6", "4", "7"]


async def test_a_conversation_has_a_system_prompt_and_a_model_of_its_own(store: Store) -> None:
    made = await store.create(ME, "Hi", "Be brief.", "a:b")
    assert (made.title, made.system, made.model, made.is_pinned) == ("Hi", "Be brief.", "a:b", False)
    changed = await store.change(ME, made.id, system="", pinned=True)
    assert changed == replace(made, system="", is_pinned=True)
    assert await store.change(ME, made.id, model="") == replace(changed, model="")
    assert await store.change(ME, made.id) == await store.get(ME, made.id) == replace(changed, model="")


@pytest.mark.parametrize("cursor", ["x", "_", "1,5_conv", "1000.0_conv_1", "0_x_conv"])
async def test_a_cursor_that_no_list_gave_is_refused(store: Store, cursor: str) -> None:
    with pytest.raises(RequestError, match="is not a cursor"):
        await store.list(ME, 50, cursor)


@pytest.mark.parametrize(
    "use",
    [
        lambda store, ids: store.get("other", ids[0]),
        lambda store, ids: store.nodes("other", ids[0]),
        lambda store, ids: store.runs("other", ids[0]),
        lambda store, ids: store.tree("other", ids[0]),
        lambda store, ids: store.change("other", ids[0], title="Mine"),
        lambda store, ids: store.change("other", ids[0], leaf_id=ids[2]),
        lambda store, ids: store.change("other", ids[0], restore=True),
        lambda store, ids: store.turn("other", ids[0], "turn", "digest"),
        lambda store, ids: store.delete("other", ids[0]),
        lambda store, ids: store.run("other", ids[1]),
        lambda store, ids: store.decide("other", ids[1], [], run_of(), 0.0),
        lambda store, ids: store.begin(replace(run_of(ids[0]), owner="other"), "", user("Hi"), "msg_x", None),
    ],
)
async def test_what_belongs_to_another_does_not_exist(
    store: Store, use: Callable[[Store, list[str]], Awaitable[object]]
) -> None:
    conversation = await store.create(ME, "Mine")
    run = await ask(store, conversation.id)
    before = await store.tree(ME, conversation.id)
    with pytest.raises(NotFound):
        await use(store, [conversation.id, run.id, run.parent_id])
    assert await store.tree(ME, conversation.id) == before


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("Hello", "Hello"),
        ("\n\n  What is\ta  duck?  \nTell me.", "What is a duck?"),
        (" \n", ""),
        ("x" * 60, "x" * 60),
        ("x" * 61, "x" * 59 + "…"),
        ("A word that is cut " * 4, "A word that is cut A word that is cut A word that is cut A…"),
    ],
)
async def test_an_untitled_conversation_takes_the_first_line_of_its_first_message(
    store: Store, text: str, title: str
) -> None:
    conversation = await store.create(ME)
    await ask(store, conversation.id, text)
    assert (await store.get(ME, conversation.id)).title == title
    await store.change(ME, conversation.id, title="A name of\nmine ")
    await ask(store, conversation.id, "And now?", "")
    assert (await store.get(ME, conversation.id)).title == "A name of mine"


async def test_a_title_is_not_made_of_an_attached_file_but_where_there_is_nothing_else(store: Store) -> None:
    file = Text('<file name="plan.py">\nprint()\n</file>')
    for parts, title in [
        ((file, Text("What is it?")), "What is it?"),
        ((Text("So?\n"), file), "So?"),
        ((file, Text(" \n")), "plan.py"),
        ((file, replace(file, text='<file name="b">\n</file>')), "plan.py"),
        ((Text('<file name="">'),), '<file name="">'),
    ]:
        conversation = await store.create(ME)
        await store.begin(run_of(conversation.id), "", Message("user", parts), new_id("msg"), None)
        assert (await store.get(ME, conversation.id)).title == title


# --- turns ------------------------------------------------------------------------------------------------------------


async def test_a_turn_is_begun_once_however_often_it_comes(store: Store) -> None:
    conversation = await store.create(ME)
    runs = [run_of(conversation.id, turn_id="turn_1") for _ in range(20)]
    begun = await asyncio.gather(*(store.begin(run, "d", user("Hi"), new_id("msg"), None) for run in runs))
    assert [is_new for _, is_new in begun].count(True) == 1
    assert {run.id for run, _ in begun} == {runs[0].id}
    assert len(await store.nodes(ME, conversation.id)) == 1
    with pytest.raises(Conflict, match="turn_1 was sent before") as caught:
        await store.begin(run_of(conversation.id, turn_id="turn_1"), "other", user("Ho"), new_id("msg"), None)
    assert caught.value.details == {"runId": runs[0].id}


async def test_a_turn_is_one_of_its_conversation(store: Store) -> None:
    made = [await store.create(ME) for _ in range(2)]
    runs = [run_of(each.id, turn_id="turn_1") for each in made]
    begun = [await store.begin(run, "d", user("Hi"), new_id("msg"), None) for run in runs]
    assert [is_new for _, is_new in begun] == [True, True]


async def test_an_answer_is_a_chain_whose_ids_are_known_before(store: Store) -> None:
    conversation = await store.create(ME)
    run = await ask(store, conversation.id)
    assert (await store.get(ME, conversation.id)).leaf_id == run.parent_id
    assert (await store.get(ME, conversation.id)).is_running
    await answer(store, run, assistant("a"), assistant("b"), assistant("c"))
    kept = await store.get(ME, conversation.id)
    path = await store.path(conversation.id, kept.leaf_id)
    ids = [run.parent_id, run.message_id, f"{run.message_id}_2", f"{run.message_id}_3"]
    assert [(node.id, node.parent_id) for node in path] == list(zip(ids, ["", *ids[:3]], strict=True))
    assert [node.message for node in path] == [user("Hi"), assistant("a"), assistant("b"), assistant("c")]
    assert not kept.is_running and kept.leaf_id == ids[3]


async def test_a_run_ends_once(store: Store) -> None:
    conversation = await store.create(ME)
    run = await ask(store, conversation.id)
    await answer(store, run, assistant("first"), request={"kept": True})
    before = await store.tree(ME, conversation.id)
    await answer(store, run, assistant("second"), outcome="stopped")
    assert await store.tree(ME, conversation.id) == before
    ended = await store.run(ME, run.id)
    assert (ended.outcome, ended.ending, ended.request) == ("completed", {"finishReason": "stop"}, {"kept": True})
    await store.delete(ME, conversation.id)
    await store.purge([conversation.id])
    await answer(store, run)  # nothing is left to note it in, which is no error


async def test_the_branch_that_is_shown_grows_and_another_does_not_come_before_it(store: Store) -> None:
    conversation = await store.create(ME)
    first = await ask(store, conversation.id, "one")
    second = await ask(store, conversation.id, "one, edited", "")
    await answer(store, first)
    assert (await store.get(ME, conversation.id)).leaf_id == second.parent_id
    await store.change(ME, conversation.id, leaf_id=first.message_id)
    await answer(store, second)
    assert (await store.get(ME, conversation.id)).leaf_id == first.message_id


async def test_what_cannot_be_begun_changes_nothing(store: Store) -> None:
    conversation, other = await store.create(ME), await store.create(ME)
    run, foreign = await ask(store, conversation.id), await ask(store, other.id)
    before = await store.tree(ME, conversation.id)
    with pytest.raises(Conflict, match="being written") as caught:
        await ask(store, conversation.id, "Again")
    assert caught.value.details == {"runId": run.id}
    with pytest.raises(Conflict):
        await ask(store, conversation.id, None)
    for parent_id in ("msg_nonsense", foreign.parent_id):
        with pytest.raises(NotFound, match="There is no message"):
            await ask(store, conversation.id, "Hi", parent_id)
    with pytest.raises(RequestError, match="nothing to answer"):
        await ask(store, conversation.id, None, "")
    with pytest.raises(NotFound, match="There is no message"):
        await store.change(ME, conversation.id, leaf_id=foreign.parent_id, title="New", pinned=True)
    assert await store.tree(ME, conversation.id) == before


EVERY_PART = (
    Reasoning("hm", "sig=", "red", "a:b", "reasoning"),
    Text("é \0 \N{GRINNING FACE}"),
    ToolCall("c1", "add", {"a": 1.0}, '{ "a" :1.0}'),
    ToolCall("c2", "add", None, '{"a": ', "the arguments are not valid JSON"),
    ToolCall("c3", "now", {}, ""),
    Opaque("a:b", {"type": "server_tool_use", "n": [None, 2**53]}),
)


async def test_messages_come_back_as_they_were_also_from_the_file(tmp_path: Path) -> None:
    results = Message("tool", (ToolResult("c1", "add", "3"), ToolResult("c2", "add", "", is_error=True)))
    database = Database(tmp_path)
    await database.open(SCHEMA)
    store = Store(database)
    conversation = await store.create(ME)
    run = await ask(store, conversation.id)
    await answer(store, run, Message("assistant", EVERY_PART), results)
    before = await store.tree(ME, conversation.id)
    await database.close()
    database = Database(tmp_path)
    await database.open(SCHEMA)
    assert await Store(database).tree(ME, conversation.id) == before
    await database.close()
    kept = [node.message for node in before[1]]
    broken = kept[1].parts[3]
    assert isinstance(broken, ToolCall) and "not valid JSON" in broken.problem  # worded anew, from the same arguments
    parts = (*kept[1].parts[:3], EVERY_PART[3], *kept[1].parts[4:])
    assert [kept[0], replace(kept[1], parts=parts), kept[2]] == [user("Hi"), Message("assistant", EVERY_PART), results]


# --- search -----------------------------------------------------------------------------------------------------------

TEXTS = [
    "The quick brown fox",
    'She said "NEAR (you" AND left',
    "我喜欢吃苹果和梨",
    "naïve Straße",
    "don't use foo_bar-baz",
    "用Python编程\N{FOX FACE}very",
]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("fox", [0]),
        ("FOX quick", [0]),
        ("quick bro", [0]),
        ("qui fox", []),
        ("fox AND", []),
        ("said AND", [1]),
        ("near (you", [1]),
        ('"near', [1]),
        ("苹果", [2]),
        ("果苹", []),
        ("喜", [2]),
        ("naive", [3]),
        ("foo_bar", [4]),
        ("don't fo*", [4]),
        ("Python 编程", [5]),
        ("very python ", [5]),
        ("fox \N{GRINNING FACE}", [0]),
        ("\N{GRINNING FACE}", []),
        ("", []),
        ('  "" -*^:(){} ', []),
        ("title", [0]),
    ],
)
async def test_search_finds_the_texts_that_have_all_the_words(store: Store, words: str, found: list[int]) -> None:
    made = [await store.create(ME, "A title" if number == 0 else "") for number in range(len(TEXTS))]
    for conversation, text in zip(made, TEXTS, strict=True):
        run = await ask(store, conversation.id, "Well")
        await answer(store, run, assistant(text))
    assert [each.id for each in await store.search(ME, words)] == [made[number].id for number in found]
    assert await store.search("other", words) == []


async def test_a_conversation_is_found_once_with_its_newest_match_the_newest_before_the_others(store: Store) -> None:
    made = [await store.create(ME) for _ in range(4)]
    for conversation in (*made, made[1]):
        run = await ask(store, conversation.id, f"{'so ' * 90}many\nducks of {conversation.id} {'and ' * 90}")
        await answer(store, run)
    found = await store.search(ME, "ducks", 3)
    assert [each.id for each in found] == [made[number].id for number in (1, 3, 2)]
    for each in found:
        assert re.fullmatch(rf"….* many ducks of {each.id} .*…", each.snippet) and len(each.snippet) < 150


async def test_a_title_that_was_changed_is_not_found_any_more(store: Store) -> None:
    conversation = await store.create(ME, "ducks")
    await store.change(ME, conversation.id, title="geese")
    assert await store.search(ME, "ducks") == []
    assert [each.title for each in await store.search(ME, "geese")] == ["geese"]


@given(st.text(max_size=20))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
def test_whatever_is_typed_is_a_query_and_finds_the_text_that_it_is(text: str) -> None:
    async def search() -> None:
        database = Database()
        await database.open(SCHEMA)
        try:
            store = Store(database)
            conversation = await store.create(ME)
            await ask(store, conversation.id, text)
            found = await store.search(ME, text)
        finally:
            await database.close()
        # Words of letters and digits alone: what else is part of one is the tokenizer's to say.
        if re.search("[0-9A-Za-z\u4e00-\u9fff]", text):
            assert [each.id for each in found] == [conversation.id]

    asyncio.run(search())


# --- deletion ---------------------------------------------------------------------------------------------------------


async def test_no_file_holds_a_word_of_what_was_deleted(tmp_path: Path) -> None:
    def holders() -> list[str]:
        words = [form.encode() for form in (WORD, WORD.lower())]  # the index has it in lower case
        return [
            path.name for path in tmp_path.rglob("*") if path.is_file() and any(w in path.read_bytes() for w in words)
        ]

    database = Database(tmp_path)
    await database.open(SCHEMA)
    clock = Clock()
    store = Store(database, clock)
    stays, goes = await store.create(ME), await store.create(ME, f"{WORD} in a title")
    for number in range(40):  # enough that the index has segments of several levels
        for conversation, word in ((stays, "stays"), (goes, WORD)):
            run = await ask(store, conversation.id, f"{word} {number} in a question")
            call = ToolCall("c", "send", {"to": word}, f'{{"to":"{word}"}}')
            await answer(store, run, assistant(f"{word} {number} in an answer"), request={"system": word})
    run = await ask(store, goes.id, "And?")
    await answer(store, run, Message("assistant", (call,)), outcome="paused", approvals=[approval(WORD)])
    await store.change(ME, goes.id, title=f"{WORD} in another title", system=f"{WORD} in a system prompt")
    runs = [run.id for run in await store.runs(ME, goes.id)]
    clock.now += module.UNDO  # whatever else there was to delete, it is not this
    assert await store.delete(ME, goes.id) == []
    assert await store.lost() == ([], []) and holders()
    clock.now += module.UNDO
    lost, lost_runs = await store.lost()
    assert (lost, set(lost_runs), len(lost_runs)) == ([goes.id], set(runs), 41)
    await store.purge([goes.id])
    assert await database.checkpoint() and holders() == []
    assert await store.lost() == ([], [])
    assert await store.search(ME, WORD) == []
    assert [each.id for each in await store.search(ME, "stays answer")] == [stays.id]
    assert len(await store.nodes(ME, stays.id)) == 80
    checked = await database.read(lambda db: db.execute("PRAGMA integrity_check").fetchall())
    assert checked == [("ok",)]
    await database.write(lambda db: db.execute("INSERT INTO search (search, rank) VALUES ('integrity-check', 1)"))
    await database.close()


@pytest.mark.parametrize("table", ["texts", "conversations"])
async def test_a_deletion_that_was_cut_short_is_done_again(
    store: Store, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = await store.create(ME)
    await answer(store, await ask(store, conversation.id, WORD))
    await store.delete(ME, conversation.id)
    monkeypatch.setattr(store, "clock", lambda: 9000.0)
    trigger = f"CREATE TEMP TRIGGER cut BEFORE DELETE ON {table} BEGIN SELECT raise(ABORT, 'cut'); END"
    await store.database.write(lambda db: db.execute(trigger))
    with pytest.raises(StorageError, match="cut"):
        await store.purge([conversation.id])
    await store.database.write(lambda db: db.execute("DROP TRIGGER cut"))
    ids, runs = await store.lost()
    assert (ids, len(runs)) == ([conversation.id], 1)
    await store.purge(ids)
    assert await store.lost() == ([], [])
    dump = await store.database.write(lambda db: "".join(map(str, db.execute("SELECT block FROM search_data"))))
    assert WORD.lower() not in dump


async def test_what_is_deleted_is_nowhere_until_it_is_brought_back_whole(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = await store.create(ME, "ducks", "Be brief.")
    ended, running = await ask(store, conversation.id), await ask(store, conversation.id, "Ho", "")
    await pause(store, ended, approval("a"))
    before = await store.tree(ME, conversation.id)
    assert await store.delete(ME, conversation.id) == [running]
    for work in (
        store.tree(ME, conversation.id),
        store.change(ME, conversation.id, title="geese"),
        store.turn(ME, conversation.id, ended.turn_id, "digest"),
        store.run(ME, ended.id),
        store.decide(ME, ended.id, [Decision("a", "approve")], run_of(conversation.id), 2000.0),
        ask(store, conversation.id, "Again", ended.parent_id),
        store.delete(ME, conversation.id),
    ):
        with pytest.raises(NotFound):
            await work
    assert await store.list(ME) == ([], "") and await store.search(ME, "ducks") == []
    assert await store.run(ME, running.id, deleted=True) == running
    for _ in range(2):
        restored = await store.change(ME, conversation.id, restore=True)
        assert restored == before[0]
    assert await store.tree(ME, conversation.id) == before
    assert [each.id for each in await store.search(ME, "ducks")] == [conversation.id]
    await store.delete(ME, conversation.id)
    now = store.clock()
    monkeypatch.setattr(store, "clock", lambda: now + module.UNDO)
    with pytest.raises(NotFound):
        await store.change(ME, conversation.id, restore=True)


async def test_what_is_added_whole_is_not_there_before_its_last_message(store: Store) -> None:
    texts = [f"duck{number}" for number in range(120)]
    nodes = [Node(f"msg_{at}", f"msg_{at - 1}" if at else "", user(text), "", 5.0) for at, text in enumerate(texts)]
    given = Conversation("conv_1", "ducks", 5.0, 7.0, "msg_119", False, "Be brief.", "a:b", True)
    run = run_of(outcome="failed", ended_at=6.0, ending={"finishReason": "stop"}, parent_id="msg_3", turn_id="")
    adding = asyncio.ensure_future(store.add(ME, given, nodes, [run]))
    seen = [0]
    while not adding.done():
        found = await store.search(ME, "ducks")
        seen += [len(await store.nodes(ME, each.id)) for each in found]
    assert set(seen) <= {0, 120}
    assert await store.tree(ME, "conv_1") == (given, nodes, [replace(run, conversation_id="conv_1")])


async def test_what_was_added_in_part_goes_as_what_was_deleted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [Node(f"msg_{at % 60}", "", user("Hi"), "", 5.0) for at in range(61)]
    with pytest.raises(StorageError):
        await store.add(ME, Conversation("conv_1", "ducks", 5.0, 7.0), nodes, [])
    assert await store.list(ME) == ([], "")
    now = store.clock()
    monkeypatch.setattr(store, "clock", lambda: now + module.UNDO)
    assert await store.lost() == (["conv_1"], [])


async def test_what_is_written_during_a_deletion_stays(store: Store) -> None:
    made = [await store.create(ME) for _ in range(6)]
    for conversation in made:
        await answer(store, await ask(store, conversation.id, "ducks"), assistant("and geese"))
    kept, *gone = made
    await asyncio.gather(*(store.delete(ME, conversation.id) for conversation in gone))
    await asyncio.gather(
        *(store.purge([conversation.id]) for conversation in gone),
        *(ask(store, kept.id, f"swan{number}", "") for number in range(20)),
    )
    assert [each.id for each in await store.search(ME, "ducks")] == [kept.id]
    assert [len(await store.search(ME, f"swan{number} ")) for number in range(20)] == [1] * 20
    assert [each.id for each in (await store.list(ME))[0]] == [kept.id]


# --- approvals --------------------------------------------------------------------------------------------------------


async def paused(store: Store, *approvals: Approval) -> tuple[Conversation, Run]:
    conversation = await store.create(ME)
    run = await ask(store, conversation.id)
    await pause(store, run, *approvals)
    return conversation, run


async def test_ten_decisions_at_once_go_on_with_one_run(store: Store) -> None:
    conversation, run = await paused(store, approval("a"))
    yes = [Decision("a", "approve")]
    following = [run_of(conversation.id, turn_id="") for _ in range(10)]
    decided = await asyncio.gather(*(store.decide(ME, run.id, yes, each, 2000.0) for each in following))
    assert [is_new for _, _, is_new in decided] == [True] + [False] * 9
    assert {next_id for _, next_id, _ in decided} == {following[0].id}
    runs = await store.runs(ME, conversation.id)
    assert [each.id for each in runs] == [run.id, following[0].id]
    assert runs[0].next_run_id == runs[1].id and runs[1].parent_id == run.message_id
    with pytest.raises(Conflict, match="decided already: approve"):
        await store.decide(ME, run.id, [Decision("a", "deny")], run_of(conversation.id), 2000.0)
    await answer(store, runs[1], Message("tool", (ToolResult("a", "send", "sent"),)), assistant("Sent."))
    leaf = (await store.get(ME, conversation.id)).leaf_id
    assert [node.message.role for node in await store.path(conversation.id, leaf)] == [
        *("user", "assistant", "tool", "assistant")
    ]


async def test_a_run_goes_on_when_the_last_of_its_calls_is_decided(store: Store) -> None:
    conversation, run = await paused(store, approval("a"), approval("b", by_caller=True))
    following = run_of(conversation.id, turn_id="")
    kept, next_id, is_new = await store.decide(ME, run.id, [Decision("b", "result", "42")], following, 2000.0)
    assert (next_id, is_new) == ("", False)
    assert [each.decision for each in kept.approvals] == [None, Decision("b", "result", "42")]
    kept, next_id, is_new = await store.decide(ME, run.id, [Decision("a", "deny", "No")], following, 2000.0)
    assert (next_id, is_new) == (following.id, True)
    assert [each.decision for each in kept.approvals] == [Decision("a", "deny", "No"), Decision("b", "result", "42")]


@pytest.mark.parametrize(
    ("decision", "now", "error", "told"),
    [
        (Decision("x", "approve"), 2000.0, NotFound, "'x'"),
        (Decision("a", "approve"), 9000.0, Conflict, "not decided in time"),
        (Decision("a", "result", "forged"), 2000.0, RequestError, "waits for a decision and was met with 'result'"),
        (Decision("b", "approve"), 2000.0, RequestError, "waits for its result and was met with 'approve'"),
    ],
)
async def test_a_decision_that_does_not_fit_changes_nothing(
    store: Store, decision: Decision, now: float, error: type[Exception], told: str
) -> None:
    conversation, run = await paused(store, approval("a"), approval("b", by_caller=True))
    before = await store.run(ME, run.id)
    with pytest.raises(error, match=told):
        await store.decide(ME, run.id, [Decision("b", "result", "42"), decision], run_of(conversation.id), now)
    assert await store.run(ME, run.id) == before


async def test_what_nobody_decides_is_denied_and_the_history_stays_valid(store: Store) -> None:
    conversation, run = await paused(store, approval("a", 3000.0), approval("b", 4000.0, by_caller=True))
    await store.decide(ME, run.id, [Decision("b", "result", "42")], run_of(), 2000.0)
    assert await store.expire_approvals(2999.0) == 0
    assert await store.expire_approvals(3000.0) == 1
    assert await store.expire_approvals(5000.0) == 0
    kept = await store.run(ME, run.id)
    assert kept.approvals[0].decision == Decision("a", "deny", EXPIRED) and kept.next_run_id == ""
    leaf = (await store.get(ME, conversation.id)).leaf_id
    assert leaf == f"{run.message_id}_2"
    history = [node.message for node in await store.path(conversation.id, leaf)]
    assert history[2] == Message(
        "tool", (ToolResult("a", "send", EXPIRED, is_error=True), ToolResult("b", "send", "42"))
    )
    assert sendable([*history, user("So?")], "a:b") == [*history, user("So?")]
    # What was decided is decided: to say it again brings nothing back to life.
    again = await store.decide(ME, run.id, [Decision("b", "result", "42")], run_of(conversation.id), 2000.0)
    assert again[1:] == ("", False)


async def test_a_call_that_is_left_can_still_be_approved_when_another_has_expired(store: Store) -> None:
    conversation, run = await paused(store, approval("a", 3000.0), approval("b", 4000.0))
    assert await store.expire_approvals(3500.0) == 1
    following = run_of(conversation.id, turn_id="")
    _, next_id, _ = await store.decide(ME, run.id, [Decision("b", "approve")], following, 3600.0)
    assert next_id == following.id
    assert await store.expire_approvals(9000.0) == 0
    assert len(await store.nodes(ME, conversation.id)) == 2


# --- runs that are kept for a while -----------------------------------------------------------------------------------


async def test_a_stateless_run_goes_with_its_log_and_not_before_its_calls_are_decided(store: Store) -> None:
    conversation = await store.create(ME)
    stored, running, ended, waiting = await ask(store, conversation.id), run_of(), run_of(), run_of()
    assert [await store.start(run) for run in (running, ended, waiting)] == [
        (running, True),
        (ended, True),
        (waiting, True),
    ]
    assert [run.id for run in await store.running()] == [stored.id, running.id, ended.id, waiting.id]
    await answer(store, stored)
    await answer(store, ended)
    await pause(store, waiting, approval("a"))
    now = store.clock()
    assert [run.id for run in await store.running()] == [running.id]
    assert await store.expired(1000.0) == []
    assert await store.expired(now) == [stored.id, ended.id]
    await store.note_deleted([stored.id, ended.id])
    assert await store.expired(now) == []
    assert (await store.run(ME, stored.id)).outcome == "completed"
    with pytest.raises(NotFound):
        await store.run(ME, ended.id)
    following = run_of()
    _, next_id, _ = await store.decide(ME, waiting.id, [Decision("a", "approve")], following, 2000.0)
    assert next_id == following.id and await store.expired(now) == [waiting.id]


def named(turn_id: str = "t", thread_id: str = "wire:a", digest: str = "d") -> tuple[Run, Caller]:
    """Return a new run, and how its caller names it, who finds it again while it runs and once it has completed."""
    again = frozenset(("", "completed"))
    run = run_of(thread_id=thread_id, turn_id=turn_id, digest=digest)
    return run, Caller(thread_id, turn_id, digest, again)


async def test_a_turn_that_its_caller_names_is_one_run_however_often_it_is_asked(store: Store) -> None:
    begun = await asyncio.gather(*(store.start(*named()) for _ in range(10)))
    first = begun[0][0]
    assert [is_new for _, is_new in begun] == [True] + [False] * 9 and {run.id for run, _ in begun} == {first.id}
    with pytest.raises(Conflict, match="another body"):
        await store.start(*named(digest="other"))
    with pytest.raises(Conflict, match="another body"):
        await store.asked(ME, named(digest="other")[1])
    for other in (named(turn_id="u"), named(thread_id="wire:b")):
        assert await store.start(*other) == (other[0], True)
    await answer(store, first)
    assert (await store.start(*named()))[0].id == first.id
    assert await store.asked("somebody else", named()[1]) is None


async def test_a_turn_that_failed_can_be_asked_again(store: Store) -> None:
    first, _ = await store.start(*named())
    await answer(store, first, outcome="failed")
    assert await store.asked(ME, named()[1]) is None
    second, is_new = await store.start(*named())
    assert is_new and second.id != first.id
    assert (await store.newest(ME, thread_id="wire:a")) == second


async def test_who_names_nothing_always_begins_anew(store: Store) -> None:
    nameless = [run_of(digest="d"), run_of(digest="d")]
    assert [is_new for _, is_new in [await store.start(run) for run in nameless]] == [True, True]
    assert await store.newest(ME, turn_id="t") is None


async def test_the_newest_run_is_found_by_its_thread_and_by_its_turn(store: Store) -> None:
    first, second, other = named("1")[0], named("2")[0], named("1", "wire:b")[0]
    for run in (first, second, other):
        await store.start(run)
    conversation = await store.create(ME)
    await ask(store, conversation.id)
    assert await store.newest(ME, thread_id="wire:a") == second
    assert await store.newest(ME, turn_id="1") == other
    assert await store.newest(ME, thread_id="wire:a", turn_id="1") == first
    for nothing in ({"thread_id": "wire:c"}, {"turn_id": "3"}):
        assert await store.newest(ME, **nothing) is None
    assert await store.newest("somebody else", thread_id="wire:a") is None


async def test_a_run_of_a_dead_process_is_claimed_once(store: Store) -> None:
    run = run_of()
    await store.start(run)
    claimed = [await store.claim(run, process) for process in ("q", "r")]
    assert claimed == [True, False] and (await store.run(ME, run.id)).process == "q"
    await answer(store, run)
    assert not await store.claim(replace(run, process="q"), "r")


# --- JSON -------------------------------------------------------------------------------------------------------------


def test_the_json_is_what_clients_are_told() -> None:
    conversation = Conversation("conv_1", "Hi", 0.0, 1795359845.1236)
    assert conversations.conversation_to_json(conversation) == {
        **{"id": "conv_1", "title": "Hi", "createdAt": "1970-01-01T00:00:00.000Z"},
        **{"updatedAt": "2026-11-22T15:04:05.123Z", "leafId": None, "isRunning": False},
        **{"system": "", "model": "", "pinned": False},
    }
    assert conversations.conversation_to_json(replace(conversation, snippet="so"))["snippet"] == "so"
    assert conversations.node_to_json(Node("msg_1", "", user("Hi"), "", 0.0)) == {
        **{"id": "msg_1", "parentId": None, "role": "user", "content": [{"type": "text", "text": "Hi"}]},
        **{"runId": None, "createdAt": "1970-01-01T00:00:00.000Z"},
    }
    run = Run("run_1", ME, "conv_1", "msg_1", "msg_2", "turn_1", "a:b")
    expected: dict[str, Any] = {
        **{"id": "run_1", "conversationId": "conv_1", "parentId": "msg_1", "messageId": "msg_2", "turnId": "turn_1"},
        **{"model": "a:b", "state": "running", "outcome": None, "finishReason": None, "usage": None, "error": None},
        **{"notices": [], "approvals": [], "nextRunId": None, "createdAt": "1970-01-01T00:00:00.000Z", "endedAt": None},
        **{"timing": None, "toolDurations": {}},
    }
    assert conversations.run_to_json(run) == expected
    ending = {"finishReason": "tool_calls", "usage": {"inputTokens": 1}}
    decided = approval("b", by_caller=True, decision=Decision("b", "result", "42"))
    ended = replace(run, outcome="paused", ended_at=1.0, ending=ending, approvals=(approval("a", 1.5), decided))
    call = {"toolName": "send", "input": {"to": "Bob"}}
    first = {"toolCallId": "a", "wants": "decision", "expiresAt": "1970-01-01T00:00:01.500Z", "decision": None}
    second = {"toolCallId": "b", "wants": "result", "expiresAt": "1970-01-01T02:30:00.000Z", "decision": "result"}
    assert conversations.run_to_json(ended) == expected | ending | {
        **{"state": "ended", "outcome": "paused", "endedAt": "1970-01-01T00:00:01.000Z"},
        "approvals": [first | call, second | call],
    }


# --- an older folder --------------------------------------------------------------------------------------------------


async def test_a_folder_of_an_older_version_is_brought_up_to_date(tmp_path: Path) -> None:
    old = Database(tmp_path)
    await old.open(Schema(SCHEMA.part, SCHEMA.steps[:2]))
    await old.write(
        lambda db: db.execute("INSERT INTO conversations VALUES ('conv_1', ?, 'ducks', 'msg_1', 5.0, 6.0)", (ME,))
    )
    await old.write(
        lambda db: db.execute(
            "INSERT INTO messages VALUES (1, 'msg_1', 'conv_1', '', '', 5.0, 'user', ?)",
            ('[{"type":"text","text":"Hi"}]',),
        )
    )
    await old.close()
    database = Database(tmp_path)
    await database.open(SCHEMA)
    store = Store(database)
    assert await store.tree(ME, "conv_1") == (
        Conversation("conv_1", "ducks", 5.0, 6.0, "msg_1"),
        [Node("msg_1", "", user("Hi"), "", 5.0)],
        [],
    )
    assert (await store.change(ME, "conv_1", system="Be brief.", pinned=True)).is_pinned
    await store.delete(ME, "conv_1")
    assert await store.list(ME) == ([], "")
    await database.close()


# --- plans and times --------------------------------------------------------------------------------------------------

# What may be gone through as a whole: a result, a list of ours, the index of words, and the few runs that go on.
SMALL = re.compile(
    r"SCAN (path|json_each VIRTUAL TABLE|search VIRTUAL TABLE|CONSTANT ROW|runs USING INDEX runs_running)\b.*"
)


async def test_every_statement_finds_its_rows_by_an_index(store: Store) -> None:
    conversation, run = await paused(store, approval("a", 3000.0))
    traced: list[str] = []
    connection = await store.database.write(lambda db: db)
    connection.set_trace_callback(traced.append)
    await store.list(ME, 50, "0_1000.0_conv")
    await store.search(ME, "send hi")
    await store.change(ME, conversation.id, title="ducks", leaf_id=run.parent_id, restore=True)
    await store.nodes(ME, conversation.id)
    await store.path(conversation.id, run.message_id)
    await store.runs(ME, conversation.id)
    await store.run(ME, run.id)
    begun = await ask(store, conversation.id, "Hi", run.message_id)
    await answer(store, begun)
    await store.running()
    await store.claim(begun, "q")
    await store.expired(9999.0)
    await store.expire_approvals(9999.0)
    await store.note_deleted([run.id])
    await store.delete(ME, conversation.id)
    await store.lost()
    await store.purge([conversation.id])
    connection.set_trace_callback(None)
    statements = [sql for sql in traced if re.match("(SELECT|WITH|UPDATE|DELETE|INSERT)", sql) and "search_" not in sql]
    assert len(statements) > 40
    for sql in statements:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}")]
        assert not [step for step in plan if "SCAN" in step and not SMALL.fullmatch(step)], (sql, plan)
        if "updated_at, id) <" in sql:
            assert not [step for step in plan if "TEMP B-TREE" in step], (sql, plan)


def test_the_times_are_measured() -> None:
    command = [sys.executable, SCRIPT, "--conversations", "4", "--messages", "40", "--rounds", "2"]
    env = os.environ | {"PYTHONPATH": str(SCRIPT.parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env)
    assert "4 conversations, 40 messages" in done.stdout and "delete, until no word is left" in done.stdout, done.stderr


# --- whatever is done -------------------------------------------------------------------------------------------------


class Growing(RuleBasedStateMachine):
    """Does anything to a conversation, and holds it against all that was ever seen of it."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.store = Store(Database(), Clock())
        self.do(self.store.database.open(SCHEMA))
        self.make()

    def do(self, work: Awaitable[Any]) -> Any:
        async def wait() -> Any:
            return await work

        return self.runner.run(wait())

    def teardown(self) -> None:
        self.do(self.store.database.close())
        self.runner.close()

    def make(self) -> None:
        self.id = self.do(self.store.create(ME)).id
        self.nodes: dict[str, Node] = {}
        self.runs: list[Run] = []

    def of(self, outcome: str) -> list[Run]:
        return [run for run in self.runs if run.outcome == outcome and not run.next_run_id]

    @rule(data=st.data(), says=st.booleans())
    def begin(self, data: st.DataObject, says: bool) -> None:
        parent_id = data.draw(st.sampled_from([None, "", *self.nodes]))
        leaf = self.conversation.leaf_id if parent_id is None else parent_id
        work = ask(self.store, self.id, "Hi" if says else None, parent_id)
        if not says and not leaf:
            with pytest.raises(RequestError):
                self.do(work)
        elif leaf in [run.parent_id for run in self.of("")]:
            with pytest.raises(Conflict):
                self.do(work)
        else:
            run = self.do(work)
            assert says or run.parent_id == leaf
            assert self.do(self.store.get(ME, self.id)).leaf_id == run.parent_id

    @precondition(lambda self: self.of(""))
    @rule(data=st.data(), count=st.integers(0, 3), pauses=st.booleans())
    def end(self, data: st.DataObject, count: int, pauses: bool) -> None:
        run = data.draw(st.sampled_from(self.of("")))
        asked = [approval(call_id, self.store.clock() + 30) for call_id in "ab"] if pauses else []
        said = [assistant(str(number)) for number in range(count)]
        self.do(self.store.end(run.id, "paused" if pauses else "stopped", {}, said, asked))

    @precondition(lambda self: self.of("paused"))
    @rule(data=st.data(), kind=st.sampled_from(["approve", "deny"]), call_id=st.sampled_from("ab"))
    def decide(self, data: st.DataObject, kind: Any, call_id: str) -> None:
        run = data.draw(st.sampled_from(self.of("paused")))
        decided = next(each.decision for each in run.approvals if each.call_id == call_id)
        now = self.store.clock()
        following = run_of(self.id, turn_id="")
        try:
            self.do(self.store.decide(ME, run.id, [Decision(call_id, kind)], following, now))
        except Conflict:
            assert decided or now >= run.approvals[0].expires_at

    @rule()
    def expire(self) -> None:
        self.do(self.store.expire_approvals(self.store.clock()))

    @precondition(lambda self: self.nodes)
    @rule(data=st.data())
    def select(self, data: st.DataObject) -> None:
        leaf_id = data.draw(st.sampled_from(list(self.nodes)))
        assert self.do(self.store.change(ME, self.id, leaf_id=leaf_id)).leaf_id == leaf_id

    @rule(title=st.text(max_size=3))
    def rename(self, title: str) -> None:
        self.do(self.store.change(ME, self.id, title=title))

    @precondition(lambda self: len(self.nodes) > 8)
    @rule(comes_back=st.booleans())
    def delete(self, comes_back: bool) -> None:
        assert self.do(self.store.delete(ME, self.id)) == [run for run in self.runs if not run.outcome]
        with pytest.raises(NotFound):
            self.do(self.store.tree(ME, self.id))
        if comes_back:
            self.do(self.store.change(ME, self.id, restore=True))
        else:
            self.do(self.store.purge([self.id]))
            self.make()

    @invariant()
    def nothing_is_ever_lost_or_changed(self) -> None:
        self.conversation, nodes, self.runs = self.do(self.store.tree(ME, self.id))
        seen = {node.id: node for node in nodes}
        assert len(seen) == len(nodes) and self.nodes.items() <= seen.items()
        self.nodes = seen
        assert all(node.parent_id in {"", *seen} for node in nodes)
        assert self.conversation.leaf_id in seen or not seen
        path = self.do(self.store.path(self.id, self.conversation.leaf_id))
        assert [node.parent_id for node in path] == ["", *(node.id for node in path)][: len(path)]
        assert not seen or path[-1].id == self.conversation.leaf_id


TestGrowing = Growing.TestCase
TestGrowing.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
