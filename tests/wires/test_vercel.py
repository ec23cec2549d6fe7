"""The AI SDK's wire: its chunks as ever, what its encoder promises, and what a request of its client comes to."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from chatstream import events
from chatstream.conversations import DENIED
from chatstream.deltas import FinishReason, Usage
from chatstream.errors import RequestError
from chatstream.events import Outcome
from chatstream.messages import NOT_RUN, Image, Message, Opaque, Reasoning, Text, ToolCall, ToolResult
from chatstream.providers import EFFORTS
from chatstream.server.bodies import AI_SDK_REQUEST, explain
from chatstream.sse import Decoder
from chatstream.wires.base import Said
from chatstream.wires.vercel import Encoder
from chatstream.wires.vercel_request import SCHEMA, continued, read
from tests.situations import CASES, encode, golden, joined, play

Chunk = dict[str, Any]
GOLDEN = golden("vercel")
STARTED = events.RunStarted("run_1", "msg_1", "p:m")
CALL = ToolCall("c", "add", {"a": 1}, '{"a":1}')


@pytest.mark.parametrize("name", GOLDEN)
async def test_a_situation_has_the_same_chunks_as_ever(name: str) -> None:
    wanted = GOLDEN[name].read_bytes()
    assert joined(encode(await play(*CASES[name]), "vercel"), "delta") == joined(wanted, "delta")


@pytest.mark.parametrize("name", GOLDEN)
async def test_telling_a_run_again_gives_the_same_bytes(name: str) -> None:
    told = await play(*CASES[name])
    assert encode(told, "vercel") == encode(told, "vercel")


@pytest.mark.parametrize("name", GOLDEN)
def test_every_chunk_is_one_that_the_client_takes(name: str) -> None:
    """What throws in `processUIMessageStream` of 7 and 6: see the module's docstring."""
    check(chunks(GOLDEN[name].read_bytes()))


def chunks(stream: bytes) -> list[Chunk]:
    *said, last = [frame.data for frame in Decoder().feed(stream)]
    assert last == b"[DONE]"
    return [json.loads(each) for each in said]


def check(said: list[Chunk]) -> None:
    open_texts, calls = set(), set()
    assert [each["type"] for each in said].count("start") == 1 and said[0]["type"] == "start"
    for chunk in said:
        assert None not in chunk.values(), chunk
        match chunk["type"].split("-"):
            case ["text" | "reasoning", "start"]:
                open_texts.add(chunk["id"])
            case ["text" | "reasoning", "delta"]:
                assert chunk["id"] in open_texts
            case ["text" | "reasoning", "end"]:
                open_texts.remove(chunk["id"])
            case ["tool", "input", "start" | "available" | "error"]:
                calls.add(chunk["toolCallId"])
            case ["tool", *_]:
                assert chunk["toolCallId"] in calls
            case ["finish"]:
                assert chunk["finishReason"] in ("stop", "length", "content-filter", "tool-calls", "error", "other")
            case _:
                known = ("start", "start-step", "finish-step", "abort", "error", "message-metadata", "source-url")
                assert chunk["type"] in (*known, "data-notice", "data-tool-progress")
    assert not open_texts
    assert said[-1]["type"] in ("finish", "abort", "error")


def tell(*said: events.Event, message: Chunk | None = None, whole: bool = False) -> list[Chunk]:
    encoder = Encoder(message, whole)
    return [chunk for event in (STARTED, *said) for chunk in encoder.tell(event)]


def ended(outcome: Outcome, reason: FinishReason = FinishReason.TOOL_CALLS) -> events.RunFinished:
    return events.RunFinished(outcome, reason, Usage(2, 3))


def called(call: ToolCall = CALL, complete: bool = True) -> list[events.Event]:
    started = events.PartStarted(0, "tool_call", call.id, call.name)
    return [events.TurnStarted(0), started, events.PartFinished(0, call, complete)]


