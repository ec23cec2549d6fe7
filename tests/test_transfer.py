"""A conversation as a file: read by people, taken in again whole, and never believed more than it can be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatstream.conversations import Approval, Conversation, Node, Run, tree_to_json
from chatstream.errors import RequestError
from chatstream.messages import Citation, Message, Opaque, Reasoning, Text, ToolCall, ToolResult, is_answerable, user
from chatstream.providers import ModelRequest, anthropic, openai, openai_chat
from chatstream.server.bodies import IMPORT, explain
from chatstream.transfer import read_tree, to_file
from tests.test_messages import HERE, histories
from tests.validators import check_anthropic, check_chat, check_responses

NOW = 1795359845.125
CALL = ToolCall("c", "add", {"a": 1}, '{"a": 1}')
SAID = Message("assistant", (Reasoning("Simple."), Text("Let me see."), CALL))
RESULT = Message("tool", (ToolResult("c", "add", "```no```", is_error=True),))
USAGE = {"inputTokens": 1, "outputTokens": 2, "cachedTokens": 0, "reasoningTokens": 0, "estimated": True}
ENDING = {
    "finishReason": "stop",
    "usage": USAGE,
    "error": {"code": "timeout", "message": "Too late.", "retryable": True, "details": {"limit": 1}},
    "notices": [{"code": "retry", "message": "Again.", "lasting": True}],
    "timing": {"firstTokenMs": None, "durationMs": 5, "generationMs": 0},
    "toolDurations": {"c": 7},
}
NODES = [
    Node("m1", "", user("What is 1 + 2?"), "", 10.0),
    Node("m2", "m1", SAID, "r1", 11.5),
    Node("m3", "m2", RESULT, "r1", 11.5),
    Node("m4", "m3", Message("assistant", (Text("It is 3."),)), "r2", 12.25),
    Node("m5", "m1", Message("assistant", (Text("It is 4.", (Citation("u", "t"),)),)), "r3", 13.0),
    Node("m6", "", user("And 2 + 2?"), "", 14.0),
]
RUNS = [
    Run("r1", "me", "conv_1", "m1", "m2", "t1", "a:b", "p", 10.0, 11.5, "paused", "r2", ending=ENDING),
    Run("r2", "me", "conv_1", "m3", "m4", "", "a:b", "p", 11.5, 12.25, "completed", ending={"finishReason": "stop"}),
    Run("r3", "me", "conv_1", "m1", "m5", "t3", "c:d", "p", 12.5, 13.0, "failed", ending=ENDING),
    Run("r4", "me", "conv_1", "m6", "m7", "t4", "c:d", "p", 14.0),  # goes on, and has said nothing yet
]
CONVERSATION = Conversation("conv_1", "Sums, and more", 9.0, 14.0, "m4", True, "Be brief.", "a:b", True)

MARKDOWN = """\
# Sums, and more

## User

What is 1 + 2?

## Assistant

Let me see.

<details><summary>add was called with</summary>

```
{"a": 1}
```

</details>

<details><summary>add failed</summary>

````
```no```
````

</details>

