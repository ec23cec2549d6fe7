"""TanStack AI's ChatClient against the server: what it shows, what it sends back, how it comes back to an answer."""

from __future__ import annotations

import asyncio
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from chatstream.testing import Call, Recorded, Turn
from tests.prove.proxy import Cut, Proxy
from tests.server.rig import told
from tests.situations import OF_ONE_API

from .rig import SITUATIONS, Stage, stage

_PACE: dict[str, Any] = {"chunk": 4, "write": "event", "delay": 0.01}
_SUM = [Call("add", {"a": 1, "b": 2}, "call_add")]
SITUATIONS |= {
    "search": OF_ONE_API["anthropic"]["provider_tool"],
    # Answers that are long enough for a page to be loaded again meanwhile.
    "steps": [
        Turn(reasoning="I begin.", text="First of all I add two numbers.", tools=_SUM, **_PACE),
        Turn(reasoning="I go on.", text="Second comes what they are.", **_PACE | {"delay": 0.03}),
    ],
    "patient": [
        Turn(text="I delete it.", tools=[Call("delete_file", {"path": "a.txt"}, "call_delete")]),
        Turn(text="Slowly, slowly it is done.", **_PACE | {"delay": 0.03}),
    ],
}
_EVENT = re.compile(rb"\ndata: [^\n]*\n\n")


class Cutter(Proxy):
    """Cuts as the address says: `?cut=3` the first stream behind its third event, `?cut=each` every one behind its
    first, `?cut=each-torn` every one in its second."""

    def _fault(self, request: bytes) -> Cut | None:
        head = request.partition(b"\r\n\r\n")[0].decode()
        (wanted,) = parse_qs(urlsplit(head.split(" ", 2)[1]).query).get("cut", [""])
        if wanted.startswith("each"):
            return Cut(1, is_reset=wanted == "each-torn")
        is_first = "last-event-id:" not in head.lower()
        return Cut(int(wanted)) if wanted and is_first else None

    async def _relay(self, upstream: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: Cut | None) -> None:
        data = b""
        while piece := await upstream.read(2**16):
            data += piece
            ends = [found.end() for found in _EVENT.finditer(data)]
            if cut is not None and len(ends) >= cut.at:
                torn = 20 if cut.is_reset else 0
                writer.write(piece[: max(ends[cut.at - 1] + torn - len(data) + len(piece), 0)])
                return
            writer.write(piece)


async def drive() -> Stage:
    # No run is to be stopped because the machine was slow to ask for it again.
    async with stage(linger=60) as each, Cutter(int(each.url.rpartition(":")[2])) as cutter:
        await each.drive("tanstack", CHATSTREAM_CUTTER=cutter.url)
    return each


@pytest.fixture(scope="module")
def driven() -> Stage:
    return asyncio.run(drive())


def shown(driven: Stage, situation: str) -> list[list[str]]:
    """Return what the page shows at the end of a situation, which must have gone well: a list for each message."""
    came = driven.results[situation]
    assert (came["status"], came["loading"], came.get("error")) == ("ready", False, None), came
    assert len(set(came["ids"])) == len(came["ids"]), "an id that occurs twice is an answer that overwrites another"
    messages: list[list[str]] = came["messages"]
    return messages


def requests(driven: Stage, question: str) -> list[Recorded]:
    """Return the requests to the provider that a question led to."""
    return [each for each in driven.fake.requests if _question(told(each.body)) == question]


def asked(driven: Stage, question: str) -> list[list[str]]:
    """Return what the provider was told in them."""
    return [told(each.body) for each in requests(driven, question)]


def _question(lines: list[str]) -> str:
    return [line for line in lines if line.startswith("user: ")][-1].removeprefix("user: ")


ADD = 'add {"a": 1, "b": 2} complete 3'
FAIL = 'fail {"why": "no"} error "no"'
TEXT = 'A line,\n"quoted" and \N{GRINNING FACE}.'
SUM = ["assistant", "(I need a sum.)", "I add.", ADD, "= 3"]
BOTH = ["assistant", "Both.", ADD, FAIL, "= 3", "= no (error: no)"]
ERASE = 'delete_file {"path": "a.txt"}'


