"""The tool calls of one turn, from the model's word to the results that go back.

    asked --reads only--> started while the model still speaks --+
      |---turn is over--> started with the others ---------------+--> its result
      |---needs approval--> waits for a decision
      +---stopped, denied, run by the caller-------------------------> a result without being run

Whatever happens to it, a call has one result at most, and every result is told by an event.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from . import errors, events
from .events import Event
from .messages import ToolCall, ToolResult
from .tools import Tool, Toolbox

Emit = Callable[[Sequence[Event]], Awaitable[None]]

# Reports of a tool's progress that may wait for a viewer.
_REPORTS = 100


@dataclass(frozen=True, slots=True)
class Answer:
    """What was decided on an open call of an earlier run: its `result`, or None where the call is to be run."""

    call: ToolCall
    result: ToolResult | None = None


class Calls:
    """The tools of one turn. `results` is by call id; `waiting` are the calls that wait for somebody's decision."""

    def __init__(self, toolbox: Toolbox, emit: Emit) -> None:
        self.results: dict[str, ToolResult] = {}
        self.waiting: list[ToolCall] = []
        self._toolbox = toolbox
        self._emit = emit
        self._tasks: dict[str, asyncio.Task[None]] = {}
        # What the tools themselves do, which can be ended without the events that tell of it.
        self._work: list[asyncio.Task[ToolResult]] = []
        self._cut_short = ""  # why, for the model

    def start_early(self, said: Iterable[Event]) -> None:
        """Start the calls that are complete and only read, while the model still speaks."""
        for event in said:
            if isinstance(event, events.PartFinished) and isinstance(event.value, ToolCall):
                tool = self._tool(event.value)
                if tool is not None and tool.read_only and not tool.needs_approval(event.value.input or {}):
                    self._start(event.value)

    async def run_all(self, calls: Sequence[ToolCall]) -> None:
        """Start every call that was not started yet; those that need an approval wait for it instead."""
        asked = []
        for call in calls:
            if call.id in self._tasks:
                continue
            tool = self._tool(call)
            if tool is not None and tool.needs_approval(call.input or {}):
                self.waiting.append(call)
                asked.append(events.ApprovalRequested(call.id, call.name, call.input or {}, tool.by_caller))
            else:
                self._start(call)
        if asked:
            await self._emit(asked)

    async def answer(self, answers: Sequence[Answer]) -> None:
        """Run the calls that were approved, and take the results of the others as they are."""
        for answer in answers:
            if answer.result is None:
                self._start(answer.call)
        await self._take([answer.result for answer in answers if answer.result is not None])
        await self.finish()
        if self._cut_short:
            await self.settle([answer.call for answer in answers])

    async def finish(self) -> None:
        """Wait for the calls that were started."""
        if self._tasks:
            await asyncio.gather(*self._tasks.values())

    def give_up(self, why: str) -> None:
        """End what runs, with a result that says why, and let nothing more begin."""
        self._cut_short = why
        for work in self._work:
            work.cancel()

    async def settle(self, calls: Iterable[ToolCall]) -> None:
        """Answer the calls that were never started, those that waited for a decision included."""
        open_calls = [call for call in calls if call.id not in self.results]
        await self._take([ToolResult(call.id, call.name, self._cut_short, is_error=True) for call in open_calls])

    def results_of(self, calls: Iterable[ToolCall]) -> tuple[ToolResult, ...]:
        """Return the results that there are, in the order of the calls."""
        return tuple(self.results[call.id] for call in calls if call.id in self.results)

    async def cancel(self) -> None:
        """End what still runs; its results are nobody's."""
        everything = [*self._tasks.values(), *self._work]
        for task in everything:
            task.cancel()
        await asyncio.gather(*everything, return_exceptions=True)

    async def _take(self, results: Sequence[ToolResult]) -> None:
        """Note the results of calls that are not run."""
        self.results |= {result.tool_call_id: result for result in results}
        if results:
            await self._emit([_finished(result, 0) for result in results])

    def _tool(self, call: ToolCall) -> Tool | None:
        """Return the tool that a call can run as it stands, None where it will end in an error anyway."""
        try:
            return self._toolbox.check(call)
        except errors.ToolError:
            return None

    def _start(self, call: ToolCall) -> None:
        if not self._cut_short:
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
        if self._cut_short:
            work.cancel()
        try:
            # Telling ends first only where it fails: what a tool does then is nobody's any more.
            await asyncio.wait([work, telling], return_when=asyncio.FIRST_COMPLETED)
            said.put_nowait(None)
            await telling
        finally:
            telling.cancel()
            work.cancel()
        cut_short = ToolResult(call.id, call.name, self._cut_short, is_error=True)
        result = self.results[call.id] = cut_short if work.cancelled() else work.result()
        await self._emit([_finished(result, int((time.monotonic() - began) * 1000))])

    async def _tell(self, call_id: str, said: asyncio.Queue[str | None]) -> None:
        """Pass a tool's progress on: the tool itself may not wait for a viewer."""
        while (content := await said.get()) is not None:
            await self._emit([events.ToolProgress(call_id, content)])


def _finished(result: ToolResult, duration_ms: int) -> events.ToolFinished:
    return events.ToolFinished(result.tool_call_id, result.tool_name, result.content, result.is_error, duration_ms)
