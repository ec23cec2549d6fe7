"""The facts of a run, and the grammar that they always follow:

    run  = RunStarted (tool | turn)* (RunFinished(outcome) | RunFailed)
    turn = TurnStarted (part | tool)* TurnFinished
    part = PartStarted (TextDelta | ReasoningDelta | ArgumentsDelta)* PartFinished
    tool = ApprovalRequested? (ToolStarted ToolProgress*)? ToolFinished | ApprovalRequested

Parts and tools interleave, each balanced in itself; a `Notice` may stand anywhere inside a run. A call that is answered
without being run (it was stopped before, denied, or run by the caller) has a `ToolFinished` alone. When a turn is
finished so are its parts and tools, but for calls that wait for a decision.
`Grammar` checks it, event by event; log, wires and page rely on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from enum import EnumType, StrEnum
from operator import attrgetter
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

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
class Timing:
    """How long a turn or a run took, in milliseconds: to the first word of the model, and in all.

    `generation_ms` is how long the model spoke, tools and waiting left out: output tokens by it is its speed.
    """

    first_token_ms: int | None
    duration_ms: int
    generation_ms: int


@dataclass(frozen=True, slots=True)
class RunStarted:
    """`message_id` is that of the first message which the run adds, `parent_id` that of the one which it answers."""

    type: ClassVar = "run_started"
    run_id: str
    message_id: str
    model: str
    conversation_id: str = ""
    parent_id: str = ""


@dataclass(frozen=True, slots=True)
class TurnStarted:
    type: ClassVar = "turn_started"
    turn: int


@dataclass(frozen=True, slots=True)
class PartStarted:
    """`part` is unique in its run; `call_id` and `name` are a tool's, the provider's own too (an opaque part)."""

    type: ClassVar = "part_started"
    part: int
    kind: PartKind
    call_id: str = ""
    name: str = ""


@dataclass(slots=True)  # one that is frozen takes three times as long to make, and these are made for each read
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
    """The call waits for somebody's decision, or for its result where the caller runs it; the run ends `paused`."""

    type: ClassVar = "approval_requested"
    call_id: str
    name: str
    input: dict[str, Any]
    by_caller: bool = False


@dataclass(frozen=True, slots=True)
class TurnFinished:
    type: ClassVar = "turn_finished"
    turn: int
    finish_reason: FinishReason
    usage: Usage
    timing: Timing | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that the reader should know and that changes nothing, such as a wait before another try.

    One `is_lasting` that matters as long as its answer is read: it is stored with the run.
    """

    type: ClassVar = "notice"
    code: str
    message: str
    is_lasting: bool = False


@dataclass(frozen=True, slots=True)
class RunFinished:
    """`messages` are those that the run added to the conversation; `usage` is the sum of its turns."""

    type: ClassVar = "run_finished"
    outcome: Outcome
    finish_reason: FinishReason
    usage: Usage
    messages: tuple[Message, ...] = ()
    timing: Timing | None = None


@dataclass(frozen=True, slots=True)
class RunFailed:
    """`code`, `message`, `retryable` and `details` are those of the error (see `errors`)."""

    type: ClassVar = "run_failed"
    code: str
    message: str
    retryable: bool
    usage: Usage
    messages: tuple[Message, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    timing: Timing | None = None


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
                need(self.state in ("run", "turn") and call_id not in self._seen_tools)
                self.tools.add(call_id)
                self._seen_tools.add(call_id)
            case ToolProgress(call_id=call_id):
                need(call_id in self.tools)
            case ToolFinished(call_id=call_id):
                need(self.state in ("run", "turn") and (call_id in self.tools or call_id not in self._seen_tools))
                self.tools.discard(call_id)
                self._seen_tools.add(call_id)
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


# --- JSON -------------------------------------------------------------------------------------------------------------


def event_to_json(event: Event) -> Sequence[Any]:
    """Return `event` as [type, *fields], of which `event_from_json` makes the same event again.

    Kept events are read by later versions: a new field comes last and has a default.
    """
    shape = _SHAPES[type(event)]
    value: Sequence[Any] = shape.values(event) if shape.is_flat else _to_json(event)
    return value


def event_from_json(value: list[Any]) -> Event:
    event: Event = _EVENTS[value[0]].read(value[1:])
    return event


class _Shape:
    """How a dataclass is told as a list: its `type` where it has one, and its fields in their order."""

    def __init__(self, kind: type[Any]) -> None:
        hints = get_type_hints(kind)
        names = [field.name for field in fields(kind)]
        self.kind = kind
        self.values = attrgetter(*(["type"] if hasattr(kind, "type") else []), *names)
        self.readers = [_reader(hints[name]) for name in names]
        self.is_flat = not any(self.readers)

    def read(self, values: list[Any]) -> Any:
        """Return the object with these fields; those that are missing have their defaults, later ones are left out."""
        if self.is_flat:
            return self.kind(*values[: len(self.readers)])
        pairs = zip(self.readers, values, strict=False)
        return self.kind(*[value if reader is None else reader(value) for reader, value in pairs])


_SHAPES: dict[type[Any], _Shape] = {}


def _shape(kind: type[Any]) -> _Shape:
    if kind not in _SHAPES:
        _SHAPES[kind] = _Shape(kind)
    return _SHAPES[kind]


def _reader(hint: Any) -> Callable[[Any], Any] | None:
    """Return what makes a value of the type `hint` from its JSON, None where it is its own JSON."""
    members = get_args(hint)
    if isinstance(hint, EnumType):
        return hint
    if isinstance(hint, type) and is_dataclass(hint):
        return _shape(hint).read
    if get_origin(hint) is tuple:
        read = _reader(members[0])
        assert read is not None
        return lambda values: tuple(map(read, values))
    if NoneType in members:
        one = _reader(members[0])
        return lambda value: value if value is None or one is None else one(value)
    if isinstance(hint, UnionType) and all(map(is_dataclass, members)):
        shapes = {kind.type: _shape(kind) for kind in members}
        return lambda value: shapes[value[0]].read(value[1:])
    return None


def _to_json(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_to_json(each) for each in value]
    shape = _SHAPES.get(type(value))
    return value if shape is None else [_to_json(each) for each in shape.values(value)]


_EVENTS = {kind.type: _shape(kind) for kind in get_args(Event)}
