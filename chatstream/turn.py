"""Folds one model response into events that are always balanced.

Providers disagree on how they bracket their parts: Anthropic opens and closes content blocks, OpenAI's chat deltas do
neither. A `Turn` takes the deltas of any of them; `close` ends whatever is open, so a failure in mid-word still leaves
the client a whole transcript, and the history a message that can be sent back.

    key unknown --delta--> open --PartEnd or close--> finished
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from . import deltas, events
from .deltas import Delta, FinishReason, Key, Usage
from .events import Event
from .messages import Message, Opaque, Part, Reasoning, Text, ToolCall, UsedIds, read_arguments


@dataclass(slots=True)
class _Open:
    """A part under way. Texts are joined once, at the end: joining on every delta is quadratic."""

    number: int
    kind: events.PartKind
    texts: list[str] = field(default_factory=list)
    call_id: str = ""
    name: str = ""
    announced: bool = True
    signature: str = ""
    redacted: str = ""
    field: str = ""


class Turn:
    """One response of the model `origin` (`provider:model`), as turn `number` of a run.

    `first_part` is the number of its first part and `used_ids` the call ids that the run has used: both grow with the
    turn, so that numbers and ids are unique in the run. `visible` says whether a viewer has been shown anything of it.
    """

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
            match delta:
                case deltas.TextDelta(key, text):
                    if text:
                        part = self._part(key, "text", out)
                        part.texts.append(text)
                        out.append(events.TextDelta(part.number, text))
                case deltas.ReasoningDelta(key):
                    # A block that began and says nothing yet is nothing to see: its turn can still be tried again.
                    if delta.text or delta.signature or delta.redacted or delta.field:
                        self._reason(delta, self._part(key, "reasoning", out), out)
                case deltas.ToolCallDelta(key):
                    self._call(delta, self._part(key, "tool_call", out), out)
                case deltas.OpaqueDelta(key, data):
                    self._finish_opaque(key, data, out)
                case deltas.PartEnd(key):
                    self._finish(key, out)
                case deltas.UsageDelta(usage):
                    self.usage = usage
                case deltas.Finish(reason):
                    self.finish_reason = reason
        self.visible = self.visible or bool(out)
        return out

    def finish_parts(self, complete: bool = True) -> list[Event]:
        """Finish every open part; `complete` is False where the response broke off."""
        out: list[Event] = []
        for key in list(self._open):
            self._finish(key, out, complete)
        return out

    def close(self) -> list[Event]:
        """Return the events that end the turn, its usage estimated where the provider reported none."""
        out = self.finish_parts(complete=False)
        reason = self.finish_reason or FinishReason.OTHER
        out.append(events.TurnFinished(self.number, reason, self.usage or self._estimate()))
        return out

    def _estimate(self) -> Usage:
        # Four characters a token is the rule of thumb that both providers' documents give for English text.
        return Usage(output_tokens=-(-self._characters // 4), estimated=True)

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
        if delta.text:
            part.texts.append(delta.text)
            out.append(events.ReasoningDelta(part.number, delta.text))

    def _call(self, delta: deltas.ToolCallDelta, part: _Open, out: list[Event]) -> None:
        part.call_id = part.call_id or delta.id
        part.name = part.name or delta.name
        if delta.arguments:
            part.texts.append(delta.arguments)
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
        if part.texts:
            out.append(events.ArgumentsDelta(part.number, part.call_id, "".join(part.texts)))

    def _finish_opaque(self, key: Key, data: dict[str, object], out: list[Event]) -> None:
        self._finish(key, out)
        part = self._part(key, "opaque", out)
        del self._open[key]
        self._settle(part, Opaque(self.origin, data), True, out)

    def _finish(self, key: Key, out: list[Event], complete: bool = True) -> None:
        part = self._open.pop(key, None)
        if part is None:
            return
        if not part.announced:
            self._announce(part, out)
        text = "".join(part.texts)
        self._characters += len(text)
        value: Part
        if part.kind == "text":
            value = Text(text)
        elif part.kind == "reasoning":
            value = Reasoning(text, part.signature, part.redacted, self.origin, part.field)
        else:
            value = ToolCall(part.call_id, part.name, *_arguments(text))
        self._settle(part, value, complete, out)

    def _settle(self, part: _Open, value: Part, complete: bool, out: list[Event]) -> None:
        self._finished[part.number] = value
        out.append(events.PartFinished(part.number, value, complete))


def _arguments(text: str) -> tuple[dict[str, object] | None, str, str]:
    parsed, problem = read_arguments(text)
    return parsed, text, problem
