"""A log that goes with the process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

from ..errors import NotFound
from ..events import Event
from .base import Entry, EventLog, Kept


class MemoryLog(EventLog):
    def __init__(self) -> None:
        self._runs: dict[str, list[Event]] = {}

    async def open(self) -> None:
        pass

    async def aclose(self) -> None:
        self._runs.clear()

    def keep(self, run_id: str, first: int, batch: Sequence[Event], kept: Kept) -> None:
        if first == 1:
            self._runs[run_id] = []
        if run_id in self._runs:
            self._runs[run_id] += batch
        kept(None)

    async def read(self, run_id: str, after: int = 0, limit: int = 1000) -> list[Entry]:
        if run_id not in self._runs:
            raise NotFound(f"there is no run {run_id!r}")
        return list(enumerate(islice(self._runs[run_id], after, after + limit), after + 1))

    async def delete(self, run_ids: Iterable[str]) -> None:
        for run_id in run_ids:
            self._runs.pop(run_id, None)