@pytest.mark.parametrize(
    ("situation", "answer"),
    [
        ("plain", [["assistant", TEXT]]),
        ("reasoning", [["assistant", "(Let me see.)", "Yes."]]),
        ("tools", [["assistant", "I add.", ADD, "= 3"], ["assistant", "Three."]]),
        ("thoughtful", [SUM, ["assistant", "(So.)", "Three."]]),
        ("silent", [["assistant", ADD, "= 3"], ["assistant", "Three."]]),
        ("parallel", [BOTH, ["assistant", "Three, and no."]]),
        (
            "object",
            [
                [
                    *("assistant", 'look_up {"city": "Paris"} complete {"city":"Paris","people":2100000}'),
                    '= {"city":"Paris","people":2100000}',
                ],
                ["assistant", "Two millions."],
            ],
        ),
    ],
)
def test_an_answer_is_shown_whole_and_in_its_order(situation: str, answer: list[list[str]], driven: Stage) -> None:
    assert shown(driven, situation) == [["user", f"{situation}: go"], *answer]
    ((reason, usage),) = driven.results[situation]["finished"]
    assert (reason, usage["totalTokens"] > 0) == ("stop", True)


def test_the_path_that_front_ends_assume_answers_too(driven: Stage) -> None:
    assert shown(driven, "any path") == [["user", "plain: go"], ["assistant", TEXT]]


@pytest.mark.parametrize("model", ["openai-chat:fake", "anthropic:fake"])
def test_the_history_that_the_client_sends_back_is_the_one_that_there_was(model: str, driven: Stage) -> None:
    (lines,) = asked(driven, f"plain: 4 {model}")

    call, more = 'call_add add {"a": 1, "b": 2}', 'call_add_2 add {"a": 1, "b": 2}'
    assert lines == [
        *(f"user: thoughtful: 1 {model}", "assistant: I add.", call, "call_add: 3", "assistant: Three."),
        *(f"user: parallel: 2 {model}", "assistant: Both.", more, 'call_fail fail {"why": "no"}'),
        *("call_add_2: 3", "call_fail: no", "assistant: Three, and no."),
        *(f"user: silent: 3 {model}", more.replace("2 ", "3 ", 1), "call_add_3: 3", "assistant: Three."),
        f"user: plain: 4 {model}",
    ]
    if model == "anthropic:fake":
        (request,) = requests(driven, f"plain: 4 {model}")
        parts = [part for message in request.body["messages"] for part in message["content"] if isinstance(part, dict)]
        assert [part for part in parts if part["type"] == "thinking"] == [
            {"type": "thinking", "thinking": thought, "signature": "c2lnbmF0dXJl"}
            for thought in ("I need a sum.", "So.")
        ]


def test_a_tool_of_the_providers_own_is_shown_and_not_sent_back(driven: Stage) -> None:
    first, second, *_ = shown(driven, "search")[1:]
    assert first[:2] == ["assistant", "I search."]
    assert first[2].startswith('web_search {"query":"streams"} complete')
    assert second == ["assistant", "Found."]
    (lines,) = asked(driven, "plain: after the search")
    assert lines[1:-1] == ["assistant: I search.", "assistant: Found."]


@pytest.mark.parametrize(
    ("situation", "output", "result"),
    [
        ("client", '{"of":"sky","colour":"blue"}', '{"of":"sky","colour":"blue"}'),
        ("client by hand", '"green"', "green"),
    ],
)
def test_a_tool_of_the_pages_own_runs_there(situation: str, output: str, result: str, driven: Stage) -> None:
    call = f'pick_colour {{"of": "sky"}} complete {output}'
    answer = [["assistant", "You choose.", call, f"= {result}"], ["assistant", "Blue it is."]]
    assert shown(driven, situation) == [["user", "client: go"], *answer]
    assert f"call_colour: {result}" in [lines[-1] for lines in asked(driven, "client: go")]


