"""AG-UI's own client, as it is and as CopilotKit and assistant-ui use it, against a running server."""

from __future__ import annotations

from typing import Any

import pytest

from tests.server.rig import told

from .rig import Stage, driven

VERSIONS = {"1.0.0": "@ag-ui/client", "0.0.59": "@ag-ui/client-0"}
ADD = 'call_add add {"a": 1, "b": 2}'
SAID = 'A line,\n"quoted" and \N{GRINNING FACE}.'
# What the client has of each situation, its own question left out.
ANSWERS: dict[str, list[list[str]]] = {
    "plain": [["assistant", SAID]],
    "reasoning": [["reasoning", "Let me see.", "signed"], ["assistant", "Yes."]],
    "tools": [["assistant", "I add.", ADD], ["tool", "call_add", "3"], ["assistant", "Three."]],
    "thoughtful": [
        ["reasoning", "I need a sum.", "signed"],
        ["assistant", "I add.", ADD],
        ["tool", "call_add", "3"],
        ["reasoning", "So.", "signed"],
        ["assistant", "Three."],
    ],
    "silent": [["assistant", "", ADD], ["tool", "call_add", "3"], ["assistant", "Three."]],
    "object": [
        ["assistant", "", 'call_city look_up {"city": "Paris"}'],
        ["tool", "call_city", '{"city":"Paris","people":2100000}'],
        ["assistant", "Two millions."],
    ],
    "parallel": [
        ["assistant", "Both.", ADD, 'call_fail fail {"why": "no"}'],
        ["tool", "call_add", "3"],
        ["tool", "call_fail", "no"],
        ["assistant", "Three, and no."],
    ],
    "rounds": [
        ["assistant", "First.", ADD],
        ["tool", "call_add", "3"],
        ["assistant", "Second.", 'call_more add {"a": 3, "b": 4}'],
        ["tool", "call_more", "7"],
        ["assistant", "Ten."],
    ],
}


@pytest.fixture(scope="module", params=VERSIONS)
def stage(request: pytest.FixtureRequest) -> Stage:
    return driven("agui", VERSIONS[request.param])


def test_the_client_warns_of_nothing(stage: Stage) -> None:
    assert stage.results["console"]["warnings"] == []


@pytest.mark.parametrize("situation", ANSWERS)
def test_the_client_has_what_was_said_in_its_order(stage: Stage, situation: str) -> None:
    result = stage.results[situation]
    assert by_call(result["messages"]) == by_call([["user", f"{situation}: one"], *ANSWERS[situation]])
    assert (result["outcome"], result["errors"], result["pending"]) == ("success", [], [])
    assert len(set(result["ids"])) == len(result["ids"])


@pytest.mark.parametrize("situation", ANSWERS)
def test_what_the_client_sends_back_is_what_the_model_is_told(stage: Stage, situation: str) -> None:
    said = [line for message in by_call(ANSWERS[situation]) for line in as_told(message)]
    second = [f"user: {situation}: one", *said, "user: plain: two"]
    third = [*second, f"assistant: {SAID}", "user: plain: three"]
    asked = [told(body) for body in stage.bodies("plain")]
    assert second in asked
    assert third in asked


def test_reasoning_comes_back_as_it_was_signed(stage: Stage) -> None:
    (body,) = after(stage, "thoughtful: signed")
    thoughts = [part for message in body["messages"] for part in message["content"] if part["type"] == "thinking"]
    assert [(part["thinking"], part["signature"]) for part in thoughts] == [
        ("I need a sum.", "c2lnbmF0dXJl"),
        ("So.", "c2lnbmF0dXJl"),
    ]


def test_the_end_says_what_was_used_and_why_it_ended(stage: Stage) -> None:
    result = stage.results["tools"]
    assert result["usage"] == [
        {
            "provider": "openai-chat",
            "model": "fake",
            "inputTokens": 50,
            "outputTokens": 13,
            "totalTokens": 63,
            "reasoningTokens": 0,
            "cachedInputTokens": 10,
        }
    ]
    assert result["metadata"]["tanstack"]["finishReason"] == "stop"


def test_progress_of_a_tool_is_an_event_of_our_own(stage: Stage) -> None:
    progress = {"toolCallId": "call_city", "content": "looking for Paris"}
    assert stage.results["object"]["custom"] == [["tool-progress", progress]]


def test_what_a_page_says_of_itself_is_told_to_the_model(stage: Stage) -> None:
    (body,) = [body for body in stage.bodies("plain") if told(body) == ["user: plain: elsewhere"]]
    assert "The page: a list of files" in body["messages"][0]["content"]
    assert stage.results["elsewhere"]["outcome"] == "success"


