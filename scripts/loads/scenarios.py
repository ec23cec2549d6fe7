"""What is asked of a server: each scenario is a function of a `Load`, which counts."""

from __future__ import annotations

import asyncio
import math
import select
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import uuid4

from . import process
from .client import Marks, Meter, Stream, Times, connect
from .launch import LoadError
from .measures import measures
from .process import Sample
from .profiles import Profile, fill
from .provider import Plan
from .session import Load, Options
from .stats import rounded

NO_MARKS = Marks(b"", b"", b"\0")  # any whole answer is a good one


Scenario = Callable[[Load], Awaitable[None]]


async def steady(load: Load) -> None:
    """So many streams at one pace, begun within a second."""
    options = load.options
    load.users(options.streams, options.plan, min(1.0, options.seconds / 10))
    await load.rest()


async def ramp(load: Load) -> None:
    """More streams with each step, until one does not keep the limits: that is the breaking point."""
    options = load.options
    load.until = math.inf
    for streams in range(options.step, options.max_streams + 1, options.step):
        load.users(options.step, options.plan, options.step_seconds / 8)
        await asyncio.sleep(options.step_seconds / 4)  # what begins is not what holds
        load.meter.flush()
        load.meter.step = Times()
        before, began, bad = process.sample(load.pid), time.monotonic(), load.bad
        await asyncio.sleep(options.step_seconds)
        seconds, after = time.monotonic() - began, process.sample(load.pid)
        load.meter.flush()
        times = load.meter.step
        cpu = (after.cpu - before.cpu) / seconds if before and after else None
        share = min(1.0, times.deltas / (streams * options.rate * seconds)) if options.rate else None
        step = {
            "streams": streams,
            "latencyP99Ms": rounded(times.latency.quantile(0.99)),
            "gapP99Ms": rounded(times.gap.quantile(0.99)),
            "share": rounded(share, 4),
            "cpu": rounded(cpu),
        }
        is_ok = load.bad == bad and _holds(step, options)
        load.steps.append(step | {"ok": is_ok})
        if not is_ok:
            load.breaking = streams
            return


def _holds(step: dict[str, Any], options: Options) -> bool:
    """Return whether a step kept the limits: those that were said, or what a reader would call fluent."""
    pace = 1000 * options.batch / options.rate if options.rate else 0.0
    limits = {"latencyP99Ms": options.max_latency_p99 or 100.0, "gapP99Ms": options.max_gap_p99 or pace + 50}
    share = options.min_share or 0.97
    if step["gapP99Ms"] is None or (step["share"] is not None and step["share"] < share):
        return False
    return all(step[name] is None or step[name] <= limit for name, limit in limits.items())


async def burst(load: Load) -> None:
    """All ask at the same moment, are answered, and ask again at the next."""
    options = load.options
    while (began := time.monotonic()) < load.until:
        streams = await asyncio.gather(*(load.begin(options.plan) for _ in range(options.streams)))
        ends = [asyncio.create_task(load.noted(stream, options.plan)) for stream in streams if stream]
        load.tasks |= set(ends)
        with suppress(TimeoutError):
            async with asyncio.timeout(load.left()):
                await asyncio.gather(*map(asyncio.shield, ends))
        await asyncio.sleep(min(load.left(), max(0.0, began + options.every - time.monotonic())))


async def soak(load: Load) -> None:
    """Steady, with one answer in ten left in its middle, as readers do."""
    load.leaves = 0.1
    await steady(load)


async def slow(load: Load) -> None:
    """Readers that read little or nothing of answers without end, beside others that must not notice."""
    options = load.options
    load.users(options.streams, options.plan, min(1.0, options.seconds / 10))
    endless = replace(options.plan, deltas=options.slow_deltas, rate=0.0, batch=16, silent=0)
    readers = [Crawler(load, endless) for _ in range(options.slow)]
    for reader in readers:
        load.spawn(reader.read(options.read_rate))
    await load.rest()
    load.extra["slow"] = {
        "readers": len(readers),
        "cut": sum(reader.is_cut for reader in readers),
        "bytes": sum(reader.bytes for reader in readers),
    }