OVER = events.TurnFinished(0, FinishReason.TOOL_CALLS, Usage())


def test_usage_model_and_outcome_ride_in_the_metadata_of_the_message() -> None:
    usage = {"inputTokens": 2, "outputTokens": 3, "cachedTokens": 0, "reasoningTokens": 0, "totalTokens": 5}
    about = {"model": "p:m", "usage": usage}
    (done,) = tell(ended(Outcome.COMPLETED, FinishReason.STOP))[1:]
    assert done["messageMetadata"] == about | {"outcome": "completed"}
    failed = events.RunFailed("network", "It is lost.", True, Usage(2, 3))
    (metadata, error) = tell(failed)[1:]
    assert metadata["messageMetadata"] == about | {"outcome": "failed", "code": "network", "retryable": True}
    assert error == {"type": "error", "errorText": "It is lost."}
    assert tell(ended(Outcome.STOPPED))[-1] == {"type": "abort"}
    assert tell(ended(Outcome.INTERRUPTED))[-1]["type"] == "error"


@pytest.mark.parametrize("reason", FinishReason)
def test_every_reason_is_one_that_both_versions_know(reason: FinishReason) -> None:
    check(tell(ended(Outcome.COMPLETED, reason)))


def test_arguments_that_cannot_be_read_leave_a_call_in_error() -> None:
    broken = ToolCall("c", "add", None, '{"a', "no JSON")
    assert tell(*called(broken))[-1] == {
        "type": "tool-input-error",
        "toolCallId": "c",
        "toolName": "add",
        "input": '{"a',
        "errorText": "no JSON",
    }
    # And an application is not asked to run what was cut.
    cut = tell(*called(complete=False), OVER, ended(Outcome.COMPLETED, FinishReason.LENGTH))
    assert [each["type"] for each in cut if "toolCallId" in each] == ["tool-input-start", "tool-input-error"]


@pytest.mark.parametrize("outcome", [Outcome.STOPPED, Outcome.LIMIT, Outcome.COMPLETED, Outcome.INTERRUPTED])
def test_an_answer_that_ends_with_calls_leaves_nothing_for_the_client_to_send(outcome: Outcome) -> None:
    told = tell(*called(), OVER, ended(outcome))
    check(told)
    open_call, *step = [each for each in told if each["type"] not in ("message-metadata", "abort", "finish", "error")][
        -3:
    ]
    assert open_call == {"type": "tool-output-error", "toolCallId": "c", "errorText": NOT_RUN}
    assert step == [{"type": "start-step"}, {"type": "finish-step"}]


def test_an_answer_that_waits_ends_with_its_calls() -> None:
    told = tell(*called(), events.ApprovalRequested("c", "add", {"a": 1}), OVER, ended(Outcome.PAUSED))
    kinds = [each["type"] for each in told]
    assert kinds[-4:] == ["tool-input-available", "tool-approval-request", "finish-step", "finish"]
    assert told[-3]["approvalId"] == "run_1.c"


OUTPUTS = {
    "an object": ('{"a":[1,null]}', {"a": [1, None]}),
    "a number": ("3", 3),
    "a fraction": ("18.0", 18.0),
    "other spaces": ('{"a": 1}', '{"a": 1}'),
    "no JSON": ("Paris", "Paris"),
    "a number that JavaScript has not": ('{"id":12345678901234567890}', '{"id":12345678901234567890}'),
    "what the client's parser refuses": ('{"__proto__":{}}', '{"__proto__":{}}'),
    "and this": ('{"constructor":{"prototype":1}}', '{"constructor":{"prototype":1}}'),
    "but not this": ('{"constructor":"Ferrari"}', {"constructor": "Ferrari"}),
}


@pytest.mark.parametrize(("text", "output"), OUTPUTS.values(), ids=OUTPUTS)
def test_an_output_is_the_json_that_the_tool_gave_where_it_comes_back_as_it_is(text: str, output: Any) -> None:
    started, finished = events.ToolStarted("c", "add", {}), events.ToolFinished("c", "add", text, False, 1)
    assert tell(*called(), started, finished)[-1]["output"] == output


