#!/usr/bin/env python3
"""Counts what a text delta costs: figures that do not wobble as times do, held against those in scripts/counts.json.

    .venv/bin/python scripts/counts.py              exit status 1 where a figure rose by more than a tenth
    .venv/bin/python scripts/counts.py --update     take the figures of now, where a rise is meant or a fall is to stay
    .venv/bin/python scripts/counts.py --only anthropic --keep FOLDER; callgrind_annotate FOLDER/anthropic-native-paced

The pipeline is all that our own code does with a delta, from the provider's bytes to the bytes for a viewer: decoder,
translator, turn, row of the log, encoder; the last two are counted by themselves too. It runs under callgrind, without
threads, loop or socket, and is counted between two deltas in the middle of an answer: start-up and warming up fall out.
`paced` is one event in each read, `batched` 16.

    instructions      of the processor
    allocations       calls of Python's allocators; what comes from a free list is none
    bytes             for the viewer; of the server with what HTTP adds

The server is `python -m chatstream` with its log in SQLite, under callgrind and then under strace, which counts the
system calls of all its threads. The next delta is sent once the last one has come: nothing is timed, and each delta
makes the whole way alone. What it does in as much time while it is idle is taken off. Of `futex`, by which threads wait
for each other, the machine decides on a half.

Instructions and allocations depend on the build of Python, so the figures stand under the build that they were counted
with; with a build that is not there only the others are compared. Linux; needs valgrind and strace.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from cpu_per_delta import APIS, TEXT, WIRES, chatstream

from chatstream.eventlog.sqlite import SqliteLog
from chatstream.events import Event, PartStarted, RunStarted, TextDelta, TurnStarted
from chatstream.providers.anthropic import MessagesTranslator
from chatstream.providers.base import Told, Translator, translate
from chatstream.providers.openai import ResponsesTranslator
from chatstream.providers.openai_chunks import ChatTranslator
from chatstream.testing import Turn as Said
from chatstream.turn import Turn
from chatstream.wires import agui, native, openai, vercel

Counting = AbstractContextManager[dict[str, float]]
Mark = Callable[[int], None]  # is given the bytes so far, where the counted deltas begin and where they end
Figures = dict[str, dict[str, float]]  # by what is counted, then by what of it

TOOLS = {"valgrind": "valgrind", "vgdb": "valgrind", "strace": "strace"}  # and the packages that have them
FILE = Path(__file__).with_suffix(".json")
RISE = 0.1
# What may come on top of that: what else the server does meanwhile, and how often its threads wait for each other.
WOBBLE, WAITS = 0.5, {"futex": 5.0}
OF_THE_BUILD = ("instructions", "allocations")
WARM, COUNT = 320, 160  # deltas before the ones that are counted, and those
TRANSLATORS: dict[str, Callable[[Told], Translator]] = {
    "anthropic": MessagesTranslator,
    "openai": ResponsesTranslator,
    "openai-chat": ChatTranslator,
}
ENCODERS: dict[str, Callable[[], Any]] = {
    "native": native.Encoder,
    "ag-ui": lambda: agui.Encoder("thread", "run"),
    "ai-sdk": vercel.Encoder,
    "openai": lambda: openai.Encoder(1_700_000_000, "model"),
}
BEGUN: list[Event] = [RunStarted("run_1", "msg_1", "fake:model"), TurnStarted(1)]
TEXTS: list[Event] = [PartStarted(0, "text"), *[TextDelta(0, TEXT)] * (WARM + COUNT)]
IDLE = 1.0  # seconds
ASKED = "openai-chat"  # whose SDK is loaded soonest
SERVER, CALLS = "server", "server system calls"


# --- what runs in a process of its own, and is counted between two marks ----------------------------------------------


class Rows:
    """Stands where a Database is: takes rows, and writes none. `size` is how much they hold."""

    size = 0

    def post(self, done: object, work: object, row: bytes = b"") -> None:
        self.size += len(row)


def kept(error: Exception | None) -> None:
    """Take it that a batch is kept."""


def events_of(api: str, deltas: int) -> list[bytes]:
    stream = APIS[api][0](Said(text=TEXT * deltas, chunk=len(TEXT)))
    return [event + b"\n\n" for event in stream.split(b"\n\n")[:-1]]


async def pipeline(api: str, wire: str, pace: int, mark: Mark) -> None:
    """Read an answer, `pace` events at once, and tell a viewer of it."""
    log, encoder, turn = SqliteLog(Rows()), ENCODERS[wire](), Turn(1, f"{api}:model")  # type: ignore[arg-type]
    events = events_of(api, WARM + COUNT)
    size, number = 0, 1

    def tell(batch: Sequence[Event]) -> None:
        nonlocal size, number
        log.keep("run_1", number, batch, kept)
        size += len(b"".join([encoder.encode(each, event) for each, event in enumerate(batch, number)]))
        number += len(batch)

    async def read() -> AsyncIterator[bytes]:
        for start in range(0, len(events), pace):
            if start in (WARM, WARM + COUNT):
                mark(size)
            yield b"".join(events[start : start + pace])

    tell(BEGUN[:1])
    tell(BEGUN[1:])
    async for batch in translate(read(), TRANSLATORS[api](Told("Fake", "model"))):
        if told := turn.feed(batch):
            tell(told)


async def encode(wire: str, mark: Mark) -> None:
    encoder, size = ENCODERS[wire](), 0
    for number, event in enumerate([*BEGUN, *TEXTS], 1):
        if number in (WARM, WARM + COUNT):
            mark(size)
        size += len(encoder.encode(number, event))


async def keep(mark: Mark) -> None:
    rows = Rows()
    log = SqliteLog(rows)  # type: ignore[arg-type]
    for number, event in enumerate([*BEGUN, *TEXTS], 1):
        if number in (WARM, WARM + COUNT):
            mark(rows.size)
        log.keep("run_1", number, [event], kept)


CASES: dict[str, Callable[[Mark], Coroutine[Any, Any, None]]] = {
    f"{api} {wire} {pace}": partial(pipeline, api, wire, events)
    for api, wire in [*((api, "native") for api in APIS), *(("anthropic", wire) for wire in WIRES if wire != "native")]
    for pace, events in (("paced", 1), ("batched", 16))
}
CASES |= {f"{wire} encoder": partial(encode, wire) for wire in WIRES} | {"log row": keep}


def run_cases(names: Sequence[str]) -> None:
    """Run them one after the other; at each mark write a line, how many bytes there are by now, and wait for one."""

    def mark(size: int) -> None:
        os.write(1, f"{size}\n".encode())
        os.read(0, 1)

    gc.disable()  # when it collects depends on all that was made before
    for name in names:
        case = CASES[name](mark)
        with suppress(StopIteration):
            while True:  # it waits for nobody, so it needs no loop
                case.send(None)


# --- counting ---------------------------------------------------------------------------------------------------------


def count_cases(names: Sequence[str], folder: Path) -> Figures:
    """Return the figures of these cases; callgrind's files are left in `folder` under their names."""
    child = subprocess.Popen(
        [*callgrind(folder), sys.executable, __file__, "--run", *names],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if name != "PYTHONMALLOC"} | {"PYTHONHASHSEED": "0"},
        text=True,
        bufsize=1,
    )
    assert child.stdin is not None and child.stdout is not None
    figures: Figures = {}
    for name in names:
        begin = child.stdout.readline()
        with counted_by_callgrind(child.pid, folder / name.replace(" ", "-")) as counts:
            child.stdin.write("\n")
            end = child.stdout.readline()
            if not end:
                raise SystemExit(f"'{name}' ended with {child.wait()} under valgrind")
        figures[name] = {what: figure / COUNT for what, figure in counts.items()}
        figures[name]["bytes"] = (int(end) - int(begin)) / COUNT
        child.stdin.write("\n")
    child.communicate()
    return figures


