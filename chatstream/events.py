"""The facts of a run, and the grammar that they always follow:

    run  = RunStarted tool* turn* (RunFinished(outcome) | RunFailed)
    turn = TurnStarted (part | tool)* TurnFinished
    part = PartStarted (TextDelta | ReasoningDelta | ArgumentsDelta)* PartFinished
    tool = ToolStarted ToolProgress* ToolFinished | ApprovalRequested

Parts and tools interleave, each balanced in itself; a `Notice` may stand anywhere inside a run. When a turn is finished
so are its parts and tools. `Grammar` checks it, event by event; log, wires and page rely on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Literal

from .deltas import FinishReason, Usage
from .messages import Message, Part

PartKind = Literal["text", "reasoning", "tool_call", "opaque"]


class Outcome(StrEnum):
    """How a run ended: `LIMIT` after as many turns as are allowed, `PAUSED` where a call waits for a decision."""

    COMPLETED = "completed"
    STOPPED = "stopped"
    PAUSED = "paused"
    LIMIT = "limit"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class RunStarted:
    type: ClassVar = "run_started"
    run_id: str
    message_id: str
    model: str


@dataclass(frozen=True, slots=True)
class TurnStarted:
    type: ClassVar = "turn_started"
    turn: int


@dataclass(frozen=True, slots=True)
class PartStarted:
    """`part` is unique in its run; `call_id` and `name` are a tool call's, empty for the other kinds."""

    type: ClassVar = "part_started"
    part: int
    kind: PartKind
    call_id: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class TextDelta:
    type: ClassVar = "text_delta"
    part: int
    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    type: ClassVar = "reasoning_delta"
    part: int
    text: str


@dataclass(frozen=True, slots=True)
class ArgumentsDelta:
    type: ClassVar = "arguments_delta"
    part: int
    call_id: str
    text: str


@dataclass(frozen=True, slots=True)
class PartFinished:
    """`value` is the whole part as the history keeps it; `complete` is False where the turn ended before it did."""

    type: ClassVar = "part_finished"
    part: int
    value: Part
    complete: bool = True


@dataclass(frozen=True, slots=True)
class ToolStarted:
    type: ClassVar = "tool_started"
    call_id: str
    name: str
    input: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ToolProgress:
    type: ClassVar = "tool_progress"
    call_id: str
    content: str


@dataclass(frozen=True, slots=True)
class ToolFinished:
    type: ClassVar = "tool_finished"
    call_id: str
    name: str
    content: str
    is_error: bool
    duration_ms: int


@dataclass(frozen=True, slots=True)
class ApprovalRequested:
    """The call waits for somebody's decision; the run ends `paused` with it open."""

    type: ClassVar = "approval_requested"
    call_id: str
    name: str
    input: dict[str, Any]


@dataclass(frozen=True, slots=True)
class TurnFinished:
    type: ClassVar = "turn_finished"
    turn: int
    finish_reason: FinishReason
    usage: Usage


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that the reader should know and that changes nothing, such as a wait before another try."""

    type: ClassVar = "notice"
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class RunFinished:
    """`messages` are those that the run added to the conversation; `usage` is the sum of its turns."""

    type: ClassVar = "run_finished"
    outcome: Outcome
    finish_reason: FinishReason
    usage: Usage
    messages: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True)
class RunFailed:
    """`code`, `message` and `retryable` are those of the error (see `errors`)."""

    type: ClassVar = "run_failed"
    code: str
    message: str
    retryable: bool
    usage: Usage
    messages: tuple[Message, ...] = ()


Event = (
    RunStarted
    | TurnStarted
    | PartStarted
    | TextDelta
    | ReasoningDelta
    | ArgumentsDelta
    | PartFinished
    | ToolStarted
    | ToolProgress
    | ToolFinished
    | ApprovalRequested
    | TurnFinished
    | Notice
    | RunFinished
    | RunFailed
)


class Grammar:
    """Follows a run and raises AssertionError at the first event that the grammar does not allow there."""

    _DELTAS: ClassVar = {TextDelta: "text", ReasoningDelta: "reasoning", ArgumentsDelta: "tool_call"}

    def __init__(self) -> None:
        self.state: Literal["before", "run", "turn", "after"] = "before"
        self.parts: dict[int, str] = {}
        self.tools: set[str] = set()
        self._seen_parts: set[int] = set()
        self._seen_tools: set[str] = set()

    def check(self, event: Event) -> None:
        def need(allowed: object) -> None:
            if not allowed:
                raise AssertionError(f"{event} in state {self.state}, open: {self.parts} {self.tools}")

        need(self.state != "after")
        need((self.state == "before") == isinstance(event, RunStarted))
        match event:
            case RunStarted():
                self.state = "run"
            case TurnStarted():
                need(self.state == "run" and not self.tools)
                self.state = "turn"
            case PartStarted(part=part):
                need(self.state == "turn" and part not in self._seen_parts)
                self.parts[part] = event.kind
                self._seen_parts.add(part)
            case TextDelta(part=part) | ReasoningDelta(part=part) | ArgumentsDelta(part=part):
                need(self.parts.get(part) == self._DELTAS[type(event)])
            case PartFinished(part=part):
                need(self.parts.pop(part, None) == event.value.type)
            case ToolStarted(call_id=call_id):
                need(call_id not in self._seen_tools)
                self.tools.add(call_id)
                self._seen_tools.add(call_id)
            case ToolProgress(call_id=call_id):
                need(call_id in self.tools)
            case ToolFinished(call_id=call_id):
                need(call_id in self.tools)
                self.tools.remove(call_id)
            case TurnFinished():
                need(self.state == "turn" and not self.parts and not self.tools)
                self.state = "run"
            case RunFinished() | RunFailed():
                need(self.state == "run" and not self.tools)
                self.state = "after"
            case ApprovalRequested(call_id=call_id):
                need(self.state in ("run", "turn") and call_id not in self._seen_tools)
            case Notice():
                pass