def test_arguments_that_the_client_cannot_parse_go_as_text_and_come_back_as_they_were() -> None:
    call = ToolCall("c", "add", {"__proto__": {"a": 1}}, '{"__proto__":{"a":1}}')
    told = tell(*called(call))[-1]
    assert told["input"] == call.arguments
    part = {"type": "tool-add", "toolCallId": "c", "state": "input-available", "input": told["input"]}
    assert read(asked(answer(part))).messages[-1].calls == [call]


def test_a_providers_own_tool_is_told_as_one_call_over_two_turns() -> None:
    search = Opaque("p:m", {"x": 1}, "s", "search", {"q": "?"})
    found = Opaque("p:m", {"x": 2}, "s", "search", None, "Found.")
    told = tell(
        *(events.TurnStarted(0), events.PartStarted(0, "opaque", "s", "search"), events.PartFinished(0, search)),
        *(OVER, events.TurnStarted(1)),
        *(events.PartStarted(1, "opaque", "s", "search"), events.PartFinished(1, found)),
        *(events.PartStarted(2, "opaque"), events.PartFinished(2, Opaque("p:m", {"x": 3}))),
    )
    known = {"toolCallId": "s", "providerExecuted": True}
    assert [each for each in told if "toolCallId" in each] == [
        {"type": "tool-input-start", "toolName": "search"} | known,
        {"type": "tool-input-available", "toolName": "search", "input": {"q": "?"}} | known,
        {"type": "tool-output-available", "output": "Found."} | known,
    ]


# --- a message that goes on -------------------------------------------------------------------------------------------


def tool(state: str, call_id: str = "c", **more: Any) -> Chunk:
    return {"type": "tool-add", "toolCallId": call_id, "state": state, "input": {"a": 1}} | more


STEP = {"type": "step-start"}
DECIDED = [
    STEP,
    {"type": "reasoning", "text": "Hm.", "providerMetadata": {"chatstream": {"signature": "s", "origin": "p:m"}}},
    {"type": "text", "text": "I ask.", "state": "done"},
    tool("output-available", "own", output={"b": 2}),
    tool("approval-responded", approval={"id": "run_0.c", "approved": True}),
    tool("approval-responded", "d", approval={"id": "run_0.d", "approved": False, "reason": "No."}),
]


def answer(*parts: Chunk, id: str = "msg_0") -> Chunk:
    return {"id": id, "role": "assistant", "parts": list(parts), "metadata": {"usage": 1}}


def question(text: str = "Hi", id: str = "u") -> Chunk:
    return {"id": id, "role": "user", "parts": [{"type": "text", "text": text}]}


def asked(*messages: Chunk, **more: Any) -> dict[str, Any]:
    body = {"id": "chat", "messages": [question(), *messages], "trigger": "submit-message"} | more
    assert explain(AI_SDK_REQUEST, body) == ""
    return body


RESULTS: list[events.Event] = [
    events.ToolFinished("own", "add", '{"b":2}', False, 0),
    events.ToolFinished("d", "add", f"{DENIED} No.", True, 0),
    events.ToolStarted("c", "add", {"a": 1}),
    events.ToolFinished("c", "add", DENIED, True, 1),
]


def test_a_message_that_goes_on_keeps_its_id_and_begins_with_the_outputs() -> None:
    told = tell(*RESULTS, events.TurnStarted(0), events.PartStarted(0, "text"), message=answer(*DECIDED))
    assert told == [
        {"type": "start", "messageId": "msg_0"},
        # Of its own tool the client has the output, and one that ran was not denied whatever it says.
        {"type": "tool-output-denied", "toolCallId": "d"},
        {"type": "tool-output-error", "toolCallId": "c", "errorText": DENIED},
        {"type": "start-step"},
        {"type": "text-start", "id": "6"},
    ]


