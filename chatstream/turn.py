"""Folds one model response into events that are always balanced.

Providers disagree on how they bracket their parts: Anthropic opens and closes content blocks, OpenAI's chat deltas do
neither. A `Turn` takes the deltas of any of them; `close` ends whatever is open, so a failure in mid-word still leaves
the client a whole transcript, and the history a message that can be sent back.

    key unknown --delta--> open --PartEnd or close--> finished
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, replace
from io import StringIO
from typing import Any

import orjson

from . import deltas, events
from .deltas import Delta, FinishReason, Key, Usage
from .events import Event
from .messages import (
    INTERRUPTED,
    Citation,
    Message,
    Opaque,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    UsedIds,
    part_to_json,
    read_arguments,
)

# What a provider's own tool is shown to have answered where its turn broke off.
CUT_OFF = "This was cut off."


@dataclass(slots=True)
class _Open:
    """A part under way. Its text grows in a buffer: a list of the deltas would take ten times the memory (measured)."""

    number: int
    kind: events.PartKind
    said: StringIO = dataclasses.field(default_factory=StringIO)
    call_id: str = ""
    name: str = ""
    announced: bool = True
    signature: str = ""
    redacted: str = ""
    field: str = ""
    citations: tuple[Citation, ...] = ()
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)

    def add_extra(self, extra: dict[str, Any] | None) -> None:
        for name, value in (extra or {}).items():
            known = self.extra.get(name)
            if isinstance(value, list) and isinstance(known, list):
                self.extra[name] = known + value
            else:
                self.extra[name] = value

    def value(self, origin: str) -> Part:
        text = self.said.getvalue()
        if self.kind == "text":
            return Text(text, self.citations, self.extra, origin if self.extra else "")
        if self.kind == "reasoning":
            return Reasoning(text, self.signature, self.redacted, origin, self.field, self.extra)
        if self.kind == "opaque":
            return Opaque(origin, {}, self.call_id, self.name, result=CUT_OFF if self.name else None, is_error=True)
        parsed, problem = read_arguments(text)
        return ToolCall(self.call_id, self.name, parsed, text, problem, self.extra, origin if self.extra else "")


class Turn:
    """One response of the model `origin` (`provider:model`), as turn `number` of a run.

    `first_part` is the number of its first part and `used_ids` the call ids that the run has used: both grow with the
    turn, so that numbers and ids are unique in the run. `visible` says whether a viewer has been shown anything of it.
    """

    __slots__ = (
        "_characters",
        "_finished",
        "_open",
        "_used_ids",
        "finish_reason",
        "next_part",
        "number",
        "origin",
        "usage",
        "visible",
    )

    def __init__(self, number: int, origin: str, first_part: int = 0, used_ids: UsedIds | None = None) -> None:
        self.number = number
        self.origin = origin
        self.next_part = first_part
        self.visible = False
        self.finish_reason: FinishReason | None = None
        self.usage: Usage | None = None
        self._used_ids = used_ids or UsedIds()
        self._open: dict[Key, _Open] = {}
        self._finished: dict[int, Part] = {}
        self._characters = 0

    @property
    def message(self) -> Message:
        """The assistant's message so far: the finished parts in the order in which they began."""
        return Message("assistant", tuple(part for _, part in sorted(self._finished.items())))

    def feed(self, batch: Iterable[Delta]) -> list[Event]:
        """Return the events that a batch of deltas stands for."""
        out: list[Event] = []
        for delta in batch:
            if type(delta) is deltas.TextDelta:  # nearly all are
                if delta.text:
                    part = self._open.get(delta.key)
                    if part is None or part.kind != "text":
                        part = self._part(delta.key, "text", out)
                    part.said.write(delta.text)
                    out.append(events.TextDelta(part.number, delta.text))
                continue
            match delta:
                case deltas.ReasoningDelta(key):
                    # A block that began and says nothing yet is nothing to see: its turn can still be tried again.
                    if delta.text or delta.signature or delta.redacted or delta.field or delta.extra:
                        self._reason(delta, self._part(key, "reasoning", out), out)
                case deltas.ToolCallDelta(key):
                    self._call(delta, self._part(key, "tool_call", out), out)
                case deltas.TextDetail(key, citations, extra):
                    part = self._part(key, "text", out)
                    part.citations += citations
                    part.add_extra(extra)
                case deltas.OpaqueDelta(key):
                    self._opaque(key, delta, out)
                case deltas.PartEnd(key):
                    self._finish(key, out)
                case deltas.UsageDelta(usage):
                    self.usage = usage
                case deltas.Finish(reason):
                    self.finish_reason = reason
                    if delta.explanation:
                        out.append(events.Notice(str(reason), delta.explanation, is_lasting=True))
        self.visible = self.visible or bool(out)
        return out

    def finish_parts(self, complete: bool = True) -> list[Event]:
        """Finish every open part; `complete` is False where the response broke off."""
        out: list[Event] = []
        for key in list(self._open):
            self._finish(key, out, complete)
        return out

    def close(self, asked: int = 0) -> list[Event]:
        """Return the events that end the turn; `asked` is the length of its request in characters, if one was sent."""
        out = self.finish_parts(complete=False)
        reason = self.finish_reason or FinishReason.OTHER
        out.append(events.TurnFinished(self.number, reason, self._used(asked)))
        return out

    def _used(self, asked: int) -> Usage:
        """Return the tokens that the provider reported, and an estimate for those that it had not when it broke off."""
        if self.usage is not None and self.finish_reason is not None:
            return self.usage
        known = self.usage or Usage(input_tokens=tokens(asked))
        output = max(known.output_tokens, tokens(self._characters))
        return replace(known, output_tokens=output, estimated=True)

    def _part(self, key: Key, kind: events.PartKind, out: list[Event]) -> _Open:
        """Return the part of this key, opened where it is new; another kind under the same key is a new part."""
        part = self._open.get(key)
        if part is not None and part.kind == kind:
            return part
        if part is not None:
            self._finish(key, out)
        part = self._open[key] = _Open(self.next_part, kind, announced=kind != "tool_call")
        self.next_part += 1
        if part.announced:
            out.append(events.PartStarted(part.number, kind))
        return part

    def _reason(self, delta: deltas.ReasoningDelta, part: _Open, out: list[Event]) -> None:
        part.signature += delta.signature
        part.redacted += delta.redacted
        part.field = delta.field or part.field
        part.add_extra(delta.extra)
        if delta.text:
            part.said.write(delta.text)
            out.append(events.ReasoningDelta(part.number, delta.text))

    def _call(self, delta: deltas.ToolCallDelta, part: _Open, out: list[Event]) -> None:
        part.call_id = part.call_id or delta.id
        part.name = part.name or delta.name
        part.add_extra(delta.extra)
        if delta.arguments:
            part.said.write(delta.arguments)
        if part.announced:
            if delta.arguments:
                out.append(events.ArgumentsDelta(part.number, part.call_id, delta.arguments))
        elif part.name:
            self._announce(part, out)

    def _announce(self, part: _Open, out: list[Event]) -> None:
        """Show the call, with what came of its arguments before its name did. A missing id is made from the number."""
        part.announced = True
        part.call_id = self._used_ids.take(part.call_id or f"call_{part.number}")
        out.append(events.PartStarted(part.number, "tool_call", part.call_id, part.name))
        if said := part.said.getvalue():
            out.append(events.ArgumentsDelta(part.number, part.call_id, said))

    def _opaque(self, key: Key, delta: deltas.OpaqueDelta, out: list[Event]) -> None:
        part = self._open.get(key)
        if part is None or part.kind != "opaque":
            self._finish(key, out)
            part = self._open[key] = _Open(self.next_part, "opaque", call_id=delta.call_id, name=delta.name)
            self.next_part += 1
            out.append(events.PartStarted(part.number, "opaque", part.call_id, part.name))
        if delta.data is not None:
            del self._open[key]
            call_id, name = part.call_id or delta.call_id, part.name or delta.name
            shown = Opaque(self.origin, delta.data, call_id, name, delta.input, delta.result, delta.is_error)
            self._settle(part, shown, True, out)

    def _finish(self, key: Key, out: list[Event], complete: bool = True) -> None:
        part = self._open.pop(key, None)
        if part is None:
            return
        if not part.announced:
            self._announce(part, out)
        self._characters += part.said.tell()
        self._settle(part, part.value(self.origin), complete, out)

    def _settle(self, part: _Open, value: Part, complete: bool, out: list[Event]) -> None:
        self._finished[part.number] = value
        out.append(events.PartFinished(part.number, value, complete))


