#!/usr/bin/env python3
"""Measures what the store takes for each thing that a reader waits for, with many conversations in it.

    .venv/bin/python scripts/store_times.py [--conversations 10000] [--messages 200000] [--rounds 50]

The database is a file in a temporary folder, filled through the store itself. Texts are drawn from a vocabulary in
which a few words are common and most are rare, as in language; `the` is in every message, one word in a single one.
A time is what the caller waits, with the CPU time of the process beside it; the goal is 50 ms. Deletion is beyond it:
it goes on in small steps until the index holds no word of what was deleted, and lets others write between them.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from chatstream.agent import new_id
from chatstream.conversations import Run
from chatstream.database import FILE, Database
from chatstream.messages import Message, Text, user
from chatstream.store import Store
from chatstream.tables import SCHEMA

GOAL = 50.0  # milliseconds
AT_ONCE = 250  # conversations that are filled together: their writes share transactions
OWNER = "local"
VOCABULARY = ["".join(letters) for letters in itertools.product("bdfgklmnprst", "aeiou", "bdgklmnrst", "aeiou")]
random.Random(0).shuffle(VOCABULARY)
COMMON = VOCABULARY[0]


class Texts:
    """Draws texts whose words are as often common and rare as those of a language (Zipf's law)."""

    def __init__(self) -> None:
        self._random = random.Random(1)
        self._weights = list(itertools.accumulate(1 / rank for rank in range(1, len(VOCABULARY) + 1)))

    def draw(self, words: int) -> str:
        return " ".join(["the", *self._random.choices(VOCABULARY, cum_weights=self._weights, k=words)])


def run_of(conversation_id: str) -> Run:
    return Run(new_id("run"), OWNER, conversation_id, "", new_id("msg"), new_id("turn"), "a:b", created_at=time.time())


async def turn(kept: Store, conversation_id: str, question: str, answer: str) -> None:
    run, _ = await kept.begin(run_of(conversation_id), "digest", user(question), new_id("msg"), None)
    await kept.end(run.id, "completed", {"finishReason": "stop"}, [Message("assistant", (Text(answer),))])


async def fill(kept: Store, conversations: int, messages: int) -> list[str]:
    """Make the conversations, each of as many turns; returns their ids."""
    texts, ids, began = Texts(), [], time.monotonic()
    turns = messages // conversations // 2
    for first in range(0, conversations, AT_ONCE):
        made = [await kept.create(OWNER) for _ in range(first, min(first + AT_ONCE, conversations))]
        ids += [conversation.id for conversation in made]
        for _ in range(turns):
            await asyncio.gather(*(turn(kept, each.id, texts.draw(12), texts.draw(60)) for each in made))
        print(f"\r{len(ids):,} conversations after {time.monotonic() - began:.0f} s", end="", flush=True)
    await turn(kept, ids[len(ids) // 2], "Have you ever seen a quagga?", "No, they died out.")
    print()
    return ids


async def measure(name: str, rounds: int, work: Callable[[], Awaitable[object]]) -> bool:
    """Print the times of some calls; returns whether their median keeps to the goal."""
    times = []
    cpu = time.process_time()
    for _ in range(rounds):
        began = time.perf_counter()
        await work()
        times.append((time.perf_counter() - began) * 1000)
    cpu = (time.process_time() - cpu) * 1000 / rounds
    median = statistics.median(times)
    print(f"{name:34} {median:8.2f} ms median {max(times):8.2f} ms worst {cpu:8.2f} ms CPU")
    return median <= GOAL


async def measure_all(kept: Store, ids: list[str], rounds: int) -> bool:
    chosen = random.Random(2)
    everything, cursor = len(ids), ""
    for _ in range(everything // 2 // 500):
        _, cursor = await kept.list(OWNER, 500, cursor)
    leaves = {each: (await kept.get(OWNER, each)).leaf_id for each in chosen.sample(ids, min(rounds, everything))}
    one = itertools.cycle(leaves.items())
    begun: list[str] = []

    async def path() -> None:
        await kept.path(*next(one))

    async def begin() -> None:
        run, _ = await kept.begin(run_of(chosen.choice(ids)), "digest", user("the one"), new_id("msg"), "")
        begun.append(run.id)

    async def end() -> None:
        answer = [Message("assistant", (Text("the other"),))]
        await kept.end(begun.pop(), "completed", {}, answer)

    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "list, the newest 50": lambda: kept.list(OWNER),
        "list, 50 in the middle": lambda: kept.list(OWNER, 50, cursor),
        "one conversation": lambda: kept.tree(OWNER, next(one)[0]),
        "path": path,
        "search, a rare word": lambda: kept.search(OWNER, "quagga"),
        "search, a word of every message": lambda: kept.search(OWNER, "the "),
        "search, a letter just typed": lambda: kept.search(OWNER, COMMON[0]),
        "search, three letters just typed": lambda: kept.search(OWNER, COMMON[:3]),
        "search, two common words": lambda: kept.search(OWNER, f"the {COMMON}"),
        "search, a word that is not there": lambda: kept.search(OWNER, "the aardvark"),
        "begin": begin,
        "end": end,
        "what is running": lambda: kept.running(),
        "whose log is old": lambda: kept.expired(0.0),
    }
    kept_to = [await measure(name, rounds, work) for name, work in calls.items()]

    async def purge() -> None:
        await kept.delete(OWNER, ids[-1])
        await kept.purge([ids.pop()])
        await kept.database.checkpoint()

    deletion = asyncio.ensure_future(purge())
    kept_to.append(await measure("begin, during a deletion", rounds, begin))
    await deletion
    await measure("delete, until no word is left", min(5, rounds), purge)
    return all(kept_to)


async def run(conversations: int, messages: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        database = Database(Path(folder))
        await database.open(SCHEMA)
        try:
            kept = Store(database)
            ids = await fill(kept, conversations, messages)
            size = (Path(folder) / FILE).stat().st_size / 1e6
            print(f"{conversations:,} conversations, {messages:,} messages, {size:.0f} MB")
            if not await measure_all(kept, ids, rounds):
                raise SystemExit(f"more than {GOAL:.0f} ms")
        finally:
            await database.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("conversations", 10_000), ("messages", 200_000), ("rounds", 50)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asyncio.run(run(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
