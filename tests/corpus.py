"""Recorded streams of many providers, where they are at hand, and how one is read.

CHATSTREAM_STREAMS names their folder; a test that needs them is marked `needs_streams`.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from chatstream import errors
from chatstream.deltas import Delta, Finish, Usage
from chatstream.events import Event, Grammar, RunStarted, TurnStarted
from chatstream.messages import Message
from chatstream.providers.anthropic import MessagesTranslator
from chatstream.providers.base import Told, Translator, translate
from chatstream.providers.openai import ResponsesTranslator
from chatstream.providers.openai_chunks import ChatTranslator
from chatstream.turn import Turn

FOLDER = Path(os.environ.get("CHATSTREAM_STREAMS", "/nowhere"))
MANIFEST: dict[str, Any] = (
    json.loads((FOLDER / "manifest.json").read_text())
    if (FOLDER / "manifest.json").is_file()
    else {"streams": [], "scenarios": []}
)
STREAMS: dict[str, dict[str, Any]] = {each["name"]: each for each in MANIFEST["streams"]}
SCENARIOS: dict[str, dict[str, Any]] = {each["name"]: each for each in MANIFEST["scenarios"]}
needs_streams = pytest.mark.skipif(not STREAMS, reason="CHATSTREAM_STREAMS names no folder of recorded streams")

TRANSLATORS: dict[str, type[Translator]] = {
    "anthropic-messages": MessagesTranslator,
    "openai-chat": ChatTranslator,
    "openai-responses": ResponsesTranslator,
}
# By API: the provider that speaks it, by its name in `FakeProvider` and in `provider:model`.
FAKES = {"anthropic-messages": "anthropic", "openai-chat": "openai_chat", "openai-responses": "openai"}
ORIGINS = {"anthropic-messages": "anthropic:m", "openai-chat": "openai-chat:m", "openai-responses": "openai:m"}


@dataclass(frozen=True)
class Reading:
    """What a stream came to."""

    message: Message
    finish: Finish | None
    usage: Usage | None
    error: errors.ProviderError | None
    events: list[Event]

    @property
    def meaning(self) -> tuple[object, ...]:
        """All that must not depend on how the bytes arrived."""
        return self.message, self.finish, self.usage, self.error and self.error.code


def bytes_of(stream: dict[str, Any]) -> bytes:
    return (FOLDER / stream["file"]).read_bytes()


def read(api: str, chunks: Iterable[bytes]) -> Reading:
    """Read a stream that comes in these pieces; its events are held against the grammar."""
    return read_from(translate(_pieces(chunks), TRANSLATORS[api](Told("Provider", "m"))), ORIGINS[api])


def read_from(batches: AsyncIterator[list[Delta]], origin: str) -> Reading:
    """Read what waits for nothing, and so needs no loop."""
    try:
        collect(batches, origin).send(None)
    except StopIteration as done:
        reading: Reading = done.value
        return reading
    raise AssertionError("it waited")


async def collect(batches: AsyncIterator[list[Delta]], origin: str) -> Reading:
    """Fold the deltas of one response; whatever is raised but a ProviderError goes on to the caller."""
    turn, finish, failure = Turn(0, origin), None, None
    said: list[Event] = []
    try:
        async for batch in batches:
            finish = next((delta for delta in reversed(batch) if isinstance(delta, Finish)), finish)
            said += turn.feed(batch)
    except errors.ProviderError as error:
        failure = error
    usage = turn.usage
    said += turn.close()
    grammar = Grammar()
    grammar.check(RunStarted("r", "m", origin))
    grammar.check(TurnStarted(0))
    for event in said:
        grammar.check(event)
    assert not grammar.parts and grammar.state == "run"
    return Reading(turn.message, finish, usage, failure, said)


async def _pieces(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


@cache
def readings() -> dict[str, Reading]:
    """Return what each stream comes to, fed whole."""
    return {name: read(stream["api"], [bytes_of(stream)]) for name, stream in STREAMS.items()}


def by_api(api: str) -> Sequence[str]:
    return [name for name, stream in STREAMS.items() if stream["api"] == api]
