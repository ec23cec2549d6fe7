"""One run of this process while it lasts: its loop, the newest of its events, and who watches.

The loop speaks into the log, and viewers are shown what the log has kept, in the callback that says so:

    a read of the provider's socket -> deltas -> events -> the log --a tick--> kept -> each viewer's write

No task is switched on this way. Viewers wait for nobody but themselves: one that is slow reads the log when it goes on.
Only while all of them are slow, and at most until they are dropped, is the model read no faster than they read.

What a run holds, beside its own text: TAIL events at most twice, and AHEAD batches that the log has not kept yet.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
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

TAIL = 32  # events that are kept at hand for viewers; one that is further behind reads the log
AT_ONCE = 200  # events that are read of the log for a viewer, which holds them for as long as it is slow
AHEAD = 8  # batches of what the model says that may wait for the log before its socket is read on
_FIRST = 5.0  # seconds at least for the first viewer of a run to come

# What is stored with the run, beside its messages.
Kept = events.ApprovalRequested | events.ToolFinished | events.Notice
# Is handed entries; where it returns something, that is to be waited for before it is handed more.
Show = Callable[[Sequence[Entry]], Awaitable[None] | None]
# Is done when a viewer is no longer shown what comes, with the number that it has and what to wait for.
_Halted = asyncio.Future[tuple[int, Awaitable[None] | None]]
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

    __slots__ = (
        "_ahead",
        "_end",
        "_failure",
        "_is_over",
        "_log",
        "_next",
        "_note",
        "_orphaning",
        "_ready",
        "_room",
        "_shown",
        "_slow",
        "_tail",
        "_told",
        "_unwatched",
        "_viewers",
        "_was_watched",
        "_watched_until",
        "loop",
        "run",
        "task",
    )

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
        self._tail: list[Event] = []  # up to the one that was shown last
        self._shown = 0  # the number of the last event that viewers may have
        self._told: list[Kept] = []
        self._viewers = 0
        self._was_watched = False
        self._watched_until = 0.0  # through another process, by the loop's clock
        self._slow = 0  # viewers that are waited for
        self._ready: dict[_Halted, Show] = {}  # viewers that have all there is
        self._ahead = 0  # batches that the log has not kept yet
        self._failure: Exception | None = None  # why it did not keep one
        self._room: set[asyncio.Future[None]] = set()  # who waits for the log, or for viewers
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

    async def tell(self, after: int, show: Show) -> None:
        """Hand `show` the entries behind number `after`, to the last; raises what it raises."""
        self._watch(1)
        try:
            while True:
                missed = self._shown - after
                if missed > len(self._tail):
                    entries: Sequence[Entry] = await self._log.read(self.run.id, after, AT_ONCE)
                else:
                    entries = list(enumerate(self._tail[-missed:], after + 1)) if missed > 0 else []
                if entries:
                    after = entries[-1][0]
                    wait = show(entries)
                elif self._is_over:
                    return
                else:
                    after, wait = await self._show_what_comes(show)
                if wait is not None:
                    await self._wait_for(wait)
        finally:
            self._watch(-1)

    async def _show_what_comes(self, show: Show) -> tuple[int, Awaitable[None] | None]:
        """Have entries shown in the callback that brings them, until the viewer is to be waited for, or all is over."""
        halted: _Halted = asyncio.get_running_loop().create_future()
        self._ready[halted] = show
        try:
            return await halted
        finally:
            self._ready.pop(halted, None)

    async def _wait_for(self, viewer: Awaitable[None]) -> None:
        self._slow += 1
        try:
            await viewer
        finally:
            self._slow -= 1
            self._make_room()

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
            for halted in list(self._ready):
                self._halt(halted, None)

    def _give_up(self, code: str, told: str) -> None:
        """Show an end that the log does not have: nothing more of this run can be kept."""
        last = events.RunFailed(code, told, False, self.loop.usage + Usage(estimated=True))
        if self._note is not None:
            self._note(self._next, [last])
        self._publish(self._shown + 1, [last])

    def _emit(self, batch: Sequence[Event]) -> Awaitable[None] | None:
        """Have a batch kept, and shown once it is kept; returns what the run has to wait for."""
        if self._failure is not None:
            raise self._failure
        first = self._next
        self._next += len(batch)
        if self._note is not None:
            self._note(first, batch)
        last = batch[-1]
        is_said = type(last) is events.TextDelta  # nearly all are
        if not is_said and is_last(last):
            return self._emit_last(first, batch)
        self._ahead += 1
        self._log.keep(self.run.id, first, batch, partial(self._kept, first, batch))
        if is_said:
            return None if self._has_room() else self._until(self._has_room)
        self._told += [event for event in batch if isinstance(event, Kept)]
        # What a tool does is done: nobody may learn of it by its effects alone.
        is_met = self._is_all_kept if any(isinstance(event, events.ToolStarted) for event in batch) else self._has_room
        return None if is_met() else self._until(is_met)

    async def _emit_last(self, first: int, batch: Sequence[Event]) -> None:
        await self._log.append(self.run.id, first, batch)
        await self._end(self.run, batch[-1], self._told, self.loop.history, self.is_watched)
        self._publish(first, batch)

    def _has_room(self) -> bool:
        return self._ahead < AHEAD and not 0 < self._viewers == self._slow

    def _is_all_kept(self) -> bool:
        return not self._ahead

    async def _until(self, is_met: Callable[[], bool]) -> None:
        while self._failure is None and not is_met():
            waiting = asyncio.get_running_loop().create_future()
            self._room.add(waiting)
            try:
                await waiting
            finally:
                self._room.discard(waiting)
        if self._failure is not None:
            raise self._failure

    def _make_room(self) -> None:
        for waiting in self._room:
            if not waiting.done():
                waiting.set_result(None)

    def _kept(self, first: int, batch: Sequence[Event], error: Exception | None) -> None:
        self._ahead -= 1
        if error is not None and self._failure is None:
            self._failure = error
            self.loop.stop(Outcome.INTERRUPTED)
        # What is behind a batch that could not be kept is never shown, as the log will never tell it again.
        if self._failure is None and first == self._shown + 1:
            self._publish(first, batch)
        if self._room:
            self._make_room()

    def _publish(self, first: int, batch: Sequence[Event]) -> None:
        entries = list(enumerate(batch, first))
        self._tail += batch
        self._shown = first + len(batch) - 1
        if len(self._tail) > 2 * TAIL:
            del self._tail[:-TAIL]
        waits: list[tuple[_Halted, Awaitable[None] | Exception]] = []
        for halted, show in self._ready.items():
            try:
                wait = show(entries)
            except Exception as error:  # of this viewer, who is told it where it waits
                # Who is gone is nothing to trace, and the frames lead back here: they would wait for the collector.
                waits.append((halted, error.with_traceback(None) if isinstance(error, ConnectionError) else error))
            else:
                if wait is not None:
                    waits.append((halted, wait))
        for halted, why in waits:
            self._halt(halted, why)

    def _halt(self, halted: _Halted, why: Awaitable[None] | Exception | None) -> None:
        del self._ready[halted]
        if halted.done():
            return
        if isinstance(why, Exception):
            halted.set_exception(why)
        else:
            halted.set_result((self._shown, why))

    def _watch(self, change: int) -> None:
        """Count a viewer in or out; without any the run goes on for a while, and no longer."""
        self._viewers += change
        self._make_room()
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
    return isinstance(event, (events.RunFinished, events.RunFailed))
