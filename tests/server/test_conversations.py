"""Conversations over HTTP: made, listed, searched, read, renamed, exported and really deleted."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest

from chatstream.errors import NotFound
from chatstream.testing import Turn

from .rig import HANG, data_lines, files, problem, read_until, turn, until

ODD = {
    "quotes": "a \"quoted\" and 'other' one",
    "lines": "first\r\nsecond\nSet-Cookie: x=1",
    "emoji": "🦊 fox 👩‍🚀 日本語",
    "a path": "../../etc/passwd",
    "percent": "100% & 50%; filename=other.exe",
    "control characters": "a\0b\x1b[2Jc",
    "only signs": "///",
    "long": "word " * 99,
}
NO_ID = ["conv_unknown", "x", "..", "a%2Fb", "%00", "%0a", "%F0%9F%A6%8A", "%ff", "a" * 3000, "'%20OR%201=1"]


@pytest.fixture
async def running(start: Any, write_script: Any) -> Any:
    return await start(write_script({"text": "A zebra crosses."}))


def _is_time(value: str) -> bool:
    """Return whether it is a time of now, ISO 8601 in UTC with milliseconds."""
    assert len(value) == len("2026-11-22T15:04:05.123Z") and value.endswith("Z")
    return abs((datetime.fromisoformat(value) - datetime.now(UTC)).total_seconds()) < HANG


async def _said(running: Any, conversation: str, text: str, **more: Any) -> Any:
    """Ask and have it answered; return the conversation as a tree."""
    assert (await running.ask(turn(conversation, text, **more)))[-1]["type"] == "done"
    return await running.tree(conversation)


# --- made, listed, read -----------------------------------------------------------------------------------------------


async def test_a_new_conversation_has_nothing_but_its_title(running: Any) -> None:
    answer = await running.request("POST", "/api/conversations", {"title": "Foxes"})

    made = answer.json
    assert answer.status == 201
    assert made.keys() == {"id", "title", "createdAt", "updatedAt", "leafId", "isRunning"}
    assert (made["title"], made["leafId"], made["isRunning"]) == ("Foxes", None, False)
    assert made["id"].startswith("conv_") and _is_time(made["createdAt"]) and _is_time(made["updatedAt"])
    assert await running.tree(made["id"]) == made | {"messages": [], "runs": []}
    assert (await running.request("POST", "/api/conversations", {})).json["title"] == ""


async def test_a_conversation_is_a_tree_of_messages_and_the_runs_that_wrote_them(running: Any) -> None:
    conversation = await running.conversation()
    body = turn(conversation, "What crosses?\nAnd why?")
    frames = await running.ask(body)
    tree = await running.tree(conversation)

    asked, answered = tree["messages"]
    (run,) = tree["runs"]
    assert (tree["title"], tree["leafId"], tree["isRunning"]) == ("What crosses?", answered["id"], False)
    assert (asked["role"], asked["parentId"], asked["runId"]) == ("user", None, None)
    assert asked["content"] == [{"type": "text", "text": "What crosses?\nAnd why?"}]
    assert (answered["role"], answered["parentId"], answered["runId"]) == ("assistant", asked["id"], run["id"])
    assert answered["content"] == [{"type": "text", "text": "A zebra crosses."}]
    first, last = frames[0], frames[-1]
    assert first == {
        **{"type": "start", "runId": run["id"], "conversationId": conversation, "parentId": asked["id"]},
        **{"messageId": answered["id"], "model": "scripted:script"},
    }
    assert (run["conversationId"], run["parentId"], run["messageId"]) == (conversation, asked["id"], answered["id"])
    assert (run["turnId"], run["state"], run["outcome"]) == (body["turnId"], "ended", "completed")
    assert (run["finishReason"], run["usage"], run["error"]) == ("stop", last["usage"], None)
    assert (run["approvals"], run["nextRunId"], run["model"]) == ([], None, "scripted:script")
    assert _is_time(run["createdAt"]) and _is_time(run["endedAt"]) and _is_time(asked["createdAt"])
    assert await running.get(f"/api/runs/{run['id']}") == run


async def test_the_list_has_what_changed_last_first_and_comes_in_pages(running: Any) -> None:
    made = [await running.conversation(title=str(number)) for number in range(5)]
    await _said(running, made[1], "Hello")
    wanted = [made[number] for number in (1, 4, 3, 2, 0)]

    assert [each["id"] for each in (await running.get("/api/conversations"))["conversations"]] == wanted
    found, pages, cursor = [], 0, ""
    while cursor is not None:
        page = await running.get(f"/api/conversations?limit=2&before={quote(cursor)}")
        found += [each["id"] for each in page["conversations"]]
        pages, cursor = pages + 1, page["next"]
    assert (found, pages) == (wanted, 3)


async def test_a_conversation_says_whether_it_is_being_answered(start: Any, fake: Any) -> None:
    await fake(Turn(text="half of it " * 50, stall=1500))
    running = await start("anthropic:fake")
    conversation = await running.conversation()
    async with await running.open(turn(conversation)) as response:
        await read_until(data_lines(response), "text")
        tree = await running.tree(conversation)
        listed = (await running.get("/api/conversations"))["conversations"]

    assert [each["isRunning"] for each in (tree, *listed)] == [True, True]
    assert (tree["runs"][0]["state"], tree["runs"][0]["outcome"], tree["runs"][0]["endedAt"]) == ("running", None, None)
    assert [message["role"] for message in tree["messages"]] == ["user"]


# --- what is refused --------------------------------------------------------------------------------------------------

BAD_LISTS = {
    **{f"limit={value}": ["limit", "1 to 200"] for value in ("0", "-1", "201", "ten", "1.5", "", "%C2%B2", "9" * 5000)},
    **{f"before={value}": ["before", "cursor"] for value in ("nonsense", "conv_1", "%00", "1e", "_")},
}


@pytest.mark.parametrize(("query", "told"), BAD_LISTS.items())
async def test_a_list_that_cannot_be_is_told_why(query: str, told: list[str], running: Any) -> None:
    message = problem(await running.send("GET", f"/api/conversations?{query}"), 400, "bad_request")

    assert [part for part in told if part not in message] == []
    assert len(message) < 200


@pytest.mark.parametrize("id", NO_ID)
async def test_what_does_not_exist_is_not_found_on_any_route(id: str, running: Any) -> None:
    path = f"/api/conversations/{id}"
    asked = [("GET", path, None), ("GET", f"{path}?format=md", None), ("DELETE", path, None)]
    asked += [("PATCH", path, {"title": "x"}), ("PATCH", path, {"leafId": "x"})]
    asked += [("GET", f"/api/runs/{id}", None), ("GET", f"/api/runs/{id}/events", None)]
    asked += [("POST", f"/api/runs/{id}/stop", None)]
    asked += [("POST", f"/api/runs/{id}/approvals", {"decisions": [{"toolCallId": "c", "decision": "deny"}]})]
    for method, where, value in asked:
        problem(await running.request(method, where, value), 404, "not_found")
    await running.lives()


BAD_CHANGES: list[tuple[Any, int, list[str]]] = [
    ({}, 400, ["body"]),
    ([], 400, ["body", "'object'"]),
    ({"title": 5}, 400, ["title", "'string'"]),
    ({"title": None}, 400, ["title", "'string'"]),
    ({"title": "x" * 501}, 400, ["title", "too long"]),
    ({"leafId": ""}, 400, ["leafId"]),
    ({"leafId": None}, 400, ["leafId", "'string'"]),
    ({"owner": "me"}, 400, ["body", "'owner'"]),
    ({"title": "new", "messages": []}, 400, ["body", "'messages'"]),
    ({"title": "new", "leafId": "msg_unknown"}, 404, ["msg_unknown"]),
]


@pytest.mark.parametrize(("body", "status", "told"), BAD_CHANGES)
async def test_a_bad_change_is_told_why_and_changes_nothing(
    body: Any, status: int, told: list[str], running: Any
) -> None:
    conversation = await running.conversation(title="old")
    before = await _said(running, conversation, "Hello")
    answer = await running.request("PATCH", f"/api/conversations/{conversation}", body)

    message = problem(answer, status, "not_found" if status == 404 else "bad_request")
    assert [part for part in told if part not in message] == [], message
    assert await running.tree(conversation) == before


@pytest.mark.parametrize("body", [[], "x", {"title": 5}, {"title": "x" * 501}, {"id": "conv_mine"}, {"owner": "me"}])
async def test_a_bad_conversation_is_not_made(body: Any, running: Any) -> None:
    problem(await running.request("POST", "/api/conversations", body), 400, "bad_request")

    assert (await running.get("/api/conversations"))["conversations"] == []


async def test_what_is_said_must_be_json_on_every_route(running: Any) -> None:
    conversation = await running.conversation()
    for method, path in (("POST", "/api/conversations"), ("PATCH", f"/api/conversations/{conversation}")):
        problem(await running.send(method, path, [("Content-Length", "2")], [b"{}"]), 415, "bad_request")
    await _said(running, conversation, "Hello")
    (run,) = (await running.tree(conversation))["runs"]
    answer = await running.send("POST", f"/api/runs/{run['id']}/approvals", [("Content-Length", "2")], [b"{}"])
    problem(answer, 415, "bad_request")


# --- renamed, another branch ------------------------------------------------------------------------------------------


async def test_a_title_is_changed_and_stays_so(running: Any) -> None:
    conversation = await running.conversation()
    path = f"/api/conversations/{conversation}"

    assert (await running.request("PATCH", path, {"title": "  My\n title "})).json["title"] == "My title"
    assert (await _said(running, conversation, "Another first line"))["title"] == "My title"
    assert (await running.request("PATCH", path, {"title": ""})).json["title"] == ""
    assert (await running.tree(conversation))["title"] == ""


async def test_another_branch_is_shown_and_what_is_asked_next_goes_on_there(running: Any) -> None:
    conversation = await running.conversation()
    first = await _said(running, conversation, "One")
    second = await _said(running, conversation, "Two", parentId=None)
    assert second["leafId"] != first["leafId"]
    path = f"/api/conversations/{conversation}"

    changed = (await running.request("PATCH", path, {"leafId": first["leafId"], "title": "Both"})).json
    assert (changed["leafId"], changed["title"]) == (first["leafId"], "Both")
    third = await _said(running, conversation, "Three")
    (asked,) = [each for each in third["messages"] if each["content"] == [{"type": "text", "text": "Three"}]]
    assert asked["parentId"] == first["leafId"]

    other = await running.conversation()
    foreign = (await _said(running, other, "Hello"))["leafId"]
    problem(await running.request("PATCH", path, {"leafId": foreign}), 404, "not_found")


# --- search -----------------------------------------------------------------------------------------------------------


async def test_what_was_said_and_titles_are_found(running: Any) -> None:
    animals = await running.conversation(title="Animals")
    await _said(running, animals, "Which striped animal crosses?")
    await running.conversation(title="Plants")

    async def found(words: str) -> list[Any]:
        return [each["title"] for each in (await running.get(f"/api/conversations?q={quote(words)}"))["conversations"]]

    for words in ("zebra", "STRIPED", "stri", "animal crosses", "anim"):
        assert await found(words) == ["Animals"], words
    assert await found("plants zebra") == []
    (hit,) = (await running.get("/api/conversations?q=zebra"))["conversations"]
    assert hit["snippet"] == "A zebra crosses."
    assert len(await found("  ")) == 2, "no words are a list of all"
    assert (await running.get("/api/conversations?q=a&limit=1"))["next"] is None


ODD_WORDS = [
    '"',
    '"a',
    "*",
    "AND",
    "a OR",
    "NOT",
    "NEAR(a",
    "(",
    ")",
    "^a",
    "text:a",
    "{a}",
    "a-b",
    "'; --",
    "\0",
    "日本",
]


@pytest.mark.parametrize("words", [*ODD_WORDS, "👩‍🚀", "\N{ZERO WIDTH SPACE}", "a" * 5000, "a " * 2000, "\ud83d", "%"])
async def test_any_words_can_be_searched_for(words: str, running: Any) -> None:
    await running.conversation(title="b")
    answer = await running.send("GET", f"/api/conversations?q={quote(words, errors='surrogatepass')}")

    assert (answer.status, answer.json) == (200, {"conversations": [], "next": None})


# --- export -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("title", ODD.values(), ids=ODD)
@pytest.mark.parametrize("form", ["md", "json"])
async def test_a_conversation_is_a_file_whose_name_is_harmless(title: str, form: str, running: Any) -> None:
    conversation = await running.conversation(title=title)
    tree = await _said(running, conversation, "What 'crosses'?")
    answer = await running.send("GET", f"/api/conversations/{conversation}?format={form}")

    assert answer.status == 200
    kind, _, name = answer.headers["Content-Disposition"].partition("; filename*=UTF-8''")
    assert kind == "attachment"
    assert name.isascii() and name.isprintable() and not set(name) & set("\"\\;/ '")
    stem, _, suffix = unquote(name).rpartition(".")
    assert stem and not set(stem) & set("/\\\0\r\n.") and suffix == form
    assert "Set-Cookie" not in answer.headers
    text = answer.body.decode()
    if form == "json":
        assert answer.headers["Content-Type"] == "application/json"
        assert json.loads(text) == tree
    else:
        assert answer.headers["Content-Type"] == "text/markdown; charset=utf-8"
        assert text.startswith("# " + " ".join(title.split())[:200])
        assert text.endswith("## User\n\nWhat 'crosses'?\n\n## Assistant\n\nA zebra crosses.\n")


async def test_a_title_that_says_something_is_the_name_of_the_file(running: Any) -> None:
    names = []
    for title in ("My 1st chat!", "日本語", ""):
        conversation = await running.conversation(title=title)
        answer = await running.send("GET", f"/api/conversations/{conversation}?format=md")
        names.append(unquote(answer.headers["Content-Disposition"].partition("''")[2]))

    assert names == ["My-1st-chat.md", "日本語.md", "conversation.md"]


@pytest.mark.parametrize("form", ["html", "MD", "md,json", "%00", "x" * 3000])
async def test_another_format_is_told_which_there_are(form: str, running: Any) -> None:
    path = f"/api/conversations/{await running.conversation()}?format={form}"

    message = problem(await running.send("GET", path), 400, "bad_request")
    assert "neither md nor json" in message and len(message) < 100


# --- delete -----------------------------------------------------------------------------------------------------------


async def test_what_is_deleted_is_gone(running: Any) -> None:
    kept, conversation = await running.conversation(title="kept"), await running.conversation()
    (run,) = (await _said(running, conversation, "zebra"))["runs"]
    answer = await running.request("DELETE", f"/api/conversations/{conversation}")

    assert (answer.status, answer.body) == (204, b"")
    for method, path in (
        *(("GET", f"/api/conversations/{conversation}"), ("DELETE", f"/api/conversations/{conversation}")),
        *(("GET", f"/api/runs/{run['id']}"), ("GET", f"/api/runs/{run['id']}/events")),
    ):
        problem(await running.request(method, path), 404, "not_found")
    problem(await running.request("POST", "/api/chat", turn(conversation)), 404, "not_found")
    assert [each["id"] for each in (await running.get("/api/conversations"))["conversations"]] == [kept]
    assert (await running.get("/api/conversations?q=zebra"))["conversations"] == []


async def test_to_delete_stops_the_answer_that_is_being_written_and_leaves_no_word_of_it(
    start: Any, fake: Any, tmp_path: Path
) -> None:
    provider = await fake(Turn(text="Quaggas are extinct. " * 50, stall=2000))
    running = await start("anthropic:fake", data=tmp_path)
    conversation = await running.conversation()
    async with await running.open(turn(conversation, "What about xylophones?")) as response:
        lines = data_lines(response)
        run = (await read_until(lines, "text"))[0]["runId"]
        assert (await running.request("DELETE", f"/api/conversations/{conversation}")).status == 204
        assert (await read_until(lines, "done"))[-1]["outcome"] == "stopped"

    async with asyncio.timeout(HANG):
        await provider.requests[0].ended.wait()
    assert provider.requests[0].left
    with pytest.raises(NotFound):
        await running.server.runs.log.read(run)
    assert [name for name, held in files(tmp_path).items() if b"uagga" in held or b"xyloph" in held] == []


async def test_an_answer_that_begins_while_its_conversation_is_deleted_is_stopped_too(
    start: Any, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = await fake(Turn(text="never heard " * 50, stall=500))
    running = await start("anthropic:fake")
    runs, conversation = running.server.runs, await running.conversation()
    asked: list[asyncio.Task[Any]] = []
    delete = runs.store.delete

    async def begin_first(*which: str) -> Any:
        # When it is asked what runs there is nothing, and when it is gone there is something.
        asked.append(asyncio.create_task(running.ask(turn(conversation))))
        await until(lambda: provider.requests)
        return await delete(*which)

    monkeypatch.setattr(runs.store, "delete", begin_first)
    assert (await running.request("DELETE", f"/api/conversations/{conversation}")).status == 204
    frames = await asked[0]

    assert frames[-1]["outcome"] == "stopped"
    with pytest.raises(NotFound):
        await runs.log.read(frames[0]["runId"])
