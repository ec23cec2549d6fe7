"""Breaks streams in every way that is known here, and sees that nothing breaks but the stream.

Each is a good stream (a recorded one where CHATSTREAM_STREAMS names their folder) after one to four mutations: cut,
events lost, doubled and out of order, bytes flipped, values of the wrong type, members missing. Read by its adapter it
is a whole turn or a typed error; its events are balanced and survive the log; what it said can be sent to every API.

`scripts/fuzz [--count N] [--seed S]` tries N of them, on every core; what fails is made small and printed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import re
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from .mutations import STEPS, Step, mutate, split
from .promises import LEEWAY, check, good_streams, growth

BATCH = 500
CPU_LIMIT = 10.0  # seconds of one stream's work: reading the longest takes a hundredth


@dataclass(frozen=True)
class Failure:
    """`where` groups what failed alike; `data` is the stream that does."""

    where: str
    api: str
    told: str
    data: bytes
    seed: int


def draw(seed: str) -> tuple[str, list[Step]]:
    chance = random.Random(seed)
    steps = [(chance.choice(list(STEPS)), chance.getrandbits(32)) for _ in range(chance.choice([1, 1, 2, 2, 3, 4]))]
    return chance.choice(list(good_streams())), steps


def attempt(api: str, data: bytes, seed: int) -> tuple[str, str]:
    """Return what a stream came to, and where it failed, empty where it did not."""
    # The process's own time: a busy machine does not make it run out.
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_LIMIT)
    try:
        return check(api, data, seed), ""
    except Exception as error:
        calls = traceback.extract_tb(error.__traceback__)
        last = next((call for call in reversed(calls) if "/chatstream/" in call.filename), calls[-1])
        own = [call for call in calls if "/tests/" in call.filename][-1]
        return "failed", f"{type(error).__name__} at {last.name}:{last.lineno}, seen by {own.name}:{own.lineno}"
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _ran_out(*_: object) -> None:
    raise TimeoutError(f"more than {CPU_LIMIT} s of work")


def work(job: tuple[int, int, int]) -> tuple[Counter[str], list[Failure]]:
    """Try the streams of one batch, in a process of its own."""
    seed, first, count = job
    signal.signal(signal.SIGVTALRM, _ran_out)
    came_to, failures = Counter[str](), dict[str, Failure]()
    for number in range(first, first + count):
        name, steps = draw(f"{seed}:{number}")
        api, good = good_streams()[name]
        data = mutate(good, steps)
        result, where = attempt(api, data, number)
        came_to[result] += 1
        if where and (where not in failures or len(data) < len(failures[where].data)):
            failures[where] = Failure(where, api, f"{name} {steps}", data, number)
    return came_to, list(failures.values())


def minimise(failure: Failure) -> bytes:
    """Return the stream without the events that it does not need to fail as it does."""
    signal.signal(signal.SIGVTALRM, _ran_out)
    frames = split(failure.data)
    size = len(frames)
    while size:
        at = 0
        while at < len(frames):
            fewer = frames[:at] + frames[at + size :]
            if fewer and attempt(failure.api, b"".join(fewer), failure.seed)[1] == failure.where:
                frames = fewer
            else:
                at += size
        size //= 2
    return b"".join(frames)


def kinds() -> Iterator[tuple[str, str, list[bytes], int]]:
    """Yield one place of each kind of event that the good streams hold: name, API, events, place."""
    seen: set[tuple[str, frozenset[bytes]]] = set()
    for name, (api, data) in good_streams().items():
        frames = split(data)
        for at, frame in enumerate(frames):
            words = frozenset(re.findall(rb'"([a-z_]{4,40})"', frame))
            if (api, words) not in seen and len(frame) < 1500 and len(frames) < 60:
                seen.add((api, words))
                yield name, api, frames, at


def grow() -> list[str]:
    """Say each kind of event very often; return what takes more work than that."""
    missed, worst, count = [], 0.0, 0
    for name, api, frames, at in kinds():
        ratio, count = growth(api, frames, at), count + 1
        if ratio > 16 * LEEWAY:
            missed.append(f"{name}: event {at}, 16 times as often, is {ratio:.0f} times the work: {frames[at][:200]!r}")
        worst = max(worst, ratio)
    print(f"  {count} kinds of event said 16 times as often: at most {worst:.0f} times the work")
    return missed


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args()
    jobs = [(options.seed, at, min(BATCH, options.count - at)) for at in range(0, options.count, BATCH)]
    print(f"{options.count:,} broken streams of {len(good_streams())} good ones (--seed {options.seed})", flush=True)
    came_to, failures, began = Counter[str](), dict[str, Failure](), time.monotonic()
    with multiprocessing.Pool(os.cpu_count()) as pool:
        for number, (results, failed) in enumerate(pool.imap_unordered(work, jobs), 1):
            came_to += results
            for failure in failed:
                known = failures.setdefault(failure.where, failure)
                failures[failure.where] = min(known, failure, key=lambda each: len(each.data))
            if number % 20 == 0:
                rate = came_to.total() / (time.monotonic() - began)
                print(f"  {came_to.total():,} at {rate:,.0f}/s, {came_to['failed']} failed", flush=True)
    print(f"  came to: {', '.join(f'{result} {count:,}' for result, count in came_to.most_common())}")
    for failure in failures.values():
        print(f"FAILED: {failure.where}\n  {failure.told}\n  {failure.api}: {minimise(failure)[:3000]!r}")
    missed = grow()
    for text in missed:
        print(f"TOO SLOW: {text}")
    return bool(failures or missed)


if __name__ == "__main__":
    sys.exit(main())
