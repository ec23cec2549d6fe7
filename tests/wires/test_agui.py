"""The wire of AG-UI: its bytes, the rules of its clients, and the way back from what they post."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatstream import deltas, events
from chatstream.deltas import FinishReason, Usage
from chatstream.errors import RequestError
from chatstream.events import Event, Outcome
from chatstream.messages import NOT_RUN, Citation, Image, Message, Opaque, Reasoning, Text, ToolCall, ToolResult, user
from chatstream.sse import Decoder
from chatstream.turn import Turn
from chatstream.wires.agui import Encoder
from chatstream.wires.agui_request import read
from chatstream.wires.base import INTERRUPTED
from chatstream.wires.tanstack import Thread
from tests.clocks import cpu
from tests.situations import CASES, encode, golden, joined, play

Json = dict[str, Any]
USAGE = Usage(1, 2)
GOLDEN = golden("agui")
STARTED = events.RunStarted("run_1", "msg_1", "p:m")


@pytest.mark.parametrize("name", GOLDEN)
async def test_a_situation_has_the_same_frames_as_ever(name: str) -> None:
    wanted = GOLDEN[name].read_bytes()
    assert joined(encode(await play(*CASES[name]), "agui"), "delta") == joined(wanted, "delta")


@pytest.mark.parametrize("name", GOLDEN)
async def test_what_stands_behind_any_id_is_the_same_each_time_it_is_told(name: str) -> None:
    told = await play(*CASES[name])
    encoder = Encoder("t", "r")
    whole = b"".join([encoder.encode(number, event) for number, event in enumerate(told, 1)])
    blocks = [block + b"\n\n" for block in whole.split(b"\n\n")[:-1]]
    ids = [block.partition(b"\n")[0].removeprefix(b"id: ").decode() for block in blocks]
    assert len(set(ids)) == len(ids)
    for at, id in enumerate(ids, 1):
        number, _, piece = id.partition(".")
        after, skip = (int(number) - 1, int(piece)) if piece else (int(number), 0)
        again = Encoder("t", "r")
        frames = [again.encode(n, event, skip * (n == after + 1)) for n, event in enumerate(told, 1)]
        assert b"".join(frames[after:]) == b"".join(blocks[at:]), id


@pytest.mark.parametrize("name", CASES)
async def test_every_situation_keeps_the_rules_of_the_clients(name: str) -> None:
    Client().see(frames(await play(*CASES[name])))


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith(("provider_tool", "citations"))])
async def test_what_a_client_posts_of_a_run_is_what_the_run_added(name: str) -> None:
    told = await play(*CASES[name])
    client = Client()
    client.see(frames(told))
    last = told[-1]
    assert isinstance(last, events.RunFinished | events.RunFailed)
    asked = read(request([{"role": "user", "content": "Hi"}, *client.messages]))
    assert shown(asked.messages) == shown([user("Hi"), *last.messages])


async def test_calls_that_the_provider_ran_do_not_come_back_as_ours() -> None:
    client = Client()
    client.see(frames(await play(*CASES["provider_tool.anthropic"])))
    assert [message["role"] for message in client.messages] == ["assistant", "tool", "assistant"]
    asked = read(request([{"role": "user", "content": "Hi"}, *client.messages]))
    said = [Message("assistant", (Text("I search."),)), Message("assistant", (Text("Found."),))]
    assert asked.messages[1:] == said


# --- what models seldom do -------------------------------------------------------------------------------------------


def of_turn(*told: Event, number: int = 0) -> list[Event]:
    return [events.TurnStarted(number), *told, events.TurnFinished(number, FinishReason.STOP, USAGE)]


def run(*told: Event, outcome: Outcome = Outcome.COMPLETED, reason: FinishReason = FinishReason.STOP) -> list[Event]:
    return [STARTED, *told, events.RunFinished(outcome, reason, USAGE)]


def text(part: int, said: str) -> list[Event]:
    return [
        events.PartStarted(part, "text"),
        events.TextDelta(part, said),
        events.PartFinished(part, Text(said)),
    ]


def thought(part: int, said: str, **signed: Any) -> list[Event]:
    deltas = [events.ReasoningDelta(part, said)] if said else []
    return [events.PartStarted(part, "reasoning"), *deltas, events.PartFinished(part, Reasoning(said, **signed))]


def call(part: int, id: str, arguments: str = "{}") -> list[Event]:
    deltas = [events.ArgumentsDelta(part, id, arguments)] if arguments else []
    value = ToolCall(id, "add", json.loads(arguments or "{}"), arguments)
    return [events.PartStarted(part, "tool_call", id, "add"), *deltas, events.PartFinished(part, value)]


def answered(id: str) -> Event:
    return events.ToolFinished(id, "add", "3", False, 1)


def posted(told: list[Event]) -> list[Json]:
    client = Client()
    client.see(frames(told))
    return client.messages


def test_a_model_that_thinks_again_begins_another_message_and_gets_it_back_as_one() -> None:
    parts = [
        *thought(0, "One.", signature="a", origin="p:m"),
        *text(1, "First."),
        *thought(2, "Two.", signature="b", origin="p:m"),
        *text(3, "Second."),
        *call(4, "x"),
    ]
    told = run(*of_turn(*parts, answered("x")))
    messages = posted(told)
    assert [(each["role"], each["id"]) for each in messages] == [
        ("reasoning", "msg_1-0-reasoning"),
        ("assistant", "msg_1-0"),
        ("reasoning", "msg_1-0.2-reasoning"),
        ("assistant", "msg_1-0.2"),
        ("tool", "msg_1-x"),
    ]
    said = [event.value for event in parts if isinstance(event, events.PartFinished)]
    assert read(request(messages)).messages == [
        Message("assistant", tuple(said)),
        Message("tool", (ToolResult("x", "add", "3"),)),
    ]


def test_thoughts_that_follow_upon_each_other_are_one_message_and_come_back_apart() -> None:
    parts = [
        *thought(0, "One.", signature="a", origin="p:m"),
        *thought(1, "", redacted="b", origin="p:m"),
        *thought(2, "Two.", extra={"id": "c"}, origin="p:m"),
        *text(3, "Yes."),
    ]
    messages = posted(run(*of_turn(*parts)))
    assert [each["content"] for each in messages] == ["One.Two.", "Yes."]
    said = [event.value for event in parts if isinstance(event, events.PartFinished)]
    assert read(request(messages)).messages == [Message("assistant", tuple(said))]


def test_text_behind_a_call_belongs_to_the_same_message() -> None:
    (message, result) = posted(run(*of_turn(*text(0, "A."), *call(1, "x"), answered("x"), *text(2, "B."))))
    assert (message["content"], [each["id"] for each in message["toolCalls"]]) == ("A.B.", ["x"])
    assert result["toolCallId"] == "x"


def test_a_call_without_arguments_says_that_it_has_none() -> None:
    said = [frame["delta"] for frame in frames(run(*of_turn(*call(0, "x", "")))) if frame["type"] == "TOOL_CALL_ARGS"]
    assert said == ["{}"]


def test_what_only_the_provider_reads_of_a_call_comes_back_with_it() -> None:
    value = ToolCall("x", "add", {}, "{}", extra={"signature": "s"}, origin="p:m")
    part = [events.PartStarted(0, "tool_call", "x", "add"), events.ArgumentsDelta(0, "x", "{}")]
    messages = posted(run(*of_turn(*part, events.PartFinished(0, value))))
    assert read(request(messages)).messages[0].parts == (value,)


@pytest.mark.parametrize("last", ["finished", "failed"])
def test_a_call_that_nobody_answered_is_answered_at_the_end(last: str) -> None:
    told = run(*of_turn(*call(0, "x"), *call(1, "y"), answered("y")))
    if last == "failed":
        told[-1] = events.RunFailed("network", "Lost.", True, USAGE)
    results = [frame for frame in frames(told) if frame["type"] == "TOOL_CALL_RESULT"]
    assert [(each["toolCallId"], each["content"]) for each in results] == [("y", "3"), ("x", NOT_RUN)]
    assert results[1]["metadata"] == {"tanstack": {"state": "output-error"}}


def test_a_turn_that_says_nothing_makes_no_message() -> None:
    told = [STARTED, *of_turn(), events.RunFailed("auth", "No.", False, USAGE)]
    assert [frame["type"] for frame in frames(told)] == ["RUN_STARTED", "RUN_ERROR"]


def test_a_tool_of_the_provider_may_be_told_in_one() -> None:
    tool = Opaque("p:m", {"a": 1}, "s", "search", {"q": "?"}, "No.", True)
    said = frames(run(*of_turn(events.PartStarted(0, "opaque"), events.PartFinished(0, tool))))
    assert [(frame["type"], frame.get("toolCallId")) for frame in said if "toolCallId" in frame] == [
        (kind, "provider:s") for kind in ("TOOL_CALL_START", "TOOL_CALL_ARGS", "TOOL_CALL_END", "TOOL_CALL_RESULT")
    ]
    assert said[3]["metadata"] == {"providerExecuted": True}
    assert said[-2]["metadata"] == {"tanstack": {"state": "output-error"}}


def test_what_has_no_place_in_the_protocol_is_an_event_of_our_own() -> None:
    cited = Text("Hi", (Citation("u", "t"),))
    told = run(
        events.Notice("overloaded", "Again in 1 s."),
        *of_turn(
            *text(0, "Hi")[:2],
            events.PartFinished(0, cited),
            *call(1, "x"),
            events.ToolStarted("x", "add", {}),
            events.ToolProgress("x", "half"),
            answered("x"),
        ),
    )
    assert [(frame["name"], frame["value"]) for frame in frames(told) if frame["type"] == "CUSTOM"] == [
        ("notice", {"code": "overloaded", "message": "Again in 1 s."}),
        ("citations", {"messageId": "msg_1-0", "citations": [{"url": "u", "title": "t"}]}),
        ("tool-progress", {"toolCallId": "x", "content": "half"}),
    ]


def test_who_gave_a_result_is_not_told_it_again() -> None:
    told = run(answered("x"), answered("y"))
    said = [frame.get("toolCallId") for frame in frames(told, Encoder("t", "r", "", ["x"]))]
    assert said == [None, "y", None]


def test_a_run_that_goes_on_names_the_one_that_paused() -> None:
    started = frames(run(), Encoder("t", "r2", "r1"))[0]
    assert (started["runId"], started["parentRunId"]) == ("r2", "r1")


ENDS = {
    (Outcome.COMPLETED, FinishReason.STOP): ("success", "stop"),
    (Outcome.COMPLETED, FinishReason.LENGTH): ("success", "length"),
    (Outcome.COMPLETED, FinishReason.CONTENT_FILTER): ("success", "content_filter"),
    (Outcome.COMPLETED, FinishReason.REFUSAL): ("success", "content_filter"),
    (Outcome.STOPPED, FinishReason.OTHER): ("success", "stop"),
    # TanStack AI would wait for more.
    (Outcome.LIMIT, FinishReason.TOOL_CALLS): ("success", "stop"),
}


@pytest.mark.parametrize(("outcome", "reason"), ENDS)
def test_an_end_has_an_outcome_that_all_clients_know(outcome: Outcome, reason: FinishReason) -> None:
    last = frames(run(outcome=outcome, reason=reason))[-1]
    assert (last["outcome"]["type"], last["metadata"]["tanstack"]["finishReason"]) == ENDS[outcome, reason]
    assert last["metadata"]["chatstream"]["outcome"] == outcome


def test_an_answer_that_the_server_broke_off_is_an_error() -> None:
    last = frames(run(outcome=Outcome.INTERRUPTED))[-1]
    assert (last["type"], last["code"], last["message"]) == ("RUN_ERROR", "interrupted", INTERRUPTED)
    assert last["metadata"]["chatstream"]["retryable"] is True


PIECES = st.one_of(
    st.builds(deltas.TextDelta, st.sampled_from("ab"), st.text(min_size=1, max_size=3)),
    st.builds(deltas.ReasoningDelta, st.sampled_from("cd"), st.text(max_size=3), st.sampled_from(["", "s"])),
    st.builds(deltas.ToolCallDelta, st.sampled_from("ef"), name=st.just("add"), arguments=st.text("{}", max_size=2)),
    st.builds(deltas.OpaqueDelta, st.sampled_from("gh"), st.none(), st.just("o"), st.just("search")),
    st.builds(
        deltas.OpaqueDelta,
        st.sampled_from("gh"),
        st.just({"a": 1}),
        st.just("o"),
        st.sampled_from(["search", ""]),
        st.sampled_from([None, {"q": 1}]),
        st.sampled_from([None, "found"]),
    ),
    st.builds(deltas.PartEnd, st.sampled_from("abcdef")),
)


@given(st.lists(st.lists(PIECES, max_size=12), max_size=3))
def test_no_order_in_which_a_model_speaks_breaks_the_rules_of_the_clients(turns: list[list[deltas.Delta]]) -> None:
    told: list[Event] = []
    first = 0
    for number, pieces in enumerate(turns):
        turn = Turn(number, "p:m", first)
        told += [events.TurnStarted(number), *turn.feed(pieces), *turn.close()]
        first = turn.next_part
    # One call of a name is in each turn at most once, as the agent sees to.
    client = Client()
    client.see(frames(run(*renamed(told))))
    texts = "".join(each["content"] for each in client.messages if each["role"] == "assistant")
    assert texts == "".join(event.text for event in told if isinstance(event, events.TextDelta))
    for message in read(request(client.messages)).messages:
        assert all(not isinstance(part, Opaque) for part in message.parts)


def renamed(told: Iterable[Event]) -> Iterable[Event]:
    """Yield events with a call id for each call, whose turns did not know of each other."""
    turn = 0
    for event in told:
        turn += isinstance(event, events.TurnStarted)
        match event:
            case events.PartStarted(part, "tool_call", id, name):
                yield events.PartStarted(part, "tool_call", f"{turn}{id}", name)
            case events.ArgumentsDelta(part, id, said):
                yield events.ArgumentsDelta(part, f"{turn}{id}", said)
            case events.PartFinished(part, ToolCall() as value):
                yield events.PartFinished(part, ToolCall(f"{turn}{value.id}", "add", value.input, value.arguments))
            case _:
                yield event


# --- what is posted ---------------------------------------------------------------------------------------------------


def request(messages: list[Json], **more: Any) -> Json:
    return {"threadId": "t", "runId": "r", "messages": messages, **more}


DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PARTS: dict[str, tuple[Json, Any]] = {
    "text": ({"type": "text", "text": "Hi"}, Text("Hi")),
    "an image": (
        {"type": "image", "source": {"type": "data", "value": DOT, "mimeType": "image/png"}},
        Image("image/png", DOT),
    ),
    "an image as an address that holds it": (
        {"type": "image", "source": {"type": "url", "value": f"data:image/png;base64,{DOT}"}},
        Image("image/png", DOT),
    ),
    "a text file": (
        {
            "type": "document",
            "source": {"type": "data", "value": "SGk=", "mimeType": "text/plain"},
            "metadata": {"filename": "a.txt"},
        },
        Text("a.txt:\nHi"),
    ),
    "a file of 0.0.59": ({"type": "binary", "mimeType": "image/png", "data": DOT}, Image("image/png", DOT)),
}


@pytest.mark.parametrize(("part", "wanted"), PARTS.values(), ids=PARTS)
def test_a_part_of_a_question_is_read(part: Json, wanted: Any) -> None:
    assert read(request([{"role": "user", "content": [part]}])).messages == [Message("user", (wanted,))]


REFUSED: dict[str, tuple[Json, str]] = {
    "an address": ({"type": "image", "source": {"type": "url", "value": "https://a.example/b.png"}}, "fetches none"),
    "a sound": ({"type": "audio", "source": {"type": "data", "value": "AA==", "mimeType": "audio/wav"}}, "audio/wav"),
    "a file that is elsewhere": ({"type": "image", "source": {"type": "file", "value": "file-1"}}, "fetches none"),
    "what nobody knows": ({"type": "smell"}, "'smell'"),
    "a text without text": ({"type": "text"}, "'text'"),
}


@pytest.mark.parametrize(("part", "why"), REFUSED.values(), ids=REFUSED)
def test_a_part_that_cannot_be_sent_on_is_named(part: Json, why: str) -> None:
    with pytest.raises(RequestError, match=why) as raised:
        read(request([{"role": "user", "content": "Hi"}, {"role": "user", "content": [part]}]))
    assert raised.value.message.startswith("messages[1].content[0]: ")


def test_every_kind_of_message_is_read() -> None:
    said = {"id": "x", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    asked = read(
        request(
            [
                {"role": "system", "content": "Be brief."},
                {"role": "developer", "content": "Be kind."},
                {"role": "user", "content": "Hi", "id": "u"},
                {"role": "activity", "activityType": "chart", "content": {"a": 1}},
                {"role": "assistant", "content": None, "toolCalls": [said]},
                {"role": "tool", "toolCallId": "x", "content": "No.", "error": "No."},
                {"role": "assistant", "content": "Sorry."},
                {"role": "user", "content": ""},
            ],
            context=[{"description": "The page", "value": "a list"}],
        )
    )
    assert asked.messages == [
        Message("system", (Text("The page: a list"),)),
        Message("system", (Text("Be brief."),)),
        Message("system", (Text("Be kind."),)),
        user("Hi"),
        Message("assistant", (ToolCall("x", "add", {"a": 1}, '{"a": 1}'),)),
        Message("tool", (ToolResult("x", "add", "No.", is_error=True),)),
        Message("assistant", (Text("Sorry."),)),
        user(""),
    ]
    assert asked.said == ()


def test_options_and_tools_are_those_of_a_native_request() -> None:
    tools = [
        {"name": "a"},
        {"name": "b", "description": None, "parameters": {}},
        {"name": "c", "description": "C.", "parameters": {"type": "object", "required": ["d"]}, "metadata": {}},
    ]
    asked = read(request([], tools=tools, forwardedProps={"model": "m", "temperature": 1, "theme": "dark"}))
    nothing = {"type": "object"}
    assert asked.options == {
        "model": "m",
        "temperature": 1,
        "tools": [
            {"name": "a", "description": "", "parameters": nothing},
            {"name": "b", "description": "", "parameters": nothing},
            {"name": "c", "description": "C.", "parameters": {"type": "object", "required": ["d"]}},
        ],
    }


SIGNED = [
    None,
    "no JSON",
    "[1]",
    "{}",
    '[{"length": 2}]',
    '[{"length": -1}, {"length": 4}]',
    '[{"length": true}]',
    "[]",
]


@pytest.mark.parametrize("signed", SIGNED)
def test_a_signature_that_is_none_is_left_out(signed: str | None) -> None:
    thought = {"role": "reasoning", "content": "Hm."} | ({} if signed is None else {"encryptedValue": signed})
    asked = read(request([thought, {"role": "assistant", "content": "Yes."}]))
    assert asked.messages == [Message("assistant", (Reasoning("Hm."), Text("Yes.")))]


def test_members_of_a_signature_that_are_none_are_left_out() -> None:
    signed = [{"length": 3, "signature": 1, "origin": "p:m", "field": "content", "extra": [], "more": 1}]
    thought = {"role": "reasoning", "content": "Hm.", "encryptedValue": json.dumps(signed)}
    asked = read(request([thought, {"role": "assistant", "content": "Yes."}]))
    assert asked.messages[0].parts[0] == Reasoning("Hm.", origin="p:m")


def test_what_is_nested_too_deep_to_be_kept_is_left_out() -> None:
    deep = '{"a":' * 600 + "1" + "}" * 600
    thought = {"role": "reasoning", "content": "Hm.", "encryptedValue": f'[{{"length":3,"extra":{deep}}}]'}
    call = {"id": "x", "function": {"name": "add", "arguments": "{}"}, "encryptedValue": f'{{"extra":{deep}}}'}
    asked = read(request([thought, {"role": "assistant", "toolCalls": [call]}]))
    assert asked.messages[0].parts == (Reasoning("Hm."), ToolCall("x", "add", {}, "{}"))


def _thoughts(count: int) -> list[Json]:
    text, signed = "x" * 50 * count, [{"length": 1}] * (count - 1) + [{"length": 49 * count + 1}]
    return [{"role": "reasoning", "content": text, "encryptedValue": json.dumps(signed)}, {"role": "assistant"}]


LONG: dict[str, tuple[Callable[[list[Json]], Any], Callable[[int], list[Json]]]] = {
    "results": (lambda messages: read(request(messages)), lambda count: [RESULT] * count),
    "pieces": (lambda messages: read(request(messages)), lambda count: [STEP, *[STEP | {"id": "msg_a-0.2"}] * count]),
    "thoughts": (lambda messages: read(request(messages)), _thoughts),
    "thoughts that are shown": (
        lambda messages: Thread(messages).messages,
        lambda count: [{"role": "reasoning", "id": str(at), "content": "x"} for at in range(count)] + [STEP],
    ),
}
RESULT = {"role": "tool", "toolCallId": "x", "content": "x"}
STEP = {"role": "assistant", "id": "msg_a-0", "content": "x"}


@pytest.mark.parametrize("name", LONG)
def test_sixteen_times_as_many_take_no_more_than_some_sixteen_times_as_long(name: str) -> None:
    take, make = LONG[name]

    def least(count: int) -> float:
        messages = make(count)
        return min(cpu(lambda: take(messages)) for _ in range(5))

    assert least(32_000) < 80 * least(2000)


# --- what is said of calls that wait ----------------------------------------------------------------------------------

CALL = {"id": "x", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
WAITS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "toolCalls": [CALL]}]
ENTRIES: dict[str, tuple[Json, tuple[Any, ...]]] = {
    "yes": ({"interruptId": "run_1.x", "payload": {"approved": True}}, ("approve", "", False)),
    "no": ({"interruptId": "run_1.x", "payload": {"approved": False}}, ("deny", "", False)),
    "neither": ({"interruptId": "run_1.x", "status": "cancelled"}, ("deny", "", False)),
    "a result": (
        {"interruptId": "result:run_1.x", "payload": {"approved": True}},
        ("result", '{"approved":true}', False),
    ),
    "a text": ({"interruptId": "result:run_1.x", "payload": "blue"}, ("result", "blue", False)),
    "nothing": ({"interruptId": "result:run_1.x"}, ("result", "null", False)),
    "a failure": ({"interruptId": "result:run_1.x", "payload": {"error": "no"}}, ("result", "no", True)),
    "no result": ({"interruptId": "result:run_1.x", "status": "cancelled"}, ("deny", "", False)),
}


@pytest.mark.parametrize(("entry", "wanted"), ENTRIES.values(), ids=ENTRIES)
def test_an_interrupt_that_was_answered_is_read_with_what_the_client_thinks_was_asked(
    entry: Json, wanted: tuple[Any, ...]
) -> None:
    (said,) = read(request(WAITS, resume=[{"status": "resolved"} | entry])).said
    assert (said.kind, said.text, said.is_error) == wanted
    assert (said.call_id, said.run_id, said.name, said.input) == ("x", "run_1", "add", {"a": 1})


def test_arguments_that_were_edited_are_what_the_client_thinks_was_asked() -> None:
    entry = {"interruptId": "run_1.x", "status": "resolved", "payload": {"approved": True, "editedArgs": {"a": 2}}}
    (said,) = read(request(WAITS, resume=[entry])).said
    assert said.input == {"a": 2}


@pytest.mark.parametrize("payload", [None, True, {}, {"approved": "yes"}, "approved"])
def test_an_answer_that_is_none_is_refused(payload: Any) -> None:
    with pytest.raises(RequestError, match=r"resume\[0\]\.payload"):
        read(request(WAITS, resume=[{"interruptId": "run_1.x", "status": "resolved", "payload": payload}]))


def test_two_answers_to_one_interrupt_are_refused() -> None:
    entry = {"interruptId": "run_1.x", "status": "cancelled"}
    with pytest.raises(RequestError, match="two entries"):
        read(request(WAITS, resume=[entry, entry]))


def test_a_result_at_the_end_is_said_of_a_call_that_may_wait() -> None:
    result = {"role": "tool", "toolCallId": "x", "content": "3"}
    (said,) = read(request([*WAITS, result])).said
    assert (said.call_id, said.kind, said.text, said.name, said.input) == ("x", "result", "3", "add", {"a": 1})
    assert read(request([*WAITS, result, {"role": "user", "content": "And?"}])).said == ()


def test_what_resume_says_of_a_call_counts_and_not_a_result_beside_it() -> None:
    result = {"role": "tool", "toolCallId": "x", "content": "made up"}
    entry = {"interruptId": "run_1.x", "status": "cancelled"}
    (said,) = read(request([*WAITS, result], resume=[entry])).said
    assert said.kind == "deny"


@pytest.mark.parametrize(
    "note",
    [
        {"approved": True, "pendingExecution": True, "message": "User approved this action"},
        {"approved": False, "message": "User denied this action"},
    ],
)
def test_a_note_of_what_was_decided_is_no_result(note: Json) -> None:
    content = json.dumps(note, separators=(",", ":"))
    asked = read(request([*WAITS, {"role": "tool", "toolCallId": "x", "content": content}]))
    assert (asked.said, [message.role for message in asked.messages]) == ((), ["user", "assistant"])


def test_a_result_that_looks_like_a_note_is_a_result() -> None:
    asked = read(request([*WAITS, {"role": "tool", "toolCallId": "x", "content": '{"approved":false}'}]))
    assert [each.text for each in asked.said] == ['{"approved":false}']


# --- a client ---------------------------------------------------------------------------------------------------------


def frames(told: Iterable[Event], encoder: Encoder | None = None) -> list[Json]:
    encoder = encoder or Encoder("t", "r")
    data = b"".join(encoder.encode(number, event) for number, event in enumerate(told, 1))
    assert b"\r" not in data
    said = [json.loads(frame.data) for frame in Decoder().feed(data)]
    assert not any(None in frame.values() for frame in said)
    return said


def shown(messages: Iterable[Message]) -> list[Message]:
    """Return messages as they are told: a call without arguments says that it has none."""
    found = []
    for message in messages:
        parts = [
            ToolCall(part.id, part.name, part.input, "{}", "", part.extra, part.origin)
            if isinstance(part, ToolCall) and not part.arguments
            else part
            for part in message.parts
        ]
        found.append(Message(message.role, tuple(parts)))
    return found


class Client:
    """Takes frames as `@ag-ui/client` does (`verifyEvents`, `defaultApplyEvents`); `messages` are what it posts."""

    def __init__(self) -> None:
        self.messages: list[Json] = []
        self._open: dict[str, set[str]] = {"text": set(), "span": set(), "reasoning": set(), "call": set()}
        self._calls: dict[str, Json] = {}
        self._speaks: set[str] = set()

    def see(self, told: list[Json]) -> None:
        assert told[0]["type"] == "RUN_STARTED"
        assert [each["type"] in ("RUN_FINISHED", "RUN_ERROR") for each in told] == [False] * (len(told) - 1) + [True]
        for frame in told:
            self._take(frame)
        assert not any(self._open.values())
        ids = [message["id"] for message in self.messages]
        assert len(set(ids)) == len(ids)

    def _take(self, frame: Json) -> None:
        id = frame.get("messageId", "")
        match frame["type"]:
            case "TEXT_MESSAGE_START":
                self._start("text", id)
                self._message(id, "assistant")
            case "TEXT_MESSAGE_CONTENT":
                assert id in self._open["text"] and frame["delta"]
                self._speaks.add(id)
                self._message(id, "assistant")["content"] += frame["delta"]
            case "TEXT_MESSAGE_END":
                self._open["text"].remove(id)
            case "REASONING_START":
                self._start("span", id)
            case "REASONING_MESSAGE_START":
                self._start("reasoning", id)
                self._message(id, "reasoning")
            case "REASONING_MESSAGE_CONTENT":
                assert id in self._open["reasoning"]
                # TanStack AI adds it to the message which was opened last, and would say a text before it twice.
                assert len(self._open["text"]) == 1 and not self._open["text"] & self._speaks
                self._message(id, "reasoning")["content"] += frame["delta"]
            case "REASONING_MESSAGE_END":
                self._open["reasoning"].remove(id)
            case "REASONING_END":
                self._open["span"].remove(id)
            case "REASONING_ENCRYPTED_VALUE":
                of = self._calls if frame["subtype"] == "tool-call" else {each["id"]: each for each in self.messages}
                of[frame["entityId"]]["encryptedValue"] = frame["encryptedValue"]
            case "TOOL_CALL_START":
                self._start("call", frame["toolCallId"])
                assert frame["toolCallId"] not in self._calls
                function = {"name": frame["toolCallName"], "arguments": ""}
                called = self._calls[frame["toolCallId"]] = {"id": frame["toolCallId"], "function": function}
                owner = next(each for each in self.messages if each["id"] == frame["parentMessageId"])
                owner.setdefault("toolCalls", []).append(called)
            case "TOOL_CALL_ARGS":
                assert frame["toolCallId"] in self._open["call"]
                self._calls[frame["toolCallId"]]["function"]["arguments"] += frame["delta"]
            case "TOOL_CALL_END":
                self._open["call"].remove(frame["toolCallId"])
            case "TOOL_CALL_RESULT":
                self._answer(frame)

    def _start(self, kind: str, id: str) -> None:
        assert id not in self._open[kind]
        self._open[kind].add(id)

    def _message(self, id: str, role: str) -> Json:
        for message in self.messages:
            if message["id"] == id:
                return message
        self.messages.append({"id": id, "role": role, "content": ""})
        return self.messages[-1]

    def _answer(self, frame: Json) -> None:
        names = ("toolCallId", "content", "metadata")
        result = {"id": frame["messageId"], "role": "tool"} | {name: frame[name] for name in names if name in frame}
        calls = [[call["id"] for call in message.get("toolCalls", ())] for message in self.messages]
        at = next(at for at, ids in enumerate(calls, 1) if frame["toolCallId"] in ids)
        while at < len(self.messages) and self.messages[at]["role"] == "tool":
            at += 1
        self.messages.insert(at, result)