It is 3.
"""


def told(conversation: Conversation = CONVERSATION, nodes: Any = NODES, runs: Any = RUNS) -> Any:
    """Return what an export says, as it is read again."""
    value = orjson.loads(to_file(conversation, nodes, runs, "json")[2])
    assert explain(IMPORT, value) == ""
    return value


def named(value: dict[str, Any]) -> Any:
    """Return a tree with numbers for its ids, by which it can be held against another one."""
    ids: dict[str, str] = {}

    def rename(at: Any) -> Any:
        match at:
            case dict():
                names = {"id", "parentId", "runId", "messageId", "leafId", "conversationId", "nextRunId"}
                known = {name: ids.setdefault(at[name], f"id {len(ids)}") for name in names & at.keys() if at[name]}
                return {name: known.get(name) or rename(each) for name, each in at.items()}
            case list():
                return list(map(rename, at))
            case _:
                return at

    for each in ([value], value["messages"], value["runs"]):
        for one in each:
            ids[one["id"]] = f"id {len(ids)}"
    return rename(value)


def imported(value: Any) -> Any:
    conversation, nodes, runs = read_tree(value, NOW)
    return tree_to_json(conversation, nodes, [replace(run, conversation_id=conversation.id) for run in runs])


def test_a_branch_is_written_to_be_read_and_a_tree_whole() -> None:
    assert to_file(CONVERSATION, NODES, RUNS, "md") == (
        "Sums-and-more.md",
        "text/markdown; charset=utf-8",
        MARKDOWN.encode(),
    )
    name, kind, data = to_file(CONVERSATION, NODES, RUNS, "json")
    assert (name, kind) == ("Sums-and-more.json", "application/json")
    assert orjson.loads(data) == tree_to_json(CONVERSATION, NODES, RUNS)
    name, _, data = to_file(Conversation("conv_2", "", 0.0, 0.0), [], [], "md")
    assert (name, data) == ("conversation.md", b"# Conversation\n")


def test_what_was_exported_is_taken_in_the_same_but_for_ids_and_for_what_went_on() -> None:
    value = told()
    again = imported(value)
    ids = [each["id"] for each in (value, *value["messages"], *value["runs"])]
    assert not [id for id in ids if f'"{id}"' in orjson.dumps(again).decode()]
    for run in value["runs"]:
        run["turnId"] = None  # who asked in this conversation has not asked in that one
    value["runs"][3] |= {"state": "ended", "outcome": "interrupted", "endedAt": "2026-11-22T15:04:05.125Z"}
    value["isRunning"] = False
    assert named(again) == named(value)
    assert named(imported(again)) == named(again)


def test_members_that_are_not_known_or_not_there_do_no_harm() -> None:
    least = {"messages": [{"id": "a", "role": "user", "content": "Hi"}, {"id": "b", "role": "user", "content": "Ho"}]}
    more = least | {"message": 5, "id": 7, "runs": [{"id": "r", "approvals": [1], "state": None}], "tags": {"a": [1]}}
    more["messages"] = [each | {"rating": 5, "runId": "r"} for each in least["messages"]]
    for value in (least, more):
        assert explain(IMPORT, value) == ""
        conversation, nodes, _ = read_tree(value, NOW)
        assert [(node.message, node.run_id) for node in nodes] == [(user("Hi"), ""), (user("Ho"), "")]
        assert (conversation.title, conversation.leaf_id) == ("Hi", nodes[1].id)
        assert {conversation.created_at, conversation.updated_at, nodes[0].created_at} == {NOW}
    conversation, nodes, runs = read_tree({"messages": []}, NOW)
    assert (conversation.title, conversation.leaf_id, nodes, runs) == ("", "", [], [])


def test_nothing_that_only_a_provider_can_have_written_is_taken() -> None:
    parts = (
        Reasoning("hm", "sig=", "red", HERE, "reasoning", {"id": "x"}),
        Reasoning("", "sig=", "", HERE),
        Text("So", (Citation("u"),), {"citations": []}, HERE),
        replace(CALL, extra={"signature": "s"}, origin=HERE),
        Opaque(HERE, {"type": "web_search_tool_result"}, "s", "web_search", {"q": "x"}, "found"),
        Opaque(HERE, {"type": "redacted"}),
    )
    said = [NODES[0], Node("m2", "m1", Message("assistant", parts), "", 11.0)]
    _, nodes, _ = read_tree(told(replace(CONVERSATION, leaf_id="m2"), said, []), NOW)
    assert nodes[1].message.parts == (
        *(Reasoning("hm"), Text("So", (Citation("u"),)), CALL),
        Opaque("", {}, "s", "web_search", {"q": "x"}, "found"),
    )


def test_no_call_of_it_waits_for_a_decision_and_a_failure_says_why() -> None:
    waiting = replace(RUNS[0], next_run_id="", approvals=(Approval("c", "add", {"a": 1}, False, 99.0),))
    _, _, runs = read_tree(told(runs=[waiting, *RUNS[1:]]), NOW)
    assert (runs[0].outcome, runs[0].approvals, runs[0].ending) == ("interrupted", (), ENDING)
    _, _, runs = read_tree(told(runs=[replace(RUNS[2], id=each.id, ending={}) for each in RUNS]), NOW)
    assert {run.outcome for run in runs} == {"interrupted"}


def test_no_message_is_older_than_its_parent() -> None:
    _, nodes, _ = read_tree(told(nodes=[*NODES[:3], replace(NODES[3], created_at=1.0), *NODES[4:]]), NOW)
    assert [node.created_at for node in nodes] == [10.0, 11.5, 11.5, 11.5, 13.0, 14.0]


@pytest.mark.parametrize(
    ("time", "kept"),
    [
        ("2026-11-22T15:04:05.123Z", 1795359845.123),
        ("2026-11-22T16:04:05+01:00", 1795359845.0),
        ("2026-11-22T15:04:05", 1795359845.0),
        ("2026-11-23T15:04:05Z", NOW),
        ("9999-12-31T23:59:59-23:59", NOW),
        ("0001-01-01T00:00:00+23:59", 0.0),
        (None, NOW),
    ],
)
def test_times_are_kept_but_none_is_to_come(time: Any, kept: float) -> None:
    value = {"messages": [{"id": "a", "role": "user", "content": "Hi", "createdAt": time}], "createdAt": time}
    conversation, nodes, _ = read_tree(value, NOW)
    assert (conversation.created_at, nodes[0].created_at) == (kept, kept)
    assert tree_to_json(conversation, nodes, [])["createdAt"].endswith("Z")


def change(at: str, index: int, **members: Any) -> Callable[[Any], Any]:
    return lambda value: value[at][index].update(members)


WRONG: dict[str, tuple[Callable[[Any], Any], str]] = {
    "the same message twice": (change("messages", 3, id="m2"), r"messages\[3\].id: 'm2' is the id of another one"),
    "the same run twice": (change("runs", 1, id="r1"), r"runs\[1\].id: 'r1'"),
    "an orphan": (change("messages", 1, parentId="m0"), r"messages\[1\].parentId: there is no 'm0' in this conver"),
    "its own parent": (change("messages", 1, parentId="m2"), r"messages\[1\].parentId: 'm2' is no message before"),
    "a circle": (change("messages", 0, parentId="m3"), r"messages\[0\].parentId: 'm3' is no message before this one"),
    "a run that is not there": (change("messages", 1, runId="r0"), r"messages\[1\].runId: there is no 'r0'"),
    "a run of no message": (change("runs", 0, parentId="m0"), r"runs\[0\].parentId: there is no 'm0'"),
    "no next run": (change("runs", 0, nextRunId="r0"), r"runs\[0\].nextRunId: there is no 'r0'"),
    "no such branch": (lambda value: value.update(leafId="m0"), r"^leafId: there is no 'm0'"),
    "no time": (change("messages", 2, createdAt="today"), r"messages\[2\].createdAt: 'today' is no time, such as"),
    "a first message of nothing": (change("messages", 0, content=" "), r"messages\[0\].content: .* a text or an image"),
    "an unknown role": (change("messages", 1, role="bot"), r"messages\[1\].role: 'bot' is not one of \['user'"),
    "a system message": (change("messages", 0, role="system"), r"messages\[0\].role: 'system' is not one of"),
    "an unknown part": (change("messages", 1, content=[{"type": "video"}]), r"messages\[1\].content\[0\].*'video'"),
    "a part of another": (
        change("messages", 0, content=[{"type": "reasoning", "text": "x"}]),
        r"messages\[0\].content",
    ),
    "no id": (lambda value: value["messages"][0].pop("id"), r"messages\[0\]: 'id' is a required property"),
    "a long id": (change("messages", 0, id="x" * 201), r"messages\[0\].id: .* is too long"),
    "no messages": (lambda value: value.pop("messages"), "body: 'messages' is a required property"),
    "an unknown outcome": (change("runs", 0, outcome="won"), r"runs\[0\].outcome: 'won' is not one of"),
    "an unknown reason": (change("runs", 0, finishReason="won"), r"runs\[0\].finishReason: 'won'"),
    "usage that is none": (change("runs", 0, usage={"inputTokens": 1}), r"runs\[0\].usage: 'outputTokens' is a requ"),
    "an error that is none": (change("runs", 0, error="bad"), r"runs\[0\].error: 'bad' is not of type"),
    "a long prompt": (lambda value: value.update(system="x" * 50_001), "system: .* is too long"),
    "pinned by a word": (lambda value: value.update(pinned="yes"), "pinned: 'yes' is not of type 'boolean'"),
}


@pytest.mark.parametrize(("spoil", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_named_with_its_place(spoil: Callable[[Any], Any], message: str) -> None:
    value = told()
    spoil(value)
    with pytest.raises(RequestError, match=message) as caught:
        if problem := explain(IMPORT, value):
            raise RequestError(problem)
        read_tree(value, NOW)
    assert len(caught.value.message) < 500


@given(histories, st.data())
def test_from_any_branch_of_it_the_next_request_is_valid_for_all_three_apis(
    history: list[Message], data: st.DataObject
) -> None:
    nodes: list[Node] = []
    for message in history:
        parents = [node.id for node in nodes] + [""] * is_answerable([message])
        if message.role != "system" and parents:
            nodes.append(Node(f"m{len(nodes)}", data.draw(st.sampled_from(parents)), message, "", 1.0))
    leaf_id = nodes[-1].id if nodes else ""
    _, kept, _ = read_tree(told(replace(CONVERSATION, leaf_id=leaf_id), nodes, []), NOW)
    assert len(kept) == len(nodes)
    for leaf in kept:
        branch = [leaf]
        while branch[0].parent_id:
            branch.insert(0, next(node for node in kept if node.id == branch[0].parent_id))
        request = ModelRequest("claude-x", [node.message for node in branch])
        sent = anthropic.build_request(request, "anthropic")["messages"]
        check_anthropic(sent)
        assert not [1 for message in sent for block in message["content"] if "thinking" in block["type"]]
        request = replace(request, model="gpt-x")
        check_chat(openai_chat.build_request(request, "openai-chat", compatible=False)["messages"])
        check_responses(openai.build_request(request, "openai", compatible=False)["input"])
