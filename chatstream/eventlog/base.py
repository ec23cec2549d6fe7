"""What an event log promises. The entries of a run are numbered from 1 on, without gaps.

Only the run itself appends, a batch at a time; anybody may read, from another process too where the log is shared. A
run exists from its first batch until it is deleted, and does not come back: what it still appends is then dropped.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from ..database import settle
from ..events import Event

Entry = tuple[int, Event]
# Is told that something was kept, or why it was not.
Kept = Callable[[Exception | None], None]


class EventLog(ABC):
    @abstractmethod
    async def open(self) -> None:
        """Make the log ready; comes first."""

    @abstractmethod
    async def aclose(self) -> None: ...

    @abstractmethod
    def keep(self, run_id: str, first: int, batch: Sequence[Event], kept: Kept) -> None:
        """Add a batch, one event at least, of which the first is number `first` of the run; 1 begins the run.

        The order is that of the calls. `kept` is called once the batch is kept, maybe before this returns, or with the
        StorageError that says why it could not be: nothing behind it is then ever read, so the run has to end.
        """

    def append(self, run_id: str, first: int, batch: Sequence[Event]) -> asyncio.Future[None]:
        """Do as `keep`; the future is done once the batch is kept, and raises StorageError where it could not be."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.keep(run_id, first, batch, partial(settle, done, None))
        return done

    @abstractmethod
    async def read(self, run_id: str, after: int = 0, limit: int = 1000) -> list[Entry]:
        """Return the next entries behind number `after`, `limit` at most.

        Raises NotFound for a run that is not known: never begun, or deleted.
        """

    @abstractmethod
    async def delete(self, run_ids: Iterable[str]) -> None:
        """Forget these runs at once, and remove what they said for good; one that is not known is none to delete."""