def test_a_call_that_broke_off_in_the_message_before_can_be_made_anew() -> None:
    before = answer(STEP, tool("input-streaming"))
    begun = events.PartStarted(0, "tool_call", "c", "add")
    told = tell(events.TurnStarted(0), begun, events.ArgumentsDelta(0, "c", "{"), message=before)
    # A delta without its start is an error to the client, which knows of no start in an earlier stream.
    assert [each["type"] for each in told[2:]] == ["tool-input-start", "tool-input-delta"]


def test_a_stop_before_the_next_turn_leaves_no_call_at_the_end_either() -> None:
    told = tell(*RESULTS, ended(Outcome.STOPPED), message=answer(*DECIDED))
    assert [each["type"] for each in told][-4:] == ["start-step", "finish-step", "message-metadata", "abort"]


def test_who_comes_back_is_told_the_whole_message() -> None:
    told = tell(*RESULTS, ended(Outcome.COMPLETED), message=answer(*DECIDED), whole=True)
    check(told)
    assert told[0] == {"type": "start", "messageId": "msg_0", "messageMetadata": {"usage": 1}}
    # An input that comes whole would have the application run its tool once more.
    assert "tool-input-available" not in [each["type"] for each in told]
    assert {"type": "tool-output-available", "toolCallId": "own", "output": {"b": 2}} in told


@pytest.mark.parametrize(
    ("metadata", "tokens"),
    [
        ({"usage": {"inputTokens": 10, "totalTokens": 2**60, "x": 1, "outputTokens": True}}, (12, 3, 5)),
        ({"usage": 1}, (2, 3, 5)),
        (None, (2, 3, 5)),
    ],
)
def test_the_usage_of_a_message_is_that_of_all_runs_that_wrote_it(metadata: Any, tokens: tuple[int, ...]) -> None:
    told = tell(ended(Outcome.COMPLETED), message=answer() | {"metadata": metadata})
    usage = told[-1]["messageMetadata"]["usage"]
    assert tuple(usage[name] for name in ("inputTokens", "outputTokens", "totalTokens")) == tokens


PARTS = {
    "a file": {"type": "file", "url": "data:,x", "mediaType": "text/plain"},
    "a source": {"type": "source-url", "sourceId": "1", "url": "https://a.example"},
    "data": {"type": "data-x", "id": "1", "data": {"a": 1}},
    "a denied call": tool("output-denied", approval={"id": "a", "approved": False}),
    "a failed call": tool("output-error", errorText="no"),
    "a call that could not be read": {
        **{"type": "tool-add", "toolCallId": "c", "state": "output-error", "rawInput": '{"a', "errorText": "no"}
    },
    "a call that broke off": {"type": "tool-add", "toolCallId": "c", "state": "input-streaming", "rawInput": '{"a'},
    "a call without a result": tool("input-available"),
    "a tool that the client does not know": tool("output-available", output=None)
    | {"type": "dynamic-tool", "toolName": "x"},
    "what a later version has": {"type": "new-thing", "x": 1},
}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_any_part_can_be_told_again(part: Chunk) -> None:
    told = tell(ended(Outcome.PAUSED), message=answer(part), whole=True)
    check([each for each in told if each["type"] not in ("file", "data-x") and each.get("output", 0) is not None])


# --- requests ---------------------------------------------------------------------------------------------------------


def test_the_steps_of_an_answer_are_messages_of_the_model_each_with_its_results() -> None:
    parts = [STEP, *DECIDED[1:3], tool("output-available", output={"b": 2}), tool("output-error", "f", errorText="no")]
    said = read(asked(answer(*parts, STEP, {"type": "text", "text": "So."}), question("And?"))).messages
    assert said == [
        Message("user", (Text("Hi"),)),
        Message(
            "assistant",
            (
                *(Reasoning("Hm.", "s", origin="p:m"), Text("I ask.")),
                *(CALL, replace(CALL, id="f")),
            ),
        ),
        Message("tool", (ToolResult("c", "add", '{"b":2}'), ToolResult("f", "add", "no", is_error=True))),
        Message("assistant", (Text("So."),)),
        Message("user", (Text("And?"),)),
    ]


