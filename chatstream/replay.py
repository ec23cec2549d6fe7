"""A cassette in place of a model and its tools: the run that it holds, once more.

The bytes that the provider sent go through the adapter's translator again, at the pace at which they came divided by a
`speed`; where none were recorded the events stand in for them. Tools answer as they answered then. `verify` holds the
events of such a run against the recorded ones:

    async def test_the_call_with_two_ids_is_one_call():
        await verify("tests/cassettes/run_5f0c.jsonl")
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from . import deltas, errors, events
from .agent import CUT_SHORT, Loop, Retry
from .cassettes import Attempt, Cassette, read_cassette
from .deltas import Delta
from .events import Event, Outcome, event_to_json
from .messages import Opaque, Reasoning, Text, ToolCall, ToolResult
from .providers import ModelInfo, ModelRequest, Models, Provider
from .providers.anthropic import MessagesTranslator
from .providers.base import Told, Translator, translate
from .providers.openai import ResponsesTranslator
from .providers.openai_chunks import ChatTranslator
from .tools import Tool, Toolbox

_TRANSLATORS: dict[str, Callable[[Told], Translator]] = {
    "messages": MessagesTranslator,
    "responses": ResponsesTranslator,
    "chat/completions": ChatTranslator,
}
# What is done where the recorded run was left: nothing more is known of it.
Leave = Callable[[], None]


class _Pace:
    """Waits as long as it took then, `speed` times shorter; `leave` is called where the run was left."""

    def __init__(self, speed: float, leave: Leave | None) -> None:
        self._speed = speed
        self._leave = leave

    async def until(self, began: float, seconds: float) -> None:
        """Wait until so many recorded seconds are over since `began` (of `time.monotonic`)."""
        if (left := began + seconds / self._speed - time.monotonic()) > 0:
            await asyncio.sleep(left)

    async def left(self) -> None:
        if self._leave is None:
            raise errors.ProviderRefused("The recording ends here: the run was stopped, or went on in another one.")
        self._leave()
        await asyncio.Event().wait()


class Replayed(Provider):
    """Answers request n of a run as the recorded one was answered. It is for one run; the next one wants a new one."""

    label = "recorded"

    def __init__(self, cassette: Cassette, speed: float = 1.0, leave: Leave | None = None) -> None:
        self.name, _, self.default_model = cassette.model.partition(":")
        self._cassette = cassette
        self._pace = _Pace(speed, leave)
        self._asked = 0

    def info(self, model: str) -> ModelInfo:
        return ModelInfo(self.name, model, f"{model} ({self.label})", images=True, reasoning=True)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[list[Delta]]:
        cassette, number = self._cassette, self._asked
        self._asked += 1
        # Behind a decision the run went on in another one, whose recording is another file.
        is_decided = not cassette.answers and number == 0 and request.messages[-1].role == "tool"
        if number == len(cassette.attempts) or is_decided:
            await self._pace.left()
        attempt = cassette.attempts[number]
        async with aclosing(self._answer(attempt)) as batches:
            async for batch in batches:
                yield batch

    async def before_retry(self, seconds: float) -> None:
        """Wait as a run waits that is tried again, which is not at all, but for one that was stopped meanwhile."""
        if self._asked == len(self._cassette.attempts):
            await self._pace.left()

    def _answer(self, attempt: Attempt) -> AsyncGenerator[list[Delta]]:
        if attempt.told is None:
            return self._retell(attempt)
        return translate(self._chunks(attempt), _TRANSLATORS[self._cassette.api](attempt.told))

    async def _chunks(self, attempt: Attempt) -> AsyncIterator[bytes]:
        began = time.monotonic()
        for at, chunk in attempt.reads:
            await self._pace.until(began, at - attempt.at)
            yield chunk
        await self._end(attempt, began)

    async def _retell(self, attempt: Attempt) -> AsyncGenerator[list[Delta]]:
        began = time.monotonic()
        for at, event in attempt.said:
            if said := _deltas(event):
                await self._pace.until(began, at - attempt.at)
                yield said
        await self._end(attempt, began)
        if (last := attempt.finished) is not None:
            yield [deltas.UsageDelta(last.usage), deltas.Finish(last.finish_reason)]

    async def _end(self, attempt: Attempt, began: float) -> None:
        if attempt.over is not None:
            await self._pace.until(began, attempt.over - attempt.at)
        if attempt.error is not None and not attempt.has_ended:
            raise attempt.failure()
        if not attempt.has_ended:
            await self._pace.left()


def _deltas(event: Event) -> list[Delta]:
    """Return the deltas that an event was made of."""
    match event:
        case events.TextDelta(part, text):
            return [deltas.TextDelta(part, text)]
        case events.ReasoningDelta(part, text):
            return [deltas.ReasoningDelta(part, text)]
        case events.PartStarted(part, "tool_call", call_id, name):
            return [deltas.ToolCallDelta(part, call_id, name)]
        case events.PartStarted(part, "opaque", call_id, name):
            return [deltas.OpaqueDelta(part, None, call_id, name)]
        case events.ArgumentsDelta(part, _, text):
            return [deltas.ToolCallDelta(part, arguments=text)]
        case events.PartFinished(part, value, complete=True):
            return [*_details(part, value), deltas.PartEnd(part)]
        case _:
            return []


def _details(part: int, value: object) -> list[Delta]:
    """Return what a whole part has beside its words."""
    match value:
        case Text(_, citations, extra) if citations or extra:
            return [deltas.TextDetail(part, citations, extra)]
        case Reasoning(_, signature, redacted, _, field, extra):
            return [deltas.ReasoningDelta(part, "", signature, redacted, field, extra)]
        case ToolCall(extra=extra) if extra:
            return [deltas.ToolCallDelta(part, extra=extra)]
        case Opaque(_, data, call_id, name, input, result, is_error):
            return [deltas.OpaqueDelta(part, data, call_id, name, input, result, is_error)]
        case _:
            return []


class ReplayedModels(Models):
    """The one model of a recording, whatever a request names; each run is given the recording from its beginning.

    `leave` is called where the recorded run was left.
    """

    def __init__(self, cassette: Cassette, speed: float = 1.0, leave: Leave | None = None) -> None:
        self._cassette = cassette
        self._speed = speed
        self._leave = leave
        provider = Replayed(cassette)
        self._providers = {provider.name: provider}
        self._default = provider.name

    def find(self, name: str = "") -> tuple[Provider, str]:
        provider = Replayed(self._cassette, self._speed, self._leave)
        return provider, provider.default_model

    def offered(self) -> list[ModelInfo]:
        provider, model = self.default
        return [provider.info(model)]


# --- tools ------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Call:
    """What a tool did: its reports, its result, and when."""

    id: str
    name: str
    input: dict[str, Any]
    began: float
    reports: list[tuple[float, str]]
    ended: float = 0.0
    result: events.ToolFinished | None = None


class ReplayedTools(Toolbox):
    """The tools of a recorded run, which answer its calls as they answered then and run nothing."""

    def __init__(self, cassette: Cassette, speed: float = 1.0, leave: Leave | None = None) -> None:
        self._pace = _Pace(speed, leave)
        self._calls = _calls(cassette)
        # What a call was told that the end of the run cut short: where it can, this run ends there too.
        self._cut_short = CUT_SHORT.get(cassette.outcome) if leave and cassette.outcome else None
        asked = {(each.name, orjson.dumps(each.input)) for each in _of(cassette.events, events.ApprovalRequested)}
        super().__init__(_tool(value, asked) for value in cassette.tools)

    async def execute(self, call: ToolCall, progress: Callable[[str], None]) -> ToolResult:
        began = time.monotonic()
        known = self._find(call)
        if known is None or known.result is None:
            return ToolResult(call.id, call.name, "The recording has no such call.", is_error=True)
        for at, text in known.reports:
            await self._pace.until(began, at - known.began)
            progress(text)
        await self._pace.until(began, known.ended - known.began)
        result = known.result
        if result.is_error and result.content == self._cut_short:
            await self._pace.left()
        return ToolResult(call.id, call.name, result.content, result.is_error)

    def _find(self, call: ToolCall) -> _Call | None:
        """Return the recorded call: by its id, behind which a number stands in another run, or else by its input."""
        same = [known for known in self._calls if known.name == call.name]
        by_id = [known for known in same if call.id == known.id or call.id.rpartition("_")[0] == known.id]
        by_input = [known for known in same if known.input == (call.input or {})]
        return next(iter(by_id + by_input), None)


def _of(said: Iterable[Event], kind: type[Any]) -> list[Any]:
    return [event for event in said if isinstance(event, kind)]


def _calls(cassette: Cassette) -> list[_Call]:
    calls: dict[str, _Call] = {}
    for at, _, event in cassette.entries:
        match event:
            case events.ToolStarted():
                calls[event.call_id] = _Call(event.call_id, event.name, event.input, at, [])
            case events.ToolProgress():
                calls[event.call_id].reports.append((at, event.content))
            case events.ToolFinished() if event.call_id in calls:
                calls[event.call_id].ended, calls[event.call_id].result = at, event
    return list(calls.values())


def _tool(value: dict[str, Any], asked: set[tuple[str, bytes]]) -> Tool:
    def is_asked(input: dict[str, Any]) -> bool:
        return (value["name"], orjson.dumps(input)) in asked

    return Tool(
        value["name"],
        value["description"],
        value["parameters"],
        lambda **_: None,
        read_only=value["readOnly"],
        approval=is_asked if value["approval"] == "depends" else value["approval"],
        by_caller=value["byCaller"],
    )


# --- a regression test ------------------------------------------------------------------------------------------------


_OF_TOOLS = (events.ToolStarted, events.ToolProgress, events.ToolFinished)


async def verify(path: str | Path) -> None:
    """Run the agent over a recording; raises AssertionError that shows the first event which is another one now.

    Times do not count, and neither does the order between the tools and the words that came meanwhile.
    """
    cassette = read_cassette(path)
    said: list[Event] = []

    def leave() -> None:
        loop.stop(cassette.outcome if cassette.outcome in CUT_SHORT else Outcome.STOPPED)

    provider = Replayed(cassette, math.inf, leave)
    loop = Loop(
        provider,
        provider.default_model,
        cassette.messages,
        ReplayedTools(cassette, math.inf, leave),
        replace(cassette.settings, retry=Retry(sleep=provider.before_retry)),
        said.extend,
        _of(cassette.events, events.RunStarted)[0],
        cassette.answers,
    )
    await loop.run()
    recorded, now = _strands(cassette.events), _strands(said)
    for name in dict.fromkeys([*recorded, *now]):
        _compare(recorded[name], now[name])


def _strands(said: Iterable[Event]) -> dict[str, list[tuple[int, bytes]]]:
    """Return the events with their numbers, those of each tool apart, as what of them does not change by itself."""
    strands: dict[str, list[tuple[int, bytes]]] = defaultdict(list)
    for number, event in enumerate(said, 1):
        match event:
            case events.ToolFinished():
                event = replace(event, duration_ms=0)
            case events.TurnFinished() | events.RunFinished() | events.RunFailed():
                event = replace(event, timing=None)
            case events.Notice():
                event = replace(event, message=re.sub(r"\d+\.\d s", "some seconds", event.message))
        name = event.call_id if isinstance(event, _OF_TOOLS) else ""
        strands[name].append((number, orjson.dumps(event_to_json(event))))
    return strands


def _compare(recorded: Sequence[tuple[int, bytes]], now: Sequence[tuple[int, bytes]]) -> None:
    nothing = (0, b"nothing")
    for at in range(max(len(recorded), len(now))):
        (number, then), (_, said) = [strand[at] if at < len(strand) else nothing for strand in (recorded, now)]
        if then != said:
            where = f"event {number} is another one now" if number else "there is an event more now"
            raise AssertionError(f"{where}\n  recorded: {then.decode()[:1000]}\n  now:      {said.decode()[:1000]}")
