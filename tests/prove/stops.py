"""R1 to R5: a stop closes the provider's socket at once, in whatever the run is doing, and nothing begins after it.

    connecting   the provider accepts nothing: its port drops what comes
    waiting      it has the request and says nothing
    streaming    it is speaking, and about to call a tool
    tool         it has called two tools, which do not end
    retrying     it was overloaded, and is to be asked again

Each by all three APIs, half of the times with nobody watching, and by another client than the one that asked. The clock
is that of the provider's end of the socket; a connection that is not yet one is gone with its descriptor. Where no
request is open what counts is the end of the run.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from chatstream.testing import Call, FakeProvider, Recorded, Turn

from .kills import check_requests
from .rig import (
    APIS,
    HANG,
    Client,
    Json,
    Program,
    Report,
    Viewer,
    contents,
    descriptors,
    environment_of,
    link,
    percentile,
    run_in,
    sent,
    spread,
    turn_of,
    until,
)

GOAL = 250.0  # milliseconds
SPEECH = " ".join(f"word{number}" for number in range(5000))
# What a run does that is asked by the name of the phase.
PHASES = {
    "waiting": Turn(text="Never.", first=600.0),
    "streaming": Turn(text=SPEECH, tools=[Call("mark", {})], delay=0.002, write=250),
    "tool": Turn(text="Wait.", tools=[Call("hold", {"file": "never"}), Call("hold", {"file": "never"})]),
    "retrying": Turn(status=529, retry_after=30.0),
}
SAID = {"streaming": SPEECH, "tool": "Wait."}


def turn(recorded: Recorded) -> Turn:
    """Play the phase that the last message names; anything else is answered."""
    # A run that was stopped before it said anything leaves its question beside the next one.
    said = str(sent(recorded)[-1]).rpartition("And now?")[2]
    return next((PHASES[phase] for phase in PHASES if phase in said), Turn(text="Well."))


async def prove(report: Report, folder: Path, count: int) -> None:
    """Stop `count` runs in each phase by each API."""
    waiting: list[tuple[str, str]] = []
    async with FakeProvider(turn) as fake:
        with Blackhole() as nowhere:
            async with Program(folder, "--model", "scripted:demo", **environment_of(nowhere.url)) as program:
                for api in APIS:
                    connecting = [Connecting(program, fake, api, number, nowhere) for number in range(count)]
                    waiting += [(api, each) for each in await _stop(report, connecting)]
                await program.end(signal.SIGTERM)
        # The same data with a provider that answers, for the runs that never reached one.
        async with Program(folder, "--model", "scripted:demo", **environment_of(fake)) as program:
            for api, conversation in waiting:
                await _go_on(program, api, conversation)
            for api in APIS:
                for phase in PHASES:
                    cases = [Case(program, fake, api, number, phase) for number in range(count)]
                    for conversation in await _stop(report, cases):
                        await _go_on(program, api, conversation)
        check_requests(fake.requests)
    report.say("every run ended stopped, with usage, and what it had said is stored; no request and no tool followed;")
    report.say(f"  all {len(fake.requests)} requests to the provider were valid, those after a stop included")


async def _stop(report: Report, cases: Sequence[Case]) -> list[str]:
    """Stop a run for each case, report the times, and return the conversations."""
    conversations = []
    for case in cases:
        async with asyncio.timeout(HANG):
            conversations.append(await case.run())
        report.progress(f"{case.api}, {case.phase}: {case.number + 1}")
    first = cases[0]
    closed = [case.closed_ms for case in cases]
    off = [each for case in cases for each in case.off_ms]
    seen = "provider's socket closed" if off else "run ended"
    more = f"; receipt off by {spread(off)}" if off else ""
    name = f"{first.api}, {first.phase}: {seen}: {spread(closed)}{more}; p99"
    report.goal(name, percentile(closed, 99), GOAL, "ms")
    return conversations


async def _go_on(program: Program, api: str, conversation: str) -> None:
    """Ask the next question, which the provider is to find valid."""
    async with Client(program.url) as client:
        told = await client.answer(turn_of(conversation, "next", "And now?", model=f"{api}:fake"))
    assert told[-1]["type"] == "done" and told[-1]["outcome"] == "completed", told[-1]


@dataclass(slots=True)
class Case:
    """One run that is stopped in a phase. `off_ms` is how far the receipt is from the provider's clock."""

    program: Program
    fake: FakeProvider
    api: str
    number: int
    phase: str
    closed_ms: float = 0.0
    off_ms: list[float] = field(default_factory=list)
    requests: int = 0
    notes: int = 0

    async def run(self) -> str:
        """Ask, stop when the phase is reached, and return the conversation."""
        self.requests, self.notes = len(self.fake.requests), self.program.noted()
        async with Client(self.program.url) as asking, Client(self.program.url) as stopping:
            conversation = await asking.conversation()
            response = await asking.ask(turn_of(conversation, "turn", self.phase, model=f"{self.api}:fake"))
            viewer = Viewer(asking, response.headers["X-Run-Id"])
            watching = asyncio.create_task(viewer.read(response))
            await self.reached(viewer)
            is_watched = self.number % 2 == 0
            if not is_watched:
                watching.cancel()
                response.close()
                await asyncio.gather(watching, return_exceptions=True)
            receipt = await self.stop(stopping, viewer.run)
            if is_watched:
                await watching
                assert viewer.has_ended, "the viewer was not told of the end"
            await self.check(stopping, conversation, viewer.run, receipt)
            await self.check_quiet()
        return conversation

    async def reached(self, viewer: Viewer) -> None:
        """Wait until the run is in its phase."""
        await until(lambda: len(self.fake.requests) > self.requests, "the provider is asked")
        if self.phase == "streaming":
            await until(lambda: len(viewer.seen) > 5 + self.number % 20, "it speaks")
        elif self.phase == "tool":
            await until(lambda: self.program.noted() == self.notes + 2, "both tools run")
        elif self.phase == "retrying":
            await until(lambda: any(b"Trying again" in data for _, data in viewer.seen), "it waits to try again")

    async def stop(self, client: Client, run: str) -> Json:
        """Stop the run, note the times, and return the receipt."""
        began = time.monotonic()
        stop = asyncio.create_task(client.stop(run))
        closed_at = await self.closed_at()
        receipt = await stop
        self.closed_ms = ((closed_at or time.monotonic()) - began) * 1000
        if closed_at:
            self.off_ms.append(abs(receipt["upstreamClosedMs"] - self.closed_ms))
        else:
            assert receipt["upstreamClosedMs"] is None, receipt
        return receipt

    async def closed_at(self) -> float:
        """Return when the provider saw the request being closed, 0 where none was open."""
        asked = self.fake.requests[-1]
        await asked.ended.wait()
        assert asked.left == (self.phase in ("waiting", "streaming")), "the provider was heard to its end"
        return asked.left_at

    async def check(self, client: Client, conversation: str, run: str, receipt: Json) -> None:
        """Hold receipt, run and stored answer against what a stop has to be."""
        assert receipt["stopped"] and receipt["outcome"] == "stopped", receipt
        assert receipt["usage"].keys() >= {"inputTokens", "outputTokens"}
        assert receipt["estimated"] == (self.phase != "tool"), receipt
        tree = await client.tree(conversation)
        stored = run_in(tree, run)
        assert (stored["state"], stored["outcome"], stored["usage"]) == ("ended", "stopped", receipt["usage"])
        text, said = contents(tree, run), SAID.get(self.phase, "")
        assert said.startswith(text) and bool(text) == bool(said), text[-100:]
        again = await client.stop(run)
        assert not again["stopped"] and again["outcome"] == "stopped", again
        log = await client.events(run)
        assert sum(b'"type":"done"' in data for _, data in log) == 1

    async def check_quiet(self) -> None:
        """Hold what provider and tools saw against what there may be: no request, and no tool but those that ran."""
        ran = 2 if self.phase == "tool" else 0
        await until(lambda: self.program.noted() >= self.notes + 2 * ran, "the tools are ended")
        assert self.program.noted() == self.notes + 2 * ran, "a tool began after the stop"
        assert len(self.fake.requests) == self.requests + 1, "the provider was asked again after the stop"