def callgrind(folder: Path) -> list[str]:
    """Return the command under which a program is counted once that is asked for."""
    return ["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder}/out"]


@contextmanager
def counted_by_callgrind(pid: int, file: Path) -> Iterator[dict[str, float]]:
    """Fill what it yields with the instructions and allocations of a process meanwhile; callgrind writes `file`."""

    def tell(*commands: str) -> None:
        words = [word for command in commands for word in ("-c", *command.split())]
        subprocess.run(["vgdb", f"--pid={pid}", *words], check=True, capture_output=True)

    counts: dict[str, float] = {}
    tell("instrumentation on")
    yield counts
    tell("dump", "instrumentation off")
    written = max(file.parent.glob("out.[0-9]*"), key=lambda path: path.stat().st_mtime)
    counts |= read_callgrind(written.rename(file).read_text())


def read_callgrind(text: str) -> dict[str, float]:
    """Read instructions and allocations from what callgrind wrote: valgrind.org/docs/manual/cl-format.html"""
    (total,) = re.findall(r"^totals: (\d+)", text, re.MULTILINE)
    # A function is named where its number is met first.
    names = dict(re.findall(r"^c?fn=(\(\d+\)) (.+)", text, re.MULTILINE))
    calls = re.findall(r"^cfn=(\(\d+\)).*\ncalls=(\d+)", text, re.MULTILINE)
    allocators = re.compile(r"Py(Mem|Object)_(Malloc|Calloc|Realloc)")
    allocations = sum(int(count) for number, count in calls if allocators.match(names[number]))
    return {"instructions": int(total), "allocations": allocations}