def test_the_model_is_told_why_a_tool_of_the_page_failed(driven: Stage) -> None:
    _, (_, text, call, _), answer = shown(driven, "client fails")
    assert (text, call.split()[3], answer) == ("You choose.", "error", ["assistant", "Blue it is."])
    assert "call_colour: no eyes" in [lines[-1] for lines in asked(driven, "client: go")]


@pytest.mark.parametrize("api", ["interrupt", "approval"])
@pytest.mark.parametrize(
    ("answer", "state", "result"),
    [("yes", "complete", "a.txt is deleted"), ("no", "error", "The user denied this call.")],
)
def test_a_call_waits_for_an_approval_and_takes_it(
    api: str, answer: str, state: str, result: str, driven: Stage
) -> None:
    waits = ["assistant", "I delete it.", f"{ERASE} approval-requested approved=undefined"]
    assert shown(driven, f"paused, {answer} by {api}") == [["user", "approval: go"], waits]
    _, (_, _, call, come_to), last = shown(driven, f"{answer} by {api}")
    assert call == f'{ERASE} {state} approved={"true" if answer == "yes" else "false"} "{result}"'
    assert come_to.startswith(f"= {result}")
    assert last == ["assistant", "I see."]
    (lines,) = asked(driven, f"plain: after {answer} by {api}")
    history = ["user: approval: go", "assistant: I delete it.", f"call_delete {ERASE}"]
    assert lines == [
        *(*history, f"call_delete: {result}", "assistant: I see."),
        f"user: plain: after {answer} by {api}",
    ]


def test_an_approval_that_is_cancelled_is_a_denial(driven: Stage) -> None:
    assert shown(driven, "cancelled by interrupt")[1][2].split(" ", 3)[3] == (
        'error approved=undefined "The user denied this call."'
    )


def test_calls_of_every_kind_in_one_turn_are_each_answered_in_their_way(driven: Stage) -> None:
    _, (_, *before), *_ = shown(driven, "mixed, paused")
    assert before[3] == f"{ERASE} approval-requested approved=undefined"
    _, (_, _, *calls), answer = shown(driven, "mixed")
    assert [call.split("} ")[1].split()[0] for call in calls[:3]] == ["complete"] * 3
    assert answer == ["assistant", "All done."]
    bodies = asked(driven, "mixed: go")
    assert len(bodies) == 2
    assert [line.partition(":")[0] for line in bodies[1][-3:]] == ["call_add", "call_colour", "call_delete"]


def test_an_answer_that_breaks_keeps_what_it_said_and_the_next_one_comes(driven: Stage) -> None:
    came = driven.results["breaks"]
    assert (came["status"], came["code"]) == ("error", "network")
    assert "lost before the answer was complete" in came["error"]
    _, (_, text) = came["messages"]
    assert "Once upon a time there was a very long story".startswith(text)
    assert shown(driven, "after breaks")[2:] == [["user", "plain: again"], ["assistant", TEXT]]
    (lines,) = asked(driven, "plain: again")
    assert lines == ["user: breaks: go", f"assistant: {text}", "user: plain: again"]


def test_a_refused_question_says_why(driven: Stage) -> None:
    came = driven.results["refused"]
    assert came["status"] == "error"
    assert came["error"] == "HTTP error! status: 400 forwardedProps.temperature: 9 is greater than the maximum of 2"


def test_stop_ends_the_answer_at_the_provider_and_the_next_question_is_answered(driven: Stage) -> None:
    _, (_, text), *_ = shown(driven, "stop")
    assert text.startswith("Once")
    assert shown(driven, "after the stop")[2:] == [["user", "plain: after the stop"], ["assistant", TEXT]]
    shown(driven, "stop elsewhere")
    receipt = driven.results["stop elsewhere"]["receipt"]
    assert (receipt["stopped"], receipt["outcome"]) == (True, "stopped")
    for question in ("slow: go", "slow: stopped elsewhere"):
        (request,) = requests(driven, question)
        assert request.left


