"""The AI SDK's chat, 7 and 6, against the server: what it shows, what it sends back, how it comes back to an answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from chatstream import tool
from chatstream.testing import Call, Turn
from tests.server.rig import told
from tests.situations import OF_ONE_API

from .rig import SITUATIONS, TOOLS, Stage, stage

VERSIONS = ("ai", "ai-6")


@tool
async def hang() -> str:
    """Never end."""
    await asyncio.Event().wait()
    return ""


SITUATIONS |= {
    "garbled": [Turn(tools=[Call("add", '{"a": 1', "call_cut")]), Turn(text="Sorry.")],
    "hangs": [Turn(tools=[Call("hang", {}, "call_hang")]), Turn(text="Never said.")],
    "sources": OF_ONE_API["anthropic"]["citations"],
    "search": OF_ONE_API["anthropic"]["provider_tool"],
}


@pytest.fixture(scope="module")
def both() -> Stage:
    async def drive() -> Stage:
        async with stage(tools=[*TOOLS, hang], linger=5) as each:
            await asyncio.gather(*(each.drive("vercel", version) for version in VERSIONS))
        return each

    return asyncio.run(drive())


@dataclass(frozen=True)
class Version:
    """What one version of the client came to, by situation, and what the provider was sent meanwhile."""

    name: str
    both: Stage

    def __getitem__(self, situation: str) -> dict[str, Any]:
        found: dict[str, Any] = self.both.results[f"{self.name} {situation}"]
        return found

    def asked(self, situation: str, about: str = "go") -> list[dict[str, Any]]:
        """Return what the provider was sent while this was the last question."""
        question = self.question(situation, about)
        return [body for body in self.both.bodies(situation) if question in told(body) and _last(body) == question]

    def question(self, situation: str, about: str = "go") -> str:
        return f"user: {situation}: {self.name} {about}"

    def shown(self, situation: str, message: int = -1) -> list[str]:
        """Return the parts of a message, the last one unless another is asked for."""
        parts: list[str] = self[situation]["messages"][message][1:]
        return parts


def _last(body: dict[str, Any]) -> str:
    return next(line for line in reversed(told(body)) if line.startswith("user: "))


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest, both: Stage) -> Version:
    return Version(request.param, both)


PLAIN = 'A line,\n"quoted" and \N{GRINNING FACE}.'
ADD = 'add {"a":1,"b":2} output-available 3'
SHOWN = {
    "plain": ["--", PLAIN],
    "api_chat": ["--", PLAIN],
    "reasoning": ["--", "(Let me see.)", "Yes."],
    "tools": ["--", "I add.", ADD, "--", "Three."],
    "thoughtful": ["--", "(I need a sum.)", "I add.", ADD, "--", "(So.)", "Three."],
    "silent": ["--", ADD, "--", "Three."],
    "object": [
        "--",
        'look_up {"city":"Paris"} output-available {"city":"Paris","people":2100000}',
        "--",
        "Two millions.",
    ],
    "parallel": ["--", "Both.", ADD, 'fail {"why":"no"} output-error no', "--", "Three, and no."],
    "rounds": ["--", "First.", ADD, "--", "Second.", 'add {"a":3,"b":4} output-available 7', "--", "Ten."],
    "sources": [
        *("--", "They are ", "one way", "<https://a.example/1 1>"),
        *(" and simple", "<https://b.example/2 2>", "."),
    ],
    "search": [
        *("--", "I search."),
        'web_search {"query":"streams"} output-available elsewhere "One\\nhttps://a.example/1"',
        *("--", "Found."),
    ],
    "image": ["--", PLAIN],
}


@pytest.mark.parametrize("situation", SHOWN)
def test_an_answer_is_shown_part_by_part(version: Version, situation: str) -> None:
    came = version[situation]
    assert (came["status"], came.get("error"), came["requests"]) == ("ready", None, 1)
    assert version.shown(situation) == SHOWN[situation]
    assert came["finished"] == [{"isAbort": False, "isDisconnect": False, "isError": False, "finishReason": "stop"}]
    assert came["metadata"]["outcome"] == "completed" and came["metadata"]["usage"]["totalTokens"] > 0


def test_arguments_that_cannot_be_read_are_a_call_in_error_and_the_answer_goes_on(version: Version) -> None:
    step, call, *rest = version.shown("garbled")
    assert call.startswith('add "{\\"a\\": 1" output-error add: the arguments are not valid JSON')
    assert [step, *rest] == ["--", "--", "Sorry."]


def test_progress_is_told_and_not_kept(version: Version) -> None:
    told_once = {"toolCallId": "call_city", "content": "looking for Paris"}
    assert version["object"]["data"] == [{"type": "data-tool-progress", "data": told_once, "transient": True}]


def test_the_history_that_the_client_sends_back_is_what_was_said(version: Version) -> None:
    (body,) = version.asked("plain", "history")
    assert told(body) == [
        version.question("thoughtful", "history"),
        *("assistant: I add.", 'call_add add {"a": 1, "b": 2}', "call_add: 3", "assistant: Three."),
        version.question("parallel", "history"),
        "assistant: Both.",
        *('call_add_2 add {"a": 1, "b": 2}', 'call_fail fail {"why": "no"}', "call_add_2: 3", "call_fail: no"),
        "assistant: Three, and no.",
        version.question("plain", "history"),
    ]


def test_signed_reasoning_goes_back_byte_for_byte(version: Version) -> None:
    (body,) = version.asked("plain", "signed")
    blocks = [block for message in body["messages"] for block in message["content"] if block["type"] == "thinking"]
    signature = {"type": "thinking", "signature": Turn().signature}
    assert blocks == [signature | {"thinking": "I need a sum."}, signature | {"thinking": "So."}]


def test_an_answer_can_be_had_anew(version: Version) -> None:
    assert version["regenerate"]["isNew"]
    assert version["regenerate"]["messages"] == [
        ["user", f"plain: {version.name} regenerate"],
        ["assistant", "--", PLAIN],
    ]
    assert len(version.asked("plain", "regenerate")) == 2


def test_an_image_is_seen_and_an_address_is_not_fetched(version: Version) -> None:
    (body,) = version.asked("plain", "see")
    assert body["messages"][-1]["content"][0]["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
    assert version["address"]["error"].startswith("messages[0].parts[0]: 'https://a.example/x.png' is an address")


# --- tools of the client, and approvals -------------------------------------------------------------------------------

CLIENT = {
    "client": ('output-available {"colour":"blue"}', '{"colour":"blue"}', "at once", 1),
    "client_text": ('output-available "5"', "5", "go", -1),
    "client_error": ("output-error no colours here", "no colours here", "go", -1),
}


@pytest.mark.parametrize("situation", CLIENT)
def test_a_tool_of_the_client_is_run_there_and_the_answer_goes_on(version: Version, situation: str) -> None:
    state, result, about, message = CLIENT[situation]
    colour = f'pick_colour {{"of":"sky"}} {state}'
    assert version.shown(situation, message) == ["--", "You choose.", colour, "--", "Blue it is."]
    results = [told(body)[-1] for body in version.asked("client", about)]
    assert f"call_colour: {result}" in results
    offered = version.asked("client", about)[0]["tools"]
    assert offered[-1]["function"]["name"] == "pick_colour"


DECIDED = {
    "approval_yes": ('output-available approved=true "a.txt is deleted"', "a.txt is deleted"),
    "approval_no": ("output-denied approved=false", "The user denied this call. Not today."),
}


@pytest.mark.parametrize("situation", DECIDED)
def test_a_call_waits_for_a_decision_and_the_same_message_goes_on(version: Version, situation: str) -> None:
    state, result = DECIDED[situation]
    call = 'delete_file {"path":"a.txt"}'
    waiting = ["assistant", "--", "I delete it.", f"{call} approval-requested approved=undefined"]
    assert version[situation]["asked"][1:] == [waiting]
    assert version.shown(situation, 1) == ["--", "I delete it.", f"{call} {state}", "--", "I see."]
    (body,) = version.asked("plain", f"after {situation}")
    asked, *said = told(body)
    assert asked == version.question("approval")
    assert said[:3] == [
        "assistant: I delete it.",
        'call_delete delete_file {"path": "a.txt"}',
        f"call_delete: {result}",
    ]


def test_the_usage_of_a_message_is_that_of_both_runs_that_wrote_it(version: Version) -> None:
    assert version["mixed"]["metadata"]["usage"]["inputTokens"] == 50
    assert version["mixed"]["metadata"]["outcome"] == "completed"


def test_calls_of_all_kinds_wait_for_each_other(version: Version) -> None:
    assert version.shown("mixed") == [
        *("--", "All at once.", ADD),
        'pick_colour {"of":"sky"} output-available "blue"',
        'delete_file {"path":"a.txt"} output-available approved=true "a.txt is deleted"',
        *("--", "All done."),
    ]
    assert version["mixed"]["requests"] == 2


def test_a_call_is_not_run_with_other_arguments_than_were_asked_about(version: Version) -> None:
    assert version["tampered"]["status"] == "error"
    assert "was decided with other arguments than were asked about" in version["tampered"]["error"]


# --- what goes wrong, stopping, coming back ---------------------------------------------------------------------------


def test_a_failure_shows_what_came_and_the_next_question_works(version: Version) -> None:
    came = version["breaks"]
    assert came["status"] == "error" and came["error"].endswith("was lost before the answer was complete.")
    assert version.shown("breaks")[1].startswith("Once")
    assert (came["metadata"]["outcome"], came["metadata"]["retryable"]) == ("failed", True)
    assert version.shown("after_failure") == ["--", PLAIN]


REFUSED = {
    "refused": "temperature: 'hot' is not of type 'number'",
    "unknown_model": "nowhere",
    "no_history": "messages: the history is kept by the client, and 'messages' is missing",
}


@pytest.mark.parametrize("situation", REFUSED)
def test_what_is_refused_is_told_in_words_for_people(version: Version, situation: str) -> None:
    assert version[situation]["status"] == "error"
    assert REFUSED[situation] in version[situation]["error"]
    assert "{" not in version[situation]["error"]


def test_a_stop_keeps_what_was_said(version: Version) -> None:
    assert version["stop"]["status"] == "ready" and version["stop"]["receipt"] == "stopped"
    assert version.shown("stop")[1].startswith("Once")


@pytest.mark.parametrize(
    ("situation", "last"),
    [("slow_stopped", ["Once"]), ("hangs_stopped", ["hang {} output-error The user stopped this call.", "--"])],
)
def test_an_answer_stopped_from_elsewhere_ends_and_is_not_asked_for_again(
    version: Version, situation: str, last: list[str]
) -> None:
    came = version[situation]
    assert (came["status"], came.get("error"), came["receipt"], came["requests"]) == ("ready", None, "stopped", 1)
    assert came["metadata"]["outcome"] == "stopped"
    shown = version.shown(situation)[1:]
    assert len(shown) == len(last) and shown[0].startswith(last[0]) and shown[1:] == last[1:]


def test_coming_back_to_nothing_is_no_error_and_to_what_was_seen_changes_nothing(version: Version) -> None:
    assert (version["nothing_to_resume"]["status"], version["nothing_to_resume"]["messages"]) == ("ready", [])
    assert version["seen_twice"]["isSame"] and version["seen_twice"]["status"] == "ready"


def test_an_answer_that_is_still_written_is_taken_up_by_two_pages(version: Version) -> None:
    assert version.shown("live") == ["--", "One two three four five six seven eight"]
    assert version["live"]["cut"].endswith('[streaming]"]]') and version["live"]["isSame"]
    assert len(version.asked("paced")) == 1


@pytest.mark.parametrize(("situation", "least"), [("thoughtful", 20), ("approval", 6), ("client", 5)])
def test_an_answer_cut_behind_any_event_is_whole_again_when_the_client_comes_back(
    version: Version, situation: str, least: int
) -> None:
    came = version[f"cut_{situation}"]
    assert came["wrong"] == []
    assert came["cuts"] >= least
