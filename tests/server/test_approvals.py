"""An approval lives on the server: it waits for a decision, survives what comes between, and is carried out once."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from chatstream.testing import Call, Turn
from chatstream.tools import tool

from .rig import MODELS, Eraser, data_lines, kinds, problem, question, read_until, texts, told, turn

APPROVE, DENY = {"decision": "approve"}, {"decision": "deny"}
ONE = [Call("erase", {"name": "a.txt"}, "c1")]
TWO = [*ONE, Call("look", {}, "c2"), Call("erase", {"name": "b.txt"}, "c3")]
ASK_ME = {
    "name": "ask_me",
    "description": "Ask the person at the screen.",
    "parameters": {"type": "object", "properties": {"what": {"type": "string"}}},
}
MINE = [Call("ask_me", {"what": "a colour"}, "c1")]


@pytest.fixture
def eraser() -> Eraser:
    return Eraser()


async def _pause(running: Any, is_stored: bool = True, **more: Any) -> tuple[str, str]:
    """Ask until the run pauses; return the ids of its conversation and of the run."""
    conversation = await running.conversation() if is_stored else ""
    body = turn(conversation, "Erase it.", **more) if is_stored else question("Erase it.", **more)
    frames = await running.ask(body)
    assert frames[-1]["outcome"] == "paused"
    return conversation, frames[0]["runId"]


async def _decide(running: Any, run: str, **decisions: dict[str, Any]) -> Any:
    """Decide on calls: `c1=APPROVE`."""
    body = {"decisions": [{"toolCallId": id} | decision for id, decision in decisions.items()]}
    return await running.request("POST", f"/api/runs/{run}/approvals", body)


async def _go_on(running: Any, run: str, **decisions: dict[str, Any]) -> list[Any]:
    """Decide, and return the frames of the run that goes on."""
    answer = await _decide(running, run, **decisions)
    assert answer.status == 200, answer
    return [frame for _, frame in await running.follow(answer.json["runId"]) if frame]


async def _open_calls(running: Any, run: str) -> dict[str, Any]:
    return {each["toolCallId"]: each["decision"] for each in (await running.get(f"/api/runs/{run}"))["approvals"]}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("is_stored", [True, False])
async def test_a_call_that_needs_an_approval_waits_for_it_and_is_run_once_then(
    is_stored: bool, model: str, start: Any, fake: Any, eraser: Eraser
) -> None:
    provider = await fake(Turn(text="I will.", tools=ONE), Turn(text="It is gone."))
    running = await start(model, tools=eraser.tools)
    conversation, run = await _pause(running, is_stored)

    frames = [frame for _, frame in await running.follow(run) if frame]
    asked = {"toolCallId": "c1", "toolName": "erase", "input": {"name": "a.txt"}, "wants": "decision"}
    assert [frame for frame in frames if frame["type"] == "approval"] == [{"type": "approval"} | asked]
    assert eraser.erased == []
    (approval,) = (await running.get(f"/api/runs/{run}"))["approvals"]
    assert approval.items() >= (asked | {"decision": None}).items()
    assert approval["expiresAt"] > (await running.get(f"/api/runs/{run}"))["endedAt"]

    rest = await _go_on(running, run, c1=APPROVE)
    assert kinds(rest) == ["start", "tool_result", "text", "turn", "done"]
    assert (rest[1]["toolCallId"], rest[1]["result"], rest[1]["isError"]) == ("c1", "erased a.txt", False)
    assert (rest[-1]["outcome"], eraser.erased) == ("completed", ["a.txt"])
    asked_again = ["user: Erase it.", "assistant: I will.", 'c1 erase {"name": "a.txt"}', "c1: erased a.txt"]
    assert told(provider.requests[1].body) == asked_again
    assert (await running.get(f"/api/runs/{run}"))["nextRunId"] == rest[0]["runId"]
    if is_stored:
        tree = await running.tree(conversation)
        assert [node["role"] for node in tree["messages"]] == ["user", "assistant", "tool", "assistant"]
        assert [node["parentId"] for node in tree["messages"][1:]] == [node["id"] for node in tree["messages"][:-1]]
        assert tree["leafId"] == tree["messages"][-1]["id"]
        assert rest[0]["parentId"] == tree["messages"][1]["id"]
        assert rest[0]["messageId"] == tree["messages"][2]["id"]
    else:
        assert [message["role"] for message in rest[-1]["messages"]] == ["tool", "assistant"]


async def test_the_conversation_shows_what_waits(start: Any, fake: Any, eraser: Eraser) -> None:
    await fake(Turn(text="I will.", tools=TWO))
    running = await start("anthropic:fake", tools=eraser.tools)
    conversation, _ = await _pause(running)

    tree = await running.tree(conversation)
    (run,) = tree["runs"]
    assert (run["state"], run["outcome"], tree["isRunning"]) == ("ended", "paused", False)
    assert [(each["toolCallId"], each["decision"]) for each in run["approvals"]] == [("c1", None), ("c3", None)]
    assert [node["role"] for node in tree["messages"]] == ["user", "assistant", "tool"]
    assert [part["toolCallId"] for part in tree["messages"][2]["content"]] == ["c2"], "what needs none was run"


@pytest.mark.parametrize("model", MODELS)
async def test_a_call_that_is_denied_is_not_run_and_the_model_is_told_why(
    model: str, start: Any, fake: Any, eraser: Eraser
) -> None:
    provider = await fake(Turn(tools=ONE), Turn(text="As you like."))
    running = await start(model, tools=eraser.tools)
    _, run = await _pause(running)
    rest = await _go_on(running, run, c1=DENY | {"reason": "I still need it."})

    (result,) = [frame for frame in rest if frame["type"] == "tool_result"]
    assert (result["result"], result["isError"]) == ("The user denied this call. I still need it.", True)
    assert told(provider.requests[1].body)[-1] == f"c1: {result['result']}"
    assert (texts(rest), eraser.erased) == ("As you like.", [])


@pytest.mark.parametrize("model", MODELS)
async def test_a_run_goes_on_when_all_of_its_calls_are_decided(
    model: str, start: Any, fake: Any, eraser: Eraser
) -> None:
    provider = await fake(Turn(text="Two files.", tools=TWO), Turn(text="Done."))
    running = await start(model, tools=eraser.tools)
    _, run = await _pause(running)
    first = await _decide(running, run, c3=APPROVE)

    assert (first.status, first.json["runId"]) == (200, None)
    assert [each["decision"] for each in first.json["approvals"]] == [None, "approve"]
    assert (len(provider.requests), eraser.erased) == (1, [])
    rest = await _go_on(running, run, c1=DENY)
    assert (rest[-1]["outcome"], eraser.erased) == ("completed", ["b.txt"])
    assert told(provider.requests[1].body)[5:] == [
        *("c1: The user denied this call.", "c2: a.txt b.txt", "c3: erased b.txt")
    ]


async def test_to_decide_again_is_fine_and_to_change_ones_mind_is_not(start: Any, fake: Any, eraser: Eraser) -> None:
    await fake(Turn(tools=TWO), Turn(text="Done."))
    running = await start("anthropic:fake", tools=eraser.tools)
    _, run = await _pause(running)
    for _ in range(2):
        assert (await _decide(running, run, c1=APPROVE)).json["runId"] is None
    assert "decided already" in problem(await _decide(running, run, c1=DENY), 409, "conflict")
    problem(await _decide(running, run, c3=APPROVE, c1=DENY), 409, "conflict")
    assert await _open_calls(running, run) == {"c1": "approve", "c3": None}, "all of a request, or nothing"
    following = (await _decide(running, run, c1=APPROVE, c3=DENY)).json["runId"]

    for again in ({"c1": APPROVE}, {"c3": DENY}, {"c1": APPROVE, "c3": DENY}):
        assert (await _decide(running, run, **again)).json["runId"] == following
    problem(await _decide(running, run, c3=APPROVE), 409, "conflict")
    await running.follow(following)
    assert eraser.erased == ["a.txt"]


async def test_ten_clicks_at_once_run_the_tool_once(start: Any, fake: Any, eraser: Eraser, tmp_path: Path) -> None:
    provider = await fake(Turn(tools=ONE), Turn(text="Done."))
    running = await start("anthropic:fake", tools=eraser.tools, data=tmp_path)
    conversation, run = await _pause(running)
    answers = await asyncio.gather(*(_decide(running, run, c1=APPROVE) for _ in range(10)))

    assert {answer.status for answer in answers} == {200}
    (following,) = {answer.json["runId"] for answer in answers}
    await running.follow(following)
    assert (eraser.erased, len(provider.requests)) == (["a.txt"], 2)
    assert len((await running.tree(conversation))["runs"]) == 2


async def test_the_last_two_calls_decided_at_once_go_on_once(start: Any, fake: Any, eraser: Eraser) -> None:
    provider = await fake(Turn(tools=TWO), Turn(text="Done."))
    running = await start("anthropic:fake", tools=eraser.tools)
    _, run = await _pause(running)
    answers = await asyncio.gather(_decide(running, run, c1=APPROVE), _decide(running, run, c3=APPROVE))

    (following,) = {answer.json["runId"] for answer in answers} - {None}
    await running.follow(following)
    assert (sorted(eraser.erased), len(provider.requests)) == (["a.txt", "b.txt"], 2)


@pytest.mark.parametrize("is_stored", [True, False])
async def test_an_open_call_survives_a_restart(
    is_stored: bool, start: Any, fake: Any, eraser: Eraser, tmp_path: Path
) -> None:
    provider = await fake(Turn(tools=ONE), Turn(text="Done."))
    running = await start("anthropic:fake", tools=eraser.tools, data=tmp_path, keep_runs=0)
    chosen = {"maxOutputTokens": 77, "tools": ["erase"]}
    _, run = await _pause(running, is_stored, **chosen)
    await running.server.close()

    running = await start("anthropic:fake", tools=eraser.tools, data=tmp_path, keep_runs=0)
    await running.server.runs.sweep()
    assert await _open_calls(running, run) == {"c1": None}
    assert texts(await _go_on(running, run, c1=APPROVE)) == "Done."
    assert eraser.erased == ["a.txt"]
    again = provider.requests[1].body
    assert told(again) == ["user: Erase it.", 'c1 erase {"name": "a.txt"}', "c1: erased a.txt"]
    assert (again["max_tokens"], [each["name"] for each in again["tools"]]) == (77, ["erase"]), "as it was asked"


async def test_what_nobody_decides_in_time_is_denied(start: Any, fake: Any, eraser: Eraser) -> None:
    provider = await fake(Turn(tools=TWO), Turn(text="Never mind."))
    running = await start("anthropic:fake", tools=eraser.tools, approve_within=0.3)
    conversation, run = await _pause(running)
    paused = time.time()
    assert (await _decide(running, run, c1=APPROVE)).status == 200
    await asyncio.sleep(0.35 - (time.time() - paused))
    assert "in time" in problem(await _decide(running, run, c3=APPROVE), 409, "conflict")
    await running.server.runs.sweep()

    assert await _open_calls(running, run) == {"c1": "approve", "c3": "deny"}
    problem(await _decide(running, run, c3=APPROVE), 409, "conflict")
    tree = await running.tree(conversation)
    results = {part["toolCallId"]: part for part in tree["messages"][-1]["content"]}
    assert [(id, result["isError"]) for id, result in results.items()] == [("c1", True), ("c3", True)]
    assert eraser.erased == []
    assert texts(await running.ask(turn(conversation, "Well?"))) == "Never mind."
    assert told(provider.requests[1].body)[-2].startswith("c3: Nobody decided")


BAD: dict[str, tuple[Any, int, list[str]]] = {
    "no decisions": ({"decisions": []}, 400, ["decisions"]),
    "nothing": ({}, 400, ["'decisions'"]),
    "no call": ({"decisions": [APPROVE]}, 400, ["decisions[0]", "'toolCallId'"]),
    "no decision": ({"decisions": [{"toolCallId": "c1"}]}, 400, ["decisions[0]", "'decision'"]),
    "another decision": ({"decisions": [{"toolCallId": "c1", "decision": "yes"}]}, 400, ["'yes'", "'approve'"]),
    "an unknown call": ({"decisions": [{"toolCallId": "cx"} | APPROVE]}, 404, ["cx"]),
    "a call that needs none": ({"decisions": [{"toolCallId": "c2"} | APPROVE]}, 404, ["c2"]),
    "one known, one not": ({"decisions": [{"toolCallId": "c1"} | APPROVE, {"toolCallId": "cx"} | DENY]}, 404, ["cx"]),
    "a result for the server's tool": (
        {"decisions": [{"toolCallId": "c1", "result": "42"}]},
        400,
        ["c1", "a decision"],
    ),
    "both": ({"decisions": [{"toolCallId": "c1", "result": "42"} | APPROVE]}, 400, ["decisions[0]"]),
    "other arguments": ({"decisions": [{"toolCallId": "c1", "input": {"name": "/"}} | APPROVE]}, 400, ["'input'"]),
    "a call twice": (
        {"decisions": [{"toolCallId": "c1"} | DENY, {"toolCallId": "c1"} | APPROVE]},
        400,
        ["decisions", "two"],
    ),
    "a result that is no text": ({"decisions": [{"toolCallId": "c1", "result": {"a": 1}}]}, 400, ["result"]),
    "a very long reason": ({"decisions": [{"toolCallId": "c1", "reason": "x" * 10_001} | DENY]}, 400, ["reason"]),
}


@pytest.mark.parametrize(("body", "status", "said"), BAD.values(), ids=BAD)
async def test_a_bad_decision_is_told_why_and_decides_nothing(
    body: Any, status: int, said: list[str], start: Any, fake: Any, eraser: Eraser
) -> None:
    await fake(Turn(tools=TWO))
    running = await start("anthropic:fake", tools=eraser.tools)
    _, run = await _pause(running)
    answer = await running.request("POST", f"/api/runs/{run}/approvals", body)

    message = problem(answer, status, "not_found" if status == 404 else "bad_request")
    assert [part for part in said if part not in message] == [], message
    assert len(message) < 1000
    assert await _open_calls(running, run) == {"c1": None, "c3": None}


async def test_a_run_in_which_nothing_waits_takes_no_decision(start: Any, write_script: Any) -> None:
    running = await start(write_script({"text": "Hi"}))
    run = (await running.ask())[0]["runId"]

    problem(await _decide(running, run, c1=APPROVE), 404, "not_found")


@pytest.mark.parametrize("model", MODELS)
async def test_a_new_message_goes_on_without_a_decision(model: str, start: Any, fake: Any, eraser: Eraser) -> None:
    provider = await fake(Turn(tools=TWO), Turn(text="Fine."), Turn(text="Erased."))
    running = await start(model, tools=eraser.tools)
    conversation, run = await _pause(running)

    assert texts(await running.ask(turn(conversation, "Leave it."))) == "Fine."
    lines = told(provider.requests[1].body)
    assert [line.partition(":")[0] for line in lines[4:]] == ["c1", "c2", "c3", "user"]
    assert "not run" in lines[4] and "not run" in lines[6]
    before = await running.tree(conversation)
    await _go_on(running, run, c1=APPROVE, c3=DENY)
    after = await running.tree(conversation)
    assert after["leafId"] == before["leafId"], "what is shown stays"
    assert eraser.erased == ["a.txt"]
    assert told(provider.requests[2].body)[-3:] == [
        *("c1: erased a.txt", "c2: a.txt b.txt", "c3: The user denied this call.")
    ]


async def test_a_stop_while_an_approved_call_runs_is_a_result_too(start: Any, fake: Any, tmp_path: Path) -> None:
    entered = asyncio.Event()

    @tool(approval=lambda input: input["name"] != "safe")
    async def erase(name: str) -> str:
        "Erase a file."
        if name != "safe":
            entered.set()
            await asyncio.Event().wait()
        return "safe"

    calls = [*ONE, Call("erase", {"name": "safe"}, "c2")]
    provider = await fake(Turn(tools=calls), Turn(text="I see."))
    running = await start("anthropic:fake", tools=[erase], data=tmp_path)
    conversation, run = await _pause(running)
    assert await _open_calls(running, run) == {"c1": None}, "a function of the input says which calls wait"
    following = (await _decide(running, run, c1=APPROVE)).json["runId"]
    async with running.session.get(f"/api/runs/{following}/events") as response:
        await entered.wait()
        assert (await running.request("POST", f"/api/runs/{following}/stop")).json["outcome"] == "stopped"
        frames = await read_until(data_lines(response), "done")

    assert [frame["isError"] for frame in frames if frame["type"] == "tool_result"] == [True]
    assert texts(await running.ask(turn(conversation, "Well?"))) == "I see."
    assert told(provider.requests[1].body)[3:] == ["c1: The user stopped this call.", "c2: safe", "user: Well?"]


# --- tools that the caller runs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("is_stored", [True, False])
async def test_a_tool_of_the_callers_waits_for_its_result(
    is_stored: bool, model: str, start: Any, fake: Any, eraser: Eraser
) -> None:
    both = [*MINE, Call("look", {}, "c2")]
    provider = await fake(Turn(tools=both), Turn(tools=[Call("ask_me", {}, "c3")]), Turn(text="Blue it is."))
    running = await start(model, tools=eraser.tools)
    _, run = await _pause(running, is_stored, tools=["look", ASK_ME])

    (approval,) = (await running.get(f"/api/runs/{run}"))["approvals"]
    assert (approval["toolName"], approval["input"], approval["wants"]) == ("ask_me", {"what": "a colour"}, "result")
    frames = [frame for _, frame in await running.follow(run) if frame and frame["type"] == "approval"]
    assert [frame["wants"] for frame in frames] == ["result"]
    problem(await _decide(running, run, c1=APPROVE), 400, "bad_request")
    rest = await _go_on(running, run, c1={"result": "blue"})
    assert rest[-1]["outcome"] == "paused", "it is asked again: the tools stay declared"
    last = await _go_on(running, rest[0]["runId"], c3={"result": "It broke.", "isError": True})
    assert texts(last) == "Blue it is."
    body = provider.requests[2].body
    names = [each.get("name") or each["function"]["name"] for each in body["tools"]]
    assert names == ["look", "ask_me"]
    assert told(body)[-4:] == ["c1: blue", "c2: a.txt b.txt", "c3 ask_me {}", "c3: It broke."]
    assert [frame["isError"] for frame in last if frame["type"] == "tool_result"] == [True]


async def test_a_tool_of_the_callers_can_be_denied_and_its_result_told_again(start: Any, fake: Any) -> None:
    provider = await fake(Turn(tools=[*MINE, Call("ask_me", {}, "c2")]), Turn(text="Well."))
    running = await start("anthropic:fake")
    _, run = await _pause(running, tools=[ASK_ME])
    for _ in range(2):
        assert (await _decide(running, run, c2={"result": ""})).json["runId"] is None
    problem(await _decide(running, run, c2={"result": "other"}), 409, "conflict")

    await _go_on(running, run, c1=DENY)
    assert told(provider.requests[1].body)[-2:] == ["c1: The user denied this call.", "c2: (no output)"]


async def test_a_tool_of_the_callers_is_declared_for_its_own_run_alone(start: Any, fake: Any, eraser: Eraser) -> None:
    provider = await fake(Turn(text="One."), Turn(text="Two."))
    running = await start("anthropic:fake", tools=eraser.tools)
    conversation = await running.conversation()
    await running.ask(turn(conversation, tools=[ASK_ME]))
    await running.ask(turn(conversation))

    sent = [[each["name"] for each in request.body["tools"]] for request in provider.requests]
    assert sent == [["ask_me"], ["erase", "look"]]


async def test_what_goes_on_by_a_decision_from_elsewhere_stays_in_its_thread(
    start: Any, fake: Any, eraser: Eraser
) -> None:
    await fake(Turn(tools=ONE), Turn(text="Done."))
    running = await start("anthropic:fake", tools=eraser.tools)
    message = {"id": "m", "role": "user", "parts": [{"type": "text", "text": "Erase it."}]}
    asked = {"id": "a-chat", "trigger": "submit-message", "messages": [message]}
    paused = (await running.request("POST", "/ai-sdk/chat", asked)).headers["X-Run-Id"]

    following = (await _decide(running, paused, c1=APPROVE)).json["runId"]
    again = await running.send("GET", "/ai-sdk/chat/a-chat/stream")
    assert again.headers["X-Run-Id"] == following
    assert b"Done." in again.body
