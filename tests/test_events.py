"""The grammar: what it refuses. What it accepts is shown wherever a run is followed."""

from __future__ import annotations

import pytest

from chatstream.deltas import FinishReason, Usage
from chatstream.events import (
    Event,
    Grammar,
    Outcome,
    PartFinished,
    PartStarted,
    RunFailed,
    RunFinished,
    RunStarted,
    TextDelta,
    ToolFinished,
    ToolProgress,
    ToolStarted,
    TurnFinished,
    TurnStarted,
)
from chatstream.messages import Text

START = RunStarted("run", "message", "p:m")
TURN, TURN_END = TurnStarted(0), TurnFinished(0, FinishReason.STOP, Usage())
PART, PART_END = PartStarted(0, "text"), PartFinished(0, Text("x"))
TOOL, TOOL_END = ToolStarted("a", "add", {}), ToolFinished("a", "add", "3", False, 1)
END = RunFinished(Outcome.COMPLETED, FinishReason.STOP, Usage())


@pytest.mark.parametrize(
    "run",
    [
        [TURN],
        [START, START],
        [START, TextDelta(0, "x")],
        [START, TURN, TextDelta(0, "x")],
        [START, TURN, TURN],
        [START, TURN, PART, PART],
        [START, TURN, PART, PART_END, PART],
        [START, TURN, PART, PART_END, TextDelta(0, "x")],
        [START, TURN, PartStarted(0, "reasoning"), TextDelta(0, "x")],
        [START, TURN, PartStarted(0, "reasoning"), PART_END],
        [START, TURN, PART, TURN_END],
        [START, TURN, TOOL, TURN_END],
        [START, TURN, TOOL, TOOL],
        [START, TURN, TOOL, TOOL_END, TOOL_END],
        [START, TURN, ToolProgress("a", "x")],
        [START, TURN, END],
        [START, TOOL, TURN],
        [START, TOOL, END],
        [START, END, END],
        [START, RunFailed("internal", "x", False, Usage()), TURN],
    ],
)
def test_what_the_grammar_refuses_is_refused_at_its_last_event(run: list[Event]) -> None:
    grammar = Grammar()
    for event in run[:-1]:
        grammar.check(event)
    with pytest.raises(AssertionError):
        grammar.check(run[-1])
