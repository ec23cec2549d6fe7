"""Recording runs as a server does, for the tests of cassettes and of what plays them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from chatstream import Message, Tool, Toolbox, tool, user
from chatstream.agent import Loop
from chatstream.calls import Answer
from chatstream.cassettes import Recorder
from chatstream.errors import ToolError
from chatstream.events import Event, Outcome, RunStarted
from chatstream.providers import Provider
from chatstream.tools import Progress
from tests.runs import SETTINGS, add, fail

KEY = "sk-a-secret-of-mine"
STARTED = RunStarted("run_1", "msg_1", "p:m")

Act = Callable[[Loop, Event], object]


@tool(approval="always")
async def delete(file: str) -> str:
    """Delete a file."""
    return f"{file} is gone"


@tool
async def climb(progress: Progress) -> str:
    """Climb."""
    for height in range(3):
        progress(f"{height} m")
        await asyncio.sleep(0)
    raise ToolError("too steep")


@tool
async def wait() -> str:
    """Wait for ever."""
    await asyncio.Event().wait()
    return "never"


def stop_at(kind: type[Event], outcome: Outcome = Outcome.STOPPED) -> Act:
    def act(loop: Loop, event: Event) -> None:
        if isinstance(event, kind):
            asyncio.get_running_loop().call_soon(loop.stop, outcome)

    return act


TOOLS = [add, fail, delete, climb, wait]


async def record(
    folder: Path,
    provider: Provider,
    act: Act = lambda loop, event: None,
    messages: Sequence[Message] = (user("Hi"),),
    answers: Sequence[Answer] = (),
    tools: Iterable[Tool] = TOOLS,
) -> tuple[Path, list[Event]]:
    """Record a run as a server does, and return its file and its events; `act` sees each event."""
    recorder, said = Recorder(folder, [KEY, "none"]), list[Event]()
    await recorder.open()
    model = provider.default_model
    started = replace(STARTED, model=f"{provider.name}:{model}")
    tape = recorder.begin(started, provider, messages, Toolbox(tools), SETTINGS, answers)

    async def emit(batch: Sequence[Event]) -> None:
        tape.note(len(said) + 1, batch)
        said.extend(batch)
        for event in batch:
            act(loop, event)

    loop = Loop(tape.provider, model, messages, Toolbox(tools), SETTINGS, emit, started, answers)
    async with asyncio.timeout(30):
        await loop.run()
        await recorder.aclose()
    return folder / "run_1.jsonl", said