def test_a_connection_that_breaks_behind_any_event_loses_nothing_and_costs_nothing(driven: Stage) -> None:
    came = driven.results["cut"]
    assert came["wrong"] == []
    assert len(came["cuts"]) > 20
    for at in came["cuts"]:
        assert len(asked(driven, f"thoughtful: cut at {at}")) == 2, "one run, however often it was asked for"


def test_an_approved_answer_is_resumed_too(driven: Stage) -> None:
    assert shown(driven, "cut approval")[1:] == [
        ["assistant", "I delete it.", f'{ERASE} complete approved=true "a.txt is deleted"', "= a.txt is deleted"],
        ["assistant", "I see."],
    ]


def test_a_page_that_is_loaded_again_shows_what_it_showed_and_goes_on_from_there(driven: Stage) -> None:
    assert shown(driven, "reload when done") == shown(driven, "before the reload")
    assert driven.results["reload when done"]["ids"] == driven.results["before the reload"]["ids"]
    (before,) = asked(driven, "plain: 3")
    (after,) = asked(driven, "plain: after the reload")
    assert after == [*before, f"assistant: {TEXT}", "user: plain: after the reload"]


@pytest.mark.parametrize("kept", ["server", "browser"])
@pytest.mark.parametrize("place", ["in the first step", "in a later step"])
def test_a_page_that_is_loaded_again_in_mid_answer_shows_the_rest_and_nothing_twice(
    place: str, kept: str, driven: Stage
) -> None:
    thread = f"reloaded {place} {kept}"
    first = ["assistant", "(I begin.)", "First of all I add two numbers.", ADD, "= 3"]
    answer = [first, ["assistant", "(I go on.)", "Second comes what they are."]]
    assert shown(driven, thread) == [["user", f"steps: {thread}"], *answer]
    assert len(asked(driven, f"steps: {thread}")) == 2
    (lines,) = asked(driven, f"plain: on, {thread}")
    assert lines == [
        *(f"user: steps: {thread}", f"assistant: {first[2]}", 'call_add add {"a": 1, "b": 2}', "call_add: 3"),
        *("assistant: Second comes what they are.", f"user: plain: on, {thread}"),
    ]


@pytest.mark.parametrize("kept", ["server", "browser"])
def test_an_approval_waits_for_the_page_that_is_loaded_again(kept: str, driven: Stage) -> None:
    thread = f"approved after a reload, {kept}"
    waits = ["assistant", "I delete it.", f"{ERASE} approval-requested approved=undefined"]
    assert shown(driven, f"open {thread}") == [["user", "approval: go"], waits]
    done = [*waits[:2], f'{ERASE} complete approved=true "a.txt is deleted"', "= a.txt is deleted"]
    assert shown(driven, thread)[1:] == [done, ["assistant", "I see."]]
    assert [part.replace(" approved=true", "") for message in shown(driven, f"third {thread}") for part in message] == [
        part.replace(" approved=true", "") for message in shown(driven, thread) for part in message
    ]


def test_a_page_that_is_loaded_again_behind_an_approval_keeps_the_call(driven: Stage) -> None:
    _, (_, _, call, result), answer = shown(driven, "reloaded while an approved call runs")
    assert call.startswith(f"{ERASE} complete") and result == "= a.txt is deleted"
    assert answer == ["assistant", "Slowly, slowly it is done."]


def test_a_page_that_is_loaded_again_runs_its_tool_that_waits(driven: Stage) -> None:
    assert shown(driven, "a client's tool after a reload")[2] == ["assistant", "Blue it is."]


def test_a_thread_that_the_server_does_not_know_leaves_the_page_as_it_is(driven: Stage) -> None:
    assert shown(driven, "unknown thread") == [["user", "mine"]]