@contextmanager
def counted_by_strace(pid: int) -> Iterator[dict[str, float]]:
    """Fill what it yields with the system calls of a process meanwhile, by their names."""
    command = ["strace", "-c", "-f", "-U", "calls,name", "-p", str(pid)]
    strace = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert strace.stderr is not None
    counts: dict[str, float] = {}
    if "attached" not in (said := strace.stderr.readline()):
        raise SystemExit(said)
    yield counts
    strace.send_signal(signal.SIGINT)
    table = strace.communicate()[1]
    counts |= {name: int(calls) for calls, name in re.findall(r"^ *(\d+) (\w+)$", table, re.MULTILINE)}
    counts.pop("total", None)


async def count_server(under: Sequence[str], counted: Callable[[int], Counting]) -> dict[str, float]:
    """Return what is `counted` of a server, by its process id, for each delta; what it does when idle is taken off."""
    go = asyncio.Semaphore(0)
    with tempfile.TemporaryDirectory() as data:
        async with provider(go) as upstream, chatstream(ASKED, upstream, data, under) as (pid, port):
            path, question, _ = WIRES["native"]
            body = question % 0
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
            await step(go, reader, WARM)
            with counted(pid) as idle:
                await asyncio.sleep(IDLE)
            with counted(pid) as counts:
                began = time.monotonic()
                size = await step(go, reader, COUNT)
                share = (time.monotonic() - began) / IDLE
            writer.close()
    own = {what: figure - share * idle.get(what, 0.0) for what, figure in counts.items()}
    return {what: figure / COUNT for what, figure in (own | {"bytes": size}).items()}


async def step(go: asyncio.Semaphore, reader: asyncio.StreamReader, deltas: int) -> int:
    """Let so many deltas go, each when the one before has come; return the bytes that came."""
    size = 0
    for _ in range(deltas):
        go.release()
        data = b""
        while TEXT.encode() not in data:
            read = await reader.read(65536)
            if not read:
                raise SystemExit(f"the server ended its answer: {data!r}")
            data += read
        size += len(data)
    return size


