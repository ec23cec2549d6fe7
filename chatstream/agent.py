"""The agent loop: ask the model, run the tools that it calls, hand their results back, until it stops.

    model answers --no calls, or cut short--> finished
         ^  \\--calls--> tools run at once, results in the order of the calls --+
         +----------------------------------------------------------------------+

`run` is the loop as a library. The server hands `execute` a function of its own that takes the events, a batch for
each read of the provider's socket. Every ending is an event: `RunFinished`, or `RunFailed` for an exception.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from . import errors, events
from .deltas import FinishReason, Usage
from .events import Event, Outcome
from .messages import Message, ToolCall, ToolResult, UsedIds, user
from .providers import Effort, ModelRequest, Provider, get_provider
from .tools import Tool, Toolbox
from .turn import Turn

log = logging.getLogger("chatstream.agent")

Emit = Callable[[Sequence[Event]], Awaitable[None]]

GIVEN_UP = "This call was given up: the answer that asked for it broke off."
# Reports of a tool's progress that may wait for a viewer.
_REPORTS = 100
# After these a turn is whole and its calls are meant; after any other it was cut, and cut calls are not run.
_MEANT = {FinishReason.TOOL_CALLS, FinishReason.STOP, FinishReason.OTHER}


@dataclass(frozen=True, slots=True)
class Retry:
    """When to ask again: `tries` more times, after `first` seconds, then twice as many, up to `longest`.

    A provider's Retry-After counts where it is longer; one beyond `patience` seconds ends the run instead.
    """

    tries: int = 3
    first: float = 0.5
    longest: float = 8.0
    patience: float = 60.0
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    jitter: Callable[[], float] = random.random

    def wait(self, attempt: int, error: errors.ProviderError) -> float | None:
        """Return the seconds to wait before another try, None where there is to be none."""
        asked = error.retry_after or 0.0
        if attempt >= self.tries or not error.retryable or asked > self.patience:
            return None
        # "Equal jitter": many clients that failed together do not come back together.
        backoff = min(self.first * 2.0**attempt, self.longest)
        return max(asked, backoff * (0.5 + self.jitter() / 2))


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run goes by, beside its messages. `max_turns` bounds how often the model is asked."""

    system: str = ""
    max_output_tokens: int = 4096
    temperature: float | None = None
    effort: Effort | None = None
    max_turns: int = 20
    retry: Retry = field(default_factory=Retry)


async def run(
    model: str | Provider,
    messages: str | Sequence[Message],
    tools: Toolbox | Iterable[Tool] = (),
    settings: Settings | None = None,
) -> AsyncIterator[Event]:
    """Yield the events of one run; leaving the iteration ends the run and its request at once.

    `model` is a name (`anthropic:claude-sonnet-5-5`) or a provider, whose default model is used; `messages` may be one
    question.
    """
    history = [user(messages)] if isinstance(messages, str) else list(messages)
    if strange := [message for message in history if not isinstance(message, Message)]:
        raise TypeError(f"messages must be Message values (see messages_from_json), not {strange[0]!r}")
    provider = get_provider(model) if isinstance(model, str) else model
    toolbox = tools if isinstance(tools, Toolbox) else Toolbox(tools)
    # One batch may wait: a reader that is slow slows the provider down, by way of the socket.
    channel: asyncio.Queue[Sequence[Event] | None] = asyncio.Queue(maxsize=1)

    async def work() -> None:
        try:
            await execute(provider, provider.default_model, history, toolbox, settings or Settings(), channel.put)
        finally:
            task = asyncio.current_task()
            if task is not None and not task.cancelling():
                await channel.put(None)

    task = asyncio.create_task(work())
    try:
        while (batch := await channel.get()) is not None:
            for event in batch:
                yield event
        await task
    finally:
        task.cancel()
        await asyncio.wait([task])
        if isinstance(model, str):
            await provider.aclose()


async def execute(
    provider: Provider,
    model: str,
    messages: Sequence[Message],
    toolbox: Toolbox,
    settings: Settings,
    emit: Emit,
    run_id: str = "",
) -> None:
    """Run the loop to its end and hand `emit` every event; raises nothing of its own but what `emit` raises."""
    run_id = run_id or new_id("run")
    loop = _Loop(provider, model, messages, toolbox, settings, emit, run_id)
    await emit([events.RunStarted(run_id, new_id("msg"), f"{provider.name}:{model}")])
    try:
        outcome, reason = await loop.turns()
    except errors.ChatstreamError as error:
        log.warning("%s failed: %s", run_id, error.for_log)
        await emit([loop.failed(error.code, error.message, error.retryable)])
    except _EmitError as error:
        raise error.reason from error
    except Exception:
        log.exception("%s failed inside chatstream", run_id)
        await emit([loop.failed("internal", "Something went wrong inside chatstream; its log says what.", False)])
    else:
        await emit([events.RunFinished(outcome, reason, loop.usage, tuple(loop.added))])


