"""A page of TanStack AI's that is loaded again: what its thread holds, and a run told from its first event."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from jsonschema import validate

from chatstream.conversations import digest
from chatstream.server.answers import SCHEMAS, TANSTACK_THREAD
from chatstream.testing import Call, Turn
from chatstream.tools import tool

from .rig import JSON, Answer, Running, data_lines, problem, read_until

MODEL = "openai-chat:fake"
TEXT = {"type": "text", "text": "Hello"}
NOTHING = {"messages": [], "activeRun": None, "interrupts": None}
COLOUR = {"name": "pick_colour", "description": "Ask for a colour.", "parameters": {"type": "object"}}
SUM = [Call("add", {"a": 1, "b": 2}, "call_add")]
ERASE = [Call("erase", {"name": "a.txt"}, "call_a"), Call("erase", {"name": "b.txt"}, "call_b")]


@tool
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool(approval="always")
async def erase(name: str) -> str:
    """Erase a file."""
    return f"erased {name}"


def body(run: str = "run-1", text: str = "Hello", thread: str = "t", **more: Any) -> dict[str, Any]:
    """Return what the client posts; its `messages` are the question alone where there are no others."""
    asked = {"id": "msg-1", "role": "user", "content": text}
    return {"threadId": thread, "runId": run, "messages": [asked], "state": {}, "tools": [], "context": []} | more


async def post(running: Running, value: dict[str, Any], cursor: str = "") -> Answer:
    headers = [JSON, ("X-Run-Id", value["runId"]), *([("Last-Event-ID", cursor)] if cursor else [])]
    data = json.dumps(value).encode()
    return await running.send("POST", "/ag-ui", [*headers, ("Content-Length", str(len(data)))], [data])


async def ask(running: Running, value: dict[str, Any]) -> list[dict[str, Any]]:
    answer = await post(running, value)
    assert answer.status == 200, answer
    return frames(answer.body)


def frames(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in data.split(b"\n") if line.startswith(b"data: ")]


async def restore(running: Running, thread: str = "t", more: str = "") -> Any:
    state = await running.get(f"/ag-ui?threadId={thread}{more}")
    validate(state, SCHEMAS[TANSTACK_THREAD])
    return state


def question(text: str = "Hello") -> dict[str, Any]:
    return {"id": "msg-1", "role": "user", "parts": [{"type": "text", "content": text}]}


async def test_of_a_thread_that_nobody_knows_there_is_nothing(start: Any) -> None:
    running = await start()

    assert await restore(running, "unknown") == NOTHING
    assert await running.get("/api/chat?threadId=unknown") == NOTHING


async def test_an_answer_is_shown_with_the_ids_under_which_it_was_told(start: Any, fake: Any) -> None:
    await fake(Turn(reasoning="I add.", text="One moment.", tools=SUM), Turn(text="Three."))
    running = await start(MODEL, tools=[add])
    told = await ask(running, body())
    ids = [frame["messageId"] for frame in told if frame["type"] == "TEXT_MESSAGE_START"]
    (signed,) = [frame for frame in told if frame["type"] == "REASONING_ENCRYPTED_VALUE"]
    state = await restore(running)

    asked, first, second = state.pop("messages")
    assert state == {"activeRun": None, "interrupts": None}
    assert asked == question()
    assert [first.pop("id"), second.pop("id")] == ids
    assert first.pop("createdAt") == second.pop("createdAt")
    call = {"type": "tool-call", "id": "call_add", "name": "add", "arguments": '{"a": 1, "b": 2}'}
    assert first == {
        "role": "assistant",
        "parts": [
            {
                **{"type": "thinking", "content": "I add.", "stepId": signed["entityId"]},
                "signature": signed["encryptedValue"],
            },
            {"type": "text", "content": "One moment."},
            call | {"state": "complete", "input": {"a": 1, "b": 2}, "output": 3},
            {"type": "tool-result", "toolCallId": "call_add", "content": "3", "state": "complete"},
        ],
    }
    assert second == {"role": "assistant", "parts": [{"type": "text", "content": "Three."}]}
    for paged in ("&limit=1", "&limit=1&before=msg-1"):
        assert len((await restore(running, more=paged))["messages"]) == 3, "it has no pages"


async def test_what_was_posted_is_shown_as_it_was_before(start: Any, write_script: Any) -> None:
    running = await start(write_script({"text": "Well."}))
    bag = {"tanstack": {"createdAt": "2026-11-22T10:05:26.631Z", "toolCallMetadata": {"c1": {"mine": 1}}}}
    file = {"type": "document", "source": {"type": "data", "value": "SGk=", "mimeType": "text/plain"}}
    calls = [
        {"id": id, "type": "function", "function": {"name": "look", "arguments": arguments}}
        for id, arguments in (("c1", '{"at":1}'), ("c2", "{"), ("c3", "{}"))
    ]
    history: list[dict[str, Any]] = [
        {"id": "s", "role": "system", "content": "Be kind."},
        {"id": "u1", "role": "user", "content": [{"type": "text", "text": "Look."}, file], "metadata": bag},
        {"id": "r1", "role": "reasoning", "content": "One.", "encryptedValue": "signed"},
        {"id": "r2", "role": "reasoning", "content": "Two."},
        {"id": "a1", "role": "assistant", "content": "I look.", "toolCalls": calls, "metadata": bag},
        {"id": "t1", "role": "tool", "toolCallId": "c1", "content": '{"seen":true}'},
        {"id": "t2", "role": "tool", "toolCallId": "c2", "content": "null", "error": "too dark"},
        {
            "id": "t3",
            "role": "tool",
            "toolCallId": "c3",
            "content": '{"approved":true,"pendingExecution":true,"message":""}',
        },
        {"id": "t4", "role": "tool", "toolCallId": "of nobody", "content": ""},
        {"id": "x", "role": "activity", "activityType": "plan", "content": {}},
        {"id": "a2", "role": "assistant"},
        {"id": "u2", "role": "user", "content": "And?"},
    ]
    await ask(running, body(messages=history))
    shown = {each["id"]: each for each in (await restore(running))["messages"]}

    assert list(shown)[:-1] == ["s", "u1", "a1", "u2"]
    assert shown["s"]["role"] == "system"
    assert shown["u1"] | {"parts": []} == {
        **{"id": "u1", "role": "user", "parts": []},
        **{"createdAt": "2026-11-22T10:05:26.631Z", "metadata": bag},
    }
    assert shown["u1"]["parts"] == [{"type": "text", "content": "Look."}, file]
    one, two, text, *rest = shown["a1"]["parts"]
    assert one == {"type": "thinking", "content": "One.", "stepId": "r1", "signature": "signed"}
    assert two == {"type": "thinking", "content": "Two.", "stepId": "r2"}
    assert text == {"type": "text", "content": "I look."}
    assert [(part.get("state"), part.get("output")) for part in rest] == [
        *(("complete", {"seen": True}), ("error", None), ("approval-responded", None)),
        *(("complete", None), ("error", None)),
    ]
    assert rest[0] | {"input": {"at": 1}, "metadata": {"mine": 1}} == rest[0]
    assert "input" not in rest[1]
    assert rest[2]["approval"]["approved"] is True
    assert rest[4] == {
        "type": "tool-result",
        "toolCallId": "c2",
        "content": "null",
        "state": "error",
        "error": "too dark",
    }


async def test_a_page_builds_a_running_answer_itself(start: Any, fake: Any) -> None:
    provider = await fake(Turn(text="Once upon a time there was", write="event", stall=600))
    running = await start(MODEL, linger=60)
    async with running.session.post("/ag-ui", json=body(), headers={"X-Run-Id": "run-1"}) as response:
        await read_until(data_lines(response), "TEXT_MESSAGE_CONTENT")
    state = await restore(running)

    assert state == {"messages": [question()], "activeRun": {"runId": "run-1"}, "interrupts": None}
    async with running.session.get("/ag-ui?offset=-1&runId=run-1") as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        lines = data_lines(response)
        first, before, *_, last = await read_until(lines, "TEXT_MESSAGE_CONTENT")
        assert (first["type"], before) == ("RUN_STARTED", {"type": "MESSAGES_SNAPSHOT", "messages": [question()]})
        await running.request("POST", "/ag-ui/t/stop")
        rest = [frame async for frame in lines]
    assert rest[-1]["type"] == "RUN_FINISHED"
    assert len(provider.requests) == 1
    (_, answer) = (await restore(running))["messages"]
    said = [frame["delta"] for frame in [last, *rest] if frame["type"] == "TEXT_MESSAGE_CONTENT"]
    assert answer["parts"] == [{"type": "text", "content": "".join(said)}], "what it had said when it was stopped"


async def test_a_call_that_waits_is_shown_with_what_it_waits_for(start: Any, fake: Any) -> None:
    await fake(Turn(text="I erase.", tools=ERASE), Turn(text="Done."))
    running = await start(MODEL, tools=[erase])
    *_, last = await ask(running, body())
    asked = last["outcome"]["interrupts"]
    state = await restore(running)

    assert state["interrupts"] == {"runId": "run-1", "pending": asked}
    assert state["activeRun"] is None
    calls = [part for part in state["messages"][1]["parts"] if part["type"] == "tool-call"]
    assert [call["state"] for call in calls] == ["approval-requested", "approval-requested"]
    assert [call["approval"] for call in calls] == [{"id": each["id"], "needsApproval": True} for each in asked]

    yes = {"interruptId": asked[0]["id"], "status": "resolved", "payload": {"approved": True}}
    problem(await post(running, body("run-2", resume=[yes])), 409, "conflict")
    state = await restore(running)
    assert state["interrupts"] == {"runId": "run-1", "pending": asked[1:]}
    states = [part["state"] for part in state["messages"][1]["parts"] if part["type"] == "tool-call"]
    assert states == ["approval-responded", "approval-requested"]


async def test_what_nobody_decided_in_time_waits_no_more(start: Any, fake: Any) -> None:
    await fake(Turn(text="I erase.", tools=ERASE[:1]))
    running = await start(MODEL, tools=[erase], approve_within=0)
    await ask(running, body())
    await running.server.runs.sweep()
    state = await restore(running)

    assert state["interrupts"] is None
    _, call, result = state["messages"][1]["parts"]
    assert (call["state"], result["state"]) == ("error", "error")
    assert "in time" in result["content"]


async def test_a_page_calls_its_own_tools_again_that_nobody_has_answered(start: Any, fake: Any) -> None:
    await fake(Turn(text="You choose.", tools=[Call("pick_colour", {"of": "sky"}, "call_colour")]))
    running = await start(MODEL)
    told = await ask(running, body(tools=[COLOUR]))
    assert told[-1]["type"] == "RUN_FINISHED"

    assert await restore(running) == {"messages": [question()], "activeRun": {"runId": "run-1"}, "interrupts": None}
    again = frames((await running.send("GET", "/ag-ui?offset=-1&runId=run-1")).body)
    assert again == [told[0], {"type": "MESSAGES_SNAPSHOT", "messages": [question()]}, *told[1:]]


async def test_the_newest_run_of_a_thread_has_its_newest_question(start: Any, write_script: Any) -> None:
    running = await start(write_script({"text": "One."}, {"text": "Two."}, {"text": "Three."}))
    await ask(running, body("run-1", "First"))
    await ask(running, body("run-2", "Second"))
    await ask(running, body("run-3", "Elsewhere", "other"))

    texts = [part["content"] for each in (await restore(running))["messages"] for part in each["parts"]]
    assert texts[0] == "Second"
    assert len(texts) == 2


async def test_who_does_not_say_the_run_in_a_header_has_nothing_kept(start: Any, write_script: Any) -> None:
    running = await start(write_script({"text": "One."}))
    assert (await running.request("POST", "/ag-ui", body())).status == 200

    assert await restore(running) == NOTHING
    assert [frame["type"] for frame in frames((await running.send("GET", "/ag-ui?runId=run-1")).body)][:2] == [
        *("RUN_STARTED", "TEXT_MESSAGE_START")
    ]


async def test_a_run_whose_log_is_gone_is_gone(start: Any, write_script: Any) -> None:
    running = await start(write_script({"text": "One."}), keep_runs=0)
    await ask(running, body())
    await running.server.runs.sweep()

    assert await restore(running) == NOTHING
    problem(await running.send("GET", "/ag-ui?offset=-1&runId=run-1"), 404, "not_found")


@pytest.mark.parametrize(
    ("address", "status", "code"),
    [
        ("/ag-ui", 400, "bad_request"),
        ("/ag-ui?threadId=", 400, "bad_request"),
        ("/ag-ui?offset=x&runId=run-1", 400, "bad_request"),
        ("/ag-ui?offset=-1&runId=run-2", 404, "not_found"),
        ("/ag-ui?offset=99&runId=run-1", 404, "not_found"),
    ],
)
async def test_what_is_asked_wrongly_is_refused(
    address: str, status: int, code: str, start: Any, write_script: Any
) -> None:
    running = await start(write_script({"text": "One."}))
    await ask(running, body())

    problem(await running.send("GET", address), status, code)


async def test_a_run_of_another_front_end_is_none_of_this_one(start: Any, write_script: Any) -> None:
    running = await start(write_script({"text": "One."}))
    chat = {"id": "c", "trigger": "submit-message", "messages": [{"role": "user", "parts": [TEXT]}]}
    data = json.dumps(chat).encode()
    answer = await running.post(data, path="/ai-sdk/chat")
    assert answer.status == 200
    problem(await running.send("GET", f"/ag-ui?offset=-1&runId={digest(chat)}"), 404, "not_found")


async def test_a_stream_that_is_cut_at_any_byte_goes_on_as_if_it_had_not_been(start: Any, fake: Any) -> None:
    provider = await fake(Turn(reasoning="Ah \N{GRINNING FACE}.", text="I add.", tools=SUM), Turn(text="Three."))
    running = await start(MODEL, tools=[add])
    asked = body()
    whole = (await post(running, asked)).body
    joined = (await running.send("GET", "/ag-ui?offset=-1&runId=run-1")).body
    assert whole.count(b"data: ") >= 18

    for cut in range(0, len(whole), 61):
        seen, cursor = _seen(whole[:cut])
        if cursor:
            assert seen + _frames((await post(running, asked, cursor)).body) == _frames(whole), cut
    for cut in range(0, len(joined), 61):
        seen, cursor = _seen(joined[:cut])
        headers = [("Last-Event-ID", cursor)] if cursor else []
        rest = _frames((await running.send("GET", "/ag-ui?offset=-1&runId=run-1", headers)).body)
        # What stood before the run is told again with its first event, and a client leaves out an id that it has.
        both = seen + [frame for frame in rest if frame not in seen]
        assert both == _frames(joined), cut
    assert len(provider.requests) == 2


def _frames(data: bytes) -> list[bytes]:
    return [block + b"\n\n" for block in data.split(b"\n\n")[:-1] if block != b":"]


def _seen(data: bytes) -> tuple[list[bytes], str]:
    """Return the whole frames of what came, and the id of the last of them."""
    seen = _frames(data)
    ids = re.findall(rb"^id: (\S+)$", b"".join(seen), re.MULTILINE)
    return seen, ids[-1].decode() if ids else ""