def test_what_is_only_shown_is_no_part_of_the_history() -> None:
    shown = [
        {"type": "source-url", "sourceId": "1", "url": "u"},
        {"type": "data-x", "data": None},
        tool("output-available", output="x", providerExecuted=True),
        tool("input-streaming"),
        {"type": "new-thing"},
    ]
    assert read(asked(answer(*shown), question())).messages == [Message("user", (Text("Hi"),))] * 2


def test_a_denied_call_has_the_result_that_the_model_was_told() -> None:
    denied = tool("output-denied", approval={"id": "a", "approved": False, "reason": "No."})
    assert read(asked(answer(denied), question())).messages[2].parts == (
        ToolResult("c", "add", f"{DENIED} No.", is_error=True),
    )


@pytest.mark.parametrize(
    "metadata", [None, "x", {"chatstream": 1}, {"chatstream": {"signature": 1, "field": "role", "extra": []}}]
)
def test_metadata_that_is_malformed_is_ignored(metadata: Any) -> None:
    part = {"type": "reasoning", "text": "Hm.", "providerMetadata": metadata}
    assert read(asked(answer(part), question())).messages[1].parts == (Reasoning("Hm."),)


def test_the_text_of_arguments_comes_back_unless_the_client_changed_them() -> None:
    metadata = {"callProviderMetadata": {"chatstream": {"arguments": '{"a": 1}'}}}
    same, other = tool("input-available", **metadata), tool("input-available", "d", **metadata) | {"input": {"a": 2}}
    calls = read(asked(answer(same, other), question())).messages[1].calls
    assert [call.arguments for call in calls] == ['{"a": 1}', '{"a":2}']


def test_what_is_said_of_calls_is_that_of_the_last_step() -> None:
    earlier = [STEP, tool("approval-responded", "old", approval={"id": "run_0.old", "approved": True})]
    failed = tool("output-error", "own", errorText="no")
    said = read(asked(answer(*earlier, *DECIDED[:3], failed, *DECIDED[4:]))).said
    assert said == (
        Said("own", "result", "no", True, "", "add", {"a": 1}),
        Said("c", "approve", "", False, "run_0", "add", {"a": 1}),
        Said("d", "deny", "No.", False, "run_0", "add", {"a": 1}),
    )
    assert read(asked(answer(*DECIDED), question())).said == ()
    assert read(asked(answer(*DECIDED), trigger="regenerate-message")).said == ()


def test_the_message_that_goes_on_is_the_one_that_is_named_or_the_last() -> None:
    first, last = answer(id="1"), answer(id="2")
    assert continued(asked(first, question())) is None
    assert continued(asked(first, question(), messageId="1")) == first
    assert continued(asked(first, question("x", "u2"), messageId="u2")) is None
    assert continued(asked(first, last)) == last
    assert continued(asked(first, last, trigger="regenerate-message", messageId="3")) is None


