"""Deltas of every kind and in every order, and the events that a turn makes of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatstream import events
from chatstream.deltas import (
    Batch,
    Delta,
    Finish,
    FinishReason,
    OpaqueDelta,
    PartEnd,
    ReasoningDelta,
    TextDelta,
    TextDetail,
    ToolCallDelta,
    Usage,
    UsageDelta,
    arguments_delta,
)
from chatstream.events import Event, Grammar
from chatstream.messages import Citation, Message, Opaque, Reasoning, Text, ToolCall, UsedIds
from chatstream.turn import CUT_OFF, Turn

keys = st.integers(0, 3)
texts = st.sampled_from(["", "a", "bc", "\N{GRINNING FACE}"])
deltas: st.SearchStrategy[Delta] = st.one_of(
    st.builds(TextDelta, keys, texts),
    st.builds(ReasoningDelta, keys, texts, texts, texts),
    st.builds(ToolCallDelta, keys, st.sampled_from(["", "id1", "id2"]), st.sampled_from(["", "add"]), texts),
    st.builds(ReasoningDelta, keys, extra=st.just({"id": "r"})),
    st.builds(TextDetail, keys, st.just((Citation("u"),)), st.just({"citations": [1]})),
    st.builds(OpaqueDelta, keys, st.sampled_from([None, {"type": "new"}]), texts, texts),
    st.builds(PartEnd, keys),
    st.builds(UsageDelta, st.builds(Usage, st.integers(0, 9), st.integers(0, 9))),
    st.builds(Finish, st.sampled_from(FinishReason)),
)


def play(turn: Turn, batches: list[list[Delta]]) -> list[Event]:
    said: list[Event] = [events.TurnStarted(turn.number)]
    for batch in batches:
        said += turn.feed(batch)
    return said + turn.close()


@given(st.lists(st.lists(deltas, max_size=6), max_size=6))
def test_whatever_a_provider_says_the_events_are_balanced(batches: list[list[Delta]]) -> None:
    grammar = Grammar()
    grammar.check(events.RunStarted("run", "message", "model"))
    for event in play(Turn(0, "p:m"), batches):
        grammar.check(event)
    assert grammar.state == "run"


@given(st.lists(st.lists(deltas, max_size=6), max_size=6))
def test_the_message_is_the_finished_parts_and_does_not_depend_on_the_batches(batches: list[list[Delta]]) -> None:
    batched, single = Turn(0, "p:m"), Turn(0, "p:m")
    said = play(batched, batches)
    play(single, [[delta] for batch in batches for delta in batch])
    finished = {event.part: event.value for event in said if isinstance(event, events.PartFinished)}
    assert batched.message == single.message == Message("assistant", tuple(finished[n] for n in sorted(finished)))


@given(st.lists(st.lists(deltas, max_size=6), max_size=6))
def test_call_ids_are_never_empty_and_never_occur_twice(batches: list[list[Delta]]) -> None:
    used = UsedIds(["id1"])
    turn = Turn(0, "p:m", used_ids=used)
    play(turn, batches)
    found = [call.id for call in turn.message.calls]
    assert "" not in found and "id1" not in found and len(set(found)) == len(found)


CASES: dict[str, tuple[list[Delta], tuple[object, ...]]] = {
    "interleaved calls stay apart": (
        [
            ToolCallDelta(0, "x", "add"),
            ToolCallDelta(1, "y", "add"),
            ToolCallDelta(0, arguments='{"a":'),
            ToolCallDelta(1, arguments='{"b":'),
            ToolCallDelta(0, arguments="1}"),
            ToolCallDelta(1, arguments="2}"),
        ],
        (ToolCall("x", "add", {"a": 1}, '{"a":1}'), ToolCall("y", "add", {"b": 2}, '{"b":2}')),
    ),
    "the name may come after the arguments": (
        [ToolCallDelta(0, arguments="{"), ToolCallDelta(0, arguments="}"), ToolCallDelta(0, "x", "add")],
        (ToolCall("x", "add", {}, "{}"),),
    ),
    "an id that is missing is made": (
        [TextDelta("t", "Hi"), ToolCallDelta(0, "", "add", "{}")],
        (Text("Hi"), ToolCall("call_1", "add", {}, "{}")),
    ),
    "a signature belongs to its thought": (
        [ReasoningDelta(0, "hm"), ReasoningDelta(0, signature="s1"), PartEnd(0), ReasoningDelta(1, redacted="r")],
        (Reasoning("hm", "s1", origin="p:m"), Reasoning("", redacted="r", origin="p:m")),
    ),
    "text after the end of a part is a new part": (
        [TextDelta("t", "a"), PartEnd("t"), TextDelta("t", "b")],
        (Text("a"), Text("b")),
    ),
    "what is not known is carried whole": ([OpaqueDelta(0, {"type": "x"})], (Opaque("p:m", {"type": "x"}),)),
    "a provider's own tool is named when it begins and whole when it ends": (
        [OpaqueDelta(0, None, "s", "search"), OpaqueDelta(0, {"type": "x"}, input={"q": "?"})],
        (Opaque("p:m", {"type": "x"}, "s", "search", {"q": "?"}),),
    ),
    "a provider's own tool that broke off has nothing to send back": (
        [OpaqueDelta(0, None, "s", "search")],
        (Opaque("p:m", {}, "s", "search", result=CUT_OFF, is_error=True),),
    ),
    "what belongs to a text is gathered": (
        [
            TextDelta(0, "Hi"),
            TextDetail(0, (Citation("u"),), {"citations": [1], "phase": "a"}),
            TextDetail(0, (Citation("v"),), {"citations": [2]}),
        ],
        (Text("Hi", (Citation("u"), Citation("v")), {"citations": [1, 2], "phase": "a"}, "p:m"),),
    ),
    "what belongs to a call and to a thought goes with it": (
        [ToolCallDelta(0, "x", "add", "{}", {"signature": "s"}), ReasoningDelta(1, "hm", extra={"id": "r"})],
        (
            ToolCall("x", "add", {}, "{}", extra={"signature": "s"}, origin="p:m"),
            Reasoning("hm", origin="p:m", extra={"id": "r"}),
        ),
    ),
}


@pytest.mark.parametrize(("said", "parts"), CASES.values(), ids=CASES)
def test_parts(said: list[Delta], parts: tuple[object, ...]) -> None:
    turn = Turn(0, "p:m")
    play(turn, [said])
    assert turn.message.parts == parts


def test_parts_that_were_open_when_the_stream_broke_are_finished_and_not_complete() -> None:
    turn = Turn(0, "p:m")
    turn.feed([ToolCallDelta(0, "x", "add", '{"a": 1')])
    finished, ended = turn.close()
    assert isinstance(finished, events.PartFinished) and not finished.complete
    assert isinstance(ended, events.TurnFinished) and ended.finish_reason is FinishReason.OTHER


def test_tokens_that_nobody_reported_are_estimated_and_marked() -> None:
    turn = Turn(0, "p:m")
    turn.feed([TextDelta(0, "x" * 41)])
    assert turn.close()[-1] == events.TurnFinished(0, FinishReason.OTHER, Usage(output_tokens=11, estimated=True))


def test_nothing_is_visible_before_a_part_is() -> None:
    turn = Turn(0, "p:m")
    turn.feed([UsageDelta(Usage(1)), ToolCallDelta(0, "x"), TextDelta(1, "")])
    assert not turn.visible
    turn.feed([ToolCallDelta(0, name="add")])
    assert turn.visible


def test_adjacent_text_of_one_read_is_one_delta() -> None:
    batch = Batch()
    for text in "abc":
        batch.join(TextDelta, 0, text)
    batch.join(TextDelta, 1, "d")
    batch.join(arguments_delta, 1, "{")
    batch.add(PartEnd(1))
    batch.join(arguments_delta, 1, "}")
    assert batch.take() == [
        TextDelta(0, "abc"),
        TextDelta(1, "d"),
        ToolCallDelta(1, arguments="{"),
        PartEnd(1),
        ToolCallDelta(1, arguments="}"),
    ]
    assert batch.take() == []
