"""One scenario on its way: what is asked, by whom, what came of it, and what was seen of the server meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from . import process
from .client import Marks, Meter, Stream, Target, connect, fetch
from .launch import LoadError
from .process import Sample
from .profiles import Profile, fill
from .provider import Plan
from .stats import Histogram

PATIENCE = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a scenario is asked for. `rate` 0 is full speed; seconds, bytes and milliseconds."""

    streams: int = 50
    seconds: float = 10.0
    deltas: int = 500
    rate: float = 50.0
    batch: int = 1
    silent: int = 0
    step: int = 50
    step_seconds: float = 4.0
    max_streams: int = 2000
    every: float = 2.0
    slow: int = 1
    read_rate: int = 0
    slow_deltas: int = 1_000_000
    wait: float = 10.0
    model: str = "load"
    max_latency_p99: float | None = None
    max_gap_p99: float | None = None
    max_ttft_p99: float | None = None
    max_stop_p99: float | None = None
    max_close_p99: float | None = None
    min_share: float | None = None
    min_streams: int | None = None
    max_failures: int = 0
    max_rss_growth_mb: float | None = None
    max_rss_slope: float | None = None
    max_descriptors: int | None = None

    @property
    def plan(self) -> Plan:
        return Plan(self.deltas, self.rate, self.batch, silent=self.silent)


@dataclass(slots=True)
class Link:
    """The fake provider, as far as it is known: what it saw is asked from it; `is_stamped` once its texts were seen."""

    target: Target | None
    closed: dict[str, float] = field(default_factory=dict)
    pid: int | None = None
    open: int = 0
    is_stamped: bool = False

    async def look(self) -> None:
        """Ask what the provider saw since the last time."""
        if self.target is None:
            return
        told = json.loads((await fetch(self.target, "GET", "/load"))[1])
        self.pid, self.open = told["pid"], told["open"]
        self.closed |= told["closed"]


