"""How long an answer may take, and what ends the wait for it.

    connect   until there is a connection
    first     from sending until the answer says something; an overloaded provider may queue for minutes
    between   the silence between two reads of an answer that has begun; a ping or a comment breaks it
    total     the whole answer

Only the wait for the provider counts as silence: while whoever takes the deltas is slow, no limit strikes.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

from .. import errors

_Limit = Literal["first", "between", "total"]
_ERRORS: dict[_Limit, tuple[type[errors.ProviderTimeout], str]] = {
    "first": (errors.ProviderTimeout, "{label} had not begun to answer after {seconds:g} s (--first-token-timeout)."),
    "between": (
        errors.ProviderTimeout,
        "{label} went quiet in the middle of its answer, for {seconds:g} s (--chunk-timeout).",
    ),
    "total": (errors.AnswerTooLong, "{label} was still answering after {seconds:g} s (--total-timeout)."),
}
# An answer that is complete is not waited for: some servers keep the connection open behind it.
_LINGER = 10.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds; 0 is no limit.

    Connecting is quick or fails. A model that reasons unseen, or a local one that reads a long prompt, says nothing
    for minutes. An answer that has begun is seldom silent for one, but a provider's own tool may run for two.
    """

    connect: float = 10.0
    first: float = 300.0
    between: float = 180.0
    total: float = 1800.0


DEFAULT_LIMITS = Limits()


class Watch:
    """Ends the wait for one answer when a limit is over: all that waits for the provider stands in `with watch:`.

    A read sets no timer, but `since` to the time of its loop. The timer there is looks at it when it fires, and sets
    itself anew. Like `asyncio.timeout` it cancels the task that waits, and only a cancelling of its own becomes
    ProviderTimeout.
    """

    __slots__ = (
        "_away",
        "_began",
        "_cancelling",
        "_is_complete",
        "_label",
        "_left",
        "_limits",
        "_loop",
        "_struck",
        "_task",
        "_timer",
        "has_said",
        "since",
    )

    def __init__(self, limits: Limits, label: str) -> None:
        self._limits = limits
        self._label = label
        self._loop = asyncio.get_running_loop()
        # Nothing came, or nobody waited, `since`; the last wait ended `_left`; `_away` was spent elsewhere.
        self._began = self.since = self._left = self._loop.time()
        self._away = 0.0
        self.has_said = self._is_complete = False
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._timer: asyncio.TimerHandle | None = None
        self._struck: _Limit | None = None

    def __enter__(self) -> None:
        self.since = self._loop.time()
        if not self.has_said:
            self._away += self.since - self._left
        self._task = task = asyncio.current_task()
        assert task is not None
        self._cancelling = task.cancelling()
        if self._timer is None:
            self._set()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if not self.has_said:
            self._left = self._loop.time()
        if self._struck is not None and task is not None:
            struck, self._struck = self._struck, None
            if task.uncancel() <= self._cancelling and error is not None:
                raise self._error(struck) from error

    def note(self, *, has_said: bool, is_complete: bool) -> None:
        """Note whether the answer has begun to say something, and whether it is complete."""
        self.has_said = self.has_said or has_said or is_complete
        if is_complete and not self._is_complete:
            self._is_complete = True
            self.close()  # there is another limit now

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _next(self) -> tuple[float, _Limit]:
        """Return when the next limit is over, and which it is."""
        limits = self._limits
        silence = _LINGER if self._is_complete else limits.between
        ends: list[tuple[float, _Limit]] = [(self._began + limits.total, "total")] if limits.total else []
        if limits.first and not self.has_said:
            ends.append((self._began + self._away + limits.first, "first"))
        if silence and self.has_said:
            ends.append((self.since + silence, "between"))
        return min(ends, default=(math.inf, "total"))

    def _set(self) -> None:
        end, _ = self._next()
        if self._limits.between:
            # The answer may begin meanwhile, and go quiet.
            end = min(end, self._loop.time() + self._limits.between)
        self._timer = None if end == math.inf else self._loop.call_at(end, self._fire)

    def _fire(self) -> None:
        self._timer = None
        if self._task is None or self._struck:
            return  # the next wait sets it anew
        end, limit = self._next()
        if end > self._loop.time():
            self._set()
        else:
            self._struck = limit
            self._task.cancel()

    def _error(self, limit: _Limit) -> errors.ProviderTimeout:
        kind, text = _ERRORS[limit]
        return kind(text.format(label=self._label, seconds=getattr(self._limits, limit)))
