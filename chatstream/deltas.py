"""What a provider says, in the words that all of them share.

An adapter turns each event of its API into deltas and does nothing else: no bracketing, no joining, no ids of its own.
`key` is whatever the API uses to tell parts apart (an index, a kind): the same key means the same part until it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter
from typing import Any, ClassVar

from .messages import Citation, check_depth

Key = int | str


class FinishReason(StrEnum):
    """Why a model stopped. `PAUSE` is Anthropic's pause_turn: send the answer back as it is, and it goes on."""

    STOP = "stop"
    TOOL_CALLS = "tool_calls"
    LENGTH = "length"
    CONTENT_FILTER = "content_filter"
    REFUSAL = "refusal"
    CONTEXT_OVERFLOW = "context_overflow"
    PAUSE = "pause"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one turn or of a whole run. `input_tokens` counts all of them, cached ones too.

    `provider_tool_calls` counts the uses of the provider's own tools that it reports, which it bills one by one.
    `estimated` says that the provider did not report the tokens.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False
    provider_tool_calls: int = 0

    @property
    def counts(self) -> tuple[int, ...]:
        tokens = self.input_tokens, self.output_tokens, self.cached_tokens, self.reasoning_tokens
        return *tokens, self.provider_tool_calls

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.estimated or other.estimated,
            self.provider_tool_calls + other.provider_tool_calls,
        )


@dataclass(slots=True)  # one that is frozen takes three times as long to make, and these are made for each read
class TextDelta:
    type: ClassVar = "text"
    key: Key
    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """`signature`, `redacted`, `field` and `extra` as in `messages.Reasoning`; each adds to what came before."""

    type: ClassVar = "reasoning"
    key: Key
    text: str = ""
    signature: str = ""
    redacted: str = ""
    field: str = ""
    extra: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class TextDetail:
    """What belongs to a text beside its words, as in `messages.Text`; lists in `extra` add to what came before."""

    type: ClassVar = "text_detail"
    key: Key
    citations: tuple[Citation, ...] = ()
    extra: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a call. `id` and `name` come once, first or later; `arguments` is the next of its JSON text."""

    type: ClassVar = "tool_call"
    key: Key
    id: str = ""
    name: str = ""
    arguments: str = ""
    extra: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class OpaqueDelta:
    """Something that only its provider understands: that it began (`data` is None), then whole, as `messages.Opaque`.

    It may come whole without having begun.
    """

    type: ClassVar = "opaque"
    key: Key
    data: dict[str, Any] | None
    call_id: str = ""
    name: str = ""
    input: dict[str, Any] | None = None
    result: str | None = None
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class PartEnd:
    """The part is complete. Where an API does not say so, the turn's end says it."""

    type: ClassVar = "part_end"
    key: Key


@dataclass(frozen=True, slots=True)
class UsageDelta:
    """What is known of the turn's tokens so far; the last one counts."""

    type: ClassVar = "usage"
    usage: Usage


@dataclass(frozen=True, slots=True)
class Finish:
    """The model stopped, and `raw` is the word that its API used; `explanation` is what it says of it to people."""

    type: ClassVar = "finish"
    reason: FinishReason
    raw: str = ""
    explanation: str = ""


_MOST_TOKENS = 2**53  # of a whole run too they fit into 64 bits, which is what the log's JSON can hold
# The members of a delta that must be strings: nobody behind an adapter looks again.
_STRINGS: dict[type[Any], Callable[[Any], Iterable[str]]] = {
    TextDetail: lambda delta: [text for each in delta.citations for text in (each.url, each.title, each.text)],
    ReasoningDelta: attrgetter("text", "signature", "redacted", "field"),
    ToolCallDelta: attrgetter("id", "name", "arguments"),
    OpaqueDelta: lambda delta: (delta.call_id, delta.name, delta.result or ""),
    PartEnd: lambda delta: (),
}
_OBJECTS = ("extra", "data", "input")


def _check(delta: Any) -> None:
    "".join(_STRINGS[type(delta)](delta))
    hash(delta.key)
    for name in _OBJECTS:
        if (value := getattr(delta, name, None)) is not None:
            if not isinstance(value, dict):
                raise TypeError(f"{name} is no object")
            check_depth(value)


Delta = TextDelta | TextDetail | ReasoningDelta | ToolCallDelta | OpaqueDelta | PartEnd | UsageDelta | Finish


class Batch:
    """Gathers the deltas of one read; adjacent text of one part becomes one delta.

    What arrived together need not be told apart again: at full speed that is most of the cost of a delta (measured).
    """

    __slots__ = ("_deltas", "_key", "_make", "_texts")

    def __init__(self) -> None:
        self._deltas: list[Delta] = []
        self._texts: list[str] = []
        self._key: Key = ""
        self._make: Callable[[Key, str], Delta] = TextDelta

    def join(self, make: Callable[[Key, str], Delta], key: Key, text: str) -> None:
        """Add text that belongs behind what was said last, if that was the same part.

        Raises TypeError, as `add` does, for what is no key or no text: a provider's JSON may hold anything.
        """
        if key != self._key or make is not self._make:
            hash(key)
            self._flush()
            self._key, self._make = key, make
        self._texts.append("" + text)

    def add(self, delta: Delta) -> None:
        """Add a delta that is told apart from those around it."""
        self._flush()
        if type(delta) in _STRINGS:
            _check(delta)
        elif isinstance(delta, UsageDelta) and max(map(abs, delta.usage.counts)) > _MOST_TOKENS:
            raise ValueError(f"more tokens than there are: {delta.usage}")
        self._deltas.append(delta)

    def take(self) -> list[Delta]:
        """Return what was gathered and begin anew."""
        if not self._deltas:  # nearly every read brings text of one part and nothing else
            texts, self._texts = self._texts, []
            return [self._make(self._key, texts[0] if len(texts) == 1 else "".join(texts))] if texts else []
        self._flush()
        taken, self._deltas = self._deltas, []
        return taken

    def _flush(self) -> None:
        if self._texts:
            self._deltas.append(self._make(self._key, "".join(self._texts)))
            self._texts = []


def arguments_delta(key: Key, arguments: str) -> ToolCallDelta:
    """Return more arguments of a call, for `Batch.join`."""
    return ToolCallDelta(key, arguments=arguments)
