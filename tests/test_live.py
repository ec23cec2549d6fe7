"""A live run whose log fails it: what was shown is what the log has, and everybody is told the end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from chatstream import Settings, Toolbox, errors, tool
from chatstream.calls import Calls
from chatstream.conversations import Run
from chatstream.eventlog import Entry, Kept, MemoryLog
from chatstream.events import Event, RunFailed
from chatstream.live import LiveRun, Plan
from chatstream.messages import ToolCall, user
from chatstream.providers.scripted import Scripted
from chatstream.tools import Progress


class Failing(MemoryLog):
    """Fails the batch of one event, and keeps those behind it as if nothing were."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def keep(self, run_id: str, first: int, batch: Sequence[Event], kept: Kept) -> None:
        if first <= self._number < first + len(batch):
            asyncio.get_running_loop().call_later(0.01, kept, errors.StorageError("the disk is full"))
        else:
            super().keep(run_id, first, batch, kept)


@tool
async def note(text: str) -> str:
    """Note."""
    return text


async def end(*_: object) -> None:
    return None


async def test_a_batch_that_is_not_kept_makes_no_hole_and_the_end_is_told() -> None:
    calls = [{"name": "note", "arguments": {"text": name}} for name in "abc"]
    for number in range(2, 14):
        provider = Scripted([{"text": "I note.", "tools": calls, "delay": 0}, {"text": "Done.", "delay": 0}])
        log = Failing(number)
        await log.open()
        plan = Plan(provider, provider.default_model, Toolbox([note]), Settings())
        async with asyncio.timeout(20):
            live = LiveRun(Run("run_1", "local"), plan, [user("Hi")], (), log, end, 60.0)
            seen: list[Entry] = []
            await live.tell(0, seen.extend)
        assert [entry[0] for entry in seen] == list(range(1, len(seen) + 1)) and len(seen) <= number
        assert isinstance(seen[-1][1], RunFailed) and seen[-1][1].usage.estimated


async def test_a_tool_ends_when_what_it_reports_cannot_be_told() -> None:
    cancelled = asyncio.Event()

    @tool
    async def slow(progress: Progress) -> str:
        """Report, and then take for ever."""
        progress("begun")
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return ""

    async def emit(batch: Sequence[Event]) -> None:
        if batch[0].type == "tool_progress":
            raise errors.StorageError("the disk is full")

    calls = Calls(Toolbox([slow]), emit)
    async with asyncio.timeout(20):
        await calls.run_all([ToolCall("c", "slow", {}, "{}")])
        try:
            await calls.finish()
        except errors.StorageError:
            await cancelled.wait()
        else:
            raise AssertionError("nobody was told")