def tokens(characters: int) -> int:
    """Estimate: four characters a token is the rule of thumb that both providers' documents give for English text."""
    return -(-characters // 4)


class Remains:
    """What is left of a run whose process died, folded from the events that it had told: `close` ends them all."""

    def __init__(self) -> None:
        self._origin = ""
        self._usage = Usage()
        self._added: list[Message] = []
        self._turn: int | None = None
        self._open: dict[int, _Open] = {}
        self._finished: dict[int, Part] = {}
        self._results: dict[str, ToolResult] = {}
        self._running: dict[str, str] = {}

    def add(self, event: Event) -> None:
        match event:
            case events.RunStarted():
                self._origin = event.model
            case events.TurnStarted():
                self._keep()  # of calls that an earlier run had left open
                self._turn = event.turn
            case events.PartStarted():
                self._open[event.part] = _Open(event.part, event.kind, call_id=event.call_id, name=event.name)
            case events.TextDelta() | events.ReasoningDelta() | events.ArgumentsDelta():
                self._open[event.part].said.write(event.text)
            case events.PartFinished():
                del self._open[event.part]
                self._finished[event.part] = event.value
            case events.ToolStarted():
                self._running[event.call_id] = event.name
            case events.ToolFinished():
                self._running.pop(event.call_id, None)
                result = ToolResult(event.call_id, event.name, event.content, event.is_error)
                self._results[event.call_id] = result
            case events.TurnFinished():
                self._keep()
                self._usage += event.usage
                self._turn = None
            case _:
                pass

    def close(self, asked: int = 0) -> list[Event]:
        """Return the events that end the run `interrupted`; what it had said stays, calls without a result get one.

        `asked` is the length of what the model was asked, in characters.
        """
        told: list[Event] = [
            events.PartFinished(part.number, part.value(self._origin), complete=False) for part in self._open.values()
        ]
        for event in list(told):
            self.add(event)
        unanswered = {call.id: call.name for call in self._message.calls if call.id not in self._results}
        for call_id, name in (self._running | unanswered).items():
            told.append(events.ToolFinished(call_id, name, INTERRUPTED, is_error=True, duration_ms=0))
            self.add(told[-1])
        if self._turn is not None:
            said = sum(len(orjson.dumps(part_to_json(part))) for part in self._finished.values())
            usage = Usage(tokens(asked), tokens(said), estimated=True)
            told.append(events.TurnFinished(self._turn, FinishReason.OTHER, usage))
            self.add(told[-1])
        self._keep()
        ended = events.RunFinished(events.Outcome.INTERRUPTED, FinishReason.OTHER, self._usage, tuple(self._added))
        return [*told, ended]

    @property
    def _message(self) -> Message:
        return Message("assistant", tuple(part for _, part in sorted(self._finished.items())))

    def _keep(self) -> None:
        """Add what was said and answered to the messages, results in the order of their calls."""
        message = self._message
        order = {call.id: number for number, call in enumerate(message.calls)}
        results = sorted(self._results.values(), key=lambda result: order.get(result.tool_call_id, 0))
        self._added += [each for each in (message, Message("tool", tuple(results))) if each.parts]
        self._finished, self._results = {}, {}