class Load:
    """One scenario on its way: its streams, what they counted, and what was seen of the server meanwhile."""

    def __init__(self, name: str, options: Options, target: Target, profile: Profile, link: Link, pid: int | None):
        self.name, self.options, self.pid = name, options, pid
        self.target, self.profile, self.link = target, profile, link
        self.meter = Meter()
        delta = "" if link.is_stamped else profile.delta
        self.marks = Marks(*(mark.encode() for mark in (delta, profile.end, profile.error)))
        self.counts: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.connections: set[Stream] = set()
        self.open: set[Stream] = set()  # those of them on which an answer is read
        self.open_seconds = 0.0  # of answers that are over
        self.most_open = 0
        self.leaves = 0.0  # the share of answers that are left in the middle
        self.series: list[tuple[float, int, float, float | None, float | None, float | None, Sample | None]] = []
        self.steps: list[dict[str, Any]] = []
        self.breaking: int | None = None
        self.stop_times, self.close_times = Histogram(), Histogram()
        self.extra: dict[str, Any] = {}
        self.began = time.monotonic()
        self.until = self.began + options.seconds
        self.tasks: set[asyncio.Task[None]] = set()

    # --- asking -------------------------------------------------------------------------------------------------------

    def question(self, plan: Plan, thread: str) -> bytes:
        message = f"Tell me about streams. {plan.tag}"
        turn = uuid4().hex
        values = {"message": message, "thread": thread, "turn": turn, "model": self.options.model}
        return self.target.request("POST", fill(self.profile.path, **values), fill(self.profile.body, **values))

    async def begin(self, plan: Plan, stream: Stream | None = None, thread: str = "") -> Stream | None:
        """Ask for an answer, on the connection of an earlier one where it can be had; None where there is none."""
        self.counts["asked"] += 1
        if stream is None or not stream.is_open or b"onnection: close" in stream.headers:
            stream = await self.connect()
        if stream is None:
            return None
        stream.ask(self.question(plan, thread or uuid4().hex))
        self._opened(stream)
        return stream

    async def connect(self) -> Stream | None:
        try:
            stream = await connect(self.target, self.meter, self.marks)
        except (OSError, TimeoutError) as error:
            self.failed(f"no connection: {str(error) or type(error).__name__}")
            return None
        self.connections.add(stream)
        stream.closed.add_done_callback(lambda closed: self.connections.discard(stream))
        return stream

    def resume(self, stream: Stream, run: str, cursor: str, newest: bytes) -> None:
        """Ask, on a new connection, for what an answer says behind `cursor`."""
        path = fill(self.profile.resume, run=run, after=cursor)
        stream.ask(self.target.request("GET", path), newest)
        self._opened(stream)

    def _opened(self, stream: Stream) -> None:
        self.open.add(stream)
        self.most_open = max(self.most_open, len(self.open))
        stream.done.add_done_callback(lambda done: self._ended(stream))

    def _ended(self, stream: Stream) -> None:
        self.open.discard(stream)
        self.open_seconds += stream.ended - stream.asked

    def failed(self, why: str, kind: str = "failed") -> None:
        self.counts[kind] += 1
        self.errors[why] += 1

    def note(self, stream: Stream, plan: Plan) -> None:
        """Count how an answer ended; one that lost text is not whole, however well it ended."""
        if stream.kind == "left":
            return
        if stream.is_stale:
            self.counts["asked"] -= 1
            return
        if stream.kind == "finished" and stream.newest and not plan.silent and stream.deltas != plan.deltas:
            return self.failed(f"{stream.deltas} of {plan.deltas} deltas came", "cut")
        self.counts[stream.kind] += 1
        if stream.kind != "finished":
            self.errors[stream.why] += 1

    async def user(self, plan: Plan, after: float = 0.0) -> None:
        """Ask again and again until the time is up, or the scenario."""
        await asyncio.sleep(after)
        stream: Stream | None = None
        while time.monotonic() < self.until:
            stream = await self.begin(plan, stream)
            if stream is not None:
                if random.random() < self.leaves:
                    await stream.started.wait()
                    with suppress(TimeoutError):  # somewhere in the middle
                        await asyncio.wait_for(asyncio.shield(stream.done), random.random() * plan.seconds)
                    stream.leave()
                await stream.done
                self.note(stream, plan)
            if stream is None or (stream.kind in ("failed", "cut") and not stream.is_stale):
                await asyncio.sleep(0.1)  # a server that refuses is not asked at full speed

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.add(asyncio.create_task(work))

    def users(self, count: int, plan: Plan, spread: float) -> None:
        """Begin so many users, spread over some seconds."""
        for number in range(count):
            self.spawn(self.user(plan, spread * number / count))

    async def finish(self) -> None:
        """Leave what is still open, and let the server see it."""
        for task in self.tasks:
            task.cancel()
        results = await asyncio.gather(*self.tasks, return_exceptions=True)
        for stream in list(self.connections):
            stream.leave()
        await asyncio.sleep(0)
        for result in results:
            if isinstance(result, Exception):
                raise result

    @property
    def bad(self) -> int:
        return self.counts["failed"] + self.counts["cut"]

    def left(self) -> float:
        """Return the seconds that are left."""
        return max(0.0, self.until - time.monotonic())

    async def rest(self) -> None:
        """Wait for the end, or for a fault of our own in one of the tasks."""
        sleeping = asyncio.create_task(asyncio.sleep(self.left()))
        self.tasks.add(sleeping)
        while not sleeping.done():
            done, self.tasks = await asyncio.wait(self.tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()

    async def noted(self, stream: Stream, plan: Plan) -> None:
        await stream.done
        self.note(stream, plan)

    async def started(self, streams: Sequence[Stream]) -> None:
        """Wait until each stream has said something, or ended."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self.options.wait):
                await asyncio.gather(*(stream.started.wait() for stream in streams))

    async def closes(self, left: dict[str, float]) -> None:
        """Wait until the provider's sockets of the answers `left` are closed, and count how long that took."""
        if self.link.target is None:
            return
        self.extra.setdefault("notClosed", 0)
        waiting, until = dict(left), time.monotonic() + self.options.wait
        while waiting and time.monotonic() < until:
            await asyncio.sleep(0.02)
            await self.link.look()
            for id in waiting.keys() & self.link.closed.keys():
                self.close_times.add((self.link.closed.pop(id) - waiting.pop(id)) * 1000)
        self.extra["notClosed"] += len(waiting)

    async def settled(self) -> Sample | None:
        """Wait until the provider has nothing to say any more, for two seconds at most, and look at the server then."""
        for _ in range(10):
            await asyncio.sleep(0.2)
            await self.link.look()
            if not self.link.open:
                break
        return process.sample(self.pid)

    # --- watching -----------------------------------------------------------------------------------------------------

    def look(self, before: Sample | None, since: float) -> Sample | None:
        """Take one point of the series; `since` is the moment of the one before."""
        now, times, here = time.monotonic(), self.meter.turn(), process.sample(self.pid)
        cpu = (here.cpu - before.cpu) / (now - since) if here and before else None
        latency = times.latency
        point = (now - self.began, len(self.open), times.deltas / (now - since))
        self.series.append((*point, latency.quantile(0.5), latency.quantile(0.99), cpu, here))
        return here

    def wanted(self) -> dict[str, float]:
        """Return the seconds of CPU that the load has used so far, and those that it waited for a core."""
        client, provider = process.wanted(os.getpid()), process.wanted(self.link.pid)
        names = ("client", "clientWaited", "provider", "providerWaited")
        return dict(zip(names, (*client, *provider), strict=True))

    def offered(self) -> float | None:
        """Return how many deltas the provider had to say while streams were open, None where that is not known."""
        options = self.options
        is_paced = self.name in ("steady", "soak", "slow", "ramp") and options.rate and not options.silent
        if not is_paced or not self.meter.all.latency.count:
            return None
        now = time.monotonic()
        return options.rate * (self.open_seconds + sum(now - stream.asked for stream in self.open))


async def warm_up(target: Target, profile: Profile, options: Options, link: Link) -> None:
    """Ask for one small answer until it is whole; raises LoadError where none is."""
    try:
        await link.look()
    except (OSError, TimeoutError, ValueError, KeyError) as error:
        raise LoadError(f"no fake provider at {link.target and link.target.url}: {error}") from None
    began = time.monotonic()
    while True:
        load = Load("warm-up", options, target, profile, link, None)
        if stream := await load.begin(Plan(deltas=3, rate=0)):
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(stream.done), PATIENCE)
            stream.leave()
            if stream.kind == "finished":
                link.is_stamped = bool(stream.newest)
                return
            load.failed(stream.why or "no end came")
        if time.monotonic() - began > PATIENCE or (stream and 400 <= stream.status < 500):
            raise LoadError(f"{target.url} does not answer well: {', '.join(load.errors)}")
        await asyncio.sleep(0.2)