class Connecting(Case):
    """A run that is stopped while it connects."""

    def __init__(self, program: Program, fake: FakeProvider, api: str, number: int, nowhere: Blackhole) -> None:
        super().__init__(program, fake, api, number, "connecting")
        self._nowhere = nowhere

    async def reached(self, viewer: Viewer) -> None:
        pid = self.program.process.pid
        await until(lambda: self._nowhere.tried(pid), "a connection is tried")
        self._tried = self._nowhere.tried(pid)[0]
        self._socket = link(self._tried)

    async def closed_at(self) -> float:
        await until(lambda: link(self._tried) != self._socket, "the connection is given up", 0.0005)
        return time.monotonic()

    async def check_quiet(self) -> None:
        assert not self._nowhere.tried(self.program.process.pid), "another connection is tried"
        assert self.program.noted() == self.notes


class Blackhole:
    """A port on loopback that drops what would connect: its backlog is full, and nobody accepts."""

    def __enter__(self) -> Blackhole:
        self._stack = ExitStack()
        listener = self._stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        self._port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._stack.enter_context(socket.create_connection(("127.0.0.1", self._port)))
        return self

    def __exit__(self, *raised: object) -> None:
        self._stack.close()

    def tried(self, pid: int) -> list[Path]:
        """Return the descriptors by which a process tries to connect here."""
        remote = f"0100007F:{self._port:04X}"
        rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
        found = {f"socket:[{row[9]}]" for row in rows if row[2] == remote and row[3] == "02"}  # TCP_SYN_SENT
        return [each for each in descriptors(pid) if link(each) in found]
