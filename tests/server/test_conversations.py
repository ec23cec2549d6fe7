"""Conversations over HTTP: made, listed, searched, read, changed, exported, taken in again and really deleted."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest

from chatstream import store
from chatstream.errors import NotFound
from chatstream.testing import Call, Turn

from .rig import HANG, Eraser, data_lines, files, problem, read_until, told, turn, until

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


async def test_a_new_conversation_has_nothing_but_what_it_was_given(running: Any) -> None:
    given = {"title": "Foxes", "system": "Be brief.", "model": "scripted:demo"}
    answer = await running.request("POST", "/api/conversations", given)

    made = answer.json
    assert answer.status == 201
    assert made.keys() == {"id", "createdAt", "updatedAt", "leafId", "isRunning", "pinned", *given}
    assert made.items() >= (given | {"leafId": None, "isRunning": False, "pinned": False}).items()
    assert made["id"].startswith("conv_") and _is_time(made["createdAt"]) and _is_time(made["updatedAt"])
    assert await running.tree(made["id"]) == made | {"messages": [], "runs": []}
    empty = (await running.request("POST", "/api/conversations", {})).json
    assert (empty["title"], empty["system"], empty["model"]) == ("", "", "")


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
    assert (run["timing"], run["toolDurations"]) == (last["timing"], {})
    assert 0 <= last["timing"]["firstTokenMs"] <= last["timing"]["durationMs"] >= last["timing"]["generationMs"]
    assert _is_time(run["createdAt"]) and _is_time(run["endedAt"]) and _is_time(asked["createdAt"])
    assert await running.get(f"/api/runs/{run['id']}") == run


async def test_the_list_has_what_is_pinned_first_then_what_changed_last_and_comes_in_pages(running: Any) -> None:
    made = [await running.conversation(title=str(number)) for number in range(5)]
    await _said(running, made[1], "Hello")
    await running.request("PATCH", f"/api/conversations/{made[0]}", {"pinned": True})
    wanted = [made[number] for number in (0, 1, 4, 3, 2)]

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
    ({"deleted": True}, 400, ["deleted", "False"]),
    ({"pinned": "yes"}, 400, ["pinned", "'boolean'"]),
    ({"system": None}, 400, ["system", "'string'"]),
    ({"system": "x" * 50_001, "title": "new"}, 400, ["system", "too long"]),
    ({"model": "nonsense", "title": "new"}, 400, ["model", "'nonsense'", "scripted:demo"]),
    ({"model": "scripted:/etc/passwd"}, 400, ["model", "scripted:demo"]),
    ({"system": "new", "pinned": True, "leafId": "msg_unknown"}, 404, ["msg_unknown"]),
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


@pytest.mark.parametrize(
    "body", [[], "x", {"title": 5}, {"title": "x" * 501}, {"id": "conv_mine"}, {"owner": "me"}, {"model": "other"}]
)
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


# --- asked with its own system prompt and model -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operator", "own", "sent"),
    [("Be kind.", "Be brief.", "Be kind.\n\nBe brief."), ("Be kind.", " ", "Be kind."), ("", "Be brief.", "Be brief.")],
)
async def test_a_conversation_is_asked_with_its_own_system_prompt_and_model_also_after_a_pause(
    operator: str, own: str, sent: str, start: Any, fake: Any
) -> None:
    erase = Turn(tools=[Call("erase", {"name": "a.txt"}, "c1")])
    provider = await fake(erase, Turn(text="Done."), Turn(text="Other."), Turn(text="And?"))
    running = await start("anthropic:fake", tools=Eraser().tools, system=operator)
    conversation = await running.conversation(system=own, model="openai-chat:mine")
    run = (await running.ask(turn(conversation)))[0]["runId"]
    decided = {"decisions": [{"toolCallId": "c1", "decision": "approve"}]}
    following = (await running.request("POST", f"/api/runs/{run}/approvals", decided)).json["runId"]
    await running.follow(following)
    await running.ask(turn(conversation, model="anthropic:other"))
    await running.request("PATCH", f"/api/conversations/{conversation}", {"system": "", "model": ""})
    await running.ask(turn(conversation))

    bodies = [request.body for request in provider.requests]
    systems = [body.get("system", body["messages"][0]["content"]) for body in bodies]
    assert [body["model"] for body in bodies] == ["mine", "mine", "other", "fake"]
    assert systems[:3] == [sent] * 3
    assert bodies[3].get("system", "") == operator
    assert [run["model"] for run in (await running.tree(conversation))["runs"]] == [
        *["openai-chat:mine"] * 2,
        *("anthropic:other", "anthropic:fake"),
    ]


async def test_a_model_that_cannot_be_used_any_more_is_named_with_what_to_do(
    start: Any, write_script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    model = write_script({"text": "Hello"})
    first = await start(model, data=tmp_path)
    script = await first.conversation(model="scripted:script")
    keyless = await first.conversation(model="claude-x")
    assert (await first.tree(keyless))["model"] == "anthropic:claude-x", "a key may come with the next start"
    assert (await first.ask(turn(script)))[-1]["outcome"] == "completed"
    second = await start("scripted:demo", data=tmp_path)

    answer = await second.request("POST", "/api/chat", turn(script))
    message = problem(answer, 404, "not_found")
    assert "'scripted:script'" in message and "scripted:demo" in message and "choose another one for it" in message
    answer = await second.request("POST", "/api/chat", turn(keyless))
    message = problem(answer, 502, "auth")
    assert "anthropic:claude-x cannot be used" in message and "choose another one for it" in message
    async with await second.open(turn(script, model="scripted:demo")) as response:
        assert response.status == 200
    await second.request("PATCH", f"/api/conversations/{keyless}", {"model": ""})
    async with await second.open(turn(keyless)) as response:
        assert response.status == 200


# --- import -----------------------------------------------------------------------------------------------------------


async def test_what_was_exported_is_taken_in_and_goes_on(start: Any, fake: Any, tmp_path: Path) -> None:
    provider = await fake(
        Turn(tools=[Call("look", {}, "c1")]), Turn(text="Two files."), Turn(text="One more."), Turn(text="Which?")
    )
    first = await start("anthropic:fake", tools=Eraser().tools)
    conversation = await first.conversation(title="Files", system="Be brief.", model="anthropic:fake")
    await _said(first, conversation, "What is there?")
    tree = await _said(first, conversation, "Or?", parentId=None)
    await first.request("PATCH", f"/api/conversations/{conversation}", {"pinned": True})
    exported = (await first.send("GET", f"/api/conversations/{conversation}?format=json")).json
    exported["model"] = "local:/only/there.gguf"

    second = await start("anthropic:fake", data=tmp_path)
    answer = await second.request("POST", "/api/conversations/import", exported)
    made = answer.json
    assert answer.status == 201
    assert made["id"] != conversation and made["updatedAt"] == exported["updatedAt"]
    assert (made["title"], made["system"], made["model"], made["pinned"]) == ("Files", "Be brief.", "", True)
    taken = await second.tree(made["id"])
    assert [each["content"] for each in taken["messages"]] == [each["content"] for each in tree["messages"]]
    told_of_runs = ("model", "outcome", "finishReason", "usage", "createdAt", "endedAt")
    assert [[run[name] for name in told_of_runs] for run in taken["runs"]] == [
        [run[name] for name in told_of_runs] for run in tree["runs"]
    ]
    assert [each["id"] for each in (await second.get("/api/conversations?q=two%20files"))["conversations"]] == [
        made["id"]
    ]
    end = (await second.follow(taken["runs"][0]["id"]))[-1][1]
    assert (end["type"], end["usage"]) == ("done", taken["runs"][0]["usage"])
    await _said(second, made["id"], "And?", parentId=taken["messages"][3]["id"])
    assert told(provider.requests[-1].body) == [
        *("user: What is there?", "c1 look {}", "c1: a.txt b.txt", "assistant: Two files.", "user: And?")
    ]


async def test_a_call_that_waits_is_decided_where_it_was_asked_and_not_in_an_import(start: Any, fake: Any) -> None:
    await fake(Turn(tools=[Call("erase", {"name": "a.txt"}, "c1")]), Turn(text="Done."), Turn(text="Well."))
    eraser = Eraser()
    running = await start("anthropic:fake", tools=eraser.tools)
    conversation = await running.conversation()
    run = (await running.ask(turn(conversation)))[0]["runId"]
    exported = await running.tree(conversation)
    made = (await running.request("POST", "/api/conversations/import", exported)).json["id"]
    (taken,) = (await running.tree(made))["runs"]
    decided = {"decisions": [{"toolCallId": "c1", "decision": "approve"}]}

    assert (taken["outcome"], taken["approvals"]) == ("interrupted", [])
    problem(await running.request("POST", f"/api/runs/{taken['id']}/approvals", decided), 404, "not_found")
    assert eraser.erased == []
    following = (await running.request("POST", f"/api/runs/{run}/approvals", decided)).json["runId"]
    await running.follow(following)
    assert eraser.erased == ["a.txt"]
    assert len((await running.tree(made))["messages"]) == 2
    assert (await _said(running, made, "And?"))["messages"][-1]["content"] == [{"type": "text", "text": "Well."}]


async def test_an_import_of_many_messages_keeps_nobody_waiting_and_is_whole(running: Any) -> None:
    messages = [{"id": "0", "role": "user", "content": "duck 0"}]
    messages += [
        {"id": str(at), "parentId": str(at - 1), "role": "user", "content": f"duck {at}"} for at in range(1, 1500)
    ]
    importing = asyncio.create_task(running.request("POST", "/api/conversations/import", {"messages": messages}))
    answered = 0
    while not importing.done():
        await running.lives()
        answered += 1
    made = (await importing).json
    assert answered > 3
    assert len((await running.tree(made["id"]))["messages"]) == 1500


PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + b"\0\0\0\1" * 2 + b"\x08\0\0\0\0").decode()
HELLO = {"id": "a", "role": "user", "content": "Hello"}
NO_IMPORTS: list[tuple[Any, int, list[str]]] = [
    ({}, 400, ["body", "'messages'"]),
    ({"messages": [HELLO, HELLO]}, 400, ["messages[1].id", "'a'"]),
    ({"messages": [HELLO, {"id": "b", "role": "tool", "content": "x"}]}, 400, ["messages[1].content", "'array'"]),
    ({"messages": [HELLO], "leafId": "b"}, 400, ["leafId", "'b'"]),
    (
        {"messages": [HELLO | {"content": [{"type": "image", "mediaType": "image/gif", "data": PNG}]}]},
        400,
        ["messages[0]"],
    ),
    (
        {"messages": [HELLO | {"content": [{"type": "image", "mediaType": "image/png", "data": "x"}]}]},
        400,
        ["messages[0]"],
    ),
    ({"messages": [HELLO | {"content": "x" * 60_000}]}, 413, ["50000"]),
]


@pytest.mark.parametrize(("body", "status", "told"), NO_IMPORTS)
async def test_of_an_import_that_is_refused_nothing_is_kept(
    body: Any, status: int, told: list[str], start: Any
) -> None:
    running = await start(max_body=50_000)
    message = problem(
        await running.request("POST", "/api/conversations/import", body),
        status,
        "too_large" if status == 413 else "bad_request",
    )
    assert [part for part in told if part not in message] == [], message
    assert (await running.get("/api/conversations"))["conversations"] == []
    image = HELLO | {"content": [{"type": "image", "mediaType": "image/png", "data": PNG}]}
    assert (await running.request("POST", "/api/conversations/import", {"messages": [image]})).status == 201


# --- delete -----------------------------------------------------------------------------------------------------------


async def test_what_is_deleted_is_gone_until_it_is_brought_back(running: Any) -> None:
    kept, conversation = await running.conversation(title="kept"), await running.conversation()
    before = await _said(running, conversation, "zebra")
    run = before["runs"][0]["id"]
    where = f"/api/conversations/{conversation}"
    answer = await running.request("DELETE", where)

    assert (answer.status, answer.body) == (204, b"")
    decided = {"decisions": [{"toolCallId": "c", "decision": "deny"}]}
    for method, path, value in (
        *(("GET", where, None), ("GET", f"{where}?format=md", None), ("DELETE", where, None)),
        *(("PATCH", where, {"title": "x"}), ("POST", "/api/chat", turn(conversation))),
        ("POST", "/api/chat", turn(conversation, turnId=before["runs"][0]["turnId"])),
        *(("GET", f"/api/runs/{run}", None), ("GET", f"/api/runs/{run}/events", None)),
        *(("POST", f"/api/runs/{run}/stop", None), ("POST", f"/api/runs/{run}/approvals", decided)),
    ):
        problem(await running.request(method, path, value), 404, "not_found")
    assert b'"not_found"' in (await running.send("GET", f"/api/events?run={run}")).body
    assert [each["id"] for each in (await running.get("/api/conversations"))["conversations"]] == [kept]
    assert (await running.get("/api/conversations?q=zebra"))["conversations"] == []

    for _ in range(2):
        answer = await running.request("PATCH", where, {"deleted": False, "title": "Back"})
        assert (answer.status, answer.json["title"]) == (200, "Back")
    assert await running.tree(conversation) == before | {"title": "Back"}
    assert (await running.follow(run))[-1][1]["type"] == "done"
    assert len((await _said(running, conversation, "And?"))["messages"]) == 4


async def test_to_delete_stops_the_answer_that_is_being_written_and_leaves_no_word_of_it_after_a_while(
    start: Any, fake: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def holders() -> list[str]:
        return [name for name, held in files(tmp_path).items() if b"uagga" in held or b"xyloph" in held]

    provider = await fake(Turn(text="Quaggas are extinct. " * 50, stall=2000))
    running = await start("anthropic:fake", data=tmp_path)
    conversation = await running.conversation()
    where = f"/api/conversations/{conversation}"
    async with await running.open(turn(conversation, "What about xylophones?")) as response:
        lines = data_lines(response)
        run = (await read_until(lines, "text"))[0]["runId"]
        assert (await running.request("DELETE", where)).status == 204
        assert (await read_until(lines, "done"))[-1]["outcome"] == "stopped"

    async with asyncio.timeout(HANG):
        await provider.requests[0].ended.wait()
    assert provider.requests[0].left
    await running.server.runs.sweep()
    assert holders() and await running.server.runs.log.read(run)
    monkeypatch.setattr(store, "UNDO", 0.0)
    problem(await running.request("PATCH", where, {"deleted": False}), 404, "not_found")
    await running.server.runs.sweep()
    with pytest.raises(NotFound):
        await running.server.runs.log.read(run)
    assert holders() == []


async def test_what_was_deleted_is_purged_by_the_next_process_too(
    start: Any, write_script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    model = write_script({"text": "Quaggas are extinct."})
    first = await start(model, data=data)
    conversation = await first.conversation(system="Speak of quaggas.")
    await _said(first, conversation, "What about quaggas?")
    await first.request("DELETE", f"/api/conversations/{conversation}")
    await first.server.close()
    second = await start(model, data=data)
    assert any(b"uagga" in held for held in files(data).values())
    monkeypatch.setattr(store, "UNDO", 0.0)
    reached = asyncio.Event()

    async def die() -> bool:
        reached.set()
        await asyncio.Event().wait()
        return False

    with monkeypatch.context() as patch:  # before it has done all of it
        patch.setattr(second.server.runs._database, "checkpoint", die)
        sweeping = asyncio.create_task(second.server.runs.sweep())
        await reached.wait()
        sweeping.cancel()
    assert any(b"uagga" in held for held in files(data).values())
    await start(model, data=data)
    assert [name for name, held in files(data).items() if b"uagga" in held] == []


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
    monkeypatch.setattr(store, "UNDO", 0.0)
    await runs.sweep()
    with pytest.raises(NotFound):
        await runs.log.read(frames[0]["runId"])