def new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(16)}"


class _EmitError(Exception):
    """Carries what `emit` raised past the handling of what the run raised."""

    def __init__(self, reason: BaseException) -> None:
        self.reason = reason


class _Loop:
    """The state of one run: what it said, what it used, and which numbers and ids are taken."""

    def __init__(
        self,
        provider: Provider,
        model: str,
        messages: Sequence[Message],
        toolbox: Toolbox,
        settings: Settings,
        emit: Emit,
        run_id: str,
    ) -> None:
        self.run_id = run_id
        self.provider = provider
        self.toolbox = toolbox
        self.settings = settings
        self.history = list(messages)
        self.added: list[Message] = []
        self.usage = Usage()
        self._emit = emit
        self._origin = f"{provider.name}:{model}"
        self._next_part = 0
        self._used_ids = UsedIds(call.id for message in messages for call in message.calls)
        self._request = ModelRequest(
            model,
            self.history,
            settings.system,
            tuple(toolbox),
            settings.max_output_tokens,
            settings.temperature,
            settings.effort,
        )
        self._turn = Turn(0, self._origin)

    def failed(self, code: str, message: str, retryable: bool) -> events.RunFailed:
        return events.RunFailed(code, message, retryable, self.usage, tuple(self.added))

    async def emit(self, batch: Sequence[Event]) -> None:
        if not batch:
            return
        try:
            await self._emit(batch)
        except Exception as error:
            raise _EmitError(error) from error

    async def turns(self) -> tuple[Outcome, FinishReason]:
        """Take turns until the model stops, the limit is reached or a call waits for a decision."""
        reason = FinishReason.OTHER
        for number in range(self.settings.max_turns):
            turn, waiting = await self._take_turn(number)
            reason = turn.finish_reason or FinishReason.OTHER
            if waiting:
                return Outcome.PAUSED, reason
            goes_on = reason is FinishReason.PAUSE or (turn.message.calls and reason in _MEANT)
            if not goes_on:
                return Outcome.COMPLETED, reason
        return Outcome.LIMIT, reason

    async def _take_turn(self, number: int) -> tuple[Turn, list[ToolCall]]:
        """Take one turn, the model's response and the tools that it called; say which calls wait for a decision."""
        await self.emit([events.TurnStarted(number)])
        tools = _ToolRuns(self.toolbox, self.emit)
        failure: Exception | None = None
        try:
            try:
                await self._respond(number, tools)
            except _EmitError:
                raise
            except Exception as error:
                failure = error  # raised again when the turn is closed: what was shown stays whole
            turn = self._turn
            meant = failure is None and turn.finish_reason in _MEANT
            await self.emit(turn.finish_parts(complete=meant))
            if meant:
                await tools.run_all(turn.message.calls)
            await (tools.give_up() if failure else tools.finish())
        finally:
            await tools.cancel()
        await self._close(turn, tools)
        if failure is not None:
            raise failure
        return turn, tools.waiting

    async def _respond(self, number: int, tools: _ToolRuns) -> None:
        """Ask the model, again where that failed before anything of the answer was seen; `_turn` is what it said."""
        retry = self.settings.retry
        for attempt in itertools.count():
            self._turn = Turn(number, self._origin, self._next_part, self._used_ids)
            try:
                return await self._read(tools)
            except errors.ProviderError as error:
                wait = None if self._turn.visible else retry.wait(attempt, error)
                if wait is None:
                    raise
                log.warning("%s: attempt %d failed: %s", self.run_id, attempt + 1, error.for_log)
                again = f"{error.message.removesuffix(' Try again in a moment.')} Trying again in {wait:.1f} s."
                await self.emit([events.Notice(error.code, again)])
            await retry.sleep(wait)

    async def _read(self, tools: _ToolRuns) -> None:
        request = replace(self._request, messages=tuple(self.history))
        async with aclosing(self.provider.stream(request)) as batches:
            async for batch in batches:
                if said := self._turn.feed(batch):
                    await self.emit(said)
                    tools.start_early(said)

    async def _close(self, turn: Turn, tools: _ToolRuns) -> None:
        """End the turn, and add what it said and what its tools answered to the history."""
        closing = turn.close()
        finished = closing[-1]
        assert isinstance(finished, events.TurnFinished)
        self.usage += finished.usage
        self._next_part = turn.next_part
        results = tuple(tools.results[call.id] for call in turn.message.calls if call.id in tools.results)
        for message in (turn.message, Message("tool", results)):
            if message.parts:
                self.history.append(message)
                self.added.append(message)
        await self.emit(closing)