class Crawler:
    """A reader with a small window of its own, so that what it does not read waits on the server's side."""

    def __init__(self, load: Load, plan: Plan) -> None:
        self.load, self.plan = load, plan
        self.bytes = 0
        self.is_cut = False

    async def read(self, rate: int) -> None:
        """Read `rate` bytes a second, 0 for none behind the first 4 kB, until cut off."""
        loop, target = asyncio.get_running_loop(), self.load.target
        with socket.socket(socket.AF_INET6 if ":" in target.host else socket.AF_INET) as reader:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.setblocking(False)
            await loop.sock_connect(reader, (target.host, target.port))
            await loop.sock_sendall(reader, self.load.question(self.plan, uuid4().hex))
            self.bytes += len(await loop.sock_recv(reader, 4096))
            while not self.is_cut:
                await asyncio.sleep(1)
                try:
                    read = len(await loop.sock_recv(reader, rate)) if rate else _unbroken(reader)
                except OSError:
                    read = 0
                self.bytes += read if rate else 0
                self.is_cut = not read


def _unbroken(reader: socket.socket) -> int:
    """Return 0 where a connection was closed by the other side, without reading from it."""
    poll = select.poll()
    poll.register(reader, select.POLLRDHUP)
    return int(not poll.poll(0))


async def disconnect(load: Load) -> None:
    """All leave at once: a third before the answer, a third in its middle, a third while the model is silent."""
    options = load.options
    while load.left() > 0:
        endless = replace(options.plan, deltas=LONG)
        plans = [replace(endless, silent=3 if at % 3 == 2 else 0, id=uuid4().hex) for at in range(options.streams)]
        streams = await asyncio.gather(*(load.begin(plan) for plan in plans))
        pairs = [(plan, stream) for plan, stream in zip(plans, streams, strict=True) if stream]
        begun = [(plan, stream) for at, (plan, stream) in enumerate(pairs) if at % 3]
        early = [pair for at, pair in enumerate(pairs) if at % 3 == 0]
        for _, stream in early:
            stream.leave()
        await load.started([stream for _, stream in begun])
        left = {}
        for plan, stream in begun:
            if stream.kind == "finished" or not stream.is_open:
                load.note(stream, plan)
            else:
                left[plan.id] = time.monotonic()
                stream.leave()
        await load.closes(left)
        await asyncio.sleep(min(0.2, load.left()))


async def stop(load: Load) -> None:
    """All are stopped at the same moment, each by a request on a connection that is there already."""
    options = load.options
    while load.left() > 0:
        threads = [uuid4().hex for _ in range(options.streams)]
        plans = [replace(options.plan, deltas=LONG, id=thread) for thread in threads]
        streams = await asyncio.gather(*(load.begin(plan, thread=plan.id) for plan in plans))
        meter = Meter()
        lines = await asyncio.gather(*(connect(load.target, meter, NO_MARKS) for _ in plans))
        await load.started([stream for stream in streams if stream])
        await asyncio.gather(*map(partial(_stop, load), zip(plans, streams, lines, strict=True)))
        await load.closes({plan.id: line.asked for plan, line in zip(plans, lines, strict=True)})
        for stream in filter(None, streams):
            load.counts["finished"] += stream.kind == "finished"
            stream.leave()


async def _stop(load: Load, each: tuple[Plan, Stream | None, Stream]) -> None:
    plan, stream, line = each
    if stream is None or stream.kind != "finished":
        run = stream.run if stream else ""
        request = load.target.request("POST", fill(load.profile.stop, run=run, thread=plan.id), "{}")
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(line.ask(request)), load.options.wait)
        if line.status and 200 <= line.status < 300:
            load.stop_times.add((line.ended - line.asked) * 1000)
        else:
            load.failed(f"a stop failed: {line.why or 'no answer'}")
    line.leave()


