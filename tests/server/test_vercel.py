"""The AI SDK's routes: one run for one body, coming back, stopping, and what a client may not decide."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from chatstream.testing import Call, FakeProvider, Turn

from .rig import Answer, Eraser, Gate, until

MODEL = "openai-chat:fake"
PATH = "/ai-sdk/chat"
STEP = {"type": "step-start"}

Chunk = dict[str, Any]


def body(*messages: Chunk, id: str = "chat", **more: Any) -> dict[str, Any]:
    question = {"id": "u1", "role": "user", "parts": [{"type": "text", "text": "Hello"}]}
    return {"id": id, "messages": [question, *messages], "trigger": "submit-message"} | more


def chunks(answer: bytes) -> list[Chunk]:
    """Return the chunks of a whole stream."""
    *said, last = [line[6:] for line in answer.split(b"\n") if line.startswith(b"data: ")]
    assert last == b"[DONE]", answer[-200:]
    return [json.loads(each) for each in said]


def said(told: list[Chunk]) -> str:
    return "".join(each["delta"] for each in told if each["type"] == "text-delta")


def refusal(answer: Answer, status: int) -> str:
    """Return the words of an error, which are the whole body."""
    assert (answer.status, answer.headers["Content-Type"]) == (status, "text/plain; charset=utf-8"), answer
    assert answer.headers["X-Request-Id"]
    return answer.body.decode()


async def ask(running: Any, value: dict[str, Any], path: str = PATH) -> list[Chunk]:
    answer = await running.request("POST", path, value)
    assert answer.status == 200, answer
    return chunks(answer.body)


async def resume(running: Any, id: str = "chat", path: str = PATH) -> Answer:
    answer: Answer = await running.send("GET", f"{path}/{id}/stream")
    return answer


# --- one run for one body ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [PATH, "/api/chat"])
async def test_a_stream_has_the_headers_of_the_protocol(start: Any, fake: Any, path: str) -> None:
    await fake(Turn(text="Good day."))
    answer = await (await start(MODEL)).request("POST", path, body())
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert answer.headers["x-vercel-ai-ui-message-stream"] == "v1"
    assert answer.headers["X-Run-Id"].startswith("run_")
    assert said(chunks(answer.body)) == "Good day."


async def test_the_same_body_twice_is_one_run_at_once_and_after_its_end(start: Any, fake: Any) -> None:
    provider: FakeProvider = await fake(Turn(text="Good day."))
    running = await start(MODEL)
    first, second = await asyncio.gather(ask(running, body()), ask(running, body()))
    assert first == second == await ask(running, body())
    assert len(provider.requests) == 1


async def test_another_chat_with_the_same_question_is_another_run(start: Any, fake: Any) -> None:
    provider = await fake(Turn(text="One."), Turn(text="Two."))
    running = await start(MODEL)
    assert [said(await ask(running, body(id=id))) for id in ("a", "b")] == ["One.", "Two."]
    assert len(provider.requests) == 2


async def test_what_is_asked_anew_is_a_new_answer_once_the_earlier_is_over(start: Any, fake: Any, gate: Gate) -> None:
    provider = await fake(Turn(tools=[Call("wait", {})]), Turn(text="One."), Turn(text="Two."))
    running = await start(MODEL, tools=gate.tools)
    again = body(trigger="regenerate-message")
    both = asyncio.gather(ask(running, again), ask(running, again))
    await gate.entered.wait()
    gate.opened.put_nowait("go")
    assert [said(each) for each in await both] == ["One.", "One."]
    assert said(await ask(running, again)) == "Two."
    assert len(provider.requests) == 3


async def test_a_question_that_failed_can_be_sent_again(start: Any, fake: Any) -> None:
    await fake(Turn(status=400), Turn(text="Well."))
    running = await start(MODEL)
    assert (await ask(running, body()))[-1]["type"] == "error"
    assert said(await ask(running, body())) == "Well."


# --- watching ---------------------------------------------------------------------------------------------------------


async def test_there_is_nothing_to_come_back_to_in_a_chat_that_is_not_known(start: Any) -> None:
    answer = await resume(await start())
    assert (answer.status, answer.body) == (204, b"")


async def test_what_was_seen_to_its_end_is_told_again_for_a_while_only(start: Any, fake: Any) -> None:
    await fake(Turn(text="Good day."))
    running = await start(MODEL, linger=30)
    told = await ask(running, body())
    assert chunks((await resume(running)).body) == told
    running.server.runs.store.clock = lambda: time.time() + 31
    assert (await resume(running)).status == 204


@pytest.mark.parametrize("path", [PATH, "/api/chat"])
async def test_two_pages_that_come_back_are_told_all_of_it_and_what_follows(
    start: Any, fake: Any, gate: Gate, path: str
) -> None:
    await fake(Turn(text="I wait.", tools=[Call("wait", {})]), Turn(text="Done."))
    running = await start(MODEL, tools=gate.tools)
    asking = asyncio.create_task(ask(running, body(id="a b/c"), path))
    await gate.entered.wait()
    pages = [asyncio.create_task(resume(running, "a%20b%2Fc", path)) for _ in range(2)]
    live = next(iter(running.server.runs._live.values()))
    await until(lambda: live._viewers == 3)
    gate.opened.put_nowait("go")
    told = await asking
    assert said(told) == "I wait.Done."
    assert [chunks((await page).body) for page in pages] == [told, told]


async def test_drops_do_not_stop_an_answer_and_an_end_that_nobody_saw_is_kept_for_who_comes_back(
    start: Any, fake: Any, gate: Gate
) -> None:
    await fake(Turn(text="I wait.", tools=[Call("wait", {})]), Turn(text="Done."))
    running = await start(MODEL, tools=gate.tools, linger=30)
    for _ in range(3):
        response = await running.session.post(PATH, json=body())
        await gate.entered.wait()
        response.close()
    await until(lambda: not next(iter(running.server.runs._live.values())).is_watched)
    assert not gate.cancelled.is_set()
    gate.opened.put_nowait("go")
    await until(lambda: not running.server.runs._live)
    running.server.runs.store.clock = lambda: time.time() + 31
    assert said(chunks((await resume(running)).body)) == "I wait.Done."


async def test_an_answer_that_nobody_watches_for_long_is_stopped(start: Any, fake: Any, gate: Gate) -> None:
    await fake(Turn(text="I wait.", tools=[Call("wait", {})]), Turn(text="Never."))
    running = await start(MODEL, tools=gate.tools)  # whose linger is 0
    response = await running.session.post(PATH, json=body())
    await gate.entered.wait()
    response.close()
    await gate.cancelled.wait()
    await until(lambda: not running.server.runs._live)
    told = chunks((await resume(running)).body)
    assert (said(told), told[-1]) == ("I wait.", {"type": "abort"})


async def test_a_new_question_stops_what_nobody_in_the_chat_watches_any_more(start: Any, fake: Any, gate: Gate) -> None:
    await fake(Turn(tools=[Call("wait", {})]), Turn(text="New."))
    running = await start(MODEL, tools=gate.tools, linger=30)
    response = await running.session.post(PATH, json=body())
    await gate.entered.wait()
    response.close()
    await until(lambda: not next(iter(running.server.runs._live.values())).is_watched)
    more = {"id": "u2", "role": "user", "parts": [{"type": "text", "text": "And?"}]}
    assert said(await ask(running, body(more))) == "New."
    await gate.cancelled.wait()


async def test_a_log_that_is_gone_is_nothing_to_come_back_to(start: Any, fake: Any) -> None:
    await fake(Turn(text="Good day."))
    running = await start(MODEL, linger=30)
    answer = await running.request("POST", PATH, body())
    await running.server.runs.log.delete([answer.headers["X-Run-Id"]])
    assert (await resume(running)).status == 204


# --- stopping ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [PATH, "/api/chat"])
async def test_an_answer_is_stopped_from_another_connection(start: Any, fake: Any, gate: Gate, path: str) -> None:
    await fake(Turn(text="I wait.", tools=[Call("wait", {})]))
    running = await start(MODEL, tools=gate.tools)
    asking = asyncio.create_task(ask(running, body()))
    await gate.entered.wait()
    receipt = (await running.send("POST", f"{path}/chat/stop")).json
    assert (receipt["stopped"], receipt["outcome"]) == (True, "stopped")
    told = await asking
    assert [each["type"] for each in told].count("abort") == 1 and told[-1] == {"type": "abort"}
    assert (await running.send("POST", f"{path}/chat/stop")).json["stopped"] is False
    assert refusal(await running.send("POST", f"{path}/other/stop"), 404) == "There is no answer to stop."


# --- what is said of calls --------------------------------------------------------------------------------------------


@pytest.fixture
async def eraser(start: Any, fake: Any) -> tuple[Any, Eraser, str, Chunk]:
    """A server with an answer that waits for an approval: it, the tool, the id of the approval and the message."""
    await fake(Turn(tools=[Call("erase", {"name": "a.txt"}, "c1")]), Turn(text="Done."), Turn(text="More."))
    eraser = Eraser()
    running = await start(MODEL, tools=eraser.tools, linger=30)
    told = await ask(running, body())
    (approval,) = [each["approvalId"] for each in told if each["type"] == "tool-approval-request"]
    call = {"type": "tool-erase", "toolCallId": "c1", "state": "approval-requested", "input": {"name": "a.txt"}}
    return running, eraser, approval, {"id": told[0]["messageId"], "role": "assistant", "parts": [STEP, call]}


def answered(message: Chunk, **call: Any) -> dict[str, Any]:
    """Return a request that goes on with a message whose call is like this now."""
    step, before = message["parts"]
    return body(message | {"parts": [step, before | call]}, messageId=message["id"])


def approved(id: str, **more: Any) -> Chunk:
    return {"state": "approval-responded", "approval": {"id": id, "approved": True}} | more


async def test_ten_clicks_on_an_approval_run_the_tool_once(eraser: Any) -> None:
    running, tools, id, message = eraser
    clicks = [ask(running, answered(message, **approved(id))) for _ in range(10)]
    first, *others = await asyncio.gather(*clicks)
    assert tools.erased == ["a.txt"] and all(each == first for each in others)
    assert first[0] == {"type": "start", "messageId": message["id"]}
    assert first[1] == {"type": "tool-output-available", "toolCallId": "c1", "output": "erased a.txt"}
    assert said(first) == "Done."


async def test_who_comes_back_to_an_answer_that_went_on_is_told_what_was_before(eraser: Any) -> None:
    running, _, id, message = eraser
    await ask(running, answered(message, **approved(id)))
    told = chunks((await resume(running)).body)
    assert told[0]["messageId"] == message["id"]
    kinds = [each["type"] for each in told]
    assert kinds[1:5] == ["start-step", "tool-input-start", "tool-input-delta", "tool-approval-request"]
    assert kinds[5] == "tool-output-available"


ATTACKS: dict[str, tuple[dict[str, Any], int]] = {
    "an approval that was never asked for": ({"approval": {"id": "run_0.c1", "approved": True}}, 409),
    "a call that was never made": ({"approval": {"id": "{run}.c9", "approved": True}, "toolCallId": "c9"}, 409),
    "other arguments": ({"input": {"name": "b.txt"}}, 409),
    "more arguments": ({"input": {"name": "a.txt", "force": True}}, 409),
    "arguments that are none": ({"input": ["a.txt"]}, 409),
    "another tool": ({"type": "tool-look"}, 409),
    "the approval of another call": ({"toolCallId": "c2"}, 409),
    "a result made up": ({"state": "output-available", "output": "erased", "approval": None}, 400),
    "a failure made up": ({"state": "output-error", "errorText": "no", "approval": None}, 400),
}


@pytest.mark.parametrize(("change", "status"), ATTACKS.values(), ids=ATTACKS)
async def test_what_a_client_makes_up_about_a_call_is_refused(eraser: Any, change: Chunk, status: int) -> None:
    running, tools, id, message = eraser
    call = json.loads(json.dumps(approved(id) | change).replace("{run}", id.partition(".")[0]))
    value = answered(message, **{name: each for name, each in call.items() if each is not None})
    assert refusal(await running.request("POST", PATH, value), status)
    assert tools.erased == []


async def test_a_call_of_another_chat_is_not_decided_from_here(eraser: Any) -> None:
    running, tools, id, message = eraser
    value = answered(message, **approved(id)) | {"id": "other"}
    assert "never asked" in refusal(await running.request("POST", PATH, value), 409)
    assert tools.erased == []


async def test_an_approval_in_an_earlier_message_decides_nothing(eraser: Any) -> None:
    running, tools, id, message = eraser
    value = answered(message, **approved(id))
    value["messages"].append({"id": "u2", "role": "user", "parts": [{"type": "text", "text": "And?"}]})
    del value["messageId"]
    assert said(await ask(running, value)) == "Done."
    assert tools.erased == []


async def test_a_call_is_not_denied_and_approved_at_once(eraser: Any) -> None:
    running, tools, id, message = eraser
    denied = {"approval": {"id": id, "approved": False}}
    value = answered(message, **approved(id) | denied)
    value["messages"][-1]["parts"].append(value["messages"][-1]["parts"][-1] | approved(id, toolCallId="c2"))
    assert "'c2'" in refusal(await running.request("POST", PATH, value), 409)
    assert tools.erased == []


async def test_an_answer_that_goes_on_since_somebody_else_decided_is_told_in_the_message_it_belongs_to(
    eraser: Any,
) -> None:
    running, tools, id, message = eraser
    decisions = {"decisions": [{"toolCallId": "c1", "decision": "approve"}]}
    path = f"/api/runs/{id.partition('.')[0]}/approvals"
    assert (await running.request("POST", path, decisions)).status == 200
    told = await ask(running, answered(message, **approved(id)))
    assert told[0] == {"type": "start", "messageId": message["id"]}
    assert told[1]["type"] == "tool-output-available" and tools.erased == ["a.txt"]


async def test_a_call_that_is_denied_is_told_so(eraser: Any) -> None:
    running, tools, id, message = eraser
    denied = {"state": "approval-responded", "approval": {"id": id, "approved": False, "reason": "No."}}
    told = await ask(running, answered(message, **denied))
    assert told[1] == {"type": "tool-output-denied", "toolCallId": "c1"}
    assert tools.erased == []


# --- errors -----------------------------------------------------------------------------------------------------------


ERRORS = {
    "no JSON": (b"{", 400, "the body is not valid JSON"),
    "no history": (b'{"id":"c","trigger":"submit-message","message":{}}', 400, "messages: the history is kept"),
    "nothing asked": (
        b'{"id":"c","trigger":"submit-message","messages":[{"role":"user","parts":[]}]}',
        *(400, "messages: there is nothing to answer"),
    ),
    "a bad name of a tool": (json.dumps(body(tools={"a b": {}})).encode(), 400, "tools: tool 'a b'"),
}


@pytest.mark.parametrize(("value", "status", "told"), ERRORS.values(), ids=ERRORS)
async def test_an_error_is_its_message_alone(start: Any, value: bytes, status: int, told: str) -> None:
    running = await start()
    assert refusal(await running.post(value, path=PATH), status).startswith(told)


async def test_an_error_at_the_path_of_all_wires_has_the_form_of_who_asked(start: Any) -> None:
    running = await start()
    assert refusal(await running.request("POST", "/api/chat", body(temperature="hot")), 400).startswith("temperature")
    headers = [("Content-Type", "text/plain"), ("Content-Length", "2")]
    assert refusal(await running.send("POST", PATH, headers, [b"{}"]), 415)


async def test_a_method_that_is_not_there_is_told_so(start: Any) -> None:
    answer = await (await start()).send("GET", PATH)
    assert (answer.status, answer.headers["Allow"]) == (405, "POST")