class _ToolRuns:
    """The tools of one turn. `results` is by call id; `waiting` are the calls that wait for somebody's decision."""

    def __init__(self, toolbox: Toolbox, emit: Emit) -> None:
        self.results: dict[str, ToolResult] = {}
        self.waiting: list[ToolCall] = []
        self._toolbox = toolbox
        self._emit = emit
        self._tasks: dict[str, asyncio.Task[None]] = {}
        # What the tools themselves do, which can be ended without the events that tell of it.
        self._work: list[asyncio.Task[ToolResult]] = []
        self._is_given_up = False

    def start_early(self, said: Iterable[Event]) -> None:
        """Start the calls that are complete and only read, while the model still speaks."""
        for event in said:
            if isinstance(event, events.PartFinished) and isinstance(event.value, ToolCall):
                tool = self._tool(event.value)
                if tool is not None and tool.read_only and not tool.needs_approval(event.value.input or {}):
                    self._start(event.value)

    async def run_all(self, calls: Sequence[ToolCall]) -> None:
        """Start every call that was not started yet; those that need an approval wait for it instead."""
        for call in calls:
            if call.id in self._tasks:
                continue
            tool = self._tool(call)
            if tool is not None and tool.needs_approval(call.input or {}):
                self.waiting.append(call)
            else:
                self._start(call)
        if self.waiting:
            asked = [events.ApprovalRequested(call.id, call.name, call.input or {}) for call in self.waiting]
            await self._emit(asked)

    async def finish(self) -> None:
        """Wait for the calls that were started."""
        if self._tasks:
            await asyncio.gather(*self._tasks.values())

    async def give_up(self) -> None:
        """End what still runs, with a result that says so: the turn that asked for it broke off."""
        self._is_given_up = True
        for work in self._work:
            work.cancel()
        await self.finish()

    async def cancel(self) -> None:
        """End what still runs; its results are nobody's."""
        everything = [*self._tasks.values(), *self._work]
        for task in everything:
            task.cancel()
        await asyncio.gather(*everything, return_exceptions=True)

    def _tool(self, call: ToolCall) -> Tool | None:
        """Return the tool that a call can run as it stands, None where it will end in an error anyway."""
        try:
            return self._toolbox.check(call)
        except errors.ToolError:
            return None

    def _start(self, call: ToolCall) -> None:
        self._tasks[call.id] = asyncio.create_task(self._run(call), name=f"tool {call.name}")

    async def _run(self, call: ToolCall) -> None:
        await self._emit([events.ToolStarted(call.id, call.name, call.input or {})])
        began = time.monotonic()
        said: asyncio.Queue[str | None] = asyncio.Queue()

        def report(content: str) -> None:
            if said.qsize() >= _REPORTS:  # the viewer is slower than the tool: the older reports are the ones to miss
                said.get_nowait()
            said.put_nowait(content)

        telling = asyncio.create_task(self._tell(call.id, said))
        work = asyncio.create_task(self._toolbox.execute(call, report))
        self._work.append(work)
        if self._is_given_up:
            work.cancel()
        try:
            await asyncio.wait([work])
            said.put_nowait(None)
            await telling
        finally:
            telling.cancel()
        given_up = ToolResult(call.id, call.name, GIVEN_UP, is_error=True)
        result = self.results[call.id] = given_up if work.cancelled() else work.result()
        took = int((time.monotonic() - began) * 1000)
        await self._emit([events.ToolFinished(call.id, call.name, result.content, result.is_error, took)])

    async def _tell(self, call_id: str, said: asyncio.Queue[str | None]) -> None:
        """Pass a tool's progress on: the tool itself may not wait for a viewer."""
        while (content := await said.get()) is not None:
            await self._emit([events.ToolProgress(call_id, content)])