def test_files_are_images_and_texts() -> None:
    image = {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,AAAA"}
    text = {
        **{"type": "file", "mediaType": "text/csv", "filename": "a.csv"},
        "url": f"data:text/csv;charset=utf-8;base64,{base64.b64encode('ü,1'.encode()).decode()}",
    }
    plain = {"type": "file", "mediaType": "text/plain", "url": "data:text/plain,a%20b"}
    message = {"id": "u2", "role": "user", "parts": [image, text, plain]}
    assert read(asked(message)).messages[1].parts == (Image("image/png", "AAAA"), Text("a.csv:\nü,1"), Text("a b"))


REFUSED = {
    "an address": ({"url": "https://a.example/x.png", "mediaType": "image/png"}, "'https://a.example/x.png' is an"),
    "another type": ({"url": "data:application/pdf;base64,AA"}, "a file of application/pdf type; expected text/*"),
    "no type": ({"url": "data:;base64,AA"}, "a file of no type"),
    "no UTF-8": ({"url": "data:text/plain;base64,/w=="}, "expected UTF-8"),
    "no base64": ({"url": "data:text/plain;base64,!"}, "the text cannot be read"),
}


@pytest.mark.parametrize(("file", "problem"), REFUSED.values(), ids=REFUSED)
def test_other_files_are_refused(file: Chunk, problem: str) -> None:
    message = {"id": "u2", "role": "user", "parts": [{"type": "file"} | file]}
    with pytest.raises(RequestError) as caught:
        read(asked(message))
    assert caught.value.message.startswith("messages[1].parts[0]: ") and problem in caught.value.message


def test_options_and_tools_stand_at_the_top() -> None:
    options = {"model": "m", "temperature": 0.5, "maxOutputTokens": 9, "effort": "low"}
    tools = {
        "pick": {"description": "Pick.", "parameters": {"properties": {}}},
        "ask": {"inputSchema": {"type": "object"}},
    }
    body = asked(system="Be brief.", tools=tools, callSettings={}, metadata=None, **options)
    assert read(body).options == options | {
        "tools": [
            {"name": "pick", "description": "Pick.", "parameters": {"type": "object", "properties": {}}},
            {"name": "ask", "description": "", "parameters": {"type": "object"}},
        ]
    }
    assert read(body).messages[0] == Message("system", (Text("Be brief."),))
    assert read(asked(tools=[{"name": "pick"}])).options["tools"][0]["name"] == "pick"
    with pytest.raises(RequestError, match=r"tools\.pick: the type of its parameters is 'string'; expected 'object'"):
        read(asked(tools={"pick": {"parameters": {"type": "string"}}}))


def test_a_body_without_the_history_is_told_what_to_send() -> None:
    body = {"id": "chat", "message": question()}
    assert explain(AI_SDK_REQUEST, body) == ""
    with pytest.raises(RequestError, match="'messages' is missing: let prepareSendMessagesRequest send them all"):
        read(body)


WRONG = {
    "no id": ({"messages": [question()]}, "body: 'id' is a required"),
    "no parts": ({"id": "c", "messages": [{"role": "user", "content": "Hi"}]}, "messages[0]: 'parts'"),
    "a role": ({"id": "c", "messages": [question() | {"role": "tool"}]}, "messages[0].role: 'tool'"),
    "a text": (
        {"id": "c", "messages": [{"role": "user", "parts": [{"type": "text"}]}]},
        "messages[0].parts[0]: 'text'",
    ),
    "a call": ({"id": "c", "messages": [answer({"type": "tool-x"})]}, "messages[0].parts[0]: 'toolCallId'"),
    "an approval": (
        {"id": "c", "messages": [answer(tool("approval-responded", approval={"id": 1}))]},
        "messages[0].parts[0].approval.id: 1",
    ),
    "a temperature": ({"id": "c", "messages": [question()], "temperature": "hot"}, "temperature: 'hot'"),
    "an effort": ({"id": "c", "messages": [question()], "effort": "huge"}, "effort: 'huge'"),
    "a tool": ({"id": "c", "messages": [question()], "tools": ["add"]}, "tools[0]: 'add'"),
}


@pytest.mark.parametrize(("body", "problem"), WRONG.values(), ids=WRONG)
def test_a_wrong_body_is_told_where_it_is_wrong(body: dict[str, Any], problem: str) -> None:
    assert explain(AI_SDK_REQUEST, body).startswith(problem)


def test_the_efforts_are_those_of_the_providers() -> None:
    assert SCHEMA["properties"]["effort"]["enum"] == list(EFFORTS)
