"""The agent loop: ask the model, run the tools that it calls, hand their results back, until it stops.

    model answers --no calls, or cut short--> finished
         ^  \\--calls--> tools run at once, results in the order of the calls --+
         +----------------------------------------------------------------------+

`run` is the loop as a library. The server hands a `Loop` a function of its own that takes the events, a batch for each
read of the provider's socket and in its very callback, and may `stop` it in whatever it does: asking, reading, running
tools, waiting to try again. Every ending is an event: `RunFinished`, or `RunFailed` for an exception.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from . import errors, events
from .calls import Answer, Calls
from .deltas import Delta, FinishReason, Usage
from .events import Event, Outcome
from .messages import INTERRUPTED, Message, ToolCall, UsedIds, length, trimmed, user, without_origin
from .providers import Effort, Limits, ModelRequest, Provider, get_provider
from .tools import Tool, Toolbox
from .turn import Turn

log = logging.getLogger("chatstream.agent")

# Takes events at once; what it returns, if anything, is to be waited for before there are more: until they are kept.
Emit = Callable[[Sequence[Event]], Awaitable[None] | None]

GIVEN_UP = "This call was given up: the answer that asked for it broke off."
# What a call is answered that a stop cut short, by the outcome of its run.
CUT_SHORT = {Outcome.STOPPED: "The user stopped this call.", Outcome.INTERRUPTED: INTERRUPTED}
# After these a turn is whole and its calls are meant; after any other it was cut, and cut calls are not run.
_MEANT = {FinishReason.TOOL_CALLS, FinishReason.STOP, FinishReason.OTHER}

_MENDS = 8  # how often what is sent is changed for one turn; half of it is left out where no sizes are known
_SPARE = 0.95  # of the room for it, since its length is known by its characters only


@dataclass(frozen=True, slots=True)
class Retry:
    """When to ask again: `tries` more times, after `first` seconds, then twice as many, up to `longest`.

    A provider's Retry-After counts where it is longer; one beyond `patience` seconds ends the run instead. One that let
    a time limit pass is asked once more only: that were minutes, and will be minutes.
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
        tries = min(self.tries, 1) if isinstance(error, errors.ProviderTimeout) else self.tries
        if attempt >= tries or not error.retryable or asked > self.patience:
            return None
        # "Equal jitter": many clients that failed together do not come back together.
        backoff = min(self.first * 2.0**attempt, self.longest)
        return max(asked, backoff * (0.5 + self.jitter() / 2))


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run goes by, beside its messages. `max_turns` bounds how often the model is asked.

    `provider_tools` names tools that the provider runs itself and bills: `web_search`, `web_fetch`, `code_execution`.
    With `trim` a conversation that is too long for the model is sent without its oldest turns.
    """

    system: str = ""
    max_output_tokens: int = 4096
    temperature: float | None = None
    effort: Effort | None = None
    max_turns: int = 20
    retry: Retry = field(default_factory=Retry)
    limits: Limits = field(default_factory=Limits)
    trim: bool = False
    provider_tools: Sequence[str] = ()


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
    loop = Loop(provider, provider.default_model, history, toolbox, settings or Settings(), channel.put)

    async def work() -> None:
        try:
            await loop.run()
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


def new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(16)}"


async def _nowhere(batch: Sequence[Event]) -> None:
    """Take the events of a run that is over."""


class _EmitError(Exception):
    """Carries what `emit` raised past the handling of what the run raised."""

    def __init__(self, reason: BaseException) -> None:
        self.reason = reason


class _Emitted:
    """Waits as `emit` asked, and carries what that raised in the same way."""

    def __init__(self, kept: asyncio.Future[None]) -> None:
        self._kept = kept

    def __await__(self) -> Generator[Any, None, None]:
        try:
            yield from self._kept
        except Exception as error:
            raise _EmitError(error) from error


class _Watch:
    """Takes the time of a run, or of what the model says in one turn; `first` is when it said its first word."""

    __slots__ = ("_began", "_clock", "first")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()
        self.first: float | None = None

    def hear(self) -> None:
        """Note that the model says something."""
        if self.first is None:
            self.first = self._clock()

    def read(self, generation_ms: int | None = None) -> events.Timing:
        """Return the times up to now; `generation_ms` is how long it spoke, where that is not since its first word."""
        now = self._clock()
        first = None if self.first is None else _ms(self.first - self._began)
        spoken = _ms(now - (now if self.first is None else self.first))
        return events.Timing(first, _ms(now - self._began), spoken if generation_ms is None else generation_ms)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


class Loop:
    """One run, which `run` takes to its end and `stop` ends early. It begins with the `answers` to open calls.

    `started` is its first event, which says who it is. `upstream_closed` is the seconds from the stop until the request
    to the provider was closed, None where none was open.
    """

    __slots__ = (
        "_clock",
        "_emit",
        "_ending",
        "_generation_ms",
        "_is_plain",
        "_is_sent",
        "_next_part",
        "_origin",
        "_request",
        "_sent",
        "_stopped_at",
        "_tools",
        "_turn",
        "_turn_timing",
        "_turn_watch",
        "_used_ids",
        "_watch",
        "_work",
        "added",
        "answers",
        "history",
        "provider",
        "settings",
        "started",
        "toolbox",
        "upstream_closed",
        "usage",
    )

    def __init__(
        self,
        provider: Provider,
        model: str,
        messages: Sequence[Message],
        toolbox: Toolbox,
        settings: Settings,
        emit: Emit,
        started: events.RunStarted | None = None,
        answers: Sequence[Answer] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._origin = f"{provider.name}:{model}"
        self.started = started or events.RunStarted(new_id("run"), new_id("msg"), self._origin)
        self.provider = provider
        self.toolbox = toolbox
        self.settings = settings
        self.history = list(messages)
        # What of the history the model is sent: all of it, until a provider refuses that.
        self._sent = list(messages)
        self._is_plain = False  # what only the provider understands is left out
        self.answers = answers
        self.added: list[Message] = []
        self.usage = Usage()
        self.upstream_closed: float | None = None
        self._emit = emit
        self._next_part = 0
        self._used_ids = UsedIds(call.id for message in messages for call in message.calls)
        self._request = ModelRequest(
            model,
            self._sent,
            settings.system,
            tuple(toolbox),
            settings.max_output_tokens,
            settings.temperature,
            settings.effort,
            settings.provider_tools,
            limits=settings.limits,
        )
        self._turn = Turn(0, self._origin)
        self._ending: Outcome | None = None
        self._work: asyncio.Task[None] | None = None  # what a stop cancels
        self._tools = Calls(toolbox, self.emit)
        self._is_sent = False  # whether the provider had a request that it may count tokens of
        self._clock = clock
        self._watch, self._turn_watch = _Watch(clock), _Watch(clock)
        self._turn_timing = self._turn_watch.read()
        self._generation_ms = 0

    async def run(self) -> None:
        """Run to the end and hand `emit` every event; raises nothing of its own but what `emit` raises."""
        try:
            await self.emit([self.started])
            try:
                outcome, reason = await self._turns()
            except errors.ChatstreamError as error:
                log.warning("%s failed: %s", self.started.run_id, error.for_log)
                await self.emit([self._failed(error.code, error.message, error.retryable, error.details)])
            except _EmitError:
                raise
            except Exception:
                log.exception("%s failed inside chatstream", self.started.run_id)
                told = "Something went wrong inside chatstream; its log says what."
                await self.emit([self._failed("internal", told, False)])
            else:
                timing = self._watch.read(self._generation_ms)
                await self.emit([events.RunFinished(outcome, reason, self.usage, tuple(self.added), timing)])
        except _EmitError as error:
            raise error.reason from error
        finally:
            # These lead back to whoever holds the loop: what is no circle goes at once, with all that was said, and
            # need not wait for the garbage collector.
            self._emit = _nowhere
            self._tools = Calls(self.toolbox, _nowhere)

    def stop(self, outcome: Outcome) -> None:
        """End the run with this outcome, at once: the request is closed, and no tool starts any more."""
        if self._ending is not None:
            return
        self._ending = outcome
        self._stopped_at = time.monotonic()
        self._tools.give_up(CUT_SHORT[outcome])
        if self._work is not None:
            self._work.cancel()

    async def emit(self, batch: Sequence[Event]) -> None:
        if not batch:
            return
        try:
            if (kept := self._emit(batch)) is not None:
                await kept
        except Exception as error:
            raise _EmitError(error) from error

    def _failed(
        self, code: str, message: str, retryable: bool, details: dict[str, Any] | None = None
    ) -> events.RunFailed:
        timing = self._watch.read(self._generation_ms)
        return events.RunFailed(code, message, retryable, self.usage, tuple(self.added), details or {}, timing)

    async def _turns(self) -> tuple[Outcome, FinishReason]:
        """Take turns until the model stops, the limit is reached, a call waits for a decision or somebody stops it."""
        reason = FinishReason.OTHER
        await self._answer()
        for number in range(self.settings.max_turns):
            if self._ending is not None:
                break
            turn, waiting = await self._take_turn(number)
            reason = turn.finish_reason or FinishReason.OTHER
            if self._ending is not None:
                # A stop that came with the last word of the turn: nobody will decide on these any more.
                await self._tools.settle(waiting)
                self._add(Message("tool", self._tools.results_of(waiting)))
                break
            if waiting:
                return Outcome.PAUSED, reason
            goes_on = reason is FinishReason.PAUSE or (turn.message.calls and reason in _MEANT)
            if not goes_on:
                return Outcome.COMPLETED, reason
        return self._ending or Outcome.LIMIT, reason

    async def _answer(self) -> None:
        """Answer the calls that an earlier run left open."""
        if not self.answers:
            return
        try:
            await self._tools.answer(self.answers)
        finally:
            await self._tools.cancel()
        self._add(Message("tool", self._tools.results_of([answer.call for answer in self.answers])))

    async def _take_turn(self, number: int) -> tuple[Turn, list[ToolCall]]:
        """Take one turn, the model's response and the tools that it called; say which calls wait for a decision."""
        await self.emit([events.TurnStarted(number)])
        tools = self._tools = Calls(self.toolbox, self.emit)
        try:
            # Raised again when the turn is closed: what was shown stays whole.
            failure = await self._listen(number)
            turn = self._turn
            meant = failure is None and turn.finish_reason in _MEANT
            await self.emit(turn.finish_parts(complete=meant))
            if self._ending is not None:
                tools.give_up(CUT_SHORT[self._ending])
            elif failure is not None:
                tools.give_up(GIVEN_UP)
            elif meant:
                await tools.run_all(turn.message.calls)
            await tools.finish()
            if self._ending is not None:
                await tools.settle(turn.message.calls)
                tools.waiting = []
        finally:
            await tools.cancel()
        await self._close(turn)
        if failure is not None and self._ending is None:
            raise failure
        return turn, tools.waiting

    async def _listen(self, number: int) -> Exception | None:
        """Let the model answer, until a stop cuts it short; return how that failed, None where it did not."""
        self._turn = Turn(number, self._origin, self._next_part, self._used_ids)
        self._is_sent = False
        self._turn_watch = _Watch(self._clock)
        work = self._work = asyncio.create_task(self._respond(number))
        if self._ending is not None:
            work.cancel()
        try:
            await asyncio.wait([work])
        finally:
            self._work = None
            work.cancel()
            await asyncio.wait([work])
            self._turn_timing = self._turn_watch.read()
            self._generation_ms += self._turn_timing.generation_ms
        if work.cancelled():
            return None
        failure = work.exception()
        if isinstance(failure, _EmitError):
            raise failure
        assert failure is None or isinstance(failure, Exception)
        return failure

    async def _respond(self, number: int) -> None:
        """Ask the model, again where that failed before anything of the answer was seen; `_turn` is what it said."""
        retry = self.settings.retry
        attempt = mended = 0
        while True:
            self._turn = Turn(number, self._origin, self._next_part, self._used_ids)
            wait: float | None = None
            try:
                return await self._read()
            except errors.ProviderError as error:
                if self._turn.visible:
                    raise
                if mended < _MENDS and (mend := self._mend(error)) is not None:
                    mended, again = mended + 1, mend
                elif (wait := retry.wait(attempt, error)) is not None:
                    attempt += 1
                    again = f"{error.message.removesuffix(' Try again in a moment.')} Trying again in {wait:.1f} s."
                else:
                    raise
                log.warning("%s: a request failed: %s", self.started.run_id, error.for_log)
                await self.emit([events.Notice(error.code, again, is_lasting=wait is None)] if again else [])
            await retry.sleep(wait or 0.0)

    def _mend(self, error: errors.ProviderError) -> str | None:
        """Change what is sent so that it may be accepted; return how, for the reader, None where it cannot be."""
        if isinstance(error, errors.SignatureRefused) and not self._is_plain:
            self._is_plain = True
            self._sent[:] = without_origin(self._sent)
            return "The provider did not take back what it had signed: the model goes on without its earlier reasoning."
        if isinstance(error, errors.ContextOverflow) and self.settings.trim:
            return self._trim(error)
        if isinstance(error, errors.OptionRefused) and (option := error.details["option"]) not in self._request.without:
            # What somebody set is missed, what an adapter asks for by itself is not.
            was_set = getattr(self._request, option, None) is not None
            given_up: dict[str, Any] = {option: None} if was_set else {}
            self._request = replace(self._request, without=self._request.without | {option}, **given_up)
            return f"{error.message} The model is asked without it." if was_set else ""
        return None

    def _trim(self, error: errors.ContextOverflow) -> str:
        """Leave the oldest turns out of what is sent, and say so; raises ContextOverflow where that does not help."""
        said = error.message.partition(". ")[0]
        asked = self._asked()
        share = 0.5
        if (used := error.details.get("used")) and (limit := error.details.get("limit")):
            share = _SPARE * max(limit - self.settings.max_output_tokens, limit // 2) / used
        rest = trimmed(self._sent, int(share * asked) - (asked - length(self._sent)))
        if len(rest) == len(self._sent):
            told = f"{said}. There is nothing older that could be left out: shorten the question."
            raise errors.ContextOverflow(told, detail=error.detail, **error.details) from error
        self._sent[:] = rest
        return f"{said}. The oldest {len(self.history) - len(rest)} messages are left out."

    async def _read(self) -> None:
        request = replace(self._request, messages=tuple(self._sent))
        self._is_sent = True
        try:
            await self.provider.push(request, self._hear)
        except Exception:
            self._is_sent = self._turn.visible
            raise
        finally:
            if self._ending is not None:
                self.upstream_closed = time.monotonic() - self._stopped_at

    def _hear(self, batch: list[Delta]) -> Awaitable[None] | None:
        """Tell what the model says; returns what it has to wait for before it says more."""
        if self._ending is not None or not (said := self._turn.feed(batch)):
            return None
        if self._turn_watch.first is None:
            self._turn_watch.hear()
            self._watch.hear()
        try:
            kept = self._emit(said)
        except Exception as error:
            raise _EmitError(error) from error
        if len(said) > 1 or type(said[0]) is not events.TextDelta:
            self._tools.start_early(said)
        return None if kept is None else _Emitted(asyncio.ensure_future(kept))

    async def _close(self, turn: Turn) -> None:
        """End the turn, and add what it said and what its tools answered to the history."""
        closing = turn.close(self._asked() if self._is_sent and turn.usage is None else 0)
        finished = closing[-1]
        assert isinstance(finished, events.TurnFinished)
        closing[-1] = replace(finished, timing=self._turn_timing)
        self.usage += finished.usage
        self._next_part = turn.next_part
        self._add(turn.message)
        self._add(Message("tool", self._tools.results_of(turn.message.calls)))
        await self.emit(closing)

    def _add(self, message: Message) -> None:
        if message.parts:
            self.history.append(message)
            self._sent += without_origin([message]) if self._is_plain else [message]
            self.added.append(message)

    def _asked(self) -> int:
        """Return about how many characters the request had."""
        request = self._request
        tools = orjson.dumps([tool.to_json() for tool in request.tools])
        return len(request.system) + length(self._sent) + len(tools)