def test_a_tool_of_the_page_is_run_by_the_page(stage: Stage) -> None:
    result = stage.results["client"]
    call = 'call_colour pick_colour {"of": "sky"}'
    assert result["asked"]["outcome"] == "success"
    assert result["asked"]["pending"] in (["call_colour"], [])  # 0.0.59 leaves it to the application to look
    assert result["answered"]["messages"] == [
        ["user", "client: sky"],
        ["assistant", "You choose.", call],
        ["tool", "call_colour", "blue"],
        ["assistant", "Blue it is."],
    ]
    so_far = ["user: client: sky", "assistant: You choose.", call, "call_colour: blue"]
    assert told(stage.bodies("client")[-1]) == so_far
    assert told(after(stage, "client: sky")[-1]) == [*so_far, "assistant: Blue it is.", "user: plain: later"]


DECIDED = {
    "approved": "a.txt is deleted",
    "denied": "The user denied this call.",
    "cancelled": "The user denied this call.",
}


@pytest.mark.parametrize("situation", DECIDED)
def test_a_call_waits_for_the_decision_and_goes_on_with_it(stage: Stage, situation: str) -> None:
    result = stage.results[situation]
    (asked,) = result["asked"]["interrupts"]
    about = {"kind": "approval", "toolName": "delete_file", "input": {"path": "a.txt"}}
    assert (asked["reason"], asked["toolCallId"], asked["metadata"]) == ("approval_required", "call_delete", about)
    assert result["decided"]["messages"][2:] == [["tool", "call_delete", DECIDED[situation]], ["assistant", "I see."]]
    (body,) = after(stage, f"approval: {situation}")
    assert told(body)[3:] == [f"call_delete: {DECIDED[situation]}", "assistant: I see.", "user: plain: later"]


def test_an_approval_and_a_tool_of_the_page_are_answered_together(stage: Stage) -> None:
    result = stage.results["mixed"]
    assert [each["metadata"]["kind"] for each in result["asked"]["interrupts"]] == ["client_tool", "approval"]
    assert result["decided"]["messages"][2:] == [
        ["tool", "call_add", "3"],
        ["tool", "call_colour", '{"colour":"blue"}'],
        ["tool", "call_delete", "a.txt is deleted"],
        ["assistant", "All done."],
    ]
    (body,) = after(stage, "mixed: all")
    assert told(body)[-1] == "user: plain: later"


def test_an_answer_that_breaks_off_is_an_error_and_the_conversation_goes_on(stage: Stage) -> None:
    result = stage.results["breaks"]
    ((code, message),) = result["errors"]
    assert code == "network"
    assert "was lost before the answer was complete" in message
    assert result["messages"][1][0] == "assistant"
    assert result["later"]["messages"][-1] == ["assistant", SAID]


def test_an_error_of_the_request_says_what_is_wrong(stage: Stage) -> None:
    failed = stage.results["refused"]["failed"]
    assert failed["status"] == 404
    assert "unknown model 'scripted:nowhere'" in failed["message"]
    assert failed["payload"]["error"]["code"] == "not_found"


def test_a_client_that_closes_its_request_stops_the_answer(stage: Stage) -> None:
    assert stage.results["aborted"]["messages"][1][1].startswith("Once")
    (request,) = [each for each in stage.fake.requests if told(each.body) == ["user: slow: aborted"]]
    assert request.left


def test_a_stop_ends_the_answer_for_whoever_watches_it(stage: Stage) -> None:
    result = stage.results["stopped"]
    assert result["receipt"]["stopped"] is True
    assert (result["outcome"], result["metadata"]["chatstream"]["outcome"]) == ("success", "stopped")
    assert result["later"]["messages"][-1] == ["assistant", SAID]


def after(stage: Stage, question: str) -> list[dict[str, Any]]:
    """Return what the provider was sent of a conversation that began with this question, once it had moved on."""
    return [body for body in stage.bodies("plain") if told(body)[0] == f"user: {question}"]


def as_told(message: list[str]) -> list[str]:
    role, *rest = message
    if role == "tool":
        return [f"{rest[0]}: {rest[1]}"]
    if role == "assistant":
        return [*([f"assistant: {rest[0]}"] if rest[0] else []), *rest[1:]]
    return []  # reasoning is no text


def by_call(messages: list[list[str]]) -> list[list[str]]:
    """Return messages with the results of one step in the order of their ids: which tool is quicker is not promised."""
    found: list[list[str]] = []
    for message in messages:
        at = len(found)
        while message[0] == "tool" and at and found[at - 1][0] == "tool" and found[at - 1][1] > message[1]:
            at -= 1
        found.insert(at, message)
    return found
