"""How many runs ask a model at once, and which wait until one of them is over.

    begun --a place is free--------> asks its model, holds its place to its end, tools and all
      |                       ^
      +--waits its turn-------+
           |    the first that waits has the next place
           +--PATIENCE--> fails as `overloaded`, and may be asked again

A run that waits has begun in all else: its question is kept, its stream is open and says why nothing comes, a stop ends
it, and so does the time without a viewer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from . import errors, events
from .events import Event
from .providers import ModelRequest, Provider
from .providers.base import Take

PATIENCE = 60.0  # seconds that a run waits for its place

Tell = Callable[[Sequence[Event]], Awaitable[None]]


class Places:
    """The places of one process, `most` in all."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._free = asyncio.Semaphore(most)

    async def enter(self, tell: Tell | None) -> None:
        """Wait for a place, and tell so where there is none now; raises Busy when that takes too long."""
        if self._free.locked() and tell is not None:
            told = f"This server writes {self.most} answers at once, so this one waits for its turn."
            await tell([events.Notice(errors.Busy.code, told)])
        try:
            async with asyncio.timeout(PATIENCE):
                await self._free.acquire()
        except TimeoutError as error:
            raise errors.Busy(f"This answer was not begun within {PATIENCE:g} s: the server is busy.") from error

    def leave(self) -> None:
        self._free.release()


class Queued(Provider):
    """The provider of one run, which is asked once that run has a place. `tell` shows events to its viewers."""

    def __init__(self, provider: Provider, places: Places) -> None:
        self.name = provider.name
        self.default_model = provider.default_model
        self.tell: Tell | None = None
        self._provider = provider
        self._places = places
        self._has_place = False

    async def push(self, request: ModelRequest, take: Take) -> None:
        if not self._has_place:
            try:
                await self._places.enter(self.tell)
            except asyncio.CancelledError as stopped:
                # A request that is cancelled counts as one that the provider had, and read: this one was not sent.
                raise errors.Busy("This answer was stopped while it waited for its turn.") from stopped
            self._has_place = True
        await self._provider.push(request, take)

    def leave(self, *ended: object) -> None:
        """Give the place to the next: the run is over."""
        self.tell = None  # leads back here, and need not wait for the garbage collector
        if self._has_place:
            self._has_place = False
            self._places.leave()