@asynccontextmanager
async def provider(go: asyncio.Semaphore) -> AsyncIterator[int]:
    """Serve one answer whose deltas go one at a time, each upon a release of `go`; yields the port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for event in events_of(ASKED, WARM + COUNT):
            if TEXT.encode() in event:
                await go.acquire()
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
        writer.write(b"0\r\n\r\n")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


def count(only: str, folder: Path) -> Figures:
    """Count what has `only` in its name."""
    names = [name for name in CASES if only in name]
    figures = count_cases(names, folder) if names else {}
    if only in SERVER:
        counted = partial(counted_by_callgrind, file=folder / SERVER)
        figures[SERVER] = asyncio.run(count_server(callgrind(folder), counted))
    if only in CALLS:
        calls = asyncio.run(count_server((), counted_by_strace))
        del calls["bytes"]
        figures[CALLS] = {name: count for name, count in sorted(calls.items()) if count > WOBBLE}
        figures[CALLS]["all but futex"] = sum(calls.values()) - calls.get("futex", 0.0)
    return figures


# --- comparing --------------------------------------------------------------------------------------------------------


def missing_packages() -> list[str]:
    """Return the packages that have to be installed first."""
    return sorted({package for tool, package in TOOLS.items() if shutil.which(tool) is None})


def build() -> str:
    """Name what decides how many instructions a line of Python takes."""
    version = ".".join(platform.python_version_tuple()[:2])
    optimized = ", optimized" if "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "") else ""
    return f"Python {version}, {platform.python_compiler()}, {platform.machine()}{optimized}"


def committed(known: Mapping[str, Figures], build: str) -> Figures:
    """Return the figures to compare with; of another build those that do not depend on it."""
    if build in known:
        return known[build]
    other = next(iter(known.values()), {})
    return {
        name: {what: figure for what, figure in counts.items() if what not in OF_THE_BUILD}
        for name, counts in other.items()
    }


def compare(now: Figures, before: Figures) -> Iterator[tuple[str, bool]]:
    """Yield a line for each figure, and whether it rose by more than it may."""
    for name, counts in now.items():
        for what, figure in counts.items():
            line = f"{name:26} {what:13} {figure:10,.1f} a delta"
            if (old := before.get(name, {}).get(what)) is None:
                yield line, False
                continue
            change = f"{(figure / old - 1):+.1%}"
            spare = WAITS.get(what, WOBBLE) if name == CALLS else 0.0
            yield f"{line}, {old:,.1f} before: {change}", figure > old * (1 + RISE) + spare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="write the figures to scripts/counts.json")
    parser.add_argument("--only", default="", metavar="WORDS", help=f"only what has them in its name, as in '{SERVER}'")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep callgrind's files for callgrind_annotate")
    parser.add_argument("--run", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        return run_cases(options.run)
    if missing := missing_packages():
        raise SystemExit(f"this machine has no {' and no '.join(missing)}: apt-get install {' '.join(missing)}")
    with tempfile.TemporaryDirectory() as folder:
        if options.keep is not None:
            options.keep.mkdir(parents=True, exist_ok=True)
        now = count(options.only, options.keep or Path(folder))
    known: dict[str, Figures] = json.loads(FILE.read_text()) if FILE.exists() else {}
    compared = list(compare(now, committed(known, build())))
    print(*(line for line, _ in compared), sep="\n")
    if options.update:
        mine = known.setdefault(build(), {})
        mine |= {name: {what: round(figure, 2) for what, figure in counts.items()} for name, counts in now.items()}
        FILE.write_text(json.dumps(known, indent=2) + "\n")
        return
    if build() not in known:
        print(f"{FILE.name} has no {build()}, so {' and '.join(OF_THE_BUILD)} are not compared: --update adds them")
    if rose := [line for line, is_more in compared if is_more]:
        meant = f"where that is meant: scripts/counts.py --update, and commit scripts/{FILE.name}"
        raise SystemExit("\n".join([f"rose by more than {RISE:.0%}:", *rose, meant]))


if __name__ == "__main__":
    main()
