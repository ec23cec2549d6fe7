"""One run of this process while it lasts: its loop, the newest of its events, and who watches.

The loop speaks into the log, and viewers are shown what the log has kept. They wait for nobody but themselves: one that
is slow reads the log, and the run does not notice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from . import errors, events
from .agent import Loop, Settings
from .calls import Answer
from .conversations import Run
from .deltas import Usage
from .eventlog import Entry, EventLog
from .events import Event, Outcome
from .messages import Message
from .providers import Provider
from .tools import Toolbox

log = logging.getLogger("chatstream.runs")

_TAIL = 512  # events that are kept at hand for viewers; one that is further behind reads the log
_FIRST = 5.0  # seconds at least for the first viewer of a run to come

# What is stored with the run, beside its messages.
Kept = events.ApprovalRequested | events.ToolFinished | events.Notice
# Is told how the run ended, and whether anybody watched.
End = Callable[[Run, Event, Sequence[Kept], Sequence[Message], bool], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Plan:
    """With what a run is done."""

    provider: Provider
    model: str
    toolbox: Toolbox
    settings: Settings


class LiveRun:
    """A run of this process while it lasts: its loop, the newest of its events, and who watches."""

    def __init__(
        self,
        run: Run,
        plan: Plan,
        messages: Sequence[Message],
        answers: Sequence[Answer],
        log: EventLog,
        end: End,
        unwatched: float,
        note: Callable[[int, Sequence[Event]], None] | None = None,
    ) -> None:
        self.loop = Loop(
            plan.provider, plan.model, messages, plan.toolbox, plan.settings, self._emit, started(run), answers
        )
        self.run = run
        self._log = log
        self._end = end
        self._unwatched = unwatched
        self._note = note  # is told every batch, with the number of its first event
        self._next = 1  # the number of the next event
        self._tail: list[Entry] = []
        self._shown = 0  # the number of the last event that viewers may have
        self._told: list[Kept] = []
        self._viewers = 0
        self._was_watched = False
        self._watched_until = 0.0  # through another process, by the loop's clock
        self._waiting: set[asyncio.Future[None]] = set()
        self._is_over = False
        self._orphaning: asyncio.TimerHandle | None = None
        self.task = asyncio.create_task(self._work(), name=run.id)
        self._watch(0)

    @property
    def is_watched(self) -> bool:
        return self._viewers > 0 or self._watched_until > asyncio.get_running_loop().time()

    @property
    def is_left(self) -> bool:
        """Whether somebody watched, and nobody does any more."""
        return self._was_watched and not self.is_watched

    def watch_elsewhere(self, seconds: float) -> None:
        """Take it that somebody watches through another process, for so long."""
        self._watched_until = asyncio.get_running_loop().time() + seconds
        self._was_watched = True

    async def follow(self, after: int) -> AsyncGenerator[Sequence[Entry]]:
        self._watch(1)
        try:
            while True:
                first = self._tail[0][0] if self._tail else self._shown + 1
                if after + 1 < first:
                    entries: Sequence[Entry] = await self._log.read(self.run.id, after)
                else:
                    entries = self._tail[after + 1 - first :]
                if entries:
                    yield entries
                    after = entries[-1][0]
                elif self._is_over:
                    return
                else:
                    waiting = asyncio.get_running_loop().create_future()
                    self._waiting.add(waiting)
                    try:
                        await waiting
                    finally:
                        self._waiting.discard(waiting)
        finally:
            self._watch(-1)

    async def _work(self) -> None:
        try:
            await self.loop.run()
        except errors.ChatstreamError as error:
            log.error("%s cannot be kept: %s", self.run.id, error.for_log)
            self._give_up(error.code, f"This answer could not be kept, so it was ended: {error.message}")
        except Exception:
            log.exception("%s failed", self.run.id)
            self._give_up("internal", "Something went wrong inside chatstream; its log says what.")
        finally:
            self._is_over = True
            if self._orphaning is not None:
                self._orphaning.cancel()
            self._wake()

    def _give_up(self, code: str, told: str) -> None:
        """Show an end that the log does not have: nothing more of this run can be kept."""
        last = events.RunFailed(code, told, False, self.loop.usage + Usage(estimated=True))
        if self._note is not None:
            self._note(self._next, [last])
        self._publish(self._shown + 1, [last])

    async def _emit(self, batch: Sequence[Event]) -> None:
        """Keep a batch, and show it once it is kept."""
        first = self._next
        self._next += len(batch)
        if self._note is not None:
            self._note(first, batch)
        kept = self._log.append(self.run.id, first, batch)
        if is_last(batch[-1]):
            await kept
            await self._end(self.run, batch[-1], self._told, self.loop.history, self.is_watched)
            self._publish(first, batch)
            return
        self._told += [event for event in batch if isinstance(event, Kept)]
        # Shown by the log and not from here: whoever waits here may be stopped meanwhile.
        kept.add_done_callback(partial(self._kept, first, batch))
        await asyncio.shield(kept)

    def _kept(self, first: int, batch: Sequence[Event], kept: asyncio.Future[None]) -> None:
        # What is behind a batch that could not be kept is never shown, as the log will never tell it again.
        if not kept.cancelled() and kept.exception() is None and first == self._shown + 1:
            self._publish(first, batch)

    def _publish(self, first: int, batch: Sequence[Event]) -> None:
        self._tail += enumerate(batch, first)
        self._shown = self._tail[-1][0]
        if len(self._tail) > 2 * _TAIL:
            del self._tail[:-_TAIL]
        self._wake()

    def _wake(self) -> None:
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
        self._waiting.clear()

    def _watch(self, change: int) -> None:
        """Count a viewer in or out; without any the run goes on for a while, and no longer."""
        self._viewers += change
        self._was_watched |= change > 0
        if self._orphaning is not None:
            self._orphaning.cancel()
            self._orphaning = None
        if self._viewers == 0 and not self._is_over:
            seconds = self._unwatched if change else max(self._unwatched, _FIRST)
            self._orphaning = asyncio.get_running_loop().call_later(seconds, self._expire)

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        if (rest := self._watched_until - loop.time()) > 0:
            self._orphaning = loop.call_later(rest, self._expire)
        else:
            self.loop.stop(Outcome.STOPPED)


def started(run: Run) -> events.RunStarted:
    return events.RunStarted(run.id, run.message_id, run.model, run.conversation_id, run.parent_id)


def is_last(event: Event) -> bool:
    return isinstance(event, events.RunFinished | events.RunFailed)