async def reconnect(load: Load) -> None:
    """All are cut at the same moment, again and again, and resume by cursor at once: the text must be whole."""
    options = load.options
    load.extra["resumed"] = 0
    viewers = [Viewer(load, options.plan) for _ in range(options.streams)]
    for at, viewer in enumerate(viewers):
        load.spawn(viewer.read(min(1.0, options.every / 2) * at / len(viewers)))
    while load.left() > options.every:
        await asyncio.sleep(options.every)
        for viewer in viewers:
            viewer.cut()
    await load.rest()


class Viewer:
    """Reads answers over connections that are cut."""

    def __init__(self, load: Load, plan: Plan) -> None:
        self.load, self.plan = load, plan
        self.stream: Stream | None = None

    def cut(self) -> None:
        """Drop the connection, where there is something to resume by."""
        if self.stream and self.stream.newest and self.stream.cursor and self.stream.run:
            self.stream.leave()

    async def read(self, after: float) -> None:
        await asyncio.sleep(after)
        while self.load.left() > 0:
            self.stream = await self.load.begin(self.plan)
            if self.stream is None:
                await asyncio.sleep(0.1)
            else:
                await self._answer(self.stream)

    async def _answer(self, stream: Stream) -> None:
        """Read one answer to its end, in as many pieces as it is cut into."""
        run, cursor, deltas, repeated = "", "", 0, 0
        while True:
            kind = await stream.done
            deltas, repeated = deltas + stream.deltas, repeated + stream.repeated
            run, cursor = run or stream.run, stream.cursor or cursor
            if kind != "left":
                break
            newest = stream.newest
            again = await self.load.connect()
            if again is None:
                return
            self.load.extra["resumed"] += 1
            self.load.resume(again, run, cursor, newest)
            self.stream = stream = again
        if kind == "finished" and (deltas != self.plan.deltas or repeated):
            self.load.failed(f"{deltas} of {self.plan.deltas} deltas came, {repeated} of them again", "cut")
        else:
            self.load.note(stream, replace(self.plan, deltas=stream.deltas))


LONG = 1_000_000
SCENARIOS: dict[str, Scenario] = {
    each.__name__: each for each in (steady, ramp, burst, soak, slow, disconnect, reconnect, stop)
}


def check(names: list[str], profile: Profile, options: Options, has_provider: bool) -> None:
    """Raise LoadError for what cannot be done."""
    if "reconnect" in names and not profile.resume:
        raise LoadError("this profile has no way to resume: --resume says where, or take --profile native")
    if "stop" in names and not profile.stop:
        raise LoadError("this profile has no way to stop: --stop says where; `disconnect` closes the request")
    if options.max_close_p99 is not None and not has_provider:
        raise LoadError("when a provider's socket is closed only the fake provider can tell: --provider, or --server")


async def run(load: Load, tell: Callable[[Load], None]) -> dict[str, Any]:
    """Run a scenario and return its part of the result; `tell` is called each second."""
    options = load.options
    await load.link.look()
    load.link.closed.clear()
    first = process.sample(load.pid)
    before = load.wanted()
    load.began = time.monotonic()
    load.until = load.began + options.seconds
    watching = asyncio.create_task(_watch(load, first, tell))
    try:
        await SCENARIOS[load.name](load)
        offered = load.offered()
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        seconds = time.monotonic() - load.began
        last = process.sample(load.pid)
        spent = {name: (now - before[name]) / seconds for name, now in load.wanted().items()}
        load.meter.flush()
        await load.finish()
    return measures(load, seconds, offered, (first, last, await load.settled()), spent)


async def _watch(load: Load, before: Sample | None, tell: Callable[[Load], None]) -> None:
    interval = min(5.0, max(0.25, load.options.seconds / 120))
    told = since = time.monotonic()
    while True:
        await asyncio.sleep(interval)
        before, since = load.look(before, since), time.monotonic()
        if since - told >= 1:
            told = since
            tell(load)
